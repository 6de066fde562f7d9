"""Ceilings on mails per second, for the mail server and for each recipient domain.

All workers on all machines share one account of each, kept in the queue's Redis or Valkey: losing
it is harmless. The server's is a calendar of evenly spaced slots, one per mail, of which each mail
takes the first that is free when its domain's turn comes. So a domain at its ceiling neither uses
up the server's slots nor holds up other domains. A domain's account is the time from which its next
mail is on schedule (GCRA). In both a mail may go a little ahead of its time: those are the bursts.
Hence in no stretch of time go more mails than its length times the ceiling, plus one burst.
"""

from __future__ import annotations

import itertools
import math
import threading
from collections.abc import Callable, Iterable, Sequence
from functools import lru_cache
from typing import Any, NamedTuple, Self

from redis import Redis

from extensions import get_settings, queues
from models import Lane
from services.mail_headers import AddressError, envelope_address

_BURST_SECONDS = 0.25
_HORIZONS = {Lane.INTERACTIVE: 2.0, Lane.BULK: 1.0}
"""Seconds ahead that mails are given their time. What lies behind bulk mail is left to the rest."""

_LINGER_MS = 10_000
_NOT_RESERVED = -1
_UNDELIVERABLE = "?"

# Times are whole microseconds. Slot s of the server's calendar has its time at
# `offset + s * interval` from now, and may be used from `slack` before it. Taken slots are kept as
# runs, so that a full calendar is three numbers. One whose last slot is past by an interval begins
# anew, right now.
_COMMON = """
local time = redis.call('TIME')
local now = tonumber(ARGV[1]) or (time[1] * 1000000 + time[2])
local linger = tonumber(ARGV[2])  -- Outlives a clock that is set back a little.
local FARTHEST = 60000000
local server = {interval = tonumber(ARGV[3]), slack = tonumber(ARGV[4])}
local domain = {interval = tonumber(ARGV[5]), slack = tonumber(ARGV[6])}

local function keep(key, value, lasts)
  local expiry = math.ceil(math.max(0, lasts) / 1000) + linger
  redis.call('SET', key, value, 'PX', string.format('%.0f', expiry))
end

-- From when a domain's next mail is on schedule. What a clock has left that was set is forgotten.
local function find_due(key)
  local due = tonumber(redis.call('GET', key) or now)
  return due - now > FARTHEST + domain.slack + domain.interval and now or due
end

local function keep_due(key, due)
  keep(key, string.format('%.0f', due), due - now)
end

local function open_server()
  server.base, server.from, server.to = now, {}, {}
  local kept = redis.call('GET', KEYS[1])
  if kept then
    local numbers = cmsgpack.unpack(kept)
    for i = 2, #numbers, 2 do
      if numbers[1] + (numbers[i + 1] + 1) * server.interval > now then
        server.base = numbers[1]
        table.insert(server.from, numbers[i])
        table.insert(server.to, numbers[i + 1])
      end
    end
  end
  server.offset = server.base - now
end

local function close_server()
  local runs = #server.from
  if runs == 0 then
    redis.call('DEL', KEYS[1])
    return
  end
  local numbers = {server.base}
  for i = 1, runs do
    table.insert(numbers, server.from[i])
    table.insert(numbers, server.to[i])
  end
  local lasts = server.offset + (server.to[runs] + 1) * server.interval
  keep(KEYS[1], cmsgpack.pack(numbers), lasts)
end

-- The last run that begins at or before the slot; 0 when there is none.
local function run_before(slot)
  local low, high = 0, #server.from
  while low < high do
    local middle = math.ceil((low + high) / 2)
    if server.from[middle] <= slot then low = middle else high = middle - 1 end
  end
  return low
end

local function opens(slot)
  return server.offset + slot * server.interval - server.slack
end
"""

