"""A whole Foyer in processes of its own, for a browser to use as people do."""

from __future__ import annotations

import itertools
import json
import os
import re
import signal
import socket
import subprocess
import sys
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self
from urllib.parse import quote

import sqlalchemy as sa

from app import create_app
from extensions import db
from models import (
    Customer,
    Delivery,
    DeliveryState,
    Mailing,
    Role,
    SelectedUser,
    SignInSession,
    User,
    fold,
)
from services import demo_data
from tests.support.databases import make_settings
from tests.support.smtp_sink import SmtpSink
from tests.support.work import ROOT, environment, wait_until
from tools import ports, valkey

_numbers = itertools.count(1)


@dataclass(frozen=True)
class Tenant:
    """A customer of a test's own, so that no other test has mailed its users."""

    web_id: str
    admin: str
    suffix: str

    @property
    def users_path(self) -> str:
        return f"/customers/{self.web_id}/users"


class Part:
    """A program in a session of its own, its output in a file."""

    def __init__(self, command: Sequence[str], log: Path, env: dict[str, str]) -> None:
        with log.open("ab") as output:
            self._process = subprocess.Popen(
                command,
                cwd=ROOT,
                env=env,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def ask_to_stop(self) -> None:
        self._process.terminate()

    def stop(self) -> None:
        """End the program, and what is left of its session."""
        self._process.terminate()
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        with suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)


