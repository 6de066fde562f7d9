"""API credentials: who signs in to the REST API, with what rights, and how they are looked after.

Their secrets are machine-made and carry more than 112 bits, so one salted fast round is enough for
them (NIST SP 800-63B, look-up secrets), and the check disappears in the cost of a request.
"""

from __future__ import annotations

import ipaddress
import logging
import re
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from functools import cache, lru_cache
from typing import Any, NamedTuple

import sqlalchemy as sa
from sqlalchemy.exc import DBAPIError, IntegrityError
from sqlalchemy.orm import joinedload, selectinload

from extensions import db
from models import (
    ApiCredential,
    ApiCredentialGroup,
    ApiScope,
    CredentialState,
    Group,
    fold,
    is_storable,
    prefix_range,
    table_of,
    utcnow,
)
from services import api_credential_rules as rules
from services import passwords
from services.actors import Actor, Permission
from services.api_credential_rules import CheckedTerms, Terms
from services.audit_events import insert_event
from services.errors import Conflict, InvalidInput, NotFound, Stale
from services.paging import Page, keyset_page
from services.prepared_statements import PreparedStatement
from services.transactions import run_transaction

log = logging.getLogger(__name__)

OVERLAPS = (timedelta(0), timedelta(hours=1), timedelta(days=1), timedelta(days=7))
"""How long the secret before may go on working after a rotation."""

_USE_NOTED_EVERY = timedelta(minutes=1)
_LONGEST_NAME = rules.NAME_LENGTHS[1]
_SECRET_LETTERS = 32
_CONFIRMATION = re.compile(r"[A-Za-z0-9_-]{20,64}")
_GONE = "There is no such API credential."


class Kept(StrEnum):
    """Which secret goes on working for a while after a rotation."""

    CURRENT = "current"
    PREVIOUS = "previous"


@dataclass(frozen=True, slots=True)
class Made:
    """A credential with its new secret, which nobody can learn again.

    `secret` is None where the same form had it made before: it was told then.
    """

    credential: ApiCredential
    secret: str | None


# --- Signing in ----------------------------------------------------------------------------------


def authenticate(name: str, secret: str, address: str) -> Actor | None:
    """The actor behind a name and a secret, None for whatever keeps it out.

    Unknown, expired and revoked names cost the same as a wrong secret, and so does a credential
    that may not come from `address`.
    """
    now = utcnow()
    found = _find(name)
    if not is_storable(secret):
        secret = ""  # Nobody has it, and half a surrogate pair cannot be hashed.
    stored = found.secret_hash if found is not None else _dummy_hash()
    earlier = _dummy_hash()
    if found is not None and found.previous_hash and (found.previous_until or now) > now:
        earlier = found.previous_hash
    # Both are always checked, so that time does not tell of a rotation either.
    fits = passwords.verify(stored, secret) | passwords.verify(earlier, secret)
    if (
        found is None
        or not fits
        or found.revoked_at is not None
        or (found.expires_at is not None and found.expires_at <= now)
        or not _may_come_from(tuple(found.networks), address)
    ):
        return None
    if found.last_used_at is None or now - found.last_used_at >= _USE_NOTED_EVERY:
        _note_use(found.id, now, address)
    scopes = [
        scope
        for scope, is_granted in (
            (ApiScope.READ, found.may_read),
            (ApiScope.WRITE, found.may_write),
            (ApiScope.SEND, found.may_send),
        )
        if is_granted
    ]
    return Actor.from_credential(
        found.id, found.name, scopes, all_groups=found.all_groups, address=address
    )


def _find(name: str) -> _Found | None:
    if not 0 < len(name) <= _LONGEST_NAME or not is_storable(name):
        name = ""  # Nobody has it; asking all the same takes the usual time.
    engine = db.engine
    rows = _find_statement(engine.dialect).fetch(engine, {"name": name})
    return _Found(*rows[0]) if rows else None


class _Found(NamedTuple):
    """What signing in needs to know of a credential."""

    id: int
    name: str
    secret_hash: str
    previous_hash: str | None
    previous_until: datetime | None
    may_read: bool
    may_write: bool
    may_send: bool
    all_groups: bool
    networks: list[str]
    expires_at: datetime | None
    revoked_at: datetime | None
    last_used_at: datetime | None


@cache
def _find_statement(dialect: sa.Dialect) -> PreparedStatement:
    credentials = table_of(ApiCredential).c
    statement = sa.select(*(credentials[name] for name in _Found._fields)).where(
        credentials.name == sa.bindparam("name")
    )
    return PreparedStatement.compile(statement, dialect)


