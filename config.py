"""Settings, read from the environment once; every fault is reported at once."""

from __future__ import annotations

import base64
import hashlib
import ipaddress
import os
import secrets
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import email_validator
import limits
import phonenumbers
from cryptography.fernet import Fernet
from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError

PROJECT_ROOT = Path(__file__).resolve().parent

LANGUAGES = {"en": "English", "de": "Deutsch", "fr": "Français", "nl": "Nederlands"}
"""The languages Foyer's mails are written in; the first is the last resort."""


_LONGEST_DELAY = 7 * 24 * 60 * 60
_LOWEST_CEILING = 0.01
_HIGHEST_RATE = 1_000_000_000
_LONGEST_WINDOW = 24 * 60 * 60
_LONGEST_BOUNCE_NAME = 27  # A local part has 64, of which the tag of a delivery takes up to 37.


class Environment(StrEnum):
    """Where Foyer runs. Only development fills in what is missing."""

    DEVELOPMENT = "development"
    TESTING = "testing"
    PRODUCTION = "production"


class Registration(StrEnum):
    """Who may register a tenant without being of the staff."""

    OPEN = "open"
    INVITATION = "invitation"
    CLOSED = "closed"


class SettingsError(Exception):
    """One or more settings are wrong or missing; `faults` has a sentence for each."""

    def __init__(self, faults: list[str]) -> None:
        self.faults = faults
        super().__init__("Foyer cannot start:\n" + "\n".join(f"  - {fault}" for fault in faults))


class _Reader:
    """Reads typed values and collects the faults instead of stopping at the first."""

    def __init__(self, environ: Mapping[str, str]) -> None:
        self._environ = environ
        self.faults: list[str] = []

    def text(self, name: str, default: str = "") -> str:
        return self._environ.get(name, "").strip() or default

    def flag(self, name: str, default: bool) -> bool:
        raw = self.text(name).lower()
        if not raw:
            return default
        if raw in {"1", "true", "yes", "on"}:
            return True
        if raw in {"0", "false", "no", "off"}:
            return False
        self.faults.append(f"{name} is {raw!r}. Write yes or no.")
        return default

    def number(self, name: str, default: float, lowest: float, highest: float) -> float:
        return self._parsed(name, default, lowest, highest, float)

    def integer(self, name: str, default: int, lowest: int, highest: int) -> int:
        return int(self._parsed(name, default, lowest, highest, int))

    def numbers(self, name: str, default: tuple[float, ...]) -> tuple[float, ...]:
        raw = self.text(name)
        if not raw:
            return default
        try:
            values = tuple(float(part) for part in raw.split(","))
        except ValueError:
            values = ()
        if not values or not all(0 <= value <= _LONGEST_DELAY for value in values):
            self.faults.append(
                f"{name} is {raw!r}. Write seconds up to a week, separated by commas."
            )
            return default
        return values

    def _parsed(
        self,
        name: str,
        default: float,
        lowest: float,
        highest: float,
        parse: Callable[[str], float],
    ) -> float:
        raw = self.text(name)
        if not raw:
            return default
        try:
            value = parse(raw)
        except ValueError:
            value = None
        if value is None or not lowest <= value <= highest:
            self.faults.append(f"{name} is {raw!r}. Write a number from {lowest:g} to {highest:g}.")
            return default
        return value


