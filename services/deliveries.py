"""The delivery engine: takes claimed deliveries through platform and mail server to their results.

`deliver_mailing` works for a time slice and says whether there is more to do. Every connection to
the mail server is driven by a thread of its own, with claims of its own; a further thread renews
the leases. The process may die at any point: what it held expires and is sent again, unchanged.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import sqlalchemy as sa
from flask import Flask, current_app
from sqlalchemy.exc import SQLAlchemyError

from connectors import AccountPassword, Refusal, get_connector
from connectors.base import ConnectorUnavailable
from extensions import db, get_settings
from models import DeliveryClaim, Lane, Mailing, utcnow
from services import (
    delivery_claims,
    email_templates,
    mail_headers,
    mail_lines,
    messages,
    recipients,
)
from services.delivery_claims import Claim, ClaimedDelivery, MailingJob
from services.delivery_results import Outcome, Result, after_trouble, record_results
from services.smtp import Answer, ServerUnavailable, SmtpConnection, SmtpServer, Stage, connect
from services.smtp import Outcome as Verdict

log = logging.getLogger(__name__)

_TROUBLES_THAT_BLOCK = 3
_SAFETY_SECONDS = 1.0
_CLOSING_DOWN = 421
_TOO_LARGE = 552


def smtp_server() -> SmtpServer:
    """The mail server of the settings."""
    settings = get_settings()
    return SmtpServer(
        host=settings.mail_server,
        port=settings.mail_port,
        use_tls=settings.mail_use_tls,
        use_ssl=settings.mail_use_ssl,
        username=settings.mail_username or None,
        password=settings.mail_password or None,
        timeout=settings.mail_timeout,
    )


def deliver_mailing(mailing_id: int, interrupted: Callable[[], bool] = lambda: False) -> bool:
    """Work on a mailing for one time slice; returns whether there is more to do right now.

    `interrupted` is asked between chunks and ends the slice early, for mailings that go first.
    """
    with db.engine.connect() as connection:
        job = delivery_claims.find_mailing_job(connection, mailing_id)
        if job is None or mail_lines.is_blocked(connection, utcnow()):
            return False
        waiting = _count_due(connection, job)
    if not waiting:
        return False
    settings = get_settings()
    threads = min(settings.delivery_connections, -(-waiting // settings.delivery_chunk))
    work = _Slice(job, time.monotonic() + settings.delivery_slice_seconds, interrupted)
    work.run(threads)
    with db.engine.connect() as connection:
        blocked = mail_lines.is_blocked(connection, utcnow())
        return not blocked and _count_due(connection, job) > 0


def _count_due(connection: sa.Connection, job: MailingJob) -> int:
    """Deliveries that could be claimed now, counted no further than one slice needs to know."""
    settings = get_settings()
    state = connection.scalar(sa.select(Mailing.state).where(Mailing.id == job.id))
    enough = settings.delivery_chunk * settings.delivery_connections
    due = delivery_claims.due_deliveries(job, state, utcnow()).limit(enough)
    return connection.scalar(sa.select(sa.func.count()).select_from(due.subquery())) or 0


class _Slice:
    """One time slice of one mailing: the threads and what they share."""

    def __init__(self, job: MailingJob, ends_at: float, interrupted: Callable[[], bool]) -> None:
        self.job = job
        self._ends_at = ends_at
        self._interrupted = interrupted
        self._stop = threading.Event()
        self._claims: dict[str, Claim] = {}
        self._lock = threading.Lock()
        self._texts = _Texts(job.template_version_id)

    def run(self, threads: int) -> None:
        app: Flask = current_app._get_current_object()  # type: ignore[attr-defined]
        keeper = threading.Thread(target=self._in_context, args=(app, self._keep_leases))
        keeper.start()
        workers = [
            threading.Thread(target=self._in_context, args=(app, self._work))
            for _ in range(threads)
        ]
        try:
            for worker in workers:
                worker.start()
            for worker in workers:
                worker.join()
        finally:
            self._stop.set()
            keeper.join()

    def is_over(self) -> bool:
        return self._stop.is_set() or time.monotonic() >= self._ends_at

    @staticmethod
    def _in_context(app: Flask, work: Callable[[], None]) -> None:
        with app.app_context():
            try:
                work()
            except Exception:
                log.exception("delivery thread ended; its claims will expire")

    def _keep_leases(self) -> None:
        interval = get_settings().lease_seconds / 4
        while not self._stop.wait(interval):
            with self._lock:
                tokens = list(self._claims)
            if not tokens:
                continue
            try:
                held = delivery_claims.renew_claims(tokens)
            except SQLAlchemyError:
                log.exception("leases were not renewed; trying again until they expire")
                continue
            with self._lock:
                for token in tokens:
                    if (claim := self._claims.get(token)) is not None:
                        claim.expires_at = held.get(token, 0.0)

    @contextmanager
    def _lease(self, claim: Claim) -> Iterator[None]:
        with self._lock:
            self._claims[claim.token] = claim
        try:
            yield
        finally:
            with self._lock:
                del self._claims[claim.token]

    def _work(self) -> None:
        settings = get_settings()
        domain = settings.mail_default_sender.rpartition("@")[2]
        wire = _Wire()
        try:
            while not self.is_over():
                if not wire.open():
                    return
                claim = delivery_claims.claim_deliveries(self.job, settings.delivery_chunk, domain)
                if claim is None:
                    return
                with self._lease(claim):
                    results = self._process(claim, wire)
                if not record_results(claim, results):
                    log.warning("claim on mailing %s expired before its results", self.job.id)
                if self._interrupted():
                    self._ends_at = 0.0
        finally:
            wire.close()

    def _process(self, claim: Claim, wire: _Wire) -> list[Result]:
        results = [
            Result(each, Outcome.SKIPPED, skip_reason=each.skip_reason)
            for each in claim.deliveries
            if each.skip_reason is not None
        ]
        to_send = [each for each in claim.deliveries if each.skip_reason is None]
        if not _is_held(claim):  # Newer mails may have gone out meanwhile: touch nothing.
            return results + [Result(each, Outcome.RELEASED) for each in to_send]
        refusals = _set_application_passwords(to_send)
        has_tried = False  # Every claim gets at least one mail out, however slow all this was.
        for delivery in to_send:
            if (refusal := refusals.get(delivery.user_id)) is not None:
                result = _platform_refused(delivery, refusal)
            elif (has_tried and self.is_over()) or not _is_held(claim) or not wire.open():
                result = Result(delivery, Outcome.RELEASED)
            else:
                has_tried = True
                result = _sent(wire, delivery, self._texts)
            result.application_password_set = bool(
                delivery.credentials.application and refusal is None
            )
            results.append(result)
        return results


def _sent(wire: _Wire, delivery: ClaimedDelivery, texts: _Texts) -> Result:
    """Send one mail; what nobody foresaw is charged to its delivery, not to the whole claim."""
    try:
        return wire.send(delivery, texts)
    except Exception:
        log.exception("delivery %s could not be sent", delivery.id)
        wire.close()
        return after_trouble(
            delivery, None, "The mail could not be sent because of a fault here.", in_doubt=True
        )


def _is_held(claim: Claim) -> bool:
    return time.monotonic() < claim.expires_at - _SAFETY_SECONDS


def _set_application_passwords(deliveries: list[ClaimedDelivery]) -> dict[int, Refusal]:
    """Hand application passwords to the customers' platforms; returns refusals by user id."""
    refusals: dict[int, Refusal] = {}
    by_connector: dict[str, list[AccountPassword]] = {}
    for each in deliveries:
        if each.credentials.application and not each.application_password_set:
            by_connector.setdefault(each.recipient.connector or "local", []).append(
                AccountPassword(each.user_id, each.recipient.login, each.credentials.application)
            )
    for name, accounts in by_connector.items():
        try:
            refusals |= get_connector(name).set_passwords(accounts)
        except ConnectorUnavailable as error:
            refusals |= {each.user_id: Refusal(str(error), transient=True) for each in accounts}
        except Exception:
            log.exception("connector %s failed", name)
            failure = Refusal("The application platform failed.", transient=True)
            refusals |= {each.user_id: failure for each in accounts}
    return refusals


