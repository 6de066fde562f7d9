"""Commands for the terminal: `flask --app app …`."""

from __future__ import annotations

import asyncio
import getpass
import logging
import os
import sys
import time
from collections.abc import Callable, Iterable

import click
from cryptography.fernet import Fernet
from flask import Flask, current_app
from flask.cli import with_appcontext
from redis.exceptions import RedisError

from extensions import get_settings, queues
from services import demo_data, demo_requests
from services.actors import Actor, get_staff_actor
from services.command_runs import RunProgress
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
            demo_requests.load_demo_requests()
            click.echo(f"The password of all of them is {demo_data.PASSWORD}")
            name, secret = demo_data.API_CREDENTIAL
            click.echo(f"The REST API takes {name} with the secret {secret}")
            return
        started = time.monotonic()
        added = demo_data.add_bulk_customer(customer, users)
    except ServiceError as error:
        raise click.ClickException(error.message) from error
    click.echo(
        f"Added {added.name} ({added.web_id}) with {users:,} users "
        f"in {time.monotonic() - started:.1f} s."
    )


@click.command("create-landlord")
@click.option("--email", metavar="ADDRESS", prompt="E-mail address", help="Where mails go.")
@click.option("--first-name", metavar="NAME", prompt="First name")
@click.option("--last-name", metavar="NAME", prompt="Last name")
@click.option("--login", metavar="LOGIN", help="The e-mail address, unless it is given.")
@with_appcontext
def create_landlord(email: str, first_name: str, last_name: str, login: str | None) -> None:
    """Make a landlord administrator, the first of an installation or another one.

    Asks for the password, twice, and shows it nowhere; standard input may be a pipe.
    """
    from services.staff_accounts import Particulars
    from services.staff_accounts import create_landlord as create

    password = click.prompt("Password", hide_input=True, confirmation_prompt="Password again")
    try:
        user = create(
            _terminal_actor(None),
            Particulars(first_name=first_name, last_name=last_name, email=email),
            login=login or "",
            password=password,
        )
    except ServiceError as error:
        raise click.ClickException(error.message) from error
    click.echo(f"{user.login} is a landlord administrator and can sign in.")
    click.echo(f"{get_settings().public_url}/login")


@click.command("new-seal-key")
def new_seal_key() -> None:
    """Print a new key for SEAL_KEYS."""
    click.echo(Fernet.generate_key().decode())


@click.command("reseal")
@with_appcontext
def reseal() -> None:
    """Seal anew, with the first of SEAL_KEYS, the secrets that rest for long."""
    from services import resealing

    done = resealing.reseal()
    click.echo(f"Sealed anew: {done.resealed:,}.")
    if done.broken:
        raise click.ClickException(
            f"None of SEAL_KEYS opens {done.broken:,} of the secrets. "
            "If an earlier key is still known, put it behind the others and run this again."
        )


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
        wait = interval
        try:
            wait = queues.enqueue_sweep(interval)
        except RedisError as error:
            log.warning("the queue does not answer: %s", type(error).__name__)
        time.sleep(wait)


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


# Exit codes of `command` beside 0 (done), 1 (refused) and 2 (wrong usage).
_SOME_UNSENT = 3
_NOT_CONFIRMED = 4
_PAUSED = 5
_INTERRUPTED = 130
_WATCH_SECONDS = 0.5