@dataclass(frozen=True, slots=True)
class Settings:
    """Everything Foyer can be told from outside. `from_env` documents each variable."""

    environment: Environment
    var_dir: Path
    secret_key: str = field(repr=False)
    seal_keys: tuple[str, ...] = field(repr=False)
    database_url: str = field(repr=False)
    redis_url: str = field(repr=False)
    port: int
    public_url: str
    mailbox_url: str
    trusted_proxies: int
    provider_name: str
    provider_accent: str
    provider_country: str
    support_email: str
    mail_server: str
    mail_port: int
    mail_use_tls: bool
    mail_use_ssl: bool
    mail_username: str
    mail_password: str = field(repr=False)
    mail_default_sender: str
    mail_timeout: float
    mail_max_per_second: float
    mail_max_per_second_per_domain: float
    bounce_address: str
    bounce_listen: str
    bounce_hook_secret: str = field(repr=False)
    session_idle_minutes: int
    session_absolute_hours: int
    change_generated_password: bool
    reset_link_minutes: int
    registration: Registration
    registration_link_minutes: int
    registration_invitation_days: int
    domain_proof: bool
    dns_servers: tuple[tuple[str, int], ...]
    selection_limit: int
    recent_mail_minutes: int
    attachment_file_kb: int
    attachment_total_kb: int
    attachment_files: int
    delivery_connections: int
    delivery_chunk: int
    delivery_jobs: int
    delivery_slice_seconds: float
    bulk_niceness: int
    delivery_retry_delays: tuple[float, ...]
    mail_down_delays: tuple[float, ...]
    provisioning_timeout: float
    provisioning_retry_delays: tuple[float, ...]
    customer_grace_days: int
    user_import_rows: int
    user_import_megabytes: int
    user_import_columns: int
    user_import_days: int
    webhook_private_targets: bool
    webhook_timeout: float
    webhook_retry_delays: tuple[float, ...]
    lease_seconds: float
    sweep_seconds: float
    api_rate_limit: limits.RateLimitItem | None
    api_rate_limit_unknown: limits.RateLimitItem | None

    @property
    def is_production(self) -> bool:
        return self.environment is Environment.PRODUCTION

    @classmethod
    def from_env(cls, environ: Mapping[str, str] = os.environ) -> Settings:
        """Read and check the settings.

        Raises SettingsError with every fault. In development what is missing falls back to the
        embedded parts below VAR_DIR; in production SECRET_KEY, SEAL_KEYS, DATABASE_URL,
        REDIS_URL, PUBLIC_URL, MAIL_SERVER and MAIL_DEFAULT_SENDER have to be given.
        """
        read = _Reader(environ)
        try:
            environment = Environment(read.text("FOYER_ENV", "development"))
        except ValueError:
            environment = Environment.PRODUCTION
            read.faults.append(
                f"FOYER_ENV is {read.text('FOYER_ENV')!r}. "
                "Write development, testing or production."
            )
        production = environment is Environment.PRODUCTION
        if production:
            _require(read)
        var_dir = Path(read.text("VAR_DIR", str(PROJECT_ROOT / "var"))).resolve()
        secret_key = read.text("SECRET_KEY")
        if not secret_key and not production:
            secret_key = _development_key(var_dir)
        elif secret_key and len(secret_key) < 32 and production:
            read.faults.append(
                f"SECRET_KEY has {len(secret_key)} characters. Use at least 32 random ones."
            )
        port = read.integer("PORT", 8000, 1, 65535)
        mail_server = read.text("MAIL_SERVER")
        sender = _email(read, "MAIL_DEFAULT_SENDER", "welcome@foyer.example")
        settings = cls(
            environment=environment,
            var_dir=var_dir,
            secret_key=secret_key,
            seal_keys=_seal_keys(read, secret_key),
            database_url=_database_url(read, var_dir),
            redis_url=_redis_url(read, var_dir),
            port=port,
            public_url=_url(read, "PUBLIC_URL", f"http://127.0.0.1:{port}"),
            mailbox_url=_url(read, "MAILBOX_URL", ""),
            trusted_proxies=read.integer("TRUSTED_PROXIES", 0, 0, 10),
            provider_name=read.text("PROVIDER_NAME", "Foyer Communications"),
            provider_accent=_colour(read, "PROVIDER_ACCENT", "#1f5fbf"),
            provider_country=_country(read, "PROVIDER_COUNTRY", "BE"),
            support_email=_email(read, "SUPPORT_EMAIL", "support@foyer.example"),
            mail_server=mail_server or "127.0.0.1",
            mail_port=read.integer("MAIL_PORT", 25 if mail_server else 8025, 1, 65535),
            mail_use_tls=read.flag("MAIL_USE_TLS", False),
            mail_use_ssl=read.flag("MAIL_USE_SSL", False),
            mail_username=read.text("MAIL_USERNAME"),
            mail_password=read.text("MAIL_PASSWORD"),
            mail_default_sender=sender,
            mail_timeout=read.number("MAIL_TIMEOUT", 30, 0.1, 600),
            mail_max_per_second=read.number(
                "MAIL_MAX_PER_SECOND", 500 if mail_server else 0, 0, 100_000
            ),
            mail_max_per_second_per_domain=read.number(
                "MAIL_MAX_PER_SECOND_PER_DOMAIN", 100 if mail_server else 0, 0, 100_000
            ),
            bounce_address=_bounce_address(read, "BOUNCE_ADDRESS", sender),
            bounce_listen=_listen(read, "BOUNCE_LISTEN"),
            bounce_hook_secret=_hook_secret(read, "BOUNCE_HOOK_SECRET"),
            session_idle_minutes=read.integer("SESSION_IDLE_MINUTES", 60, 1, 1440),
            session_absolute_hours=read.integer("SESSION_ABSOLUTE_HOURS", 12, 1, 168),
            change_generated_password=read.flag("CHANGE_GENERATED_PASSWORD", True),
            reset_link_minutes=read.integer("RESET_LINK_MINUTES", 60, 5, 1440),
            registration=_registration(read.text("REGISTRATION", "open"), read.faults),
            registration_link_minutes=read.integer("REGISTRATION_LINK_MINUTES", 60, 5, 1440),
            registration_invitation_days=read.integer("REGISTRATION_INVITATION_DAYS", 14, 1, 90),
            domain_proof=read.flag("DOMAIN_PROOF", False),
            dns_servers=_dns_servers(read, "DNS_SERVERS"),
            selection_limit=read.integer("SELECTION_LIMIT", 25, 1, 500),
            recent_mail_minutes=read.integer("RECENT_MAIL_MINUTES", 10, 0, 1440),
            attachment_file_kb=read.integer("ATTACHMENT_FILE_KB", 2000, 1, 20_000),
            attachment_total_kb=read.integer("ATTACHMENT_TOTAL_KB", 3000, 1, 20_000),
            attachment_files=read.integer("ATTACHMENT_FILES", 5, 0, 20),
            delivery_connections=read.integer("DELIVERY_CONNECTIONS", 2, 1, 32),
            delivery_chunk=read.integer("DELIVERY_CHUNK", 1000, 1, 1000),
            delivery_jobs=read.integer("DELIVERY_JOBS", 4, 1, 64),
            delivery_slice_seconds=read.number("DELIVERY_SLICE_SECONDS", 10, 0.1, 60),
            bulk_niceness=read.integer("BULK_NICENESS", 10, 0, 19),
            delivery_retry_delays=read.numbers(
                "DELIVERY_RETRY_DELAYS", (60, 300, 900, 3600, 10800, 21600)
            ),
            mail_down_delays=read.numbers("MAIL_DOWN_DELAYS", (2, 5, 10, 20, 30)),
            provisioning_timeout=read.number("PROVISIONING_TIMEOUT", 20, 0.5, 60),
            provisioning_retry_delays=read.numbers(
                "PROVISIONING_RETRY_DELAYS", (5, 15, 60, 300, 900)
            ),
            customer_grace_days=read.integer("CUSTOMER_GRACE_DAYS", 30, 1, 365),
            user_import_rows=read.integer("USER_IMPORT_ROWS", 200_000, 1, 1_000_000),
            user_import_megabytes=read.integer("USER_IMPORT_MEGABYTES", 30, 1, 500),
            user_import_columns=read.integer("USER_IMPORT_COLUMNS", 100, 1, 500),
            user_import_days=read.integer("USER_IMPORT_DAYS", 7, 1, 90),
            webhook_private_targets=read.flag("WEBHOOK_PRIVATE_TARGETS", False),
            webhook_timeout=read.number("WEBHOOK_TIMEOUT", 10, 0.5, 30),
            # 5 s, 5 min, 30 min, 2 h, 5 h, 10 h, 14 h, 20 h, 24 h: Standard Webhooks' schedule.
            webhook_retry_delays=read.numbers(
                "WEBHOOK_RETRY_DELAYS",
                (5, 300, 1800, 7200, 18_000, 36_000, 50_400, 72_000, 86_400),
            ),
            lease_seconds=read.number("LEASE_SECONDS", 10, 2, 15),
            sweep_seconds=read.number("SWEEP_SECONDS", 15, 0.2, 15),
            api_rate_limit=_rate_limit(read, "API_RATE_LIMIT", "600/minute"),
            api_rate_limit_unknown=_rate_limit(read, "API_RATE_LIMIT_UNKNOWN", "60/minute"),
        )
        if settings.mail_use_tls and settings.mail_use_ssl:
            read.faults.append("MAIL_USE_TLS and MAIL_USE_SSL are both on. Choose one.")
        for name, ceiling in (
            ("MAIL_MAX_PER_SECOND", settings.mail_max_per_second),
            ("MAIL_MAX_PER_SECOND_PER_DOMAIN", settings.mail_max_per_second_per_domain),
        ):
            if 0 < ceiling < _LOWEST_CEILING:
                read.faults.append(
                    f"{name} is {ceiling:g}. Write at least {_LOWEST_CEILING:g} mails per second, "
                    "or 0 for no ceiling."
                )
        if bool(settings.mail_username) != bool(settings.mail_password):
            read.faults.append("MAIL_USERNAME and MAIL_PASSWORD go together. Give both or none.")
        if read.faults:
            raise SettingsError(read.faults)
        return settings

    @property
    def engine_options(self) -> dict[str, Any]:
        """What SQLAlchemy's engine is told. Errors must not show parameters: some are secret."""
        options: dict[str, Any] = {"hide_parameters": True}
        if self.database_url.startswith("postgresql"):
            # The indexes that stand in for "never" compare times as UTC.
            options["connect_args"] = {"options": "-c timezone=UTC"}
        return options

    def flask_config(self) -> dict[str, Any]:
        """What Flask and its extensions want to be told, derived from these settings."""
        return {
            "SECRET_KEY": self.secret_key,
            "TESTING": self.environment is Environment.TESTING,
            "SQLALCHEMY_DATABASE_URI": self.database_url,
            "SQLALCHEMY_ENGINE_OPTIONS": self.engine_options,
            "MAX_CONTENT_LENGTH": 1024 * 1024,
            "MAX_FORM_MEMORY_SIZE": 512 * 1024,
            "MAX_FORM_PARTS": 2000,
            "SESSION_COOKIE_NAME": "foyer",
            "SESSION_COOKIE_HTTPONLY": True,
            "SESSION_COOKIE_SAMESITE": "Lax",
            "SESSION_COOKIE_SECURE": self.public_url.startswith("https://"),
            "WTF_CSRF_TIME_LIMIT": None,
            "WTF_CSRF_SSL_STRICT": False,  # Pages whose address is a secret send no Referer.
            "MAIL_SERVER": self.mail_server,
            "MAIL_PORT": self.mail_port,
            "MAIL_USE_TLS": self.mail_use_tls,
            "MAIL_USE_SSL": self.mail_use_ssl,
            "MAIL_USERNAME": self.mail_username or None,
            "MAIL_PASSWORD": self.mail_password or None,
            "MAIL_DEFAULT_SENDER": (self.provider_name, self.mail_default_sender),
            "TEMPLATES_AUTO_RELOAD": self.environment is Environment.DEVELOPMENT,
        }