def _platform_refused(delivery: ClaimedDelivery, refusal: Refusal) -> Result:
    if refusal.transient:
        return after_trouble(delivery, None, refusal.reason)
    return Result(delivery, Outcome.FAILED, None, refusal.reason, in_doubt=delivery.in_doubt)


class _Texts:
    """A template version's texts, prepared once per language and filled per recipient."""

    def __init__(self, version_id: int) -> None:
        self._version_id = version_id
        self._prepared: dict[str, messages.PreparedMessage] = {}
        self._lock = threading.Lock()

    def render(self, delivery: ClaimedDelivery) -> bytes:
        """The message's bytes. Raises MessageError, or PlaceholderError for a broken template."""
        with self._lock:
            if not self._prepared:
                self._prepared = email_templates.prepare_texts(self._version_id)
        recipient = delivery.recipient
        language = recipients.pick_language(recipient, self._prepared)
        return self._prepared[language].render(
            recipients.placeholder_values(recipient, delivery.credentials),
            to_name=recipients.full_name(recipient),
            to_address=delivery.email,
            message_id=delivery.message_id,
            date=delivery.dated_at,
        )


class _Wire:
    """A connection to the mail server that is opened again when it breaks."""

    def __init__(self) -> None:
        self._server = smtp_server()
        self._sender = get_settings().mail_default_sender
        self._connection: SmtpConnection | None = None
        self._troubles = 0
        self._carried = 0
        self._proven = False
        self._blocked = False

    def open(self) -> bool:
        """Connect unless connected; False, with the line blocked, when the server is down."""
        if self._blocked:
            return False
        if self._connection is None:
            try:
                self._connection = connect(self._server)
            except ServerUnavailable as error:
                self._block(str(error))
                return False
        return True

    def send(self, delivery: ClaimedDelivery, texts: _Texts) -> Result:
        if self._connection is None:
            raise RuntimeError("open() first")
        try:
            address, needs_smtputf8 = mail_headers.envelope_address(delivery.email)
            message = texts.render(delivery)
        except ValueError as error:
            return Result(delivery, Outcome.FAILED, None, str(error), in_doubt=delivery.in_doubt)
        answer = self._connection.send(self._sender, address, message, smtputf8=needs_smtputf8)
        if answer.outcome is Verdict.ACCEPTED:
            self._note_success()
            return Result(delivery, Outcome.SENT, answer.code, answer.text)
        if answer.code == _CLOSING_DOWN and self._carried:
            self.close()  # As many mails as it takes on one connection: go on with a new one.
            return Result(delivery, Outcome.RELEASED)
        if _concerns_all_mail(answer, needs_smtputf8):
            self._block(answer.text)
            return Result(delivery, Outcome.RELEASED)
        if not answer.connection_usable:
            self._note_trouble(answer.text)
        if answer.outcome is Verdict.TRANSIENT:
            return after_trouble(delivery, answer.code, answer.text, in_doubt=answer.in_doubt)
        return Result(
            delivery, Outcome.FAILED, answer.code, answer.text, in_doubt=delivery.in_doubt
        )

    def _note_success(self) -> None:
        self._troubles = 0
        self._carried += 1
        if not self._proven:
            self._proven = True
            mail_lines.open_line()

    def _note_trouble(self, reason: str) -> None:
        """A connection that broke may be one mail's fault; several in a row are the server's."""
        self.close()
        self._troubles += 1
        if self._troubles >= _TROUBLES_THAT_BLOCK:
            self._block(reason)

    def close(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None
        self._carried = 0

    def _block(self, reason: str) -> None:
        self.close()
        self._blocked = True
        mail_lines.block_line(reason)


def _concerns_all_mail(answer: Answer, needs_smtputf8: bool) -> bool:
    """Whether the next mail would meet the same answer: closing down, or the sender is refused.

    552 is about the size of this one message, and SMTPUTF8 is asked for by few recipients.
    """
    if answer.code == _CLOSING_DOWN:
        return True
    if answer.stage is not Stage.MAIL or answer.code is None:
        return False
    return answer.code != _TOO_LARGE and not needs_smtputf8


def list_unattended_mailings() -> list[tuple[int, Lane]]:
    """Mailings with due deliveries on which no worker holds a claim, with their lanes."""
    found: list[tuple[int, Lane]] = []
    with db.engine.connect() as connection:
        if mail_lines.is_blocked(connection, utcnow()):
            return []
        claimed = sa.exists().where(DeliveryClaim.mailing_id == Mailing.id)
        candidates = connection.execute(
            sa.select(Mailing.id, Mailing.lane)
            .where(Mailing.queued + Mailing.sending > 0, ~claimed)
            .order_by(Mailing.id)
        ).all()
        for mailing_id, lane in candidates:
            job = delivery_claims.find_mailing_job(connection, mailing_id)
            if job is not None and _count_due(connection, job):
                found.append((mailing_id, lane))
    return found
