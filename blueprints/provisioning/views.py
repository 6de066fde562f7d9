"""When and how much is provisioned: the switch, the cap, the off-peak hours, their exceptions."""

from __future__ import annotations

from collections.abc import Callable
from datetime import date
from typing import Any

from flask import Blueprint, Response, flash, url_for

from blueprints.forms import LARGEST_ID, apply_refusal
from blueprints.htmx import go, respond
from blueprints.provisioning.forms import (
    DAY_NAMES,
    ExceptionForm,
    LimitsForm,
    PauseForm,
    PlanForm,
    WindowForm,
)
from blueprints.provisioning.plans import WIDTH, describe_days, describe_next, describe_window
from blueprints.security import current_actor, requires
from models import utcnow
from services import provisioning_policy
from services.actors import Permission
from services.errors import Conflict, InvalidInput, NotFound
from services.provisioning_policy import COUNTED

bp = Blueprint("provisioning", __name__, url_prefix="/provisioning")
bp.add_app_template_filter(describe_window, "window_words")

_ONE_WINDOW = f"/windows/<int(max={LARGEST_ID}):window_id>"


@bp.get("")
@requires(Permission.PROVISIONING_READ)
def index() -> Response:
    actor, now = current_actor(), utcnow()
    policy = provisioning_policy.load()
    return respond(
        "provisioning/index.html",
        policy=policy,
        pause=policy.pause,
        load=provisioning_policy.measure_load(actor),
        counted=COUNTED,
        days=describe_days(provisioning_policy.coming_days(policy, now), policy),
        width=WIDTH,
        next_hours=describe_next(now, policy),
        may_pause=provisioning_policy.may_pause(actor),
        may_plan=actor.may(Permission.PROVISIONING_PLAN),
    )


# --- The switch --------------------------------------------------------------------------------


@bp.route("/pause", methods=["GET", "POST"])
@requires(Permission.PROVISIONING_PAUSE)
def pause() -> Response:
    """Hold everything, with the reason that everybody will read."""
    provisioning_policy.require_switch(current_actor())
    form = PauseForm()
    if not form.validate_on_submit():
        return respond("provisioning/pause.html", form=form, status=422 if form.errors else 200)
    try:
        provisioning_policy.pause(current_actor(), reason=form.reason.data)
    except InvalidInput as error:
        apply_refusal(form, error)
        return respond("provisioning/pause.html", form=form, status=422)
    except Conflict as error:
        flash(error.message, "attention")
    else:
        flash("Provisioning is paused. Runs stop after the step that they are at.", "good")
    return _back()


@bp.post("/resume")
@requires(Permission.PROVISIONING_PAUSE)
def resume() -> Response:
    try:
        provisioning_policy.resume(current_actor())
    except Conflict as error:
        flash(error.message, "attention")
    else:
        flash("Provisioning goes on. What is due starts now.", "good")
    return _back()


# --- The plan ----------------------------------------------------------------------------------


@bp.route("/limits", methods=["GET", "POST"])
@requires(Permission.PROVISIONING_PLAN)
def limits() -> Response:
    """The cap on runs at once, and the time zone of all hours."""
    policy = provisioning_policy.load()
    form = LimitsForm(
        data={
            "version": policy.version,
            "max_runs": policy.max_runs,
            "time_zone": policy.zone.key,
        }
    )

    def save() -> None:
        provisioning_policy.change_limits(
            current_actor(),
            version=form.seen,
            time_zone=form.time_zone.data or "",
            max_runs=form.max_runs.data,
        )

    return _edit("provisioning/limits.html", form, save, "The limits are saved.")


@bp.route("/windows/new", methods=["GET", "POST"])
@requires(Permission.PROVISIONING_PLAN)
def new_window() -> Response:
    form = WindowForm(data={"version": provisioning_policy.load().version})

    def save() -> None:
        provisioning_policy.add_window(current_actor(), version=form.seen, **_window_in(form))

    return _edit(
        "provisioning/window.html", form, save, "The window is added.", names=DAY_NAMES, window=None
    )


@bp.route(_ONE_WINDOW, methods=["GET", "POST"])
@requires(Permission.PROVISIONING_PLAN)
def edit_window(window_id: int) -> Response:
    window = provisioning_policy.get_window(current_actor(), window_id)
    form = WindowForm(
        data={
            "version": provisioning_policy.load().version,
            "days": window.days,
            "from_time": window.from_minute,
            "to_time": window.to_minute,
        }
    )

    def save() -> None:
        provisioning_policy.change_window(
            current_actor(), window_id, version=form.seen, **_window_in(form)
        )

    return _edit(
        "provisioning/window.html",
        form,
        save,
        "The window is changed.",
        names=DAY_NAMES,
        window=window,
    )


def _window_in(form: WindowForm) -> dict[str, Any]:
    return {
        "days": form.days.data,
        "from_minute": form.from_time.data,
        "to_minute": form.to_time.data,
    }


@bp.post(f"{_ONE_WINDOW}/remove")
@requires(Permission.PROVISIONING_PLAN)
def remove_window(window_id: int) -> Response:
    seen = PlanForm().seen
    return _remove(
        lambda: provisioning_policy.remove_window(current_actor(), window_id, version=seen),
        "The window is removed.",
    )


@bp.route("/exceptions/new", methods=["GET", "POST"])
@requires(Permission.PROVISIONING_PLAN)
def new_exception() -> Response:
    form = ExceptionForm(data={"version": provisioning_policy.load().version, "kind": "all_day"})

    def save() -> None:
        provisioning_policy.add_exception(
            current_actor(),
            version=form.seen,
            day=form.day.data,
            all_day=form.kind.data == "all_day",
            note=form.note.data or "",
        )

    return _edit("provisioning/exception.html", form, save, "The exception is added.")


@bp.post("/exceptions/<day>/remove")
@requires(Permission.PROVISIONING_PLAN)
def remove_exception(day: str) -> Response:
    try:
        parsed = date.fromisoformat(day)
    except ValueError:
        raise NotFound("There is no such exception.") from None
    seen = PlanForm().seen
    return _remove(
        lambda: provisioning_policy.remove_exception(current_actor(), parsed, version=seen),
        "The exception is removed. The date is as its weekday again.",
    )


def _edit(
    page: str, form: PlanForm, save: Callable[[], None], done: str, **context: Any
) -> Response:
    """Show the form, save what it sends, or show it again with what stands against it.

    Who is told that somebody else was faster sees what the plan is now, with his own input; saving
    once more is then his decision.
    """
    status = 200
    if form.is_submitted():
        status = 422
        if form.validate():
            try:
                save()
            except InvalidInput as error:
                if error.field == "version":
                    raise
                apply_refusal(form, error)
            except Conflict as error:
                form.version.data = str(provisioning_policy.load().version)
                apply_refusal(form, error)
                status = 409
            else:
                flash(done, "good")
                return _back()
    return respond(page, status=status, form=form, policy=provisioning_policy.load(), **context)


def _remove(remove: Callable[[], None], done: str) -> Response:
    try:
        remove()
    except Conflict as error:
        flash(error.message, "attention")
    else:
        flash(done, "good")
    return _back()


def _back() -> Response:
    return go(url_for("provisioning.index"))
