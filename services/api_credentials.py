"""API credentials: who signs in to the REST API, and with what rights.

Their secrets are machine-made and carry more than 112 bits, so one salted fast round is enough for
them (NIST SP 800-63B, look-up secrets), and the check disappears in the cost of a request.
"""

from __future__ import annotations

import ipaddress
import logging
from datetime import datetime, timedelta
from functools import cache, lru_cache

import sqlalchemy as sa
from sqlalchemy.exc import DBAPIError

from extensions import db
from models import ApiCredential, ApiScope, is_storable, table_of, utcnow
from services import passwords
from services.actors import Actor

log = logging.getLogger(__name__)

_USE_NOTED_EVERY = timedelta(minutes=1)
_LONGEST_NAME = 64


def authenticate(name: str, secret: str, address: str) -> Actor | None:
    """The actor behind a name and a secret, None for whatever keeps it out.

    Unknown, expired and revoked names cost the same as a wrong secret, and so does a credential
    that may not come from `address`.
    """
    now = utcnow()
    found = _find(name)
    stored = found.secret_hash if found is not None else _dummy_hash()
    earlier = _dummy_hash()
    if found is not None and found.previous_hash is not None and found.previous_until > now:
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


def _find(name: str) -> sa.Row[tuple[object, ...]] | None:
    if not 0 < len(name) <= _LONGEST_NAME or not is_storable(name):
        name = ""  # Nobody has it; asking all the same takes the usual time.
    return db.session.execute(_find_statement(), {"name": name}).one_or_none()


@cache
def _find_statement() -> sa.Select[tuple[object, ...]]:
    credentials = table_of(ApiCredential).c
    return sa.select(
        credentials.id,
        credentials.name,
        credentials.secret_hash,
        credentials.previous_hash,
        credentials.previous_until,
        credentials.may_read,
        credentials.may_write,
        credentials.may_send,
        credentials.all_groups,
        credentials.networks,
        credentials.expires_at,
        credentials.revoked_at,
        credentials.last_used_at,
    ).where(credentials.name == sa.bindparam("name"))


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
    """Best effort: a busy database must not refuse a request over it."""
    credentials = table_of(ApiCredential)
    try:
        db.session.connection().execute(
            sa.update(credentials)
            .where(credentials.c.id == credential_id)
            .values(last_used_at=now, last_used_from=address[:64])
        )
        db.session.commit()
    except DBAPIError as error:
        db.session.rollback()
        log.warning("the use of a credential was not noted: %s", type(error.orig).__name__)


@cache
def _dummy_hash() -> str:
    return passwords.hash_generated(passwords.generate_password())
