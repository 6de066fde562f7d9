"""The delivery engine: takes claimed deliveries through platform and mail server to their results.

`deliver_mailing` works for a time slice and says whether there is more to do. One thread drives all
connections of the process, because threads that fight for the interpreter are slower than one; a
further thread renews the leases. The next chunk is claimed while the last mails of the one before
are under way. The process may die at any point: what it held expires and is sent again, unchanged.
"""

from __future__ import annotations

import logging
import math
import threading
import time
from collections import deque
from collections.abc import Callable
from datetime import datetime
from operator import itemgetter
from typing import Any

import sqlalchemy as sa
from flask import Flask, current_app
from redis.exceptions import RedisError
from sqlalchemy.exc import SQLAlchemyError

from connectors import AccountPassword, Refusal, get_connector
from connectors.base import ConnectorUnavailable
from extensions import db, get_settings
from models import (
    Delivery,
    DeliveryClaim,
    DeliveryState,
    Lane,
    Mailing,
    MailingState,
    TemplateKind,
    utcnow,
)
from models.deliveries import in_state
from services import (
    claim_recovery,
    delivery_claims,
    email_templates,
    mail_headers,
    mail_lines,
    messages,
    recipients,
    setup_instructions,
)
from services.bounce_addresses import BounceAddresses
from services.breaths import breathe
from services.delivery_claims import Claim, ClaimedDelivery, MailingJob
from services.delivery_journal import Journal
from services.delivery_results import Outcome, Result, after_trouble, record_results
from services.mail_rates import MailRates
from services.mail_wires import TOO_LARGE, MailWires
from services.smtp import Answer, Mail, SmtpConnection, too_large_words
from services.smtp import Outcome as Verdict

log = logging.getLogger(__name__)

_SAFETY_SECONDS = 1.0
_FIRST_CHUNK = 100
_SMALLEST_CHUNK = 10
_CHUNK_SECONDS = 0.5
_LOOK_SECONDS = 0.25
"""How often a slice asks whether something more urgent waits."""
_MAILS_PER_CONNECTION = 8
"""Fewer than this are not worth a further connection."""
_LONGEST_SECONDS = 60.0
"""For how long slices follow each other without a break while nothing else waits."""
_SOON_SECONDS = 2.0
"""What is due again within this time is waited for."""
_DEFERRED_SECONDS = 1.0
"""When a mail that found no place under a ceiling is looked at again."""
_MAILS_PER_BREATH = 32
"""About 1 ms of work; a server that answers at once would never let it sleep."""
_ATTACHMENT_BYTES_KEPT = 16_000_000
_LONGEST_ANSWER = 500


