"""How many requests the API takes from a credential, or from an address that nobody knows.

A sliding window counter of the limits library, on the queue's server and shared by all web
processes. While that server does not answer, each process counts for itself.
"""

from __future__ import annotations

import ipaddress
import logging
import math
import time
from dataclasses import dataclass
from functools import cache
from typing import Any

import redis
from limits import RateLimitItem
from limits.storage import MemoryStorage, RedisStorage
from redis.commands.core import Script
from redis.exceptions import NoScriptError, RedisError

from extensions import get_settings

log = logging.getLogger(__name__)

_ANSWERS_WITHIN = 0.5
_ASKED_AGAIN_AFTER = 15.0
_PREFIX = "foyer:api-limits"


@dataclass(frozen=True, slots=True)
class Quota:
    """What is left of a limit: `amount` requests in `window` seconds, `remaining` of them now.

    `reset` is when the window ends, `retry_after` when the next request is taken, both in whole
    seconds from now; the latter is 0 unless this one is refused.
    """

    amount: int
    window: int
    remaining: int
    reset: int
    retry_after: int = 0

    @property
    def is_used_up(self) -> bool:
        return self.retry_after > 0


def count_call(credential_id: int) -> Quota | None:
    """Count a request of a credential; None when there is no limit."""
    return _count(get_settings().api_rate_limit, f"credential/{credential_id}")


def count_unknown(address: str) -> Quota | None:
    """Count a request without valid credentials; None when there is no limit."""
    return _count(get_settings().api_rate_limit_unknown, f"address/{_neighbourhood(address)}")


def _neighbourhood(address: str) -> str:
    """An IPv6 host may take any address of its /64."""
    try:
        given = ipaddress.ip_address(address)
    except ValueError:
        return "unknown"
    mapped = getattr(given, "ipv4_mapped", None)
    if mapped is not None or given.version == 4:
        return str(mapped or given)
    return str(ipaddress.ip_network((given, 64), strict=False))


def _count(limit: RateLimitItem | None, name: str) -> Quota | None:
    if limit is None:
        return None
    # With the limit in its name: what was counted for another one says nothing.
    key = f"{name}/{limit.amount}/{limit.get_expiry()}"
    taken, window = _counter(get_settings().redis_url).hit(limit, key)
    return _quota(limit, taken, window)


def _quota(limit: RateLimitItem, taken: bool, window: tuple[int, float, int, float]) -> Quota:
    """From both windows' counts and times to live; the current one lives twice its length."""
    earlier, earlier_ttl, current, current_ttl = window
    length = limit.get_expiry()
    until_end = max(0.0, current_ttl - length)
    used = math.floor(earlier * earlier_ttl / length) + current
    wait = 0.0
    if not taken:
        wait = until_end
        if current < limit.amount and earlier:  # Enough of the earlier window fades before.
            wait = min(wait, earlier_ttl - (limit.amount - current) * length / earlier)
    return Quota(
        amount=limit.amount,
        window=length,
        remaining=max(0, limit.amount - used),
        reset=math.ceil(until_end),
        retry_after=0 if taken else max(1, math.ceil(wait)),
    )


class _SharedStorage(RedisStorage):
    """limits' own scripts, both in one round trip."""

    def hit(self, limit: RateLimitItem, key: str) -> tuple[bool, tuple[int, float, int, float]]:
        keys = [
            self.prefixed_key(self._previous_window_key(key)),
            self.prefixed_key(self._current_window_key(key)),
        ]
        scripts = (self.lua_acquire_sliding_window, self.lua_sliding_window)
        try:
            taken, window = self._ask(scripts, keys, limit)
        except NoScriptError:
            for script in scripts:
                self.storage.script_load(script.script)
            taken, window = self._ask(scripts, keys, limit)
        counts = [max(0, int(each or 0)) for each in window]
        return bool(taken), (counts[0], counts[1] / 1000, counts[2], counts[3] / 1000)

    def _ask(
        self, scripts: tuple[Script, Script], keys: list[str], limit: RateLimitItem
    ) -> list[Any]:
        acquire, look = scripts
        length = limit.get_expiry()
        line = self.storage.pipeline(transaction=False)
        line.evalsha(acquire.sha, 2, *keys, limit.amount, length, 1)
        line.evalsha(look.sha, 2, *keys, length)
        answers: list[Any] = line.execute()
        return answers


class _Counter:
    def __init__(self, url: str) -> None:
        pool = redis.ConnectionPool.from_url(
            url, socket_timeout=_ANSWERS_WITHIN, socket_connect_timeout=_ANSWERS_WITHIN
        )
        self._shared = _SharedStorage("redis://", connection_pool=pool, key_prefix=_PREFIX)
        self._own = MemoryStorage()
        self._away_until = 0.0

    def hit(self, limit: RateLimitItem, key: str) -> tuple[bool, tuple[int, float, int, float]]:
        if time.monotonic() >= self._away_until:
            try:
                return self._shared.hit(limit, key)
            except RedisError as error:
                self._away_until = time.monotonic() + _ASKED_AGAIN_AFTER
                log.warning(
                    "requests are counted per process, the queue's server does not answer: %s",
                    type(error).__name__,
                )
        length = limit.get_expiry()
        taken = self._own.acquire_sliding_window_entry(key, limit.amount, length)
        return taken, self._own.get_sliding_window(key, length)


@cache
def _counter(url: str) -> _Counter:
    return _Counter(url)