@lru_cache(maxsize=1024)
def _may_come_from(networks: tuple[str, ...], address: str) -> bool:
    if not networks:
        return True
    try:
        given = ipaddress.ip_address(address)
    except ValueError:
        return False
    mapped = getattr(given, "ipv4_mapped", None)  # What a socket for both families calls IPv4.
    return any((mapped or given) in ipaddress.ip_network(each) for each in networks)


def _note_use(credential_id: int, now: datetime, address: str) -> None:
    """Best effort: a busy database must neither refuse a request over it nor hold it up."""
    credentials = table_of(ApiCredential)
    # Who holds the row changes the credential, or notes its use.
    due = (
        sa.select(credentials.c.id)
        .where(
            credentials.c.id == credential_id,
            sa.or_(
                credentials.c.last_used_at.is_(None),
                credentials.c.last_used_at <= now - _USE_NOTED_EVERY,
            ),
        )
        .with_for_update(skip_locked=True)
    )
    noted = (
        sa.update(credentials)
        .where(credentials.c.id.in_(due))
        .values(last_used_at=now, last_used_from=address[:64])
    )
    connection = db.session.connection()
    try:
        with _in_haste(connection):
            connection.execute(noted)
        db.session.commit()
    except DBAPIError as error:
        db.session.rollback()
        log.warning("the use of a credential was not noted: %s", type(error.orig).__name__)


@contextmanager
def _in_haste(connection: sa.Connection) -> Iterator[None]:
    """Wait for SQLite's one writer but a moment."""
    if connection.dialect.name != "sqlite":
        yield
        return
    usual = connection.exec_driver_sql("PRAGMA busy_timeout").scalar()
    connection.exec_driver_sql("PRAGMA busy_timeout = 50")
    try:
        yield
    finally:
        connection.exec_driver_sql(f"PRAGMA busy_timeout = {usual}")


@cache
def _dummy_hash() -> str:
    return passwords.hash_generated(passwords.generate_password())


# --- Looking -------------------------------------------------------------------------------------


def list_credentials(
    actor: Actor,
    *,
    search: str = "",
    state: CredentialState | None = None,
    size: int = 25,
    cursor: str = "",
) -> Page[ApiCredential]:
    """A page of credentials by name, their groups loaded; `search` is the beginning of a name."""
    actor.require(Permission.CREDENTIALS_MANAGE)
    query = sa.select(ApiCredential).options(selectinload(ApiCredential.groups))
    if search:
        lowest, beyond = prefix_range(fold(search))
        query = query.where(ApiCredential.name >= lowest, ApiCredential.name < beyond)
    if state is not None:
        query = query.where(_is_in(state, utcnow()))
    return keyset_page(
        lambda page: db.session.scalars(page).all(),
        query,
        key=ApiCredential.name.expression,
        row_id=ApiCredential.id.expression,
        key_of=lambda row: (row.name, row.id),
        size=size,
        cursor=cursor,
    )


def _is_in(state: CredentialState, now: datetime) -> sa.ColumnElement[bool]:
    if state is CredentialState.REVOKED:
        return ApiCredential.revoked_at.is_not(None)
    if state is CredentialState.EXPIRED:
        return sa.and_(ApiCredential.revoked_at.is_(None), ApiCredential.expires_at <= now)
    return sa.and_(
        ApiCredential.revoked_at.is_(None),
        sa.or_(ApiCredential.expires_at.is_(None), ApiCredential.expires_at > now),
    )


def get_credential(actor: Actor, credential_id: int) -> ApiCredential:
    """A credential as it is now, its groups and author loaded. Raises NotFound, Forbidden."""
    actor.require(Permission.CREDENTIALS_MANAGE)
    found = db.session.scalar(
        sa.select(ApiCredential)
        .where(ApiCredential.id == credential_id)
        .options(selectinload(ApiCredential.groups), joinedload(ApiCredential.created_by))
        .execution_options(populate_existing=True)
    )
    if found is None:
        raise NotFound(_GONE)
    return found


def list_groups(actor: Actor) -> list[Group]:
    """The groups that a credential can be limited to, by number."""
    actor.require(Permission.CREDENTIALS_MANAGE)
    return list(db.session.scalars(sa.select(Group).order_by(Group.groupno)))


# --- Making --------------------------------------------------------------------------------------