class Installation:
    """Web, worker, scheduler, queue and mail server over a database with the demo data.

    Chunks are small and delays short, so that what takes minutes in life takes seconds here.
    """

    def __init__(self, database_url: str, folder: Path) -> None:
        self._folder = folder
        self._queue_socket = folder / "v.sock"
        web, self._smtp_port, mailbox = _free_ports(3)
        self.url = f"http://{ports.HOST}:{web}"
        self.mailbox_url = f"http://{ports.HOST}:{mailbox}/"
        self._mailbox_port = mailbox
        self.settings = make_settings(
            database_url,
            folder,
            PORT=str(web),
            PUBLIC_URL=self.url,
            REDIS_URL=f"unix://{self._queue_socket}",
            MAIL_SERVER=ports.HOST,
            MAIL_PORT=str(self._smtp_port),
            MAIL_TIMEOUT="30",
            MAIL_DOWN_DELAYS="2",
            DELIVERY_CHUNK="5",
            DELIVERY_CONNECTIONS="1",
            SWEEP_SECONDS="1",
        )
        self._environment = environment(self.settings, PORT=str(web), WEB_CONCURRENCY="1")
        self._parts = ExitStack()
        self._mail: Part | None = None
        self.app = create_app(self.settings)

    # Running

    def __enter__(self) -> Self:
        self._add(valkey.command(self._queue_socket, self._folder), "queue")
        self.start_mail()
        self._parts.callback(self.stop_mail)
        parts = [
            self._add([sys.executable, "-m", "gunicorn", "--config", "gunicorn.conf.py"], "web"),
            self._add(_flask("worker"), "worker"),
            self._add(_flask("scheduler"), "scheduler"),
        ]
        # Asked all at once, so that their last moments pass together.
        for part in parts:
            self._parts.callback(part.ask_to_stop)
        wait_until(lambda: _answers(f"{self.url}/readyz"), every=0.05)
        return self

    def __exit__(self, *_: object) -> None:
        self._parts.close()
        with self.app.app_context():
            db.session.remove()
            db.engine.dispose()

    def _add(self, command: Sequence[str], name: str) -> Part:
        part = Part(command, self._folder / f"{name}.log", self._environment)
        self._parts.callback(part.stop)
        return part

    def start_mail(self) -> None:
        command = [
            *(sys.executable, "-m", "localmail"),
            *("--smtp-port", str(self._smtp_port)),
            *("--http-port", str(self._mailbox_port)),
            *("--database", str(self._folder / "mailbox.db")),
            *("--foyer-url", self.url),
        ]
        self._mail = Part(command, self._folder / "mail.log", self._environment)
        wait_until(lambda: _answers(f"{self.mailbox_url}messages.json"), every=0.05)

    def stop_mail(self) -> None:
        if self._mail is not None:
            self._mail.stop()
        self._mail = None

    @contextmanager
    def other_mail_server(self) -> Iterator[SmtpSink]:
        """In the mail server's place one that does as it is told."""
        self.stop_mail()
        try:
            with SmtpSink(port=self._smtp_port) as sink:
                yield sink
        finally:
            self.start_mail()

    def run_command(self, *arguments: str, typed: str = "") -> str:
        """What `flask --app app …` says on this installation's machine; `typed` is its input."""
        done = subprocess.run(
            _flask(*arguments),
            cwd=ROOT,
            env=self._environment,
            input=typed,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    # What tests prepare and look up behind the pages

    def add_tenant(self, users: int = 30) -> Tenant:
        """A further customer with an administrator who has the demo password."""
        web_id = f"JOURNEY{next(_numbers)}"
        with self.app.app_context():
            customer = demo_data.add_bulk_customer(web_id, users)
            admin = db.session.scalars(
                sa.select(User.login).where(
                    User.customer_id == customer.id, User.role == Role.CUSTOMER_ADMIN
                )
            ).one()
            tenant = Tenant(web_id, admin, customer.upn_suffix)
            db.session.remove()
        return tenant

    def users_of(self, web_id: str, *conditions: Any) -> list[User]:
        """The users of a customer, without its administrator, in the order of the Users tab."""
        with self.app.app_context():
            found = db.session.scalars(
                sa.select(User)
                .join(Customer, Customer.id == User.customer_id)
                .where(Customer.web_id == web_id, User.role == Role.USER, *conditions)
                .order_by(User.name_key, User.id)
            ).all()
            db.session.remove()
        return list(found)

    def give_password(self, login: str, password_of: str) -> None:
        """Let a user sign in with the password that another one has."""
        with self.app.app_context():
            hashed = sa.select(User.password_hash).where(User.login_key == fold(password_of))
            db.session.execute(
                sa.update(User)
                .where(User.login_key == fold(login))
                .values(password_hash=hashed.scalar_subquery(), must_change_password=False)
            )
            db.session.commit()
            db.session.remove()

    def must_change_password(self, login: str) -> None:
        """As after a sign-in with a generated password."""
        with self.app.app_context():
            db.session.execute(
                sa.update(User)
                .where(User.login_key == fold(login))
                .values(must_change_password=True)
            )
            db.session.commit()
            db.session.remove()

    def end_sessions(self, login: str) -> None:
        """What the passing of time does to the sessions of a person."""
        with self.app.app_context():
            person = sa.select(User.id).where(User.login_key == fold(login))
            db.session.execute(
                sa.delete(SignInSession).where(SignInSession.user_id.in_(person.scalar_subquery()))
            )
            db.session.commit()
            db.session.remove()

    def count_mailings(self, web_id: str) -> int:
        with self.app.app_context():
            count = db.session.scalar(
                sa.select(sa.func.count(Mailing.id))
                .join(Customer, Customer.id == Mailing.customer_id)
                .where(Customer.web_id == web_id)
            )
            db.session.remove()
        return count or 0

    def count_selected(self, web_id: str) -> int:
        with self.app.app_context():
            count = db.session.scalar(
                sa.select(sa.func.count())
                .select_from(SelectedUser)
                .join(Customer, Customer.id == SelectedUser.customer_id)
                .where(Customer.web_id == web_id)
            )
            db.session.remove()
        return count or 0

    def all_deliveries_ended(self, web_id: str) -> bool:
        with self.app.app_context():
            open_ones = db.session.scalar(
                sa.select(sa.func.count(Delivery.id))
                .join(Mailing, Mailing.id == Delivery.mailing_id)
                .join(Customer, Customer.id == Mailing.customer_id)
                .where(
                    Customer.web_id == web_id,
                    Delivery.state.in_([DeliveryState.QUEUED, DeliveryState.SENDING]),
                )
            )
            db.session.remove()
        return not open_ones

    def mails_to(self, address: str) -> list[dict[str, Any]]:
        """What the mailbox has for addresses that start so, newest first."""
        query = f"{self.mailbox_url}messages.json?limit=1000&to={quote(address)}"
        with urllib.request.urlopen(query, timeout=10) as answer:
            mails: list[dict[str, Any]] = json.load(answer)
        return mails


def _flask(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "flask", "--app", "app", *arguments]


def _free_ports(count: int) -> list[int]:
    """Different ports that nobody has; taken from the system, so that parallel runs differ."""
    with ExitStack() as stack:
        probes = [stack.enter_context(socket.socket()) for _ in range(count)]
        for probe in probes:
            probe.bind((ports.HOST, 0))
        return [int(probe.getsockname()[1]) for probe in probes]


def _answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=5):
            return True
    except OSError:
        return False


def path_of(url: str) -> str:
    """The address without its host, for comparing."""
    return re.sub(r"^https?://[^/]+", "", url)
