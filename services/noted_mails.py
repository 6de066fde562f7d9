"""Mails that a row notes: written with their cause, mailed by a job, found by the sweep.

A row ends as mailed, or as failed with the words of who refused it. Until then a job takes it for a
while (`claimed_at`); a mail server that asks to come back later is obeyed, and one that is down is
waited for as long as it takes.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Generic, TypeVar

import sqlalchemy as sa
from redis.exceptions import RedisError

from extensions import db, get_settings, queues
from models import (
    DirectDebitNotice,
    RequestNotification,
    SecurityNotice,
    Suppression,
    fold,
    utcnow,
)
from services import mail_lines, system_mails
from services.smtp import ServerUnavailable

log = logging.getLogger(__name__)

Row = TypeVar("Row", RequestNotification, DirectDebitNotice, SecurityNotice)

_CLAIM_LASTS = timedelta(minutes=5)
_MOST_AT_ONCE = 500


@dataclass(frozen=True, slots=True)
class NotedMails(Generic[Row]):
    """The mails of one table. `job` (dotted name) calls `mail` with a row's id.

    `load` reads a row with all that `send` needs; `send` raises as `system_mails.send` does, and
    holds no transaction while the server thinks.
    """

    model: type[Row]
    job: str
    load: Callable[[int], Row]
    send: Callable[[Row], None]

    def enqueue(self, row_ids: Iterable[int]) -> None:
        """Ask workers to mail rows. Call it after the commit; the sweep finds what is lost."""
        try:
            for row_id in row_ids:
                queues.enqueue("default", self.job, row_id)
        except RedisError as error:
            log.warning(
                "mails of %s wait for the sweep, the queue does not answer: %s",
                self.model.__tablename__,
                type(error).__name__,
            )

    def list_unmailed(self) -> list[int]:
        """Ids of rows that are due, the oldest first; none while the line is blocked."""
        if mail_lines.find_block() is not None:
            return []
        return list(
            db.session.scalars(
                sa.select(self.model.id)
                .where(self._is_due(utcnow()))
                .order_by(self.model.next_attempt_at)
                .limit(_MOST_AT_ONCE)
            )
        )

    def mail(self, row_id: int) -> bool:
        """Mail a row that is due; False when it was not mailed now.

        One job at a time works on it. After a crash between the server's answer and our commit it
        is sent once more as the same message, with the same Message-ID and date.
        """
        claimed = db.session.execute(
            sa.update(self.model)
            .where(self.model.id == row_id, self._is_due(utcnow()))
            .values(claimed_at=utcnow(), attempts=self.model.attempts + 1)
            .returning(self.model.attempts)
        ).one_or_none()
        db.session.commit()
        if claimed is None:
            return False
        row = self.load(row_id)
        suppression = find_suppression(row.email)
        if suppression is not None:
            self._note(row, failed_at=utcnow(), answer=_not_sent(suppression))
            return False
        try:
            self.send(row)
        except system_mails.MailRefused as error:
            self._note(row, failed_at=utcnow(), answer=str(error))
        except system_mails.MailDelayed as error:
            self._delay(row, str(error), claimed.attempts)
        except ServerUnavailable as error:
            # Nobody's fault who gets mail: no attempt is charged, however long it takes.
            wait = timedelta(seconds=get_settings().mail_down_delays[-1])
            self._note(
                row,
                answer=error.reason,
                attempts=claimed.attempts - 1,
                next_attempt_at=utcnow() + wait,
            )
        else:
            self._note(row, mailed_at=utcnow(), answer="")
            return True
        return False

    def is_waiting(self) -> sa.ColumnElement[bool]:
        """Neither mailed nor given up."""
        return sa.and_(self.model.mailed_at.is_(None), self.model.failed_at.is_(None))

    def _is_due(self, now: datetime) -> sa.ColumnElement[bool]:
        """Waiting, and no job has been at it for a while."""
        return sa.and_(
            self.is_waiting(),
            self.model.next_attempt_at <= now,
            sa.or_(self.model.claimed_at.is_(None), self.model.claimed_at < now - _CLAIM_LASTS),
        )

    def _delay(self, row: Row, answer: str, attempts: int) -> None:
        """Wait longer each time, and give up after the last of DELIVERY_RETRY_DELAYS."""
        delays = get_settings().delivery_retry_delays
        now = utcnow()
        if attempts > len(delays):
            self._note(row, failed_at=now, answer=answer)
        else:
            wait = timedelta(seconds=delays[attempts - 1])
            self._note(row, answer=answer, next_attempt_at=now + wait)

    def _note(self, row: Row, *, answer: str, **values: datetime | int) -> None:
        """Let go of a row, with what became of it. One that ended meanwhile stays so."""
        db.session.execute(
            sa.update(self.model)
            .where(self.model.id == row.id, self.is_waiting())
            .values(claimed_at=None, answer=answer[:500], **values)
        )
        db.session.commit()


def find_suppression(email: str) -> Suppression | None:
    """Why an address gets no mail, None when nothing stands in its way."""
    return db.session.scalar(sa.select(Suppression).where(Suppression.email_key == fold(email)))


def _not_sent(suppression: Suppression) -> str:
    return f"Not sent, for this address gets no mail: {suppression.reason}"
