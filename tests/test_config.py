"""Settings: what is read, what is refused, and that every fault is said at once."""

from __future__ import annotations

import base64
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from cryptography.fernet import Fernet
from hypothesis import given
from hypothesis import strategies as st

from config import Environment, Settings, SettingsError
from tests.architecture.test_settings import settings_read

KEY = base64.urlsafe_b64encode(b"a seal key of thirty-two letters").decode()
PRODUCTION = {
    "FOYER_ENV": "production",
    "SECRET_KEY": "s" * 32,
    "SEAL_KEYS": KEY,
    "DATABASE_URL": "postgresql://foyer@db/foyer",
    "REDIS_URL": "redis://queue:6379/0",
    "PUBLIC_URL": "https://portal.example.com",
    "MAIL_SERVER": "mail.example.com",
    "MAIL_DEFAULT_SENDER": "welcome@example.com",
}


def faults_of(**environ: str) -> list[str]:
    with pytest.raises(SettingsError) as caught:
        Settings.from_env({"SECRET_KEY": "x" * 32, **environ})
    return caught.value.faults


def test_development_needs_nothing_but_a_folder(tmp_path: Path) -> None:
    settings = Settings.from_env({"VAR_DIR": str(tmp_path)})
    assert settings.environment is Environment.DEVELOPMENT
    assert settings.database_url == f"sqlite:///{tmp_path / 'foyer.db'}"
    assert settings.redis_url == f"unix://{tmp_path / 'valkey.sock'}"
    assert settings.public_url == "http://127.0.0.1:8000"
    assert (settings.mail_server, settings.mail_port) == ("127.0.0.1", 8025)
    assert settings.selection_limit == 25
    assert settings.change_generated_password


def test_the_development_key_is_made_once_and_private(tmp_path: Path) -> None:
    first = Settings.from_env({"VAR_DIR": str(tmp_path / "deep" / "var")})
    again = Settings.from_env({"VAR_DIR": str(tmp_path / "deep" / "var")})
    assert first.secret_key == again.secret_key
    assert first.seal_keys == again.seal_keys
    assert len(first.secret_key) >= 32
    path = tmp_path / "deep" / "var" / "secret_key"
    assert path.stat().st_mode & 0o077 == 0
    assert [each.name for each in path.parent.iterdir()] == ["secret_key"]


