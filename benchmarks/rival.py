"""django-post-office, which mails are queued and sent with: a queue of rows, as Foyer's is.

Run as a process, `python -m benchmarks.rival PORT COUNT MAILS OPTIONS`; OPTIONS is JSON with the
fields of `Way`. Queues with `send_many` and sends with `send_queued_mail_until_done`, its own
bulk calls, and prints the seconds that both took and how many it recorded as sent.
"""

from __future__ import annotations

import argparse
import json
import re
import tempfile
import time
from dataclasses import asdict, dataclass
from email import message_from_bytes, policy
from pathlib import Path
from typing import Any

from benchmarks.bare import load_mails

_SECRET = re.compile(r"\b[A-Za-z0-9]{20,24}\b")


@dataclass(frozen=True, slots=True)
class Way:
    """How it is set. `database` is an address of PostgreSQL, or empty for SQLite.

    `templates` has it fill a template per mail on delivery; otherwise it is given ready texts.
    """

    database: str = ""
    processes: int = 2
    threads: int = 1
    batch: int = 5_000
    templates: bool = False

    def __str__(self) -> str:
        return (
            f"{'PostgreSQL' if self.database else 'SQLite'}, {self.processes} processes × "
            f"{self.threads} threads, BATCH_SIZE {self.batch:,}, LOG_LEVEL 0, "
            f"{'templates filled on delivery' if self.templates else 'ready texts'}, send_many"
        )

    def as_json(self) -> str:
        return json.dumps(asdict(self))


@dataclass(frozen=True, slots=True)
class Content:
    """One mail as django-post-office wants it."""

    sender: str
    recipient: str
    subject: str
    text: str
    html: str


def read_contents(path: Path) -> list[Content]:
    """The mails that the engine sent, taken apart again."""
    contents = []
    for sender, recipient, raw in load_mails(path):
        message = message_from_bytes(raw, policy=policy.default)
        bodies = [message.get_body((kind,)) for kind in ("plain", "html")]
        text, html = (str(body.get_content()) if body is not None else "" for body in bodies)
        contents.append(Content(sender, recipient, str(message["Subject"]), text, html))
    return contents


def configure(port: int, way: Way, folder: str) -> None:
    """Make Django ready, with the tables of django-post-office."""
    import django  # noqa: PLC0415 - the only process that needs it
    from django.conf import settings  # noqa: PLC0415
    from django.core.management import call_command  # noqa: PLC0415

    settings.configure(
        DATABASES={"default": _database(way, folder)},
        INSTALLED_APPS=["post_office"],
        DEFAULT_AUTO_FIELD="django.db.models.BigAutoField",
        EMAIL_BACKEND="post_office.EmailBackend",
        EMAIL_HOST="127.0.0.1",
        EMAIL_PORT=port,
        TEMPLATES=[{"BACKEND": "django.template.backends.django.DjangoTemplates"}],
        LOGGING_CONFIG=None,
        USE_TZ=True,
        POST_OFFICE={
            "BATCH_SIZE": way.batch,
            "THREADS_PER_PROCESS": way.threads,
            "LOG_LEVEL": 0,
            "BACKENDS": {"default": "django.core.mail.backends.smtp.EmailBackend"},
            "LOCK_FILE_NAME": f"{folder}/lock",
        },
    )
    django.setup()
    call_command("migrate", verbosity=0)


def _database(way: Way, folder: str) -> dict[str, Any]:
    if not way.database:
        pragmas = "PRAGMA journal_mode=WAL; PRAGMA synchronous=NORMAL;"
        options = {"init_command": pragmas, "transaction_mode": "IMMEDIATE", "timeout": 30}
        return {
            "ENGINE": "django.db.backends.sqlite3",
            "NAME": f"{folder}/post_office.db",
            "OPTIONS": options,
        }
    from sqlalchemy import make_url  # noqa: PLC0415

    url = make_url(way.database)
    return {
        "ENGINE": "django.db.backends.postgresql",
        "NAME": url.database,
        "USER": url.username,
        "PASSWORD": url.password or "",
        "HOST": url.query.get("host") or url.host,
        "PORT": url.port or "",
    }


def queue_and_send(contents: list[Content], count: int, way: Way) -> dict[str, float]:
    """Queue `count` mails and send them; the database must hold none before."""
    from django.db import connection  # noqa: PLC0415
    from post_office import mail, models  # noqa: PLC0415

    models.Email.objects.all().delete()
    orders = _orders(contents, count, way)
    started = time.perf_counter()
    for first in range(0, count, way.batch):
        mail.send_many(orders[first : first + way.batch])
    queued = time.perf_counter()
    connection.close()
    mail.send_queued_mail_until_done(processes=way.processes, log_level=0)
    ended = time.perf_counter()
    sent = models.Email.objects.filter(status=models.STATUS.sent).count()
    return {"queueing": queued - started, "seconds": ended - started, "sent": sent}


def _orders(contents: list[Content], count: int, way: Way) -> list[dict[str, Any]]:
    """What `send_many` is given: the mails' contents in turn."""
    prepared = [_with_template(each) if way.templates else _ready(each) for each in contents]
    return [dict(prepared[number % len(prepared)]) for number in range(count)]


def _ready(content: Content) -> dict[str, Any]:
    return {
        "sender": content.sender,
        "recipients": [content.recipient],
        "subject": content.subject,
        "message": content.text,
        "html_message": content.html,
    }


def _with_template(content: Content) -> dict[str, Any]:
    """A template with the recipient's address and passwords as its variables."""
    from post_office.models import EmailTemplate  # noqa: PLC0415

    values = {"login": content.recipient}
    secrets = dict.fromkeys(_SECRET.findall(content.text))
    values |= {f"secret{number}": secret for number, secret in enumerate(secrets)}

    def with_variables(text: str) -> str:
        for name, value in values.items():
            text = text.replace(value, "{{ " + name + " }}")
        return text

    template, _ = EmailTemplate.objects.get_or_create(
        name=content.recipient,
        defaults={
            "subject": content.subject,
            "content": with_variables(content.text),
            "html_content": with_variables(content.html),
        },
    )
    return {
        "sender": content.sender,
        "recipients": [content.recipient],
        "template": template,
        "context": values,
        "render_on_delivery": True,
    }


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("port", type=int)
    parser.add_argument("count", type=int)
    parser.add_argument("mails", type=Path)
    parser.add_argument("way", type=json.loads)
    given = parser.parse_args()
    chosen = Way(**given.way)
    with tempfile.TemporaryDirectory(prefix="foyer-rival-") as scratch:
        configure(given.port, chosen, scratch)
        print(json.dumps(queue_and_send(read_contents(given.mails), given.count, chosen)))
