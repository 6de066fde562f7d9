"""Throttles: attempts counted per key, and the wait that follows once there were too many.

A key names what is slowed down, such as a login from one address; what is private in it the caller
hashes. Whatever is tried once more within 15 minutes goes on being counted.
"""

from __future__ import annotations

import hashlib
import ipaddress
from collections.abc import Collection
from dataclasses import dataclass
from datetime import timedelta

import sqlalchemy as sa

from extensions import db
from models import Throttle, fold, table_of, utcnow
from services.errors import Throttled
from services.transactions import upsert

_FORGET_AFTER = timedelta(minutes=15)


@dataclass(frozen=True, slots=True)
class Limit:
    """How often something may be tried before waits begin, and the longest of them in seconds."""

    free: int
    longest_wait: int


def refuse_if_throttled(keys: Collection[str]) -> None:
    """Raise Throttled while any of `keys` has to wait."""
    now = utcnow()
    until = db.session.scalar(
        sa.select(sa.func.max(Throttle.blocked_until)).where(
            Throttle.key.in_(keys), Throttle.blocked_until > now
        )
    )
    if until is not None:
        wait = max(1, round((until - now).total_seconds()))
        raise Throttled(
            f"Too many attempts. Try again in {wait} second{'s' if wait > 1 else ''}.", wait
        )


def count_attempt(key: str, limit: Limit) -> None:
    """Count an attempt; beyond the free ones every further wait is twice as long. No commit.

    One statement counts, so that attempts at the same moment are all counted; they stand in line
    for the row until the commit.
    """
    now = utcnow()
    throttle = table_of(Throttle)
    counted = upsert(throttle).values(key=key, attempts=1, blocked_until=now, updated_at=now)
    attempts = db.session.scalar(
        counted.on_conflict_do_update(
            index_elements=["key"],
            set_={
                "attempts": sa.case(
                    (throttle.c.updated_at < now - _FORGET_AFTER, 1),
                    else_=throttle.c.attempts + 1,
                ),
                "updated_at": now,
            },
        ).returning(throttle.c.attempts)
    )
    beyond = (attempts or 0) - limit.free
    if beyond >= 0:
        wait = min(2 ** min(beyond, 10), limit.longest_wait)
        db.session.execute(
            sa.update(Throttle)
            .where(Throttle.key == key)
            .values(blocked_until=now + timedelta(seconds=wait))
        )


def forget_attempts(key: str) -> None:
    """Begin to count anew. The caller commits."""
    db.session.execute(sa.delete(Throttle).where(Throttle.key == key))


def delete_stale_throttles() -> None:
    """Forget what no longer slows anybody down. The caller commits."""
    db.session.execute(sa.delete(Throttle).where(Throttle.updated_at < utcnow() - _FORGET_AFTER))


def digest(name: str) -> str:
    """A login or an address as a part of a key, however it is written; known or not."""
    return hashlib.sha256(fold(name[:320]).encode("utf-8", "replace")).hexdigest()


def network_of(address: str) -> str:
    """What one household or company has: an IPv4 address, or the /64 of an IPv6 address."""
    try:
        found = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return address[:64]
    if isinstance(found, ipaddress.IPv6Address):
        if found.ipv4_mapped is None:
            return str(ipaddress.ip_network((found, 64), strict=False))
        return str(found.ipv4_mapped)
    return str(found)