_RESERVE = (
    _COMMON
    + """
local horizon = tonumber(ARGV[7])

local function first_free(moment)
  local slot = math.ceil((moment - server.offset) / server.interval)
  local run = run_before(slot)
  if run > 0 and server.to[run] >= slot then return server.to[run] + 1 end
  return slot
end

local function take(slot)
  local from, to = server.from, server.to
  local run = run_before(slot)
  local joins_last = run > 0 and to[run] == slot - 1
  local joins_next = from[run + 1] == slot + 1
  if joins_last and joins_next then
    to[run] = to[run + 1]
    table.remove(from, run + 1)
    table.remove(to, run + 1)
  elseif joins_last then
    to[run] = slot
  elseif joins_next then
    from[run + 1] = slot
  else
    table.insert(from, run + 1, slot)
    table.insert(to, run + 1, slot)
  end
end

if server.interval > 0 then open_server() end
local dues = {}
if domain.interval > 0 then
  for i = 2, #KEYS do dues[i] = find_due(KEYS[i]) end
end

local reply = {}
for i = 8, #ARGV do
  local moment, slot, number = 0, 0, tonumber(ARGV[i])
  if domain.interval > 0 then
    moment = math.max(0, dues[number] - domain.slack - now)
  end
  if server.interval > 0 and moment <= horizon then
    slot = first_free(moment)
    moment = math.max(moment, opens(slot))
  end
  if moment > horizon then
    table.insert(reply, {-1, 0, 0, 0})
  else
    if server.interval > 0 then take(slot) end
    if domain.interval > 0 then
      dues[number] = math.max(dues[number], now + moment) + domain.interval
    end
    table.insert(reply, {moment, server.base or 0, slot, dues[number] or 0})
  end
end

if server.interval > 0 then close_server() end
for i, due in pairs(dues) do
  if due > now then keep_due(KEYS[i], due) end
end
return reply
"""
)

# Only what opens later than now is freed: the slots of mails that went have opened.
_GIVE_BACK = (
    _COMMON
    + """
local function free(slot)
  local from, to = server.from, server.to
  local run = run_before(slot)
  if run == 0 or to[run] < slot or opens(slot) <= 0 then return end
  local first, last = from[run], to[run]
  table.remove(from, run)
  table.remove(to, run)
  if slot < last then
    table.insert(from, run, slot + 1)
    table.insert(to, run, last)
  end
  if first < slot then
    table.insert(from, run, first)
    table.insert(to, run, slot - 1)
  end
end

if server.interval > 0 then open_server() end
for i = 7, #ARGV, 4 do
  local key, base, slot = KEYS[tonumber(ARGV[i])], tonumber(ARGV[i + 1]), tonumber(ARGV[i + 2])
  local due = tonumber(ARGV[i + 3])
  if server.interval > 0 and base == server.base then free(slot) end
  if domain.interval > 0 and find_due(key) == due then
    local earlier = due - domain.interval
    if earlier - domain.slack > now then keep_due(key, earlier) end
  end
end
if server.interval > 0 then close_server() end
"""
)


class _Ceiling:
    """So many mails per second, as microseconds between two, and how far ahead one may go.

    No ceiling is an interval of 0.
    """

    def __init__(self, per_second: float) -> None:
        burst = max(1, int(per_second * _BURST_SECONDS))
        self.interval = math.ceil(1_000_000 / per_second) if per_second else 0
        self.slack = (burst - 1) * self.interval
        # Part of each key: an account of another ceiling cannot be read.
        self.name = f"{per_second:g}"


class _Slot(NamedTuple):
    """What a mail holds: its slot in the server's calendar of that base, and its domain's time."""

    base: int
    number: int
    due: int


class _Held(threading.local):
    """What this thread's last batch reserved, by domain."""

    def __init__(self) -> None:
        self.by_domain: dict[str, list[_Slot]] = {}


