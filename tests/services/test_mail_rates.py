"""Ceilings on mails per second: held in every stretch of time, shared, fair, and given back."""

from __future__ import annotations

import math
import subprocess
import threading
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from flask import Flask
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from redis import Redis
from redis.exceptions import RedisError

from models import Lane
from services.mail_rates import MailRates
from tools import valkey

TICK = 0.000_002  # The queue counts in microseconds.


class Clock:
    """A clock that stands still until it is moved."""

    def __init__(self, now: float = 1_800_000_000.0) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def connection(queue_url: str) -> Iterator[Redis]:
    with Redis.from_url(queue_url) as made:
        made.flushall()
        yield made


@pytest.fixture
def clock() -> Clock:
    return Clock()


def make_rates(connection: Redis, **changes: Any) -> MailRates:
    ceilings = {"per_second": 0, "per_second_per_domain": 0, "horizon": 2.0, "server": "mail:25"}
    return MailRates(connection, **{**ceilings, **changes})


def assert_held(times: Sequence[float], per_second: float) -> None:
    """In no stretch of time go more mails than its length times the ceiling, plus one burst."""
    burst = max(1, int(per_second / 4))
    going = sorted(times)
    for first, start in enumerate(going):
        for last in range(first, len(going)):
            allowed = (going[last] - start + TICK) * per_second + burst
            assert last - first + 1 <= allowed + 0.001, (start, going[last])


def test_after_a_pause_a_burst_goes_at_once_and_then_one_mail_per_interval(
    connection: Redis, clock: Clock
) -> None:
    rates = make_rates(connection, per_second=20, clock=clock)
    waits = rates.reserve(["a.example"] * 8)
    assert waits == pytest.approx([0, 0, 0, 0, 0, 0.05, 0.10, 0.15], abs=TICK)
    assert rates.reserve(["b.example"]) == pytest.approx([0.20], abs=TICK)
    clock.now += 0.12
    assert rates.reserve(["b.example"]) == pytest.approx([0.13], abs=TICK)
    clock.now += 60
    assert rates.reserve(["a.example"] * 5) == [0] * 5


@pytest.mark.parametrize("per_second", [0.5, 1, 3])
def test_a_low_ceiling_lets_single_mails_through(
    connection: Redis, clock: Clock, per_second: float
) -> None:
    rates = make_rates(connection, per_second=per_second, horizon=10, clock=clock)
    interval = 1 / per_second
    assert rates.reserve(["a.example"] * 3) == pytest.approx([0, interval, 2 * interval], abs=TICK)
    clock.now += 3.5 * interval
    assert rates.reserve(["a.example"]) == [0]


def test_mails_beyond_the_horizon_are_not_reserved(connection: Redis, clock: Clock) -> None:
    rates = make_rates(connection, per_second=4, horizon=1, clock=clock)
    waits = rates.reserve(["a.example"] * 9)
    assert waits == pytest.approx([0, 0.25, 0.5, 0.75, 1.0] + [math.inf] * 4, abs=TICK)
    assert rates.reserve(["a.example"]) == [math.inf]
    clock.now += 0.25
    assert rates.reserve(["a.example"] * 2) == pytest.approx([1.0, math.inf], abs=TICK)


def test_a_domain_at_its_ceiling_holds_up_no_other(connection: Redis, clock: Clock) -> None:
    rates = make_rates(connection, per_second=40, per_second_per_domain=4, horizon=1, clock=clock)
    full = rates.reserve(["full.example"] * 50)
    assert full == pytest.approx([0, 0.25, 0.5, 0.75, 1.0] + [math.inf] * 45, abs=TICK)
    others = rates.reserve([f"d{number}.example" for number in range(20)])
    assert others[:9] == [0] * 9, "the full domain has used but one slot of the burst of ten"
    assert max(others) < 0.5, "the full domain has used up the server's slots"


def test_urgent_mail_finds_a_slot_behind_bulk_mail(connection: Redis, clock: Clock) -> None:
    bulk = make_rates(connection, per_second=100, horizon=1, clock=clock)
    urgent = make_rates(connection, per_second=100, horizon=2, clock=clock)
    assert bulk.reserve(["a.example"] * 1000)[-1] == math.inf
    (wait,) = urgent.reserve(["a.example"])
    assert 1 < wait < 1.1


def test_the_server_is_held_when_delayed_domains_meet(connection: Redis, clock: Clock) -> None:
    """Mails that wait for their domains must not come on top of those that go meanwhile."""
    rates = make_rates(connection, per_second=40, per_second_per_domain=2, horizon=3, clock=clock)
    domains = [f"d{number}.example" for number in range(12)]
    going: dict[str, list[float]] = defaultdict(list)
    for _ in range(8):
        batch = domains * 5
        for domain, wait in zip(batch, rates.reserve(batch), strict=True):
            if wait < math.inf:
                going[domain].append(clock.now + wait)
        clock.now += 0.4
    everything = [time for times in going.values() for time in times]
    assert_held(everything, 40)
    for times in going.values():
        assert_held(times, 2)
    assert len(everything) > 100


