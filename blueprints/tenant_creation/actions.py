"""What is done with requests: a page for what needs words or cannot be undone, and bulk actions."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from flask import Blueprint, Response, flash, redirect, request

from blueprints.forms import apply_refusal
from blueprints.htmx import go, respond
from blueprints.security import current_actor, requires
from blueprints.tenant_creation.forms import (
    ActionForm,
    LocalTimeField,
    ManyForm,
    SelectionForm,
)
from blueprints.tenant_creation.lists import Controls, RequestList
from blueprints.tenant_creation.views import BULK, ONE, list_url, show_list, url_of
from blueprints.tenant_creation.words import RequestShown
from models import RequestState, StartRule, SubscriptionRequest, utcnow
from services import provisioning_policy, request_actions, subscription_requests
from services.actors import Actor, Permission
from services.errors import Conflict, InvalidInput
from services.request_actions import LATEST_START, MOST_AT_ONCE, RequestChanged
from services.request_states import STAFF_ACTIONS, RequestAction

actions_bp = Blueprint("request_actions", __name__, url_prefix="/tenant-creation-management")

A = RequestAction
S = RequestState


@dataclass(frozen=True, slots=True)
class Page:
    """The page of an action: what it asks for, and what it says will happen."""

    title: str
    consequence: str
    button: str
    done: str
    reason: str = ""
    is_reason_optional: bool = False
    variant: str = "primary"


PAGES: Mapping[RequestAction, Page] = {
    A.APPROVE: Page(
        "Approve the request",
        "When you approve it, its start is planned. The contact is told the time by e-mail, unless "
        "provisioning starts at once.",
        "Approve the request",
        "Approved.",
    ),
    A.REJECT: Page(
        "Reject the request",
        "The request ends, and its names are free for others. The contact is sent your reason by "
        "e-mail. This cannot be undone.",
        "Reject the request",
        "Rejected. The contact is told why.",
        reason="Why is it rejected",
        variant="danger",
    ),
    A.ASK_FOR_CHANGES: Page(
        "Ask for changes",
        "The registrant can change the request and submit it again. Until then its names stay "
        "reserved. The contact is sent your comment by e-mail.",
        "Ask for changes",
        "The contact is asked for changes.",
        reason="What has to be changed",
    ),
    A.START_NOW: Page(
        "Start provisioning now",
        "Provisioning begins as soon as there is a place, and cannot be cancelled while it runs.",
        "Start provisioning now",
        "Provisioning starts as soon as there is a place.",
    ),
    A.SCHEDULE_OFF_PEAK: Page(
        "Start in the next off-peak hours",
        "The contact is told the new time by e-mail.",
        "Start in the next off-peak hours",
        "Scheduled for the next off-peak hours.",
    ),
    A.SCHEDULE_AT: Page(
        "Start at a time",
        "The contact is told the new time by e-mail.",
        "Schedule the start",
        "Scheduled anew.",
    ),
    A.CANCEL: Page(
        "Cancel the request",
        "Nothing is set up, and the names are free for others. The contact is told by e-mail. This "
        "cannot be undone: who still wants the tenant registers again.",
        "Cancel the request",
        "Cancelled.",
        reason="Why is it cancelled",
        is_reason_optional=True,
        variant="danger",
    ),
    A.RETRY: Page(
        "Retry from the failed step",
        "What was done before the failed step stays as it is.",
        "Retry from the failed step",
        "Provisioning goes on at the step that failed.",
    ),
    A.ROLL_BACK: Page(
        "Roll back and cancel",
        "Everything that provisioning made for this tenant is removed, here and on the platform. "
        "Then the request ends as cancelled and its names are free. The contact is told by "
        "e-mail. This cannot be undone.",
        "Roll back and cancel",
        "What was made is being removed.",
        reason="Why is it rolled back",
        is_reason_optional=True,
        variant="danger",
    ),
}
_WORDS = {action.value.replace("_", "-"): action for action in RequestAction}
_ACTION = f"{ONE}/<any({', '.join(map(repr, _WORDS))}):word>"


# --- One request -------------------------------------------------------------------------------


@actions_bp.get(_ACTION)
@requires(Permission.REQUESTS_READ)
def ask(request_id: int, word: str) -> Response:
    """What the action needs to know and what it will lead to, before it does."""
    actor, action = current_actor(), _WORDS[word]
    found = subscription_requests.get_request(actor, request_id)
    request_actions.require_role(actor, found, action)
    if action not in request_actions.available_actions(actor, found):
        flash("This cannot be done with the request as it is now.", "attention")
        return go(url_of(found.id))
    form = _form()
    form.version.data = found.version
    return _show(found, action, form)


@actions_bp.post(_ACTION)
@requires(Permission.REQUESTS_READ)
def act(request_id: int, word: str) -> Response:
    """Do it, or answer with what was typed and what is wrong about it."""
    actor, action = current_actor(), _WORDS[word]
    found = subscription_requests.get_request(actor, request_id)
    request_actions.require_role(actor, found, action)
    form = _form()
    if not form.validate():
        if form.version.errors:
            raise InvalidInput("version", "This page is incomplete. Open the request again.")
        return _show(found, action, form, status=422)
    try:
        _do(actor, found.id, action, form)
    except InvalidInput as error:
        apply_refusal(form, error)
        return _show(found, action, form, status=422)
    except RequestChanged as error:
        now = subscription_requests.get_request(actor, request_id)
        if not (form.reason.data or "").strip():
            flash(error.message, "attention")
            return go(url_of(now.id))
        form.version.raw_data = [str(now.version)]  # A field shows what was sent, and this was old.
        return _show(now, action, form, status=409, overtaken=error.message)
    except Conflict as error:
        if not PAGES[action].reason and action is not A.APPROVE:
            flash(error.message, "attention")
            return go(url_of(found.id))
        apply_refusal(form, error)
        return _show(found, action, form, status=409)
    flash(PAGES[action].done, "good")
    return go(url_of(request_id))


def _do(actor: Actor, request_id: int, action: RequestAction, form: ActionForm) -> None:
    version, reason = form.version.data, form.reason.data or ""
    match action:
        case A.APPROVE:
            request_actions.approve(
                actor, request_id, version=version, start=form.chosen_start(), at=form.at.moment
            )
        case A.SCHEDULE_AT:
            if form.at.moment is None:
                raise InvalidInput("at", "Choose the day and the time.")
            request_actions.schedule_at(actor, request_id, version=version, at=form.at.moment)
        case A.REJECT:
            request_actions.reject(actor, request_id, version=version, reason=reason)
        case A.ASK_FOR_CHANGES:
            request_actions.ask_for_changes(actor, request_id, version=version, reason=reason)
        case A.CANCEL:
            request_actions.cancel(actor, request_id, version=version, reason=reason)
        case A.ROLL_BACK:
            request_actions.roll_back(actor, request_id, version=version, reason=reason)
        case A.START_NOW:
            request_actions.start_now(actor, request_id, version=version)
        case A.SCHEDULE_OFF_PEAK:
            request_actions.schedule_off_peak(actor, request_id, version=version)
        case A.RETRY:
            request_actions.retry(actor, request_id, version=version)


def _form() -> ActionForm:
    form = ActionForm()
    form.at.zone = provisioning_policy.load().zone
    return form


def _show(
    found: SubscriptionRequest,
    action: RequestAction,
    form: ActionForm,
    *,
    status: int = 200,
    overtaken: str = "",
) -> Response:
    actor = current_actor()
    page = PAGES[action]
    form.reason.label.text = page.reason
    return respond(
        "tenant_creation/act.html",
        status=status,
        request=found,
        name=subscription_requests.name_of(found),
        about=page,
        word=action.value.replace("_", "-"),
        form=form,
        overtaken=overtaken,
        is_possible=action in request_actions.available_actions(actor, found),
        asks_start=action is A.APPROVE and _chooses_start(found),
        asks_time=action is A.SCHEDULE_AT,
        **_limits(form.at),
    )


def _chooses_start(found: SubscriptionRequest) -> bool:
    version = found.template_version
    return version is not None and version.start_rule is StartRule.AT_APPROVAL


def _limits(field: LocalTimeField) -> dict[str, Any]:
    """What a field for a start offers, by the clocks of its zone."""
    now = utcnow().astimezone(field.zone)
    return {
        "zone": field.zone,
        "now": now,
        "earliest": f"{now:%Y-%m-%dT%H:%M}",
        "latest": f"{now + LATEST_START - timedelta(minutes=1):%Y-%m-%dT%H:%M}",
    }


# --- Several at once ---------------------------------------------------------------------------


@actions_bp.get("/actions")
@requires(Permission.REQUESTS_READ)
def leave() -> Any:
    """Where Back and Reload lead from an action that was refused: the list as it was."""
    groups = subscription_requests.list_groups(current_actor())
    shown = RequestList.read(request.args, groups)
    return redirect(list_url(Controls(shown, groups).here))


@actions_bp.post("/actions")
@requires(Permission.REQUESTS_MANAGE)
def choose() -> Response:
    """From the list: what the chosen action will do to the ticked requests, before it does."""
    actor = current_actor()
    form = SelectionForm()
    if not form.validate():
        raise InvalidInput("requests", "This request is too long. Load the list again.")
    groups = subscription_requests.list_groups(actor)
    shown = RequestList.parse(form.here.data or "", groups)
    chosen = (
        _list_all(actor, shown)
        if form.all.data
        else subscription_requests.get_requests(actor, form.selected.data[:MOST_AT_ONCE])
    )
    problem = ""
    if not chosen:
        problem = "No request is chosen. Tick at least one."
    elif form.action.data not in BULK:
        problem = "No action is chosen. Take one from Select an Action."
    if problem:
        word = form.action.data if form.action.data in BULK else ""
        return show_list(shown, groups, status=422, problem=problem, action=word)
    many = _many_form()
    many.chosen.data = {each.id: each.version for each in chosen}
    many.back.data = Controls(shown, groups).here
    return _show_many(form.action.data, chosen, many)


def _list_all(actor: Actor, shown: RequestList) -> Sequence[SubscriptionRequest]:
    page = subscription_requests.list_requests(actor, shown.wanted, size=MOST_AT_ONCE)
    return page.rows


def _many_form() -> ManyForm:
    form = ManyForm()
    form.at.zone = provisioning_policy.load().zone
    return form


_MANY_ACTION = {"approve": A.APPROVE, "schedule": A.START_NOW}


def _show_many(
    word: str, chosen: Sequence[SubscriptionRequest], form: ManyForm, *, status: int = 200
) -> Response:
    actor = current_actor()
    action = _MANY_ACTION[word]
    fit = [each for each in chosen if action in STAFF_ACTIONS.get(each.state, ())]
    fitting = {each.id for each in fit}
    form.chosen.data = {each.id: form.chosen.data[each.id] for each in fit}
    needs_choice = word == "schedule" or any(map(_chooses_start, fit))

    def rows(listed: Sequence[SubscriptionRequest]) -> list[RequestShown]:
        return [RequestShown.of(actor, each, None, is_paused=False) for each in listed]

    return respond(
        "tenant_creation/many.html",
        status=status,
        word=word,
        fit=rows(fit),
        unfit=rows([each for each in chosen if each.id not in fitting]),
        leaving_it=sum(map(_chooses_start, fit)),
        asks_start=needs_choice and bool(fit),
        form=form,
        back=list_url(_clean_back(form)),
        **_limits(form.at),
    )


def _clean_back(form: ManyForm) -> str:
    groups = subscription_requests.list_groups(current_actor())
    return Controls(RequestList.parse(form.back.data or "", groups), groups).here


_Many = Callable[[Actor, Mapping[int, int], ManyForm], request_actions.BulkOutcome]


def _approve(
    actor: Actor, chosen: Mapping[int, int], form: ManyForm
) -> request_actions.BulkOutcome:
    start, at = form.chosen_start(), form.at.moment
    return request_actions.approve_many(actor, chosen, start=start, at=at)


def _schedule(
    actor: Actor, chosen: Mapping[int, int], form: ManyForm
) -> request_actions.BulkOutcome:
    start = form.chosen_start()
    if start is None:
        raise InvalidInput("start", "Choose when provisioning starts.")
    return request_actions.schedule_many(actor, chosen, start=start, at=form.at.moment)


_DO: Mapping[str, tuple[_Many, str]] = {
    "approve": (_approve, "approved"),
    "schedule": (_schedule, "scheduled"),
}


@actions_bp.post("/actions/<any(approve, schedule):word>")
@requires(Permission.REQUESTS_MANAGE)
def act_on_many(word: str) -> Response:
    """Do it to those that are as they were shown, and name the others."""
    actor = current_actor()
    form = _many_form()
    do, done_word = _DO[word]
    listed = subscription_requests.get_requests(actor, form.chosen.data)
    if not form.validate():
        return _show_many(word, listed, form, status=422)
    chosen = dict(form.chosen.data)
    try:
        outcome = do(actor, chosen, form)
    except (InvalidInput, Conflict) as error:
        apply_refusal(form, error)
        status = 422 if isinstance(error, InvalidInput) else 409
        return _show_many(word, listed, form, status=status)
    number = len(outcome.done)
    sentence = f"{number:,} {'request was' if number == 1 else 'requests were'} {done_word}."
    back = list_url(_clean_back(form))
    if not outcome.refused:
        flash(sentence, "good")
        return go(back)
    names = {each.id: subscription_requests.name_of(each) for each in listed}
    return respond(
        "tenant_creation/outcome.html",
        sentence=sentence if number else "Nothing was done.",
        done=[(each, names.get(each, "")) for each in outcome.done],
        refused=[(each, names.get(each, ""), why) for each, why in outcome.refused.items()],
        back=back,
    )