_REQUIRED_IN_PRODUCTION = {
    "SECRET_KEY": "Use at least 32 random characters.",
    "SEAL_KEYS": "Make one with: flask --app app new-seal-key.",
    "DATABASE_URL": "For example postgresql://foyer@db/foyer.",
    "REDIS_URL": "For example redis://queue:6379/0.",
    "PUBLIC_URL": "The address that people open, for example https://portal.example.com.",
    "MAIL_SERVER": "The host name of the SMTP server.",
    "MAIL_DEFAULT_SENDER": "The address that welcome mails come from.",
}


def _require(read: _Reader) -> None:
    for name, hint in _REQUIRED_IN_PRODUCTION.items():
        if not read.text(name):
            read.faults.append(f"{name} is missing. {hint}")


def _development_key(var_dir: Path) -> str:
    """The secret key of an embedded installation, made on first use and kept below VAR_DIR."""
    path = var_dir / "secret_key"
    try:
        return path.read_text().strip()
    except FileNotFoundError:
        var_dir.mkdir(parents=True, exist_ok=True)
    draft = var_dir / f"secret_key.{os.getpid()}.{secrets.token_hex(4)}"
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w") as handle:
        handle.write(secrets.token_urlsafe(48))
    try:
        os.link(draft, path)  # Two first starts at once must end with the same key.
    except FileExistsError:
        pass
    finally:
        draft.unlink()
    return path.read_text().strip()


