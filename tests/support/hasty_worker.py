"""An RQ worker like any other, but that it hashes passwords in no time and mails nothing.

Hundreds of tenants have as many administrators and notifications: rows, which are mailed by jobs
that have tests of their own.
"""

from __future__ import annotations

from unittest.mock import patch

from argon2 import PasswordHasher

from app import create_app
from jobs.worker import make_worker, wait_for_queue
from services import passwords, provisioning_runs, request_notifications


def main() -> None:
    passwords._argon2 = PasswordHasher(time_cost=1, memory_cost=8, parallelism=1)
    patch.object(provisioning_runs, "start_mail").start()
    patch.object(request_notifications, "list_unmailed", return_value=[]).start()
    app = create_app()
    with app.app_context():
        wait_for_queue(15)
        make_worker(app).work(logging_level="WARNING")
