"""Idempotency keys: a POST that is repeated is carried out once, and answered the same.

A key is OPEN while its request is under way. The first commit of a transaction that wrote something
marks it DONE in that very transaction, whichever service makes it and by whichever way: the engine
is told of every commit before the database is. So the mark is there exactly when the work is, and a
request whose key was taken over cannot commit any more. ANSWERED has the answer, sealed. A key is
good for `KEPT_FOR`, then the sweep deletes it.
"""

from __future__ import annotations

import base64
import hashlib
import json
import logging
import re
import secrets
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

import sqlalchemy as sa
from sqlalchemy.exc import DBAPIError

from extensions import db, get_settings
from models import IdempotencyKey, KeyState, table_of, utcnow
from services.errors import Conflict, InvalidInput
from services.seals import SealBroken, sealer
from services.transactions import run_transaction, upsert

log = logging.getLogger(__name__)

KEPT_FOR = timedelta(hours=24)
LEASE = timedelta(seconds=30)
"""How long a request holds its key when it never ends, as when its process was killed."""

_DELETED_AT_ONCE = 1000
_DELETIONS = 20
_READS = re.compile(
    r"\s*(SELECT|SAVEPOINT|RELEASE|ROLLBACK|WITH(?!.*\b(INSERT|UPDATE|DELETE)\b))",
    re.IGNORECASE | re.DOTALL,
)
_WROTE = "foyer_idempotent_write"


class KeyReused(InvalidInput):
    """The key belongs to a request with another path or body."""

    def __init__(self) -> None:
        super().__init__("Idempotency-Key", "The key belongs to another request.")


class InFlight(Conflict):
    """The first request with the key has not ended; `retry_after` is in whole seconds."""

    def __init__(self, retry_after: int) -> None:
        self.retry_after = retry_after
        super().__init__("The first request with this key is still under way.")


class AnswerLost(Conflict):
    """The request was carried out, and what it was answered is not known."""

    def __init__(self) -> None:
        super().__init__("The request was carried out and its answer was lost.")


@dataclass(frozen=True, slots=True)
class KeptAnswer:
    """What a request was answered."""

    status: int
    headers: Mapping[str, str]
    body: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class HeldKey:
    """A key that is OPEN for one request, known by its random `token`."""

    id: int
    token: str


_held: ContextVar[HeldKey | None] = ContextVar("held_idempotency_key", default=None)


def fingerprint(*parts: bytes) -> str:
    """Of a request, for one secret key: a body may hold what can be guessed from a plain hash."""
    key = hashlib.blake2b(
        get_settings().secret_key.encode(), digest_size=32, person=b"foyer-idem-key"
    ).digest()
    digest = hashlib.blake2b(key=key, digest_size=32)
    for part in parts:
        digest.update(len(part).to_bytes(8, "big"))
        digest.update(part)
    return digest.hexdigest()


def hold_key(credential_id: int, key: str, request: str) -> HeldKey | KeptAnswer:
    """The key for a request with this fingerprint, or the answer that it has had.

    Raises KeyReused, InFlight or AnswerLost.
    """
    token = secrets.token_hex(16)
    now = utcnow()
    fresh = {
        "fingerprint": request,
        "state": KeyState.OPEN,
        "token": token,
        "expires_at": now + LEASE,
        "answer": None,
        "created_at": now,
    }
    keys = table_of(IdempotencyKey)

    def work(connection: sa.Connection) -> HeldKey | sa.Row[Any]:
        made = connection.scalar(
            upsert(keys)
            .values(credential_id=credential_id, key=key, **fresh)
            .on_conflict_do_nothing(index_elements=[keys.c.credential_id, keys.c.key])
            .returning(keys.c.id)
        )
        if made is not None:
            return HeldKey(made, token)
        found = connection.execute(
            sa.select(keys).where(keys.c.credential_id == credential_id, keys.c.key == key)
        ).one_or_none()
        if found is None:  # Set free this very moment.
            raise InFlight(1)
        is_old = found.created_at <= now - KEPT_FOR
        if not is_old and found.fingerprint != request:
            raise KeyReused
        was_left = found.state is KeyState.OPEN and found.expires_at <= now
        if not (is_old or was_left):
            return found
        taken = connection.execute(
            sa.update(keys)
            .where(keys.c.id == found.id, keys.c.token == found.token, keys.c.state == found.state)
            .values(**fresh)
        )
        if taken.rowcount != 1:
            raise InFlight(1)
        return HeldKey(found.id, token)

    found = run_transaction(work)
    return found if isinstance(found, HeldKey) else _answer_of(found, now)


