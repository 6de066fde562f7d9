"""Signatures as Standard Webhooks has them."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.webhook_signatures import is_signed, sign

# The example of the specification's own libraries.
SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
ID, TIMESTAMP = "msg_p5jXN8AQM9LWM0D4loKWxJek", "1614265330"
BODY = b'{"test": 2432232314}'
SIGNATURE = "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="
OTHER = "v1,AAAAAAsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="


def at(seconds: int = 0) -> datetime:
    return datetime.fromtimestamp(int(TIMESTAMP) + seconds, UTC)


def test_the_example_of_the_specification() -> None:
    assert sign(SECRET, ID, TIMESTAMP, BODY) == SIGNATURE
    assert is_signed(SECRET, ID, TIMESTAMP, SIGNATURE, BODY, at())


@pytest.mark.parametrize(
    ("signatures", "wanted"),
    [
        (f"{OTHER} {SIGNATURE}", True),
        (f"{SIGNATURE} {OTHER}", True),
        (f"v2,x {SIGNATURE} v1a,y", True),
        (f"  {SIGNATURE}  ", True),
        (OTHER, False),
        (SIGNATURE.replace("v1", "v2"), False),
        (SIGNATURE.removeprefix("v1,"), False),
        (SIGNATURE + "=", False),
        (SIGNATURE[:-5], False),
        (SIGNATURE.replace("v1,", "v1, "), False),
        ("v1,", False),
        ("", False),
        ("v1,ü\udc80", False),
        ("x " * 100_000 + SIGNATURE, False),
    ],
)
def test_one_of_the_signatures_has_to_fit(signatures: str, wanted: bool) -> None:
    assert is_signed(SECRET, ID, TIMESTAMP, signatures, BODY, at()) is wanted


@pytest.mark.parametrize(
    ("seconds", "wanted"), [(0, True), (300, True), (-300, True), (301, False), (-301, False)]
)
def test_the_time_is_about_now(seconds: int, wanted: bool) -> None:
    assert is_signed(SECRET, ID, TIMESTAMP, SIGNATURE, BODY, at(seconds)) is wanted


@pytest.mark.parametrize(
    ("message_id", "timestamp", "body", "secret"),
    [
        ("", TIMESTAMP, BODY, SECRET),
        ("msg_other", TIMESTAMP, BODY, SECRET),
        (ID, str(int(TIMESTAMP) + 1), BODY, SECRET),
        (ID, f"{TIMESTAMP}.0", BODY, SECRET),
        (ID, f"-{TIMESTAMP}", BODY, SECRET),
        (ID, "١٦١٤٢٦٥٣٣٠", BODY, SECRET),
        (ID, "9" * 5000, BODY, SECRET),
        (ID, "", BODY, SECRET),
        (ID, TIMESTAMP, BODY + b" ", SECRET),
        (ID, TIMESTAMP, b"", SECRET),
        (ID, TIMESTAMP, BODY, "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSx"),
    ],
)
def test_whatever_is_changed_breaks_it(
    message_id: str, timestamp: str, body: bytes, secret: str
) -> None:
    assert not is_signed(secret, message_id, timestamp, SIGNATURE, body, at())


@given(st.text(), st.text(), st.text(), st.binary())
def test_anything_is_answered(message_id: str, timestamp: str, given_: str, body: bytes) -> None:
    assert not is_signed(SECRET, message_id, timestamp, given_, body, at())


@given(st.text(min_size=1), st.binary())
def test_what_was_signed_is_signed(message_id: str, body: bytes) -> None:
    assert is_signed(
        SECRET, message_id, TIMESTAMP, sign(SECRET, message_id, TIMESTAMP, body), body, at()
    )
