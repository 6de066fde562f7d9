"""Commands for the terminal: `flask --app app …`."""

from __future__ import annotations

import asyncio
import logging
import os
import sys
import time

import click
from cryptography.fernet import Fernet
from flask import Flask, current_app
from flask.cli import with_appcontext
from redis.exceptions import RedisError

from extensions import get_settings, queues
from services import demo_data
from services.errors import ServiceError

log = logging.getLogger(__name__)


@click.command("demo")
@click.option("--customer", metavar="WEB_ID", help="Add a further customer with this web ID.")
@click.option("--users", type=int, default=100, show_default=True, help="Its number of users.")
@with_appcontext
def demo(customer: str | None, users: int) -> None:
    """Create the demonstration data, as far as it is missing."""
    try:
        if customer is None:
            for login, role in demo_data.load_demo_data():
                click.echo(f"{login:<46} {role}")
            click.echo(f"The password of all of them is {demo_data.PASSWORD}")
            return
        started = time.monotonic()
        added = demo_data.add_bulk_customer(customer, users)
    except ServiceError as error:
        raise click.ClickException(error.message) from error
    click.echo(
        f"Added {added.name} ({added.web_id}) with {users:,} users "
        f"in {time.monotonic() - started:.1f} s."
    )


@click.command("new-seal-key")
def new_seal_key() -> None:
    """Print a new key for SEAL_KEYS."""
    click.echo(Fernet.generate_key().decode())


@click.command("worker")
@with_appcontext
def worker() -> None:
    """Work on the queues until stopped."""
    from jobs.worker import make_worker, wait_for_queue

    wait_for_queue(15)
    app: Flask = current_app._get_current_object()  # type: ignore[attr-defined]
    make_worker(app).work(logging_level="WARNING")


@click.command("scheduler")
@with_appcontext
def scheduler() -> None:
    """Ask for a sweep every SWEEP_SECONDS until stopped."""
    interval = get_settings().sweep_seconds
    while True:
        try:
            queues.enqueue_sweep(interval)
        except RedisError as error:
            log.warning("the queue does not answer: %s", type(error).__name__)
        time.sleep(interval)


@click.command("sweep")
@with_appcontext
def sweep() -> None:
    """Sweep once: return what dead workers held, start what waits."""
    from jobs.sweeps import sweep as run_sweep

    run_sweep()


@click.command("bounce")
@click.option("--recipient", metavar="ADDRESS", help="The envelope recipient, where it is known.")
@with_appcontext
def bounce(recipient: str | None) -> None:
    """Take one returned mail from standard input, as a mail server pipes it.

    Exits with 75 (EX_TEMPFAIL) when it has to be sent again, and with 0 otherwise, also for mails
    that report no failure of ours.
    """
    from services.bounces import LARGEST_MESSAGE, record_bounce

    stream = sys.stdin.buffer
    raw = stream.read(LARGEST_MESSAGE)
    while stream.read(LARGEST_MESSAGE):  # Whoever writes must not meet a closed pipe.
        pass
    result = record_bounce(raw, recipient)
    click.echo(result.sentence)
    if result.try_again:
        raise click.exceptions.Exit(os.EX_TEMPFAIL)


@click.command("bounce-listener")
@with_appcontext
def bounce_listener() -> None:
    """Take returned mails by LMTP or SMTP at BOUNCE_LISTEN until stopped."""
    address = get_settings().bounce_listen
    if not address:
        raise click.ClickException(
            "BOUNCE_LISTEN is not set. Write where to listen, for example lmtp://127.0.0.1:8024."
        )
    try:
        from services.bounce_listener import serve_until_stopped
    except ModuleNotFoundError as error:
        raise click.ClickException(
            "The bounce listener needs the package aiosmtpd: pip install 'aiosmtpd>=1.4.6'."
        ) from error
    app: Flask = current_app._get_current_object()  # type: ignore[attr-defined]
    try:
        asyncio.run(
            serve_until_stopped(app, address, lambda at: click.echo(f"Bounces are taken at {at}"))
        )
    except OSError as error:
        raise click.ClickException(f"{address} cannot be listened on: {error.strerror}.") from error


def init_app(app: Flask) -> None:
    for command in (demo, new_seal_key, worker, scheduler, sweep, bounce, bounce_listener):
        app.cli.add_command(command)
