"""The line to the mail server: blocked as a whole while the server is down."""

from __future__ import annotations

from datetime import datetime, timedelta

import sqlalchemy as sa

from extensions import db, get_settings
from models import MailLine, utcnow
from services.transactions import run_transaction

LINE = "smtp"


def find_block(now: datetime | None = None) -> MailLine | None:
    """The line if it is blocked at `now`, with reason and time of the next try."""
    line = db.session.get(MailLine, LINE, populate_existing=True)
    if line is None or line.blocked_until is None or line.blocked_until <= (now or utcnow()):
        return None
    return line


def is_blocked(connection: sa.Connection, now: datetime) -> bool:
    """The same for a worker, in its own transaction."""
    blocked = sa.select(MailLine.name).where(MailLine.name == LINE, MailLine.blocked_until > now)
    return connection.scalar(blocked) is not None


def block_line(reason: str) -> datetime:
    """Stop the line for the next delay of MAIL_DOWN_DELAYS; returns when it may be tried again.

    Workers that see the same outage at once count as one failure.
    """
    delays = get_settings().mail_down_delays

    def work(connection: sa.Connection) -> datetime:
        now = utcnow()
        line = connection.execute(
            sa.select(MailLine.failures, MailLine.blocked_until)
            .where(MailLine.name == LINE)
            .with_for_update()
        ).one_or_none()
        if line is None:
            until = now + timedelta(seconds=delays[0])
            connection.execute(
                sa.insert(MailLine).values(
                    name=LINE, failures=1, blocked_until=until, reason=reason[:500]
                )
            )
            return until
        if line.blocked_until is not None and line.blocked_until > now:
            blocked_until: datetime = line.blocked_until
            return blocked_until
        until = now + timedelta(seconds=delays[min(line.failures, len(delays) - 1)])
        connection.execute(
            sa.update(MailLine)
            .where(MailLine.name == LINE)
            .values(failures=line.failures + 1, blocked_until=until, reason=reason[:500])
        )
        return until

    try:
        return run_transaction(work)
    except sa.exc.IntegrityError:  # Another worker has just written the first block.
        return run_transaction(work)


def open_line() -> None:
    """The server has answered: forget past failures."""

    def work(connection: sa.Connection) -> None:
        connection.execute(
            sa.update(MailLine)
            .where(MailLine.name == LINE, MailLine.failures > 0)
            .values(failures=0, blocked_until=None, reason="")
        )

    with db.engine.connect() as connection:
        troubled = connection.scalar(
            sa.select(MailLine.name).where(MailLine.name == LINE, MailLine.failures > 0)
        )
    if troubled:
        run_transaction(work)