def create_credential(actor: Actor, *, name: str, terms: Terms, confirmation: str) -> Made:
    """Make a credential; its secret is in the answer and nowhere else.

    `confirmation` is the random word of the form: the same actor's same word makes no second one,
    but answers the first without its secret. Raises InvalidInputs with every fault, and
    InvalidInput for a name that is taken.
    """
    actor.require(Permission.CREDENTIALS_MANAGE)
    if not _CONFIRMATION.fullmatch(confirmation):
        raise InvalidInput("confirmation", "This page is incomplete. Open it again.")
    if (made := _find_made(actor, confirmation)) is not None:
        return Made(made, None)
    checked = rules.check_terms(terms, list_groups(actor), utcnow(), name=name)
    secret = _new_secret()
    credentials = table_of(ApiCredential)

    def work(connection: sa.Connection) -> int:
        credential_id: int = connection.execute(
            sa.insert(credentials)
            .values(
                name=name,
                secret_hash=passwords.hash_generated(secret),
                confirmation=confirmation,
                created_by_id=actor.user_id,
                created_at=utcnow(),
                **checked.columns,
            )
            .returning(credentials.c.id)
        ).scalar_one()
        _limit_to(connection, credential_id, checked)
        detail = {"after": {"name": name, **_told(checked.columns, checked.groups)}}
        _record(connection, actor, "api_credential.created", credential_id, detail)
        return credential_id

    try:
        credential_id = run_transaction(work)
    except IntegrityError:
        db.session.rollback()
        if (made := _find_made(actor, confirmation)) is not None:
            return Made(made, None)  # The form was sent twice at once.
        _refuse_if_taken(name)
        raise
    return Made(get_credential(actor, credential_id), secret)


def _find_made(actor: Actor, confirmation: str) -> ApiCredential | None:
    found = db.session.scalar(
        sa.select(ApiCredential.id).where(
            ApiCredential.created_by_id == actor.user_id, ApiCredential.confirmation == confirmation
        )
    )
    return get_credential(actor, found) if found is not None else None


def _refuse_if_taken(name: str) -> None:
    known = db.session.scalar(
        sa.select(ApiCredential.revoked_at.is_not(None)).where(ApiCredential.name == name)
    )
    if known is not None:
        which = "a revoked credential" if known else "another credential"
        raise InvalidInput(
            "name",
            f"{name} is the name of {which}. Names are given once and for all: choose another.",
        )


def _new_secret() -> str:
    """So many generated letters that they carry 185 bits, recognisable by scanners for secrets."""
    letters = "".join(passwords.generate_passwords(2))
    return f"foyer_{letters[:_SECRET_LETTERS]}"


def _limit_to(connection: sa.Connection, credential_id: int, checked: CheckedTerms) -> None:
    of_groups = table_of(ApiCredentialGroup)
    connection.execute(sa.delete(of_groups).where(of_groups.c.credential_id == credential_id))
    if checked.groups:
        connection.execute(
            sa.insert(of_groups),
            [{"credential_id": credential_id, "group_id": each.id} for each in checked.groups],
        )


# --- Changing ------------------------------------------------------------------------------------


def change_credential(
    actor: Actor, credential_id: int, *, version: int, terms: Terms
) -> ApiCredential:
    """Give a credential other terms, which hold from its next request on.

    Raises InvalidInputs with every fault, Stale when it is not as in `version` any more, Conflict
    when it is revoked.
    """
    before = get_credential(actor, credential_id)
    _refuse_if_not_as_seen(before, version)
    groups = list_groups(actor)
    checked = rules.check_terms(terms, groups, utcnow(), expires_at=before.expires_at)
    old = _told({name: getattr(before, name) for name in checked.columns}, before.groups)
    new = _told(checked.columns, checked.groups)
    changed = [name for name in new if old[name] != new[name]]
    detail = {
        "before": {name: old[name] for name in changed},
        "after": {name: new[name] for name in changed},
    }

    def work(connection: sa.Connection) -> None:
        _update(connection, before, version, checked.columns)
        _limit_to(connection, credential_id, checked)
        _record(connection, actor, "api_credential.changed", credential_id, detail)

    if changed:
        run_transaction(work)
    return get_credential(actor, credential_id)


