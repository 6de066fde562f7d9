"""Tenant Creation Management: the list, and a request's page. `actions` is what is done there."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from zoneinfo import ZoneInfo

from flask import Blueprint, Response, make_response, redirect, render_template, request, url_for

from blueprints.downloads import csv_download
from blueprints.formats import format_exact_time
from blueprints.forms import LARGEST_ID
from blueprints.htmx import respond, wants_fragment
from blueprints.security import current_actor, passive, requires
from blueprints.tenant_creation.asked import describe_asked
from blueprints.tenant_creation.lists import Controls, RequestList
from blueprints.tenant_creation.markup import rows as table_rows
from blueprints.tenant_creation.words import (
    WAITING_WORDS,
    RequestShown,
    StepShown,
    describe_actor,
    describe_next,
    describe_transition,
    is_due_now,
)
from extensions import get_settings
from models import Group, RequestNotification, RequestState, SubscriptionRequest
from services import (
    provisioning,
    provisioning_policy,
    request_actions,
    request_notifications,
    subscription_requests,
)
from services.actors import Actor, Permission
from services.paging import PAGE_SIZES
from services.request_actions import MOST_AT_ONCE
from services.request_states import ENDED, RequestAction, Waiting

bp = Blueprint("tenant_creation", __name__, url_prefix="/tenant-creation-management")

ONE = f"/<int(max={LARGEST_ID}):request_id>"
BULK = {"approve": "Approve", "schedule": "Schedule"}
"""What *Select an Action* offers, by its value."""


def url_of(request_id: int) -> str:
    return url_for("tenant_creation.show", request_id=request_id)


def list_url(query: str) -> str:
    url = url_for("tenant_creation.index")
    return f"{url}?{query}" if query else url


@bp.app_template_filter("time_in")
def time_in(at: datetime, zone: ZoneInfo) -> str:
    """A time in full by the clocks of a zone."""
    return format_exact_time(at, zone)


# --- The list ----------------------------------------------------------------------------------


@bp.get("")
@requires(Permission.REQUESTS_READ)
def index() -> Response:
    groups = subscription_requests.list_groups(current_actor())
    return show_list(RequestList.read(request.args, groups), groups)


def show_list(
    shown: RequestList,
    groups: Sequence[Group],
    *,
    status: int = 200,
    problem: str = "",
    action: str = "",
) -> Response:
    """The list in one of its states, with what was wrong about an action."""
    actor = current_actor()
    controls = Controls(shown, groups)
    page = subscription_requests.list_requests(
        actor, shown.wanted, size=shown.size, cursor=shown.cursor
    )
    policy = provisioning_policy.load()
    rows = _rows(actor, page.rows, is_paused=policy.paused)
    counts = subscription_requests.count_by_waiting(actor, shown.wanted.group_id)
    number = None if shown.wanted.search else _number_shown(shown, counts)
    may_manage = actor.may(Permission.REQUESTS_MANAGE)
    return respond(
        "tenant_creation/index.html",
        "tenant_creation/_table.html",
        status=status,
        is_fragment=wants_fragment(),
        shown=shown,
        controls=controls,
        listed=page,
        rows=rows,
        counters=controls.counters(counts),
        zone=policy.zone,
        pause=policy.pause if actor.is_staff else None,
        sizes=PAGE_SIZES,
        table_rows=table_rows(rows, zone=policy.zone, is_staff=actor.is_staff, boxes=may_manage),
        may_manage=may_manage,
        may_register=actor.may(Permission.TENANTS_REGISTER),
        actions=BULK,
        action=action,
        problem=problem,
        number=number,
        most=MOST_AT_ONCE,
        search_cap=subscription_requests.SEARCH_CAP,
        news=_news_query(controls, rows, counts, number, policy.paused),
        is_polled=_is_polled(actor, page.rows),
    )


def _rows(
    actor: Actor, listed: Sequence[SubscriptionRequest], *, is_paused: bool
) -> list[RequestShown]:
    at_work = [each.id for each in listed if each.state in _WITH_A_RUN]
    steps = subscription_requests.find_current_steps(at_work) if at_work else {}
    return [
        RequestShown.of(actor, each, steps.get(each.id), is_paused=is_paused) for each in listed
    ]


_WITH_A_RUN = {RequestState.PROVISIONING, RequestState.FAILED, RequestState.ROLLING_BACK}


def _number_shown(shown: RequestList, counts: Mapping[Waiting, int]) -> int:
    word = shown.wanted.waiting
    return sum(counts.values()) if word is None else counts[word]


def _is_polled(actor: Actor, listed: Sequence[SubscriptionRequest]) -> bool:
    """Staff's list is never at its end; a registrant's is when all of his has ended."""
    return actor.is_staff or any(each.state not in ENDED for each in listed)


# --- What changes on the list by itself --------------------------------------------------------


def _news_query(
    controls: Controls,
    rows: Sequence[RequestShown],
    counts: Mapping[Waiting, int],
    number: int | None,
    is_paused: bool,
) -> dict[str, str]:
    """What a poll says that the page shows so far."""
    return {
        "here": controls.query_of(controls.shown.to()),
        "rows": "-".join(each.token for each in rows),
        "counts": ".".join(str(counts[word]) for word in Waiting),
        "number": "" if number is None else str(number),
        "paused": "1" if is_paused else "",
    }


@bp.get("/news")
@passive
@requires(Permission.REQUESTS_READ)
def news() -> Any:
    """What the list polls: rows and counters that are not as the page has them, or 204."""
    actor = current_actor()
    groups = subscription_requests.list_groups(actor)
    shown = RequestList.parse(request.args.get("here", "")[:2000], groups)
    controls = Controls(shown, groups)
    if not wants_fragment():
        return redirect(list_url(controls.here))
    seen = request.args.get("rows", "")[:8000].split("-")
    listed = subscription_requests.get_requests(actor, _ids_of(seen))
    policy = provisioning_policy.load()
    rows = _rows(actor, listed, is_paused=policy.paused)
    counts = subscription_requests.count_by_waiting(actor, shown.wanted.group_id)
    number = request.args.get("number", "")[:20]
    query = _news_query(controls, rows, counts, None, policy.paused) | {"number": number}
    is_polled = _is_polled(actor, listed)
    if is_polled and all(request.args.get(name, "") == value for name, value in query.items()):
        return Response(status=204)
    return make_response(
        render_template(
            "tenant_creation/_news.html",
            changed=[each for each in rows if each.token not in seen],
            counters=controls.counters(counts),
            counts_changed=request.args.get("counts") != query["counts"],
            news=query,
            zone=policy.zone,
            is_polled=is_polled,
            is_longer=bool(number) and number != str(_number_shown(shown, counts)),
            here=list_url(controls.here),
        )
    )


def _ids_of(tokens: Sequence[str]) -> list[int]:
    words = [token.partition(".")[0] for token in tokens[: max(PAGE_SIZES)]]
    numbers = [
        int(word) for word in words if word.isascii() and word.isdecimal() and len(word) < 20
    ]
    return [number for number in dict.fromkeys(numbers) if 0 < number <= LARGEST_ID]


# --- Export ------------------------------------------------------------------------------------


@bp.post("/export")
@requires(Permission.REQUESTS_READ)
def export() -> Response:
    """All that the filters show, as CSV."""
    actor = current_actor()
    here = request.form.get("here", "")[:2000]
    shown = RequestList.parse(here, subscription_requests.list_groups(actor))
    rows = subscription_requests.export_requests(actor, shown.wanted)
    return csv_download("requests", subscription_requests.EXPORT_HEADER, rows)


# --- One request -------------------------------------------------------------------------------


@bp.get(ONE)
@requires(Permission.REQUESTS_READ)
def show(request_id: int) -> Any:
    actor = current_actor()
    found = subscription_requests.get_request(actor, request_id)
    if found.state is RequestState.DRAFT:
        return redirect(url_for("wizard.resume", request_id=found.id))
    return respond("tenant_creation/show.html", **_context_of(actor, found))


@bp.get(f"{ONE}/progress")
@passive
@requires(Permission.REQUESTS_READ)
def progress(request_id: int) -> Any:
    """What the page polls: the parts that are not as it has them, or 204."""
    actor = current_actor()
    found = subscription_requests.get_request(actor, request_id)
    if not wants_fragment():
        return redirect(url_of(request_id))
    context = _context_of(actor, found)
    seen = Seen.parse(request.args.get("seen", ""))
    if seen == context["seen"] and context["is_polled"]:
        return Response(status=204)
    return make_response(
        render_template("tenant_creation/_progress_update.html", before=seen, **context)
    )


@dataclass(frozen=True, slots=True)
class Seen:
    """What a request's page shows so far, as its polls say it."""

    version: str
    mails: str
    steps: dict[str, str]

    @classmethod
    def parse(cls, text: str) -> Seen:
        version, _, rest = text[:2000].partition("~")
        mails, _, steps = rest.partition("~")
        pairs = (each.partition(":") for each in steps.split("-") if each)
        return cls(version, mails, {name: token for name, _, token in pairs})

    def __str__(self) -> str:
        steps = "-".join(f"{name}:{token}" for name, token in self.steps.items())
        return f"{self.version}~{self.mails}~{steps}"