def _seal_keys(read: _Reader, secret_key: str) -> tuple[str, ...]:
    given = tuple(key.strip() for key in read.text("SEAL_KEYS").split(",") if key.strip())
    for position, key in enumerate(given, start=1):
        try:
            Fernet(key)
        except ValueError:
            read.faults.append(
                f"SEAL_KEYS: key {position} is not 32 url-safe base64-encoded bytes. "
                "Make one with: flask --app app new-seal-key."
            )
    if given or not secret_key:
        return given
    derived = hashlib.blake2b(secret_key.encode(), digest_size=32, person=b"foyer-seal").digest()
    return (base64.urlsafe_b64encode(derived).decode(),)


def _database_url(read: _Reader, var_dir: Path) -> str:
    raw = read.text("DATABASE_URL", f"sqlite:///{var_dir / 'foyer.db'}")
    for prefix in ("postgres://", "postgresql://"):
        if raw.startswith(prefix):
            raw = "postgresql+psycopg://" + raw.removeprefix(prefix)
    try:
        backend = make_url(raw).get_backend_name()
    except (ArgumentError, ValueError):
        backend = ""
    if backend not in {"sqlite", "postgresql"}:
        read.faults.append("DATABASE_URL is not a postgresql:// or sqlite:/// address.")
    return raw