def test_two_first_starts_at_once_end_with_the_same_key(tmp_path: Path) -> None:
    found: list[str] = []
    gate = threading.Barrier(8)

    def start() -> None:
        gate.wait()
        found.append(Settings.from_env({"VAR_DIR": str(tmp_path)}).secret_key)

    threads = [threading.Thread(target=start) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 8
    assert len(set(found)) == 1


def test_production_starts_with_what_it_needs(tmp_path: Path) -> None:
    settings = Settings.from_env({**PRODUCTION, "VAR_DIR": str(tmp_path)})
    assert settings.is_production
    assert settings.database_url == "postgresql+psycopg://foyer@db/foyer"
    assert settings.mail_port == 25
    assert settings.seal_keys == (KEY,)
    assert settings.flask_config()["SESSION_COOKIE_SECURE"] is True
    assert not list(tmp_path.iterdir())


def test_a_real_mail_server_is_spared_unless_told_otherwise() -> None:
    real = {"SECRET_KEY": "x", "MAIL_SERVER": "mail.example.com"}
    for environ, ceilings in (
        ({"SECRET_KEY": "x"}, (0, 0)),
        (real, (500, 100)),
        ({**real, "MAIL_MAX_PER_SECOND": "0", "MAIL_MAX_PER_SECOND_PER_DOMAIN": "0.5"}, (0, 0.5)),
    ):
        settings = Settings.from_env(environ)
        assert ceilings == (settings.mail_max_per_second, settings.mail_max_per_second_per_domain)


def test_production_lists_everything_that_is_missing() -> None:
    with pytest.raises(SettingsError) as caught:
        Settings.from_env({"FOYER_ENV": "production"})
    message = str(caught.value)
    for name in set(PRODUCTION) - {"FOYER_ENV"}:
        assert f"{name} is missing" in message


@pytest.mark.parametrize("name", sorted(set(PRODUCTION) - {"FOYER_ENV"}))
def test_production_needs_each_of_them(name: str) -> None:
    with pytest.raises(SettingsError) as caught:
        Settings.from_env({**PRODUCTION, name: "  "})
    assert [fault.split(" is missing")[0] for fault in caught.value.faults] == [name]


def test_every_fault_is_said_at_once() -> None:
    faults = faults_of(
        PORT="x", MAIL_USE_TLS="maybe", SUPPORT_EMAIL="nobody", PROVIDER_ACCENT="red"
    )
    assert [fault.split(" ")[0] for fault in faults] == [
        "PORT",
        "PROVIDER_ACCENT",
        "SUPPORT_EMAIL",
        "MAIL_USE_TLS",
    ]


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("FOYER_ENV", "staging"),
        ("PORT", "0"),
        ("PORT", "65536"),
        ("PORT", "8000.5"),
        ("MAIL_PORT", "-1"),
        ("MAIL_TIMEOUT", "nan"),
        ("MAIL_TIMEOUT", "inf"),
        ("LEASE_SECONDS", "0"),
        ("LEASE_SECONDS", "60"),
        ("SWEEP_SECONDS", "16"),
        ("REGISTRATION", "half-open"),
        ("REGISTRATION_LINK_MINUTES", "4"),
        ("REGISTRATION_INVITATION_DAYS", "0"),
        ("SELECTION_LIMIT", "0"),
        ("API_RATE_LIMIT", "many"),
        ("API_RATE_LIMIT", "-5/minute"),
        ("API_RATE_LIMIT", "10/year"),
        ("API_RATE_LIMIT", "9" * 30 + "/minute"),
        ("API_RATE_LIMIT_UNKNOWN", "0/minute"),
        ("SELECTION_LIMIT", "10" * 30),
        ("DELIVERY_RETRY_DELAYS", "1,x"),
        ("DELIVERY_RETRY_DELAYS", "-1"),
        ("DELIVERY_RETRY_DELAYS", ","),
        ("DELIVERY_RETRY_DELAYS", "nan"),
        ("DELIVERY_RETRY_DELAYS", "1,inf"),
        ("MAIL_DOWN_DELAYS", "1e300"),
        ("DATABASE_URL", "mysql://db/foyer"),
        ("DATABASE_URL", "foyer.db"),
        ("DATABASE_URL", "postgresql://db:port/foyer"),
        ("REDIS_URL", "queue:6379"),
        ("REDIS_URL", "redis://[queue"),
        ("PUBLIC_URL", "portal.example.com"),
        ("PUBLIC_URL", "ftp://portal.example.com"),
        ("PUBLIC_URL", "https://"),
        ("PUBLIC_URL", "https://[portal"),
        ("MAILBOX_URL", "mailbox"),
        ("SUPPORT_EMAIL", "a@b@c"),
        ("SUPPORT_EMAIL", "a@b.example\r\nBcc: x@y.example"),
        ("MAIL_DEFAULT_SENDER", "welcome"),
        ("MAIL_MAX_PER_SECOND", "-1"),
        ("MAIL_MAX_PER_SECOND", "nan"),
        ("MAIL_MAX_PER_SECOND", "0.001"),
        ("MAIL_MAX_PER_SECOND_PER_DOMAIN", "many"),
        ("MAIL_MAX_PER_SECOND_PER_DOMAIN", "1e-300"),
        ("BOUNCE_ADDRESS", "bounces"),
        ("BOUNCE_ADDRESS", "b" * 28 + "@foyer.example"),
        ("BOUNCE_ADDRESS", "zurück@foyer.example"),
        ("BOUNCE_LISTEN", "127.0.0.1:8024"),
        ("BOUNCE_LISTEN", "lmtp://127.0.0.1"),
        ("BOUNCE_LISTEN", "lmtp://[::1:8024"),
        ("BOUNCE_LISTEN", "lmtp://127.0.0.1:8024/path"),
        ("BOUNCE_LISTEN", "lmtp:///"),
        ("BOUNCE_LISTEN", "smtp:///run/foyer.sock"),
        ("BOUNCE_LISTEN", "http://127.0.0.1:8024"),
        ("BOUNCE_HOOK_SECRET", "secret"),
        ("BOUNCE_HOOK_SECRET", "whsec_"),
        ("BOUNCE_HOOK_SECRET", "whsec_c2hvcnQ="),
        ("BOUNCE_HOOK_SECRET", "whsec_ünicode"),
        ("BOUNCE_HOOK_SECRET", "MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIz"),
        ("PROVIDER_ACCENT", "#12345"),
        ("PROVIDER_ACCENT", "#1f5fbf;}body{display:none"),
        ("SEAL_KEYS", "short"),
        ("SEAL_KEYS", f"{KEY},ünicode"),
        ("MAIL_USERNAME", "me"),
        ("MAIL_PASSWORD", "me"),
    ],
)
def test_a_wrong_value_is_refused_by_name(name: str, value: str) -> None:
    faults = faults_of(**{name: value})
    assert any(name in fault for fault in faults), faults