def _token_of(notification: RequestNotification) -> str:
    ended = "m" if notification.mailed_at else "f" if notification.failed_at else ""
    return f"{notification.id}{ended}"


_MOVING = {RequestState.PROVISIONING, RequestState.ROLLING_BACK}


def _context_of(actor: Actor, found: SubscriptionRequest) -> dict[str, Any]:
    run = provisioning.get_run(found.id)
    steps = [StepShown.of(actor, step) for step in run.steps] if run else []
    current = subscription_requests.find_current_steps([found.id]).get(found.id)
    policy = provisioning_policy.load()
    notifications = request_notifications.list_notifications(found)
    waiting = subscription_requests.waiting_of(actor, found)
    is_mailing = any(each.mailed_at is None and each.failed_at is None for each in notifications)
    due = int(is_due_now(found))
    return {
        "request": found,
        "name": subscription_requests.name_of(found),
        "word": WAITING_WORDS[waiting],
        "asked": describe_asked(found),
        "next_step": describe_next(actor, found, current, is_paused=policy.paused),
        "actions": request_actions.available_actions(actor, found),
        "offered": RequestAction,
        "timeline": [
            (line, describe_transition(line), describe_actor(actor, line))
            for line in subscription_requests.list_transitions(found)
        ],
        "timeline_cap": subscription_requests.TIMELINE_CAP,
        "run": run,
        "steps": steps,
        "zone": policy.zone,
        "pause": policy.pause if actor.is_staff else None,
        "notifications": notifications,
        "suppression": request_notifications.find_suppression(found) if actor.is_staff else None,
        "is_staff": actor.is_staff,
        "is_author": found.created_by_id == actor.user_id,
        "may_manage": actor.may(Permission.REQUESTS_MANAGE),
        "sign_in_url": get_settings().public_url.rstrip("/") + url_for("account.sign_in"),
        "is_polled": found.state not in ENDED or is_mailing,
        "is_moving": found.state in _MOVING or is_due_now(found) or is_mailing,
        "seen": Seen(
            f"{found.version}.{due}{int(policy.paused)}",
            ".".join(map(_token_of, notifications)),
            {step.name: step.token for step in steps},
        ),
    }