def test_a_domain_is_held_when_the_server_delays_it(connection: Redis, clock: Clock) -> None:
    rates = make_rates(connection, per_second=20, per_second_per_domain=2, clock=clock)
    rates.reserve([f"d{number}.example" for number in range(25)])
    assert rates.reserve(["late.example"] * 2) == pytest.approx([1.05, 1.55], abs=TICK)


def test_domains_have_equal_shares_of_their_ceiling(connection: Redis, clock: Clock) -> None:
    rates = make_rates(
        connection, per_second=1000, per_second_per_domain=20, horizon=1, clock=clock
    )
    batch = ["a.example"] * 100 + ["b.example"] * 100 + ["c.example"] * 100
    waits = rates.reserve(batch)
    shares = Counter(each for each, wait in zip(batch, waits, strict=True) if wait < math.inf)
    assert shares == {"a.example": 25, "b.example": 25, "c.example": 25}


@pytest.mark.parametrize(
    ("written", "other"),
    [
        ("Example.COM", "example.com"),
        ("example.com.", " example.com"),
        ("BÜCHER.example", "xn--bcher-kva.example"),
        ("not a domain", "a..b"),
        ("x" * 300, ""),
    ],
)
def test_a_domain_is_one_however_it_is_written(
    connection: Redis, clock: Clock, written: str, other: str
) -> None:
    rates = make_rates(connection, per_second_per_domain=1, clock=clock)
    assert rates.reserve([written, other, "third.example"]) == [0, 1, 0]


def test_each_mail_server_has_a_ceiling_of_its_own(connection: Redis, clock: Clock) -> None:
    for server in ("one:25", "two:25"):
        rates = make_rates(connection, server=server, per_second=1, clock=clock)
        assert rates.reserve(["a.example"] * 2) == [0, 1]


def test_what_was_not_used_is_given_to_others(connection: Redis, clock: Clock) -> None:
    mine = make_rates(connection, per_second=8, per_second_per_domain=4, horizon=1, clock=clock)
    others = make_rates(connection, per_second=8, per_second_per_domain=4, horizon=1, clock=clock)
    batch = ["a.example"] * 5 + ["b.example"] * 5
    waits = mine.reserve(batch)
    assert max(waits) <= 1
    assert others.reserve(["a.example"]) == [math.inf]
    mine.give_back(["a.example", "a.example", "B.example", "never.example"])
    again = others.reserve(["a.example", "a.example", "b.example", "b.example"])
    assert again == pytest.approx([waits[3], waits[4], waits[9], math.inf], abs=TICK)


@pytest.mark.parametrize("ceiling", ["per_second", "per_second_per_domain"])
def test_the_time_of_a_mail_that_went_is_not_given_to_another(
    connection: Redis, clock: Clock, ceiling: str
) -> None:
    rates = make_rates(connection, clock=clock, **{ceiling: 8})
    waits = rates.reserve(["a.example"] * 4)
    assert waits == pytest.approx([0, 0, 0.125, 0.25], abs=TICK)
    clock.now += 0.25
    rates.give_back(["a.example"] * 4)
    assert rates.reserve(["a.example"]) == pytest.approx([0.125], abs=TICK)


def test_a_domains_time_is_not_given_back_from_under_a_later_mail(
    connection: Redis, clock: Clock
) -> None:
    mine, others = (
        make_rates(connection, per_second_per_domain=2, horizon=5, clock=clock) for _ in range(2)
    )
    assert mine.reserve(["a.example"] * 3) == [0, 0.5, 1]
    assert others.reserve(["a.example"]) == [1.5]
    mine.give_back(["a.example"])
    assert others.reserve(["a.example"]) == [2]


def test_giving_back_after_the_queue_was_emptied_takes_nothing_from_others(
    connection: Redis, clock: Clock
) -> None:
    rates = make_rates(connection, per_second=4, clock=clock)
    rates.reserve(["a.example"] * 4)
    connection.flushall()
    clock.now += 0.1
    others = make_rates(connection, per_second=4, clock=clock)
    others.reserve(["a.example"] * 4)
    rates.give_back(["a.example"] * 4)
    assert others.reserve(["a.example"]) == pytest.approx([1.0], abs=TICK)


@pytest.mark.parametrize("step", [-7200.0, 7200.0])
def test_a_clock_that_is_set_stops_nothing(connection: Redis, clock: Clock, step: float) -> None:
    rates = make_rates(connection, per_second=4, per_second_per_domain=2, clock=clock)
    rates.reserve(["a.example"] * 4)
    clock.now += step
    assert rates.reserve(["a.example"] * 2) == pytest.approx([0, 0.25], abs=0.25)


def test_many_clients_at_once_stay_below_the_ceilings(
    connection: Redis, queue_url: str, clock: Clock
) -> None:
    going: list[tuple[str, float]] = []
    gate = threading.Barrier(6)

    def work(number: int) -> None:
        with Redis.from_url(queue_url) as own:
            rates = make_rates(
                own, per_second=100, per_second_per_domain=30, horizon=3, clock=clock
            )
            gate.wait()
            for turn in range(12):
                batch = [f"d{(number + turn + each) % 5}.example" for each in range(10)]
                waits = rates.reserve(batch)
                kept = [each for each in zip(batch, waits, strict=True) if each[1] < math.inf]
                went = kept[: 7 + turn % 4]
                rates.give_back([domain for domain, _ in kept[len(went) :]])
                going.extend((domain, clock.now + wait) for domain, wait in went)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert_held([time for _, time in going], 100)
    for domain in {domain for domain, _ in going}:
        assert_held([time for each, time in going if each == domain], 30)
    assert len(going) > 200