def test_a_secret_is_not_repeated_in_a_fault_or_shown() -> None:
    faults = faults_of(SEAL_KEYS=f"{KEY},my-broken-key", DATABASE_URL="mysql://me:hunter2@db/x")
    assert not [fault for fault in faults if KEY in fault or "my-broken-key" in fault]
    assert not [fault for fault in faults if "hunter2" in fault]
    shown = repr(
        Settings.from_env(
            {
                "SECRET_KEY": "very-secret-very-secret-very-secret",
                "SEAL_KEYS": KEY,
                "DATABASE_URL": "postgresql://me:hunter2@db/foyer",
                "REDIS_URL": "redis://:hunter3@queue",
                "MAIL_USERNAME": "me",
                "MAIL_PASSWORD": "hunter4",
                "BOUNCE_HOOK_SECRET": "whsec_aHVudGVyNWh1bnRlcjVodW50ZXI1aHVudGVyNQ==",
            }
        )
    )
    assert KEY not in shown
    for secret in ("very-secret", "hunter2", "hunter3", "hunter4", "aHVudGVyN"):
        assert secret not in shown


def test_one_way_to_encrypt_mail_is_enough() -> None:
    assert "Choose one" in faults_of(MAIL_USE_TLS="yes", MAIL_USE_SSL="yes")[0]


@pytest.mark.parametrize("word", ["1", "true", "YES", " on "])
def test_yes_is_written_in_many_ways(word: str) -> None:
    assert Settings.from_env({"SECRET_KEY": "x", "MAIL_USE_TLS": word}).mail_use_tls


def test_short_keys_are_refused_in_production_only() -> None:
    assert Settings.from_env({"SECRET_KEY": "short"}).secret_key == "short"
    with pytest.raises(SettingsError, match="at least 32"):
        Settings.from_env({**PRODUCTION, "SECRET_KEY": "short"})


def test_seal_keys_are_kept_in_their_order_and_else_derived() -> None:
    second = Fernet.generate_key().decode()
    given_keys = Settings.from_env({"SECRET_KEY": "x", "SEAL_KEYS": f" {KEY} , {second},"})
    assert given_keys.seal_keys == (KEY, second)
    derived = Settings.from_env({"SECRET_KEY": "x"}).seal_keys
    assert derived != Settings.from_env({"SECRET_KEY": "y"}).seal_keys
    Fernet(derived[0])


_WORDS = st.one_of(
    st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=30),
    st.sampled_from(["http://[", "//", "postgresql://u:p@h:x/d", "redis://h:99999999", "#ffffff"]),
    st.floats().map(str),
    st.integers().map(str),
)


@given(st.dictionaries(st.sampled_from(sorted(settings_read() - {"VAR_DIR"})), _WORDS, min_size=1))
def test_whatever_is_set_the_answer_is_settings_or_sentences(environ: dict[str, str]) -> None:
    faults: list[str] = []
    with suppress_settings_error(faults):
        assert Settings.from_env({"SECRET_KEY": "x" * 40, **environ}).flask_config()
    assert all(fault.endswith((".", ")")) for fault in faults), faults


@contextmanager
def suppress_settings_error(faults: list[str]) -> Iterator[None]:
    try:
        yield
    except SettingsError as error:
        faults += error.faults


def test_the_environment_of_the_tests_is_not_read() -> None:
    assert Settings.from_env({"SECRET_KEY": "x"}).database_url.startswith("sqlite:///")
    assert "FOYER_ENV" not in os.environ or os.environ["FOYER_ENV"]


def test_the_provider_country_is_one_that_has_telephone_numbers() -> None:
    settings = Settings.from_env({"SECRET_KEY": "x" * 32, "PROVIDER_COUNTRY": "nl"})
    assert settings.provider_country == "NL"
    for wrong in ("Belgium", "XX", "001", "B"):
        (fault,) = faults_of(PROVIDER_COUNTRY=wrong)
        assert fault.startswith("PROVIDER_COUNTRY is ")


def test_name_servers_are_addresses_with_or_without_a_port() -> None:
    given = "9.9.9.9, 127.0.0.1:5353,2620:fe::fe , [::1]:5353"
    settings = Settings.from_env({"SECRET_KEY": "x" * 32, "DNS_SERVERS": given})
    assert settings.dns_servers == (
        ("9.9.9.9", 53),
        ("127.0.0.1", 5353),
        ("2620:fe::fe", 53),
        ("::1", 5353),
    )
    assert Settings.from_env({"SECRET_KEY": "x" * 32}).dns_servers == ()
    faults = faults_of(DNS_SERVERS="dns.example, 127.0.0.1:0, 127.0.0.1:x, 127.0.0.1:70000")
    assert len(faults) == 4
    assert all(fault.startswith("DNS_SERVERS has ") for fault in faults)