def _answer_of(found: sa.Row[Any], now: datetime) -> KeptAnswer:
    if found.state is KeyState.ANSWERED:
        try:
            kept = json.loads(sealer().decrypt(found.answer))
        except SealBroken:
            raise AnswerLost from None
        return KeptAnswer(kept["status"], kept["headers"], base64.b64decode(kept["body"]))
    if found.expires_at > now:
        raise InFlight(max(1, -(-(found.expires_at - now) // timedelta(seconds=1))))
    raise AnswerLost


@contextmanager
def marked_done(held: HeldKey) -> Iterator[None]:
    """Whatever is committed within marks the key DONE.

    Raises InFlight from the commit, which does not happen, when another has taken the key over.
    """
    token = _held.set(held)
    try:
        yield
    finally:
        _held.reset(token)


def is_key_held() -> bool:
    """Whether what is committed now marks a key: then it has to be a transaction."""
    return _held.get() is not None


def keep_answer(held: HeldKey, answer: KeptAnswer) -> None:
    """For whoever repeats the request. Best effort: the work is done."""
    db.session.rollback()
    sealed = sealer().encrypt(
        json.dumps(
            {
                "status": answer.status,
                "headers": dict(answer.headers),
                "body": base64.b64encode(answer.body).decode(),
            }
        ).encode()
    )
    _change_mine(held, sa.true(), state=KeyState.ANSWERED, answer=sealed)


def free_key(held: HeldKey) -> None:
    """After a request that did nothing; one that did its work is known to have lost its answer."""
    db.session.rollback()  # What it had begun would keep the others out.
    keys = table_of(IdempotencyKey).c
    _change_mine(held, keys.state == KeyState.DONE, expires_at=utcnow())
    try:
        run_transaction(
            lambda connection: connection.execute(
                sa.delete(table_of(IdempotencyKey)).where(
                    keys.id == held.id, keys.token == held.token, keys.state == KeyState.OPEN
                )
            )
        )
    except DBAPIError as error:
        log.warning("an idempotency key was not set free: %s", type(error.orig).__name__)


def _change_mine(held: HeldKey, condition: sa.ColumnElement[bool], **values: Any) -> None:
    keys = table_of(IdempotencyKey)
    try:
        run_transaction(
            lambda connection: connection.execute(
                sa.update(keys)
                .where(keys.c.id == held.id, keys.c.token == held.token, condition)
                .values(**values)
            )
        )
    except DBAPIError as error:
        log.warning("the end of a request was not kept: %s", type(error.orig).__name__)


def delete_old_keys() -> None:
    """Keys that are older than `KEPT_FOR`, a bounded number of them per call."""
    keys = table_of(IdempotencyKey)
    old = (
        sa.select(keys.c.id)
        .where(keys.c.created_at <= utcnow() - KEPT_FOR)
        .order_by(keys.c.created_at)
        .limit(_DELETED_AT_ONCE)
    )
    deletion = sa.delete(keys).where(keys.c.id.in_(old))
    for _ in range(_DELETIONS):
        if not run_transaction(lambda connection: connection.execute(deletion).rowcount):
            break


# --- The mark: what the engine says of every statement and commit ------------------------------


@sa.event.listens_for(sa.engine.Engine, "after_cursor_execute")
def _note_write(
    connection: sa.Connection,
    _cursor: object,
    statement: str,
    _parameters: object,
    _context: object,
    _executemany: bool,
) -> None:
    held = _held.get()
    if held is not None and not _READS.match(statement):
        connection.info[_WROTE] = held.token


@sa.event.listens_for(sa.engine.Engine, "rollback")
def _forget_writes(connection: sa.Connection) -> None:
    connection.info.pop(_WROTE, None)


@sa.event.listens_for(sa.engine.Engine, "commit")
def _mark_done(connection: sa.Connection) -> None:
    held = _held.get()
    if held is None or connection.info.get(_WROTE) != held.token:
        return
    keys = table_of(IdempotencyKey)
    marked = connection.execute(
        sa.update(keys)
        .where(keys.c.id == held.id, keys.c.token == held.token)
        .values(state=KeyState.DONE)
    )
    connection.info.pop(_WROTE, None)
    if marked.rowcount != 1:
        raise InFlight(1)
