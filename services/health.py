"""Health: whether the parts that Foyer needs are there, and figures for monitoring."""

from __future__ import annotations

import logging
from functools import cache
from pathlib import Path

import sqlalchemy as sa
from alembic.script import ScriptDirectory
from prometheus_client import CollectorRegistry, Gauge, generate_latest
from redis.exceptions import RedisError
from sqlalchemy.exc import SQLAlchemyError

from extensions import db, queues
from models import Mailing, utcnow
from models.mailings import COUNTERS
from services import mail_lines

log = logging.getLogger(__name__)

MIGRATIONS = Path(__file__).resolve().parent.parent / "migrations"


def find_faults() -> list[str]:
    """What keeps this installation from serving: database, migrations, queue. Empty when fine."""
    faults = []
    try:
        with db.engine.connect() as connection:
            current = connection.scalar(sa.text("SELECT version_num FROM alembic_version"))
        if current != _newest_migration():
            faults.append("migrations")
    except SQLAlchemyError:
        log.warning("readiness: the database does not answer")
        faults.append("database")
    try:
        queues.connection.ping()
    except RedisError:
        log.warning("readiness: the queue does not answer")
        faults.append("queue")
    return faults


@cache
def _newest_migration() -> str | None:
    return ScriptDirectory(str(MIGRATIONS)).get_current_head()


def render_metrics() -> bytes:
    """Prometheus' text format: open mailings by counter, queue lengths, the line's state."""
    registry = CollectorRegistry()
    deliveries = Gauge(
        "foyer_open_mailing_deliveries",
        "Deliveries of mailings that have not ended, by state",
        ["state"],
        registry=registry,
    )
    sums = db.session.execute(
        sa.select(*(sa.func.coalesce(sa.func.sum(getattr(Mailing, c)), 0) for c in COUNTERS)).where(
            Mailing.queued + Mailing.sending > 0
        )
    ).one()
    for name, value in zip(COUNTERS, sums, strict=True):
        deliveries.labels(name).set(float(value))
    blocked = Gauge(
        "foyer_mail_line_blocked", "1 while the mail server is taken to be down", registry=registry
    )
    blocked.set(0 if mail_lines.find_block(utcnow()) is None else 1)
    waiting = Gauge("foyer_queue_jobs", "Jobs that wait in a queue", ["queue"], registry=registry)
    for name in queues.NAMES:
        try:
            waiting.labels(name).set(queues[name].count)
        except RedisError:
            waiting.labels(name).set(float("nan"))
    return generate_latest(registry)