@click.command("command")
@click.argument("text")
@click.option("--dry-run", is_flag=True, help="Say what would happen, and do nothing.")
@click.option("--yes", is_flag=True, help="Run without asking.")
@click.option("--as", "login", metavar="LOGIN", help="Act as this member of staff, in his scope.")
@click.option("--no-wait", is_flag=True, help="Do not wait until the mails are sent.")
@with_appcontext
def run_commands(text: str, dry_run: bool, yes: bool, login: str | None, no_wait: bool) -> None:
    """Run maintenance commands: TEXT, or `-` for standard input, one command per line.

    Use single quotes: inside double quotes a shell replaces `$$` by a number. '$$HELP$$' lists the
    commands; docs/commands.md explains them and the exit codes.
    """
    from services import command_runs, command_texts
    from services.command_language import CommandErrors

    is_piped = text == "-"
    if is_piped:
        longest = 4 * command_runs.MAX_TEXT + 1  # A character has up to four bytes.
        text = sys.stdin.buffer.read(longest).decode("utf-8", "replace")
    try:
        actor = _terminal_actor(login)
        if dry_run:
            _print(command_texts.plan_lines(command_runs.check(actor, text)))
            return
        run = command_runs.submit_at_terminal(actor, text)
        plan = command_runs.plan_of(run)
        _print(command_texts.plan_lines(plan))
        if not plan.changes_something:
            return
        if not yes:
            _confirm(plan.recipients, is_piped)
        run = command_runs.run(actor, run.id)
    except CommandErrors as refused:
        _print(command_texts.error_lines(text, refused), err=True)
        raise click.exceptions.Exit(1) from refused
    except ServiceError as error:
        raise click.ClickException(error.message) from error
    is_refused = bool(command_runs.outcome_of(run).errors)
    _print(("", *command_texts.outcome_lines(run)), err=is_refused)
    if is_refused:
        raise click.exceptions.Exit(1)
    for mailing in command_runs.started_mailings(run):
        queues.start_mailing(mailing.lane.value, mailing.id, mailing.waiting)
    if not no_wait:
        _watch(lambda: command_runs.measure_progress(run))


def _terminal_actor(login: str | None) -> Actor:
    try:
        account = getpass.getuser()
    except (KeyError, OSError):
        account = f"uid {os.getuid()}"
    terminal = Actor.from_terminal(account)
    return terminal if login is None else get_staff_actor(login, terminal.login)


def _print(lines: Iterable[str], *, err: bool = False) -> None:
    for line in lines:
        click.echo(line, err=err)


def _confirm(recipients: int, is_piped: bool) -> None:
    """Ask once, where there is somebody to ask; leave with _NOT_CONFIRMED without a yes."""
    mails = "1 mail" if recipients == 1 else f"{recipients:,} mails"
    question = f"Run this and send {mails}?" if recipients else "Run this?"
    is_confirmed = False
    if not is_piped:
        try:
            is_confirmed = click.confirm(f"\n{question}")
        except click.Abort:
            click.echo()
    if not is_confirmed:
        click.echo("Nothing was done. With --yes it runs without asking.", err=True)
        raise click.exceptions.Exit(_NOT_CONFIRMED)


def _watch(measure: Callable[[], RunProgress]) -> None:
    """Show how far the mailings of a run are until they end, as a bar or in lines."""
    progress = measure()
    if not progress.total:
        return
    show = _show_bar if sys.stdout.isatty() else _show_lines
    try:
        progress = show(progress, measure)
    except KeyboardInterrupt:
        click.echo(
            "\nNo longer watching. The mailing goes on; $$MAILING STATUS$$ says how far it is."
        )
        raise click.exceptions.Exit(_INTERRUPTED) from None
    click.echo(f"{progress.sent:,} of {progress.total:,} sent.")
    if progress.paused:
        names = ", ".join(str(each) for each in progress.paused)
        click.echo(f"Paused until $$RESUME MAILING$$: {names}.", err=True)
        raise click.exceptions.Exit(_PAUSED)
    if progress.unsent:
        click.echo(f"{progress.unsent:,} failed, bounced or cancelled.", err=True)
        raise click.exceptions.Exit(_SOME_UNSENT)


def _show_bar(progress: RunProgress, measure: Callable[[], RunProgress]) -> RunProgress:
    with click.progressbar(length=progress.total, label="Sending") as bar:
        while True:
            bar.update(progress.done - bar.pos)
            if not progress.running:
                return progress
            _wait(_WATCH_SECONDS)
            progress = measure()


def _show_lines(progress: RunProgress, measure: Callable[[], RunProgress]) -> RunProgress:
    next_at = time.monotonic()
    while progress.running:
        if time.monotonic() >= next_at:
            next_at += 5
            click.echo(f"{progress.done:,} of {progress.total:,} done")
        _wait(_WATCH_SECONDS)
        progress = measure()
    return progress


def _wait(seconds: float) -> None:
    time.sleep(seconds)


def init_app(app: Flask) -> None:
    for command in (
        demo,
        create_landlord,
        new_seal_key,
        reseal,
        worker,
        scheduler,
        sweep,
        bounce,
        bounce_listener,
        run_commands,
    ):
        app.cli.add_command(command)