def _redis_url(read: _Reader, var_dir: Path) -> str:
    raw = read.text("REDIS_URL", f"unix://{var_dir / 'valkey.sock'}")
    if _scheme_and_host(raw)[0] not in {"redis", "rediss", "unix"}:
        read.faults.append("REDIS_URL is not a redis://, rediss:// or unix:// address.")
    return raw


def _scheme_and_host(address: str) -> tuple[str, str]:
    """Both empty for what is no address at all, such as `http://[`, or has no number as port."""
    try:
        parts = urlsplit(address)
        return (parts.scheme, parts.hostname or "") if parts.port != 0 else ("", "")
    except ValueError:
        return "", ""


def _url(read: _Reader, name: str, default: str) -> str:
    raw = read.text(name, default).rstrip("/")
    scheme, host = _scheme_and_host(raw)
    if raw and (scheme not in {"http", "https"} or not host):
        read.faults.append(f"{name} is {raw!r}. Write an http:// or https:// address.")
    return raw


def _email(read: _Reader, name: str, default: str) -> str:
    raw = read.text(name, default)
    try:
        return email_validator.validate_email(
            raw, check_deliverability=False, test_environment=True
        ).normalized
    except email_validator.EmailNotValidError as error:
        read.faults.append(f"{name} is {raw!r}. {error}")
        return raw


def _registration(word: str, faults: list[str]) -> Registration:
    try:
        return Registration(word.lower())
    except ValueError:
        faults.append(f"REGISTRATION is {word!r}. Write open, invitation or closed.")
        return Registration.CLOSED