class MailRates:
    """The ceilings as one slice of work meets them. Threads may share it.

    It remembers the last batch of each thread, for `give_back`. A thread that has several batches
    under way at once needs one of these for each.

    `clock` gives the time in seconds in place of the queue server's own.
    """

    def __init__(
        self,
        connection: Redis,
        *,
        server: str,
        per_second: float,
        per_second_per_domain: float,
        horizon: float,
        clock: Callable[[], float] | None = None,
    ) -> None:
        self._of_server = _Ceiling(per_second)
        self._of_domain = _Ceiling(per_second_per_domain)
        self._server_key = f"foyer:mail-rate:server:{self._of_server.name}:{server}"
        self._domain_key = f"foyer:mail-rate:domain:{self._of_domain.name}:"
        self._horizon = horizon
        self._clock = clock
        self._held = _Held()
        self._reserve = connection.register_script(_RESERVE)
        self._give_back = connection.register_script(_GIVE_BACK)

    @classmethod
    def of_lane(cls, lane: Lane) -> Self:
        """The ceilings of the settings, for a mailing of `lane`."""
        settings = get_settings()
        return cls(
            queues.connection,
            server=f"{settings.mail_server}:{settings.mail_port}",
            per_second=settings.mail_max_per_second,
            per_second_per_domain=settings.mail_max_per_second_per_domain,
            horizon=_HORIZONS[lane],
        )

    @property
    def is_unlimited(self) -> bool:
        return not self._of_server.interval and not self._of_domain.interval

    def reserve(self, domains: Sequence[str]) -> list[float]:
        """Reserve a batch of mails, in their order; returns for each the seconds until it may go.

        0.0 is now; math.inf is beyond the horizon, where nothing was reserved: such a mail goes
        back to the line. The waits of one domain never fall; a later mail to another domain may
        be due before them. Raises RedisError when the queue does not answer.
        """
        self._held.by_domain = {}
        if self.is_unlimited or not domains:
            return [0.0] * len(domains)
        names = [_ascii_domain(domain) for domain in domains]
        keys = _numbered(names)
        replies: list[list[int]] = self._run(
            self._reserve,
            keys,
            round(self._horizon * 1_000_000),
            *(keys[name] for name in names),
        )
        for name, (wait, *slot) in zip(names, replies, strict=True):
            if wait != _NOT_RESERVED:
                self._held.by_domain.setdefault(name, []).append(_Slot(*slot))
        return [math.inf if wait == _NOT_RESERVED else wait / 1_000_000 for wait, *_ in replies]

    def give_back(self, domains: Iterable[str]) -> None:
        """Give back what mails to `domains`, of this thread's last batch, reserved and did not use.

        Call it when the batch has ended. Of each domain the last reservations are taken to be the
        unused ones, and only those are freed whose time has not come. Raises RedisError.
        """
        held = self._held.by_domain
        names = map(_ascii_domain, domains)
        unused = [(name, held[name].pop()) for name in names if held.get(name)]
        if unused:
            keys = _numbered(name for name, _ in unused)
            arguments = ((keys[name], *slot) for name, slot in unused)
            self._run(self._give_back, keys, *itertools.chain.from_iterable(arguments))

    def _run(self, script: Any, names: Iterable[str], *arguments: str | int) -> Any:
        keys = [self._server_key, *(self._domain_key + name for name in names)]
        now = "" if self._clock is None else round(self._clock() * 1_000_000)
        server, domain = self._of_server, self._of_domain
        ceilings = (server.interval, server.slack, domain.interval, domain.slack)
        return script(keys=keys, args=[now, _LINGER_MS, *ceilings, *arguments])


def _numbered(names: Iterable[str]) -> dict[str, int]:
    """Each name once, with the number of its key; the first key is the server's."""
    return {name: number for number, name in enumerate(dict.fromkeys(names), start=2)}


@lru_cache(maxsize=4096)
def _ascii_domain(domain: str) -> str:
    """The domain as the envelope has it, in lower case; one name for all that no mail can reach."""
    try:
        address, _ = envelope_address(f"x@{domain.strip().rstrip('.')}")
    except AddressError:
        return _UNDELIVERABLE
    return address.partition("@")[2].lower()
