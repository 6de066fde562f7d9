"""Passwords: made at random, hashed for what they are worth, and chosen within a policy."""

from __future__ import annotations

import math
from collections import Counter
from contextlib import suppress

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from services import passwords
from services.errors import InvalidInput
from services.passwords import ALPHABET, GENERATED_LENGTH, MAX_LENGTH, MIN_LENGTH

LOOK_ALIKES = set("0O1lI")


def test_generated_passwords_are_long_readable_and_beyond_guessing() -> None:
    letters = ALPHABET.decode()
    assert len(set(letters)) == len(letters)
    assert not set(letters) & LOOK_ALIKES
    assert letters.isalnum()
    assert 20 <= GENERATED_LENGTH <= 24
    assert GENERATED_LENGTH * math.log2(len(letters)) > 112
    made = {passwords.generate_password() for _ in range(2000)}
    assert len(made) == 2000
    for password in made:
        assert len(password) == GENERATED_LENGTH
        assert set(password) <= set(letters)


def test_every_letter_is_as_likely_at_every_place() -> None:
    """Chi-squared over 40,000 letters: a bias of the modulo would be ten times the bound."""
    made = [passwords.generate_password() for _ in range(2000)]
    degrees = len(ALPHABET) - 1
    for text in ("".join(made), "".join(password[-1] for password in made)):
        expected = len(text) / len(ALPHABET)
        counts = Counter(text)
        squares = sum((counts[chr(x)] - expected) ** 2 / expected for x in ALPHABET)
        assert squares < degrees + 7 * math.sqrt(2 * degrees)


def test_too_few_random_bytes_are_drawn_again(monkeypatch: pytest.MonkeyPatch) -> None:
    draws = iter([b"\xff" * 40, b"\xff" * 40, bytes(range(40))])
    monkeypatch.setattr("secrets.token_bytes", lambda _: next(draws))
    assert passwords.generate_password() == ALPHABET[:20].decode()


@given(st.text(max_size=MAX_LENGTH))
@example("")
@example("\0")
@example("passwo\N{COMBINING DIAERESIS}rd")
def test_a_generated_hash_fits_its_password_alone(password: str) -> None:
    stored = passwords.hash_generated(password)
    assert passwords.verify(stored, password)
    assert not passwords.verify(stored, password + "x")
    assert passwords.hash_generated(password) != stored, "no salt"
    assert passwords.is_generated(stored)
    assert len(stored) <= 255


@pytest.mark.parametrize("password", ["correct horse battery", "ünï\0cödé" * 3, "x" * MAX_LENGTH])
def test_a_chosen_hash_is_argon2id_and_fits_its_password_alone(password: str) -> None:
    stored = passwords.hash_chosen(password)
    assert stored.startswith("$argon2id$")
    assert passwords.verify(stored, password)
    assert not passwords.verify(stored, password[:-1])
    assert passwords.hash_chosen(password) != stored
    assert not passwords.is_generated(stored)
    assert password not in stored
    assert len(stored) <= 255


@pytest.mark.parametrize(
    "stored", [None, "", "x", "$argon2id$v=19$broken", "$2b$12$abc", "plain text"]
)
def test_no_password_fits_no_hash(stored: str | None) -> None:
    assert not passwords.verify(stored, "")
    assert not passwords.verify(stored, stored or "")


def test_an_endless_password_costs_nothing() -> None:
    long = "x" * (MAX_LENGTH + 1)
    assert not passwords.verify(passwords.hash_generated(long), long)


def test_checking_nobodys_password_takes_as_long_as_a_real_check() -> None:
    passwords.spend_time("warm up")
    assert passwords._dummy_hash().startswith("$argon2id$")
    checked = []

    class Spy:
        def verify(self, stored: str, password: str) -> bool:
            checked.append((stored, password))
            return False

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(passwords, "_argon2", Spy())
        passwords.spend_time("x")
    assert checked == [(passwords._dummy_hash(), "x")]


@pytest.mark.parametrize(
    ("password", "words"),
    [
        ("", "0 characters"),
        ("x" * (MIN_LENGTH - 1), f"{MIN_LENGTH - 1} characters"),
        ("x" * (MAX_LENGTH + 1), f"limit is {MAX_LENGTH}"),
        ("123456654321", "attackers"),
        ("sonyericsson", "attackers"),
        ("SONYERICSSON", "attackers"),
        ("aaaaaaaaaaaaaaaa", "attackers"),
        ("abababababab", "attackers"),
        ("sonyericsson1!", "attackers"),
        ("Ada.Lovelace@kenton.example", "differ from the login"),
        ("ADA.LOVELACE", "differ from the login"),
    ],
)
def test_a_weak_choice_is_refused_with_the_reason(password: str, words: str) -> None:
    with pytest.raises(InvalidInput, match=words) as caught:
        passwords.check_policy(password, login="ada.lovelace@kenton.example", field="new")
    assert caught.value.field == "new"
    assert password not in caught.value.message or len(password) < MIN_LENGTH


@pytest.mark.parametrize(
    "password",
    ["correct horse battery", "x7!kQ-pelican", "hasło z odstępami", "🦓 zebra crossing 🦓"],
)
def test_a_good_choice_is_taken_whatever_it_is_made_of(password: str) -> None:
    passwords.check_policy(password, login="ada@kenton.example")


@given(st.text(min_size=MIN_LENGTH, max_size=40))
@settings(max_examples=50)
def test_the_policy_never_fails_otherwise(password: str) -> None:
    with suppress(InvalidInput):
        passwords.check_policy(password, login="ada@kenton.example")


def test_what_the_system_makes_passes_its_own_policy() -> None:
    for _ in range(50):
        passwords.check_policy(passwords.generate_password(), login="ada@kenton.example")


@pytest.mark.parametrize(
    ("password", "score", "word"),
    [
        ("", 0, "too short"),
        ("correct", 0, "too short"),
        ("passwordpassword", 0, "very weak"),
        ("violet-anchor-42-piano", 4, "strong"),
        ("\0\ud800" * 400, 1, "weak"),
    ],
)
def test_the_strength_of_a_password_has_a_word(password: str, score: int, word: str) -> None:
    assert passwords.judge_strength(password) == passwords.Strength(score, word)


def test_the_login_makes_a_password_weak() -> None:
    password = "prpbmAdmin@bergmann.example"
    assert passwords.judge_strength(password, login=password).score < 2