def _bounce_address(read: _Reader, name: str, sender: str) -> str:
    """Empty where mails get no sender of their own, because the server refuses such senders."""
    domain = sender.rpartition("@")[2]
    raw = read.text(name)
    if raw.lower() in {"off", "no", "none"} or not (raw or domain):
        return ""
    faults = len(read.faults)
    address = _email(read, name, f"bounces@{domain}") if raw else f"bounces@{domain}"
    local = address.rpartition("@")[0]
    if len(read.faults) == faults and (not local.isascii() or len(local) > _LONGEST_BOUNCE_NAME):
        read.faults.append(
            f"{name} is {raw!r}. Use at most {_LONGEST_BOUNCE_NAME} ASCII characters before the @, "
            "because a number and a signature are added to them, or write off."
        )
    return address


def _listen(read: _Reader, name: str) -> str:
    """`smtp://host:port`, `lmtp://host:port` or `lmtp:///path/of/a/socket`; empty for none."""
    raw = read.text(name)
    try:
        parts = urlsplit(raw)
        at_port = parts.hostname is not None and parts.port is not None and not parts.path
    except ValueError:
        parts, at_port = urlsplit(""), False
    at_socket = parts.scheme == "lmtp" and not parts.netloc and len(parts.path) > 1
    if raw and not (at_socket or (at_port and parts.scheme in {"lmtp", "smtp"})):
        read.faults.append(
            f"{name} is {raw!r}. Write lmtp://127.0.0.1:8024, smtp://127.0.0.1:8024 or "
            "lmtp:///path/of/a/socket."
        )
    return raw


def _hook_secret(read: _Reader, name: str) -> str:
    raw = read.text(name)
    try:
        size = len(base64.b64decode(raw.removeprefix("whsec_"), validate=True))
    except ValueError:
        size = 0
    if raw and not (raw.startswith("whsec_") and 24 <= size <= 64):
        read.faults.append(
            f"{name} is not whsec_ and 24 to 64 bytes in base64 after it. "
            "Make one with: echo whsec_$(openssl rand -base64 32)."
        )
    return raw


def _rate_limit(read: _Reader, name: str, default: str) -> limits.RateLimitItem | None:
    """None for no limit."""
    raw = read.text(name, default)
    if raw.lower() in {"0", "off", "no", "none"}:
        return None
    try:
        parsed = limits.parse(raw) if len(raw) <= 40 else None
    except (ValueError, OverflowError):
        parsed = None
    if parsed is None or not (
        1 <= parsed.amount <= _HIGHEST_RATE and parsed.get_expiry() <= _LONGEST_WINDOW
    ):
        read.faults.append(
            f"{name} is {raw!r}. Write for example 600/minute, with a window up to a day, or off."
        )
        return None
    return parsed


def _country(read: _Reader, name: str, default: str) -> str:
    raw = read.text(name, default)
    if raw.upper() not in phonenumbers.SUPPORTED_REGIONS:
        read.faults.append(f"{name} is {raw!r}. Write the two letters of a country, such as BE.")
    return raw.upper()


def _dns_servers(read: _Reader, name: str) -> tuple[tuple[str, int], ...]:
    """Address and port of each; none for those of the system."""
    servers = []
    for given in filter(None, (part.strip() for part in read.text(name).split(","))):
        try:
            address, port = str(ipaddress.ip_address(given.strip("[]"))), 53
        except ValueError:
            host, _, digits = given.rpartition(":")
            try:
                address, port = str(ipaddress.ip_address(host.strip("[]"))), int(digits)
            except ValueError:
                address, port = "", 0
        if not 0 < port <= 65535:
            read.faults.append(
                f"{name} has {given!r}. Write IP addresses, such as 9.9.9.9 or 127.0.0.1:5353, "
                "separated by commas."
            )
        servers.append((address, port))
    return tuple(servers)


def _colour(read: _Reader, name: str, default: str) -> str:
    raw = read.text(name, default)
    if len(raw) != 7 or raw[0] != "#" or not set(raw[1:].lower()) <= set("0123456789abcdef"):
        read.faults.append(f"{name} is {raw!r}. Write a colour like #1f5fbf.")
    return raw