_CEILINGS = st.sampled_from([0, 0.5, 1, 3, 7.3, 10, 33, 100, 500])
_BATCHES = st.lists(
    st.tuples(
        st.floats(0, 1.5),
        st.lists(st.sampled_from(["a.example", "b.example", "c.example"]), max_size=30),
    ),
    max_size=8,
)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(_CEILINGS, _CEILINGS, st.sampled_from([0, 0.3, 1, 5]), _BATCHES)
def test_whatever_is_asked_the_ceilings_are_held(
    connection: Redis,
    per_second: float,
    per_domain: float,
    horizon: float,
    batches: list[tuple[float, list[str]]],
) -> None:
    connection.flushall()
    clock = Clock()
    rates = make_rates(
        connection,
        per_second=per_second,
        per_second_per_domain=per_domain,
        horizon=horizon,
        clock=clock,
    )
    going: list[tuple[str, float]] = []
    for pause, batch in batches:
        clock.now += pause
        waits = rates.reserve(batch)
        assert len(waits) == len(batch)
        assert all(0 <= wait <= horizon + TICK or wait == math.inf for wait in waits)
        for domain in set(batch):
            own = [wait for each, wait in zip(batch, waits, strict=True) if each == domain]
            assert own == sorted(own)
        going += [
            (domain, clock.now + wait)
            for domain, wait in zip(batch, waits, strict=True)
            if wait < math.inf
        ]
    if per_second:
        assert_held([time for _, time in going], per_second)
    if per_domain:
        for domain in {domain for domain, _ in going}:
            assert_held([time for each, time in going if each == domain], per_domain)


def test_no_mail_waits_while_there_is_room(connection: Redis, clock: Clock) -> None:
    """At its ceiling the server gets all that it bears, whatever the domains' ceilings do."""
    rates = make_rates(connection, per_second=50, per_second_per_domain=20, horizon=1, clock=clock)
    batch = [f"d{number % 4}.example" for number in range(200)]
    reserved = sum(wait < math.inf for wait in rates.reserve(batch))
    assert reserved in range(60, 64)  # A burst of 12, and 50 in the second that follows.


def test_accounts_expire_soon_after_their_last_slot(connection: Redis) -> None:
    rates = make_rates(connection, per_second=10, per_second_per_domain=5, horizon=1)
    rates.reserve([f"d{number}.example" for number in range(30)])
    keys = list(connection.scan_iter())
    assert len(keys) <= 31
    for key in keys:
        assert 0 < connection.pttl(key) <= 20_000, key


def test_the_queues_own_clock_is_used_without_another(connection: Redis) -> None:
    rates = make_rates(connection, per_second=0.01, horizon=1)
    assert rates.reserve(["a.example"] * 2) == [0, math.inf]


def test_without_ceilings_the_queue_is_not_asked() -> None:
    nowhere = Redis(unix_socket_path="/nonexistent/queue.sock")
    rates = make_rates(nowhere)
    assert rates.is_unlimited
    assert rates.reserve(["a.example"] * 3) == [0, 0, 0]
    rates.give_back(["a.example"])


def test_a_queue_that_is_down_is_said(tmp_path: Path) -> None:
    socket = tmp_path / "v.sock"
    with (
        subprocess.Popen(valkey.command(socket, tmp_path), stdout=subprocess.DEVNULL) as server,
        Redis(unix_socket_path=str(socket)) as connection,
    ):
        rates = make_rates(connection, per_second=1)
        while not socket.exists():
            assert server.poll() is None
        assert rates.reserve(["a.example"] * 2)[1] > 0
        server.kill()
        server.wait()
        with pytest.raises(RedisError):
            rates.reserve(["a.example"])
        with pytest.raises(RedisError):
            make_rates(connection, per_second=1).reserve(["a.example"])


@pytest.mark.parametrize("engine_name", ["sqlite"])
@pytest.mark.parametrize(
    "settings_changes",
    [{"MAIL_SERVER": "m.example", "MAIL_MAX_PER_SECOND": "1"}],
)
def test_the_settings_are_the_ceilings(app_context: Flask) -> None:
    bulk, urgent = MailRates.of_lane(Lane.BULK), MailRates.of_lane(Lane.INTERACTIVE)
    assert not bulk.is_unlimited
    assert bulk.reserve(["a.example"] * 3)[2] == math.inf
    assert urgent.reserve(["a.example"])[0] < math.inf


@pytest.mark.parametrize("engine_name", ["sqlite"])
def test_the_local_mail_server_has_no_ceiling(app_context: Flask) -> None:
    assert MailRates.of_lane(Lane.INTERACTIVE).is_unlimited
