"""Confirm a welcome mailing to all users of a customer, in a process of its own.

`python -m benchmarks.confirm WEB_ID`, in the environment of the installation. It submits and runs
the maintenance command, by the services that page and terminal use. Prints what was confirmed,
when, and what memory the process had before and after, as JSON.
"""

from __future__ import annotations

import json
import resource
import sys
import time

import sqlalchemy as sa

from app import create_app
from benchmarks.memory import pss_of_this_process
from extensions import db, queues
from models import Bundle, CommandSource, Customer, CustomerBundle
from services import command_runs
from services.actors import Actor


def command_for(web_id: str) -> str:
    """The command that mails all users of a customer."""
    bundles = db.session.scalars(
        sa.select(Bundle.name)
        .join(CustomerBundle, CustomerBundle.bundle_id == Bundle.id)
        .join(Customer, Customer.id == CustomerBundle.customer_id)
        .where(Customer.web_id == web_id)
    )
    return f"$$RESEND WELCOME EMAIL$$ {';'.join(bundles)}|{web_id}"


def confirm(web_id: str) -> dict[str, float]:
    """Confirm and enqueue; return the figures."""
    actor = Actor.from_terminal("benchmark")
    before = pss_of_this_process()
    submitted_at = time.time()
    run = command_runs.submit(actor, command_for(web_id), source=CommandSource.TERMINAL)
    began_at = time.time()
    (mailing,) = command_runs.started_mailings(command_runs.run(actor, run.id))
    queues.start_mailing(mailing.lane.value, mailing.id, mailing.waiting)
    return {
        "mailing_id": mailing.id,
        "plan_seconds": began_at - submitted_at,
        "began_at": began_at,
        "seconds": time.time() - began_at,
        "recipients": mailing.queued,
        "skipped": mailing.skipped,
        "memory_before": before,
        "memory_after": pss_of_this_process(),
        "memory_peak": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
    }


if __name__ == "__main__":
    with create_app().app_context():
        print(json.dumps(confirm(sys.argv[1])))
