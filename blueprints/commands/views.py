"""The maintenance command window: the text, its dry run, Run, and what was run before."""

from __future__ import annotations

from typing import Any

from flask import Blueprint, Response, redirect, render_template, request, url_for

from blueprints.commands.forms import CommandForm
from blueprints.commands.lists import RunList, chips_of, menus_of
from blueprints.commands.renditions import render_text
from blueprints.commands.runs import Summary, button_label, describe_run, mail_of
from blueprints.forms import LARGEST_ID, apply_refusal
from blueprints.htmx import go, respond, wants_fragment
from blueprints.mailings.following import start_delivery
from blueprints.mailings.frames import frame_mail
from blueprints.security import current_actor, passive, public, requires
from models import CommandRun, CommandSource, SkipReason
from services import command_runs
from services.actors import Permission
from services.command_dry_runs import SKIP_WORDS
from services.command_language import COMMANDS, CommandErrors
from services.errors import InvalidInput

bp = Blueprint("commands", __name__)

_WINDOW = "/sp/commands"
_ONE = f"{_WINDOW}/<int(max={LARGEST_ID}):run_id>"


@bp.app_template_filter("skip_words")
def skip_words(reason: str) -> str:
    """A reason as it follows a number: "3 without an e-mail address"."""
    return SKIP_WORDS[SkipReason(reason)]


@bp.get("/konos/commands.jsp")
@public
def old_window() -> Response:
    """The address that handbooks and bookmarks have."""
    return redirect(url_for("commands.index"), 301)  # type: ignore[return-value]


@bp.get(_WINDOW)
@requires(Permission.COMMANDS_READ)
def index() -> Response:
    """The window, empty or with an example or the text of an earlier run, and the history."""
    form = CommandForm(data={"text": _offered_text()})
    return _show_window(form)


def _offered_text() -> str:
    """What the address asks to be filled in. It cannot hold commands: a link must not bring any."""
    again = request.args.get("again", type=int)
    if again is not None and 0 < again <= LARGEST_ID:
        return command_runs.get_run(current_actor(), again).text
    word = request.args.get("example", "")
    return next((each.example for each in COMMANDS if each.word == word), "")


@bp.post(_WINDOW)
@requires(Permission.COMMANDS_RUN)
def submit() -> Response:
    """To the dry run, or back to the window with every error."""
    form = CommandForm()
    text = form.text.data or ""
    try:
        run = command_runs.submit(current_actor(), text, source=CommandSource.WINDOW)
    except CommandErrors as error:
        rendition = render_text(text, error.errors)
        return _show_window(form, errors=error.errors, rendition=rendition, status=422)
    except InvalidInput as error:
        apply_refusal(form, error)
        return _show_window(form, status=422)
    return go(_url_of(run))


def _show_window(form: CommandForm, *, status: int = 200, **context: Any) -> Response:
    actor = current_actor()
    shown = RunList.read(request.args)
    page = command_runs.list_runs(actor, state=shown.state, mine=shown.mine, cursor=shown.cursor)
    return respond(
        "commands/index.html",
        "commands/_history.html",
        status=status,
        form=form,
        commands=COMMANDS,
        may_run=actor.may(Permission.COMMANDS_RUN),
        shown=shown,
        listed=page,
        summaries={run.id: Summary.of(run) for run in page.rows},
        menus=menus_of(shown),
        chips=chips_of(shown),
        **context,
    )


@bp.get(_ONE)
@requires(Permission.COMMANDS_READ)
def show(run_id: int) -> Response:
    """A dry run, or what became of it."""
    actor = current_actor()
    run = command_runs.get_run(actor, run_id)
    plan, outcome = command_runs.plan_of(run), command_runs.outcome_of(run)
    return respond(
        "commands/show.html",
        run=run,
        plan=plan,
        outcome=outcome,
        about=describe_run(run, plan),
        label=button_label(plan),
        errors=outcome.errors,
        rendition=render_text(run.text, outcome.errors),
        may_run=actor.may(Permission.COMMANDS_RUN),
        may_run_this=command_runs.may_run(actor, run),
        progress=command_runs.measure_progress(run),
    )


@bp.get(f"{_ONE}/progress")
@passive
@requires(Permission.COMMANDS_READ)
def progress(run_id: int) -> Any:
    """What the page polls: how far the mailings of a run are, from their counters."""
    run = command_runs.get_run(current_actor(), run_id)
    if not wants_fragment():
        return redirect(_url_of(run))
    measured = command_runs.measure_progress(run)
    return render_template("commands/_progress.html", run=run, progress=measured, is_polled=True)


@bp.get(f"{_ONE}/mail/<int(max=1000000):line>")
@requires(Permission.COMMANDS_READ)
def mail_frame(run_id: int, line: int) -> Response:
    """The first mail of one line's mailing, for the frame on the dry run."""
    run = command_runs.get_run(current_actor(), run_id)
    return frame_mail(mail_of(command_runs.plan_of(run), line).html)


@bp.post(f"{_ONE}/run")
@requires(Permission.COMMANDS_RUN)
def run(run_id: int) -> Response:
    """Do what was planned, once: a second press leads to what the first has done."""
    done = command_runs.run(current_actor(), run_id)
    for mailing in command_runs.started_mailings(done):
        start_delivery(mailing)
    return go(_url_of(done))


def _url_of(run: CommandRun) -> str:
    return url_for("commands.show", run_id=run.id)
