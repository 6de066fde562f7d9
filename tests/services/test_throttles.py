"""Throttles: counted per key, and per network where that is what people share."""

from __future__ import annotations

import pytest
from flask import Flask

from extensions import db
from services import throttles
from services.errors import Throttled
from services.throttles import Limit


def count(key: str, times: int, limit: Limit) -> None:
    for _ in range(times):
        throttles.count_attempt(key, limit)
    db.session.commit()


def test_only_the_key_that_was_tried_waits(app_context: Flask) -> None:
    count("mine", 3, Limit(3, 60))
    throttles.refuse_if_throttled(["others"])
    with pytest.raises(Throttled) as caught:
        throttles.refuse_if_throttled(["others", "mine"])
    assert caught.value.retry_after >= 1


def test_no_wait_is_longer_than_the_longest(app_context: Flask) -> None:
    count("mine", 30, Limit(3, 300))
    with pytest.raises(Throttled) as caught:
        throttles.refuse_if_throttled(["mine"])
    assert 295 <= caught.value.retry_after <= 300


def test_a_limit_without_waits_only_counts(app_context: Flask) -> None:
    count("mine", 50, Limit(5, 0))
    throttles.refuse_if_throttled(["mine"])


@pytest.mark.parametrize(
    ("address", "network"),
    [
        ("192.0.2.7", "192.0.2.7"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("2001:db8:1:2::", "2001:db8:1:2::/64"),
        ("::ffff:192.0.2.7", "192.0.2.7"),
        ("fe80::1%eth0", "fe80::/64"),
        ("", ""),
        ("unix:" + "x" * 100, "unix:" + "x" * 59),
    ],
)
def test_the_network_of_an_address(address: str, network: str) -> None:
    assert throttles.network_of(address) == network


def test_a_digest_is_the_same_however_it_is_written() -> None:
    assert throttles.digest(" Ada@Example.org") == throttles.digest("ada@example.org")
    assert "ada" not in throttles.digest("ada@example.org")
    assert throttles.digest("\ud800\0") != throttles.digest("")
