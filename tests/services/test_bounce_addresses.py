"""Envelope senders that name their delivery: written, read back through manglings, not forged."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from config import Settings
from services.bounce_addresses import BounceAddresses
from services.mail_headers import envelope_address

LARGEST = 2**63 - 1


def addresses(**environ: str) -> BounceAddresses:
    return BounceAddresses(Settings.from_env({"SECRET_KEY": "a" * 40, **environ}))


OURS = addresses()


@given(st.integers(1, LARGEST))
def test_an_address_leads_back_to_its_delivery(delivery_id: int) -> None:
    address = OURS.address_for(delivery_id)
    assert envelope_address(address) == (address, False)
    assert address == address.lower()
    assert OURS.find_delivery(address) == delivery_id


def test_the_longest_address_fits_an_envelope() -> None:
    ours = addresses(BOUNCE_ADDRESS=f"{'b' * 27}@bounce.example.com")
    address = ours.address_for(LARGEST)
    assert len(address.partition("@")[0]) == 64
    assert envelope_address(address) == (address, False)
    assert ours.find_delivery(address) == LARGEST


@pytest.mark.parametrize(
    "mangle",
    [
        str.upper,
        str.title,
        "<{}>".format,
        " {} ".format,
        "prvs=0814ab12cd={}".format,
        "@relay.example,@other.example:{}".format,
        lambda address: address.replace("foyer.example", "mail.internal"),
        lambda address: '"{}"@{}'.format(*address.split("@")),
        lambda address: address.partition("@")[0],
        lambda address: address.partition("+")[2].partition("@")[0],
        lambda address: "SRS0=Hx1=5K={1}={0}@forward.example".format(*address.split("@")),
        lambda address: address.replace("+", "="),
    ],
)
def test_what_servers_do_to_addresses_is_undone(mangle: Callable[[str], str]) -> None:
    assert OURS.find_delivery(mangle(OURS.address_for(1204))) == 1204


@pytest.mark.parametrize(
    "address",
    [
        "",
        "@",
        "bounces@foyer.example",
        "bounces+1204@foyer.example",
        "bounces+1204-@foyer.example",
        "bounces+1204-0123456789abcdef@foyer.example",
        addresses(SECRET_KEY="b" * 40).address_for(1204),
        OURS.address_for(1204).replace("1204", "1205"),
        OURS.address_for(1204).replace("1204", "01204"),
        OURS.address_for(1204).replace("1204", "\u0661204"),
        OURS.address_for(1204).replace("@", "0@"),
        OURS.address_for(1204).replace("bounces+", "bounces+9"),
        "a" * 10_000 + OURS.address_for(1204),
        "bounces+" + "9" * 100_000 + "-0123456789abcdef@foyer.example",
    ],
)
def test_an_address_that_was_not_made_here_leads_nowhere(address: str) -> None:
    assert OURS.find_delivery(address) is None


@given(st.text(max_size=200))
def test_any_text_is_read_without_harm(address: str) -> None:
    assert OURS.find_delivery(address) is None


def test_each_delivery_has_a_signature_of_its_own() -> None:
    made = {OURS.address_for(number).partition("-")[2] for number in range(1, 1000)}
    assert len(made) == 999


def test_the_domain_is_the_senders_in_ascii() -> None:
    ours = addresses(MAIL_DEFAULT_SENDER="welcome@bücher.example")
    assert ours.address_for(1).endswith("@xn--bcher-kva.example")


def test_where_it_is_off_all_mail_has_one_sender_and_old_bounces_are_still_known() -> None:
    off = addresses(BOUNCE_ADDRESS="off", MAIL_DEFAULT_SENDER="welcome@bücher.example")
    assert off.address_for(1) == off.address_for(2) == "welcome@xn--bcher-kva.example"
    assert off.find_delivery(OURS.address_for(1204)) == 1204
