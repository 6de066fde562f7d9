"""Seals: closed by the first key, opened by any, and by nothing else."""

from __future__ import annotations

import json

import pytest
from cryptography.fernet import Fernet
from flask import Flask
from hypothesis import given
from hypothesis import strategies as st

from config import Settings
from services import seals
from services.seals import Credentials, SealBox, SealBroken

OLD, NEW = Fernet.generate_key(), Fernet.generate_key()


def box(*keys: bytes) -> SealBox:
    return SealBox(keys)


@given(st.text(), st.text())
def test_what_is_sealed_comes_out_and_does_not_shine_through(portal: str, application: str) -> None:
    made = Credentials(portal, application)
    sealed = seals.seal(box(NEW), made)
    assert seals.unseal(box(NEW), sealed) == made
    if len(portal) > 8:
        assert portal.encode("utf-8", "surrogatepass") not in sealed


def test_the_same_credentials_never_look_the_same() -> None:
    made = Credentials("portal", "application")
    assert seals.seal(box(NEW), made) != seals.seal(box(NEW), made)


def test_a_key_is_rotated_in_and_the_old_one_out() -> None:
    made = Credentials("portal", "application")
    before = seals.seal(box(OLD), made)
    during = box(NEW, OLD)
    assert seals.unseal(during, before) == made
    after = seals.seal(during, made)
    assert seals.unseal(box(NEW), after) == made, "the first key does not seal"
    with pytest.raises(SealBroken):
        seals.unseal(box(NEW), before)
    with pytest.raises(SealBroken):
        seals.unseal(box(OLD), after)


@pytest.mark.parametrize(
    "tamper", [lambda s: s[:-2], lambda s: s[:20] + b"A" + s[21:], bytes.upper]
)
def test_a_seal_that_was_tampered_with_is_broken(tamper) -> None:
    sealed = seals.seal(box(NEW), Credentials("portal", "application"))
    with pytest.raises(SealBroken):
        seals.unseal(box(NEW), tamper(sealed))


def test_a_seal_of_an_earlier_release_is_opened() -> None:
    sealed = Fernet(OLD).encrypt(json.dumps(["portal", "application"]).encode())
    assert seals.unseal(box(NEW, OLD), sealed) == Credentials("portal", "application")
    with pytest.raises(SealBroken):
        seals.unseal(box(NEW), sealed)


@pytest.mark.parametrize("sealed", [b"", b"x", b"\x01", b"\x01" * 9, b"\x01" * 40, b"\xff" * 100])
def test_what_is_no_seal_is_broken(sealed: bytes) -> None:
    with pytest.raises(SealBroken):
        seals.unseal(box(NEW), sealed)


def test_a_broken_seal_says_nothing_of_what_was_in_it() -> None:
    sealed = seals.seal(box(OLD), Credentials("portal-secret", "application-secret"))
    with pytest.raises(SealBroken) as caught:
        seals.unseal(box(NEW), sealed)
    assert "secret" not in repr(caught.value)


def test_credentials_do_not_show_themselves() -> None:
    made = seals.make_credentials(portal=True, application=True)
    assert made.portal not in repr(made)
    assert made.application not in str(made)
    assert made.portal != made.application


@pytest.mark.parametrize("portal", [True, False])
@pytest.mark.parametrize("application", [True, False])
def test_only_what_is_reset_is_made(portal: bool, application: bool) -> None:
    made = seals.make_credentials(portal=portal, application=application)
    assert bool(made.portal) == portal
    assert bool(made.application) == application


@pytest.fixture
def settings_changes() -> dict[str, str]:
    return {"SEAL_KEYS": f"{NEW.decode()},{OLD.decode()}"}


@pytest.mark.parametrize("engine_name", ["sqlite"])
def test_the_settings_keys_are_used_in_their_order(app_context: Flask, settings: Settings) -> None:
    assert settings.seal_keys == (NEW.decode(), OLD.decode())
    sealed = seals.seal(seals.sealer(), Credentials("a", "b"))
    assert seals.unseal(box(NEW), sealed) == Credentials("a", "b")
    assert seals.unseal(seals.sealer(), seals.seal(box(OLD), Credentials("c", "d"))).portal == "c"