def deliver_mailing(
    mailing_id: int,
    interrupted: Callable[[], bool] = lambda: False,
    others_wait: Callable[[], bool] = lambda: True,
) -> bool:
    """Work on a mailing for one time slice; returns whether there is more to do right now.

    `interrupted` is asked now and then and ends the slice early, for mailings that go first.
    `others_wait` is asked when the slice is over; it goes on, for a minute at most, while it says
    no.
    """
    with db.engine.connect() as connection:
        job = delivery_claims.find_mailing_job(connection, mailing_id)
        if job is None or mail_lines.is_blocked(connection, utcnow()):
            return False
        waiting = _count_due(connection, job, utcnow())
    if not waiting:
        return False
    settings = get_settings()
    connections = min(settings.delivery_connections, -(-waiting // _MAILS_PER_CONNECTION))
    wires = MailWires(connections, on_acceptance=_note_in_journal)
    _Slice(job, wires, settings.delivery_slice_seconds, interrupted, others_wait).run()
    with db.engine.connect() as connection:
        if mail_lines.is_blocked(connection, utcnow()):
            return False
        wait = _seconds_until_due(connection, job)
        return wait is not None and wait <= _SOON_SECONDS


def _count_due(connection: sa.Connection, job: MailingJob, now: datetime) -> int:
    """Deliveries that could be claimed at `now`, counted no further than one slice needs."""
    settings = get_settings()
    state = connection.scalar(sa.select(Mailing.state).where(Mailing.id == job.id))
    enough = max(settings.delivery_chunk, _MAILS_PER_CONNECTION * settings.delivery_connections)
    due = delivery_claims.due_deliveries(job, state, now).limit(enough)
    return connection.scalar(sa.select(sa.func.count()).select_from(due.subquery())) or 0


def _seconds_until_due(connection: sa.Connection, job: MailingJob) -> float | None:
    """Until the next delivery of a running mailing is due, 0 when one is; None without any."""
    now = utcnow()  # The same for both questions, or what falls due between them is in neither.
    if _count_due(connection, job, now):
        return 0.0
    state = connection.scalar(sa.select(Mailing.state).where(Mailing.id == job.id))
    if state is not MailingState.RUNNING:
        return None
    next_at = connection.scalar(
        sa.select(sa.func.min(Delivery.next_attempt_at)).where(
            Delivery.mailing_id == job.id,
            in_state(DeliveryState.QUEUED),
            Delivery.next_attempt_at > now,
        )
    )
    return None if next_at is None else (next_at - now).total_seconds()


class _Chunk:
    """A claim in work: what is still to offer, and the results so far."""

    def __init__(self, claim: Claim, journal: Journal) -> None:
        self.claim = claim
        self.journal = journal
        self.results: list[Result] = []
        self.to_send: deque[tuple[float, ClaimedDelivery]] = deque()
        self.has_tried = False
        self.changed_on_platform: set[int] = set()

    def is_held(self) -> bool:
        return time.monotonic() < self.claim.expires_at - _SAFETY_SECONDS

    def is_complete(self) -> bool:
        return len(self.results) == len(self.claim.deliveries)

    def note(self, result: Result) -> None:
        result.application_password_set = result.delivery.id in self.changed_on_platform
        self.results.append(result)

    def release(self, delivery: ClaimedDelivery, wait: float = 0.0) -> None:
        self.note(Result(delivery, Outcome.RELEASED, wait=wait))


def _note_in_journal(mail: Mail, code: int) -> None:
    chunk: _Chunk
    delivery: ClaimedDelivery
    chunk, delivery = mail.tag
    chunk.journal.note(delivery.id, code)


class _Slice:
    """One time slice of one mailing."""

    def __init__(
        self,
        job: MailingJob,
        wires: MailWires,
        seconds: float,
        interrupted: Callable[[], bool],
        others_wait: Callable[[], bool],
    ) -> None:
        settings = get_settings()
        self._job = job
        self._wires = wires
        self._seconds = seconds
        self._ends_at = math.inf
        self._goes_on_until = math.inf
        self._interrupted = interrupted
        self._others_wait = others_wait
        self._looks_at = 0.0
        self._rates = MailRates.of_lane(job.lane)
        self._largest_chunk = settings.delivery_chunk
        if settings.mail_max_per_second:
            self._largest_chunk = max(
                1, min(self._largest_chunk, int(settings.mail_max_per_second))
            )
        self._started_at = 0.0
        self._done = 0
        self._domain = settings.mail_default_sender.rpartition("@")[2]
        self._folder = settings.var_dir
        self._composer = Composer(job.template_version_id, job.kind)
        self._claims_at: float | None = 0.0
        self._has_deferred = False
        self._chunks: dict[str, _Chunk] = {}
        self._lock = threading.Lock()
        self._stop = threading.Event()

    def run(self) -> None:
        app: Flask = current_app._get_current_object()  # type: ignore[attr-defined]
        keeper = threading.Thread(target=self._keep_leases, args=(app,))
        keeper.start()
        try:
            self._work()
        except Exception:
            log.exception("delivery of mailing %s broke off; its claims will expire", self._job.id)
        finally:
            self._wires.close()
            self._stop.set()
            keeper.join()

    def _keep_leases(self, app: Flask) -> None:
        with app.app_context():
            while not self._stop.wait(get_settings().lease_seconds / 4):
                try:
                    self._renew_leases()
                    claim_recovery.expire_claims_of_this_machine()
                except SQLAlchemyError:
                    log.exception("leases were not renewed; trying again until they expire")

    def _renew_leases(self) -> None:
        with self._lock:
            chunks = dict(self._chunks)
        if not chunks:
            return
        held = delivery_claims.renew_claims(chunks)
        for token, chunk in chunks.items():
            chunk.claim.expires_at = held.get(token, 0.0)

    def _is_over(self) -> bool:
        now = time.monotonic()
        if now >= self._looks_at:
            self._looks_at = now + _LOOK_SECONDS
            if self._is_so(self._interrupted):
                self._end()
        if now >= self._ends_at:
            if now + self._seconds > self._goes_on_until or self._is_so(self._others_wait):
                self._end()
            else:
                self._begin_anew(now)
        return now >= self._ends_at

    def _is_so(self, question: Callable[[], bool]) -> bool:
        """Also when nobody can tell: then the slice ends in good order, and the sweep goes on."""
        try:
            return question()
        except (RedisError, SQLAlchemyError) as error:
            log.warning("cannot see what else waits: %s", type(error).__name__)
            return True

    def _end(self) -> None:
        """For good, whoever may or may not wait."""
        self._ends_at = self._goes_on_until = 0.0

    def _begin_anew(self, now: float) -> None:
        """One more slice, which knows of the pace so far, but not for long."""
        with db.engine.connect() as connection:
            self._job = delivery_claims.find_mailing_job(connection, self._job.id) or self._job
        self._ends_at = now + self._seconds
        self._done = math.ceil(self._done / (now - self._started_at))
        self._started_at = now - 1.0

    # --- The loop ---------------------------------------------------------------------------

    def _work(self) -> None:
        wires = self._wires
        wires.open()  # However long that takes: the slice begins afterwards.
        self._started_at = time.monotonic()
        self._ends_at = self._started_at + self._seconds
        self._goes_on_until = self._started_at + _LONGEST_SECONDS
        mails = 0
        while True:
            wait = self._offer_mails()
            ended, anew = wires.advance()
            for mail, answer in ended:
                self._note_answer(mail, answer)
            mails += len(ended)
            if mails >= _MAILS_PER_BREATH:
                mails = 0
                breathe()
            for mail in reversed(anew):
                chunk, delivery = mail.tag
                chunk.to_send.appendleft((0.0, delivery))
            if wait is None and not anew and not wires.busy():
                return
            if not ended and not anew:
                wires.wait(_LOOK_SECONDS if wait is None else min(wait, _LOOK_SECONDS))

    def _offer_mails(self) -> float | None:
        """Fill the connections; returns the seconds until more may be due, None without more."""
        if not self._wires.open():
            for stranded in list(self._chunks.values()):
                self._release_rest(stranded)
            return None
        while (connection := self._wires.find_free()) is not None:
            chunk = self._find_chunk()
            if chunk is None:
                if self._claims_at is None:
                    return None
                return max(0.0, self._claims_at - time.monotonic())
            go_at, delivery = chunk.to_send[0]
            if go_at and (wait := go_at - time.monotonic()) > 0:
                return wait
            chunk.to_send.popleft()
            chunk.has_tried = True
            self._offer(connection, chunk, delivery)
        return _LOOK_SECONDS

    def _find_chunk(self) -> _Chunk | None:
        """A chunk with mails to offer, claimed now where need be; None when there is none now.

        Every chunk gets at least one mail out, however slow everything was.
        """
        for chunk in list(self._chunks.values()):
            if not chunk.to_send:
                continue
            if chunk.is_held() and not (chunk.has_tried and self._is_over()):
                return chunk
            self._release_rest(chunk)
        while self._claims_at is not None and time.monotonic() >= self._claims_at:
            if self._is_over():
                self._claims_at = None
            elif (begun := self._claim_chunk()) is None:
                self._claims_at = self._next_claim_at()
            elif begun.to_send:
                return begun
            else:
                self._record(begun)
        return None

    def _claim_chunk(self) -> _Chunk | None:
        claim = delivery_claims.claim_deliveries(self._job, self._chunk_size(), self._domain)
        return None if claim is None else self._begin_chunk(claim)

    def _chunk_size(self) -> int:
        """About what goes in half a second: application passwords change when a chunk begins."""
        elapsed = time.monotonic() - self._started_at
        if not self._done or elapsed <= 0:
            return min(_FIRST_CHUNK, self._largest_chunk)
        going = round(self._done / elapsed * _CHUNK_SECONDS)
        return min(max(going, _SMALLEST_CHUNK), self._largest_chunk)

    def _next_claim_at(self) -> float | None:
        """When what waits for a ceiling is due again; None when nothing is due soon."""
        if not self._has_deferred:
            return None
        with db.engine.connect() as connection:
            wait = _seconds_until_due(connection, self._job)
        if wait is None or wait > _SOON_SECONDS:
            return None
        return time.monotonic() + max(wait, 0.01)

    def _begin_chunk(self, claim: Claim) -> _Chunk:
        """Everything that comes before the first mail of a claim."""
        chunk = _Chunk(claim, Journal.open(self._folder, claim.token))
        with self._lock:
            self._chunks[claim.token] = chunk
        to_send = []
        for each in claim.deliveries:
            if each.skip_reason is None:
                to_send.append(each)
            else:
                chunk.note(Result(each, Outcome.SKIPPED, skip_reason=each.skip_reason))
        if not chunk.is_held():  # Newer mails may have gone out meanwhile: touch nothing.
            for each in to_send:
                chunk.release(each)
            return chunk
        moments = self._find_moments(chunk, to_send)
        refusals = _set_application_passwords([each for _, each in moments])
        for go_at, each in moments:
            if (refusal := refusals.get(each.user_id)) is not None:
                chunk.note(_platform_refused(each, refusal))
                continue
            if each.credentials.application:
                chunk.changed_on_platform.add(each.id)
            chunk.to_send.append((go_at, each))
        return chunk

    def _find_moments(
        self, chunk: _Chunk, deliveries: list[ClaimedDelivery]
    ) -> list[tuple[float, ClaimedDelivery]]:
        """When each mail may go, in that order; 0 is now. What finds no moment is handed back."""
        if self._rates.is_unlimited:
            return [(0.0, each) for each in deliveries]
        try:
            waits = self._rates.reserve([each.email.rpartition("@")[2] for each in deliveries])
        except RedisError as error:
            log.warning("no ceilings without the queue: %s", type(error).__name__)
            self._end()
            waits = [math.inf] * len(deliveries)
        now = time.monotonic()
        moments = []
        for wait, delivery in zip(waits, deliveries, strict=True):
            if math.isinf(wait):
                self._has_deferred = True
                chunk.release(delivery, wait=_DEFERRED_SECONDS)
            else:
                moments.append((now + wait if wait else 0.0, delivery))
        return sorted(moments, key=itemgetter(0))

    def _offer(self, connection: SmtpConnection, chunk: _Chunk, delivery: ClaimedDelivery) -> None:
        """Compose and offer one mail; what nobody foresaw is charged to it, not to the claim."""
        try:
            mail = self._composer.compose(delivery, tag=(chunk, delivery))
        except ValueError as error:
            doubt = delivery.in_doubt
            failed = Result(delivery, Outcome.FAILED, None, str(error), in_doubt=doubt)
            self._settle(chunk, failed)
            return
        except Exception:
            log.exception("delivery %s could not be composed", delivery.id)
            fault = "The mail could not be written because of a fault here."
            self._settle(chunk, after_trouble(delivery, None, fault))
            return
        if (answer := connection.offer(mail)) is not None:
            self._note_answer(mail, answer)

    def _note_answer(self, mail: Mail, answer: Answer) -> None:
        chunk: _Chunk
        delivery: ClaimedDelivery
        chunk, delivery = mail.tag
        code, text = answer.code, answer.text
        if answer.outcome is Verdict.ACCEPTED:
            self._settle(chunk, Result(delivery, Outcome.SENT, code, text))
        elif answer.outcome is Verdict.TRANSIENT:
            self._settle(chunk, after_trouble(delivery, code, text, in_doubt=answer.in_doubt))
        else:
            in_doubt = delivery.in_doubt
            if mail.tail and code == TOO_LARGE:
                text = f"{too_large_words(mail)} It said: {text}"[:_LONGEST_ANSWER]
            self._settle(chunk, Result(delivery, Outcome.FAILED, code, text, in_doubt=in_doubt))

    def _release_rest(self, chunk: _Chunk) -> None:
        """Hand back what was not offered."""
        for _, delivery in chunk.to_send:
            chunk.release(delivery)
        chunk.to_send.clear()
        if chunk.is_complete():
            self._record(chunk)

    def _settle(self, chunk: _Chunk, result: Result) -> None:
        chunk.note(result)
        self._done += 1
        if chunk.is_complete():
            self._record(chunk)

    def _record(self, chunk: _Chunk) -> None:
        if not record_results(chunk.claim, chunk.results):
            log.warning("a claim on mailing %s expired before its results", self._job.id)
        with self._lock:
            del self._chunks[chunk.claim.token]
        chunk.journal.close_and_remove()


def _set_application_passwords(deliveries: list[ClaimedDelivery]) -> dict[int, Refusal]:
    """Hand application passwords to the customers' platforms; returns refusals by user id."""
    refusals: dict[int, Refusal] = {}
    by_connector: dict[str, list[AccountPassword]] = {}
    for each in deliveries:
        if each.credentials.application and not each.application_password_set:
            name = each.customer.connector if each.customer is not None else "local"
            by_connector.setdefault(name, []).append(
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


class Composer:
    """Writes a template version's mails: its texts are prepared once per language."""

    def __init__(self, version_id: int, kind: TemplateKind) -> None:
        """Welcome mails carry the files of the customer's setup instructions."""
        self._version_id = version_id
        self._senders = BounceAddresses(get_settings())
        self._values = recipients.RecipientValues(get_settings())
        self._prepared: dict[str, messages.PreparedMessage] = {}
        self._attachments = AttachmentsKept() if kind is TemplateKind.WELCOME else None

    def compose(self, delivery: ClaimedDelivery, tag: Any = None) -> Mail:
        """The mail, ready for the wire. Raises ValueError when it cannot be written."""
        if not self._prepared:
            self._prepared = email_templates.prepare_texts(self._version_id)
        user, customer = delivery.recipient, delivery.customer
        address, needs_smtputf8 = mail_headers.envelope_address(delivery.email)
        prepared = self._prepared[recipients.pick_language_for(user, customer, self._prepared)]
        tail = b""
        if self._attachments is not None and customer and customer.attachments_version:
            tail = self._attachments.of(user.customer_id, customer.attachments_version)
            prepared = prepared.before_attachments if tail else prepared
        message = prepared.render(
            self._values.values_for(user, customer, delivery.bundle, delivery.credentials),
            to_name=recipients.full_name(user),
            to_address=delivery.email,
            message_id=delivery.message_id,
            date=delivery.dated_at,
            envelope_to=address,
        )
        sender = self._senders.address_for(delivery.id)
        return Mail(sender, address, message, needs_smtputf8, tag, tail)


class AttachmentsKept:
    """Customers' files as they go over the wire, kept for the next of their users.

    What is kept is bounded in bytes, but for the latest customer's.
    """

    def __init__(self, most: int = _ATTACHMENT_BYTES_KEPT) -> None:
        self._most = most
        self._bytes = 0
        self._kept: dict[tuple[int, int], bytes] = {}

    def of(self, customer_id: int, version: int) -> bytes:
        """The files of a customer; `version` is its `attachments_version`."""
        key = (customer_id, version)
        if (found := self._kept.get(key)) is None:
            found = setup_instructions.prepare_attachments(customer_id)
            self._kept[key] = found
            self._bytes += len(found)
            while self._bytes > self._most and len(self._kept) > 1:
                self._bytes -= len(self._kept.pop(next(iter(self._kept))))
        return found


def list_waiting_mailings() -> list[tuple[int, Lane, int]]:
    """Mailings with due deliveries, their lanes, and the number of workers that hold a claim.

    Those with as many workers as one mailing may have are left out.
    """
    enough = get_settings().delivery_jobs
    workers = (
        sa.select(sa.func.count(sa.distinct(DeliveryClaim.worker)))
        .where(DeliveryClaim.mailing_id == Mailing.id)
        .scalar_subquery()
    )
    with db.engine.connect() as connection:
        if mail_lines.is_blocked(connection, utcnow()):
            return []
        candidates = connection.execute(
            sa.select(Mailing.id, Mailing.lane, workers)
            .where(Mailing.queued + Mailing.sending > 0, workers < enough)
            .order_by(Mailing.id)
        ).all()
        return [
            (mailing_id, lane, count)
            for mailing_id, lane, count in candidates
            if (job := delivery_claims.find_mailing_job(connection, mailing_id)) is not None
            and _count_due(connection, job, utcnow())
        ]


_LOOKED_AT = 200


def list_unattended(lane: Lane) -> list[int]:
    """The oldest running mailings of a lane that have something due and no worker at it."""
    attended = sa.exists().where(DeliveryClaim.mailing_id == Mailing.id)
    is_due = sa.exists().where(
        Delivery.mailing_id == Mailing.id,
        in_state(DeliveryState.QUEUED),
        Delivery.next_attempt_at <= utcnow(),
    )
    with db.engine.connect() as connection:
        return list(
            connection.scalars(
                sa.select(Mailing.id)
                .where(
                    Mailing.queued + Mailing.sending > 0,
                    Mailing.queued > 0,
                    Mailing.lane == lane,
                    Mailing.state == MailingState.RUNNING,
                    ~attended,
                    is_due,
                )
                .order_by(Mailing.id)
                .limit(_LOOKED_AT)
            )
        )