def rotate_secret(
    actor: Actor,
    credential_id: int,
    *,
    version: int,
    overlap: timedelta,
    keep: Kept | None = None,
) -> Made:
    """Give a credential a new secret; it is in the answer and nowhere else.

    The secret until now works for `overlap` (one of OVERLAPS) longer. While that of an earlier
    rotation still works, `keep` says which of the two does: the newer one may never have arrived.
    Raises InvalidInput, Stale when it is not as in `version` any more, as after a form that is
    sent twice, Conflict when it is revoked or has expired.
    """
    credential = get_credential(actor, credential_id)
    _refuse_if_not_as_seen(credential, version)
    now = utcnow()
    if credential.state_at(now) is CredentialState.EXPIRED:
        raise Conflict(
            f"{credential.name} has expired, so a new secret would not work. "
            "Give it a later expiry date first."
        )
    if overlap not in OVERLAPS:
        raise InvalidInput("overlap", "Choose how long the old secret works.")
    has_overlap = credential.has_overlap_at(now)
    if overlap and has_overlap and keep is None:
        raise InvalidInput("keep", "Choose which secret goes on working for a while.")
    credentials = table_of(ApiCredential).c
    kept = credentials.secret_hash
    if has_overlap and keep is Kept.PREVIOUS:
        kept = credentials.previous_hash
    secret = _new_secret()
    values = {
        "secret_hash": passwords.hash_generated(secret),
        "previous_hash": kept if overlap else None,
        "previous_until": now + overlap if overlap else None,
        "rotated_at": now,
    }
    detail: dict[str, Any] = {"overlap_hours": int(overlap.total_seconds()) // 3600}
    if overlap and has_overlap and keep is not None:
        detail["kept"] = keep.value

    def work(connection: sa.Connection) -> None:
        _update(connection, credential, version, values)
        _record(connection, actor, "api_credential.rotated", credential_id, detail)

    run_transaction(work)
    return Made(get_credential(actor, credential_id), secret)


def end_overlap(actor: Actor, credential_id: int, *, version: int) -> ApiCredential:
    """Let the secret before the last rotation stop to work at once.

    Raises Stale when the credential is not as in `version` any more, Conflict when it is revoked.
    """
    credential = get_credential(actor, credential_id)
    _refuse_if_not_as_seen(credential, version)

    def work(connection: sa.Connection) -> None:
        _update(connection, credential, version, {"previous_hash": None, "previous_until": None})
        _record(connection, actor, "api_credential.overlap_ended", credential_id, {})

    if credential.has_overlap_at(utcnow()):
        run_transaction(work)
    return get_credential(actor, credential_id)


def revoke_credential(actor: Actor, credential_id: int, *, typed_name: str) -> ApiCredential:
    """Let a credential work no more, from its next request on and for good; its name stays taken.

    Raises InvalidInput unless `typed_name` is its name. One that is revoked already stays so.
    """
    credential = get_credential(actor, credential_id)
    if typed_name.strip() != credential.name:
        raise InvalidInput("name", f"This is not its name. Type {credential.name} to revoke it.")
    credentials = table_of(ApiCredential)

    def work(connection: sa.Connection) -> None:
        revoked = connection.execute(
            sa.update(credentials)
            .where(credentials.c.id == credential_id, credentials.c.revoked_at.is_(None))
            .values(
                revoked_at=utcnow(),
                previous_hash=None,
                previous_until=None,
                version=credentials.c.version + 1,
            )
        )
        if revoked.rowcount:
            _record(connection, actor, "api_credential.revoked", credential_id, {})

    run_transaction(work)
    return get_credential(actor, credential_id)


def _refuse_if_not_as_seen(credential: ApiCredential, version: int) -> None:
    if credential.revoked_at is not None:
        raise Conflict(f"{credential.name} is revoked for good. Make another credential instead.")
    if credential.version != version:
        raise _stale(credential)


def _stale(credential: ApiCredential) -> Stale:
    return Stale(
        f"{credential.name} has changed since you opened that page, so nothing was done now."
    )


def _update(
    connection: sa.Connection, credential: ApiCredential, version: int, values: Mapping[str, Any]
) -> None:
    """Change the row if it is still the one that was seen. Raises as the look at it did."""
    credentials = table_of(ApiCredential)
    row = sa.and_(credentials.c.id == credential.id, credentials.c.version == version)
    changed = connection.execute(
        sa.update(credentials).where(row).values(version=version + 1, **values)
    )
    if not changed.rowcount:
        raise _stale(credential)


def _told(columns: Mapping[str, Any], groups: Iterable[Group]) -> dict[str, Any]:
    """Terms as the audit trail keeps them."""
    expires_at = columns["expires_at"]
    return {
        "description": columns["description"],
        "scopes": [scope.value for scope in ApiScope if columns[f"may_{scope.value}"]],
        "groups": "all" if columns["all_groups"] else [each.groupno for each in groups],
        "networks": columns["networks"],
        "last_day": expires_at and rules.last_day_of(expires_at).isoformat(),
    }


def _record(
    connection: sa.Connection,
    actor: Actor,
    action: str,
    credential_id: int,
    detail: dict[str, Any],
) -> None:
    insert_event(
        connection,
        actor,
        action,
        object_type="api_credential",
        object_id=credential_id,
        detail=detail,
    )
