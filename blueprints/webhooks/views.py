"""Webhooks for landlord administrators: who is told what, what was sent, and what became of it."""

from __future__ import annotations

import json
from dataclasses import dataclass
from urllib.parse import urlencode

from flask import Blueprint, Response, flash, request, url_for

from blueprints.forms import LARGEST_ID
from blueprints.htmx import go, respond
from blueprints.lists import read_cursor, read_size, size_parameter
from blueprints.security import current_actor, requires
from blueprints.webhooks.forms import VersionForm
from models import MessageState, WebhookEndpoint, WebhookEvent, WebhookMessage
from services import webhooks
from services.actors import Permission
from services.errors import Conflict, Stale
from services.paging import PAGE_SIZES
from services.webhook_deliveries import message_name

bp = Blueprint("webhooks", __name__, url_prefix="/webhooks")
bp.add_app_template_filter(message_name, "message_name")

_ONE = f"/<int(max={LARGEST_ID}):webhook_id>"
_MESSAGE = f"{_ONE}/messages/<int(max={LARGEST_ID}):message_id>"

_EVENT_WORDS = {
    WebhookEvent.DELIVERY_ENDED: "Mail ended",
    WebhookEvent.REQUEST_STATE_CHANGED: "Request moved",
    WebhookEvent.CUSTOMER_CREATED: "Customer created",
    WebhookEvent.ENDPOINT_TEST: "Test",
}
_STATE_WORDS = {
    MessageState.WAITING: "Waiting",
    MessageState.DELIVERED: "Delivered",
    MessageState.FAILED: "Failed",
}


@bp.app_template_filter("webhook_event")
def event_words(event: str) -> str:
    """What an event is, in a word or two."""
    return _EVENT_WORDS[WebhookEvent(event)]


@bp.get("")
@requires(Permission.WEBHOOKS_READ)
def index() -> Response:
    """The list, newest first; page size and place are in the address."""
    size = read_size(request.args)
    page = webhooks.list_endpoints(current_actor(), size=size, cursor=read_cursor(request.args))

    def address(cursor: str | None = None, size: int = size) -> str:
        return url_for("webhooks.index", size=size_parameter(size), cursor=cursor)

    return respond(
        "webhooks/index.html",
        "webhooks/_table.html",
        listed=page,
        sizes=[(each, address(size=each), each == size) for each in PAGE_SIZES],
        previous_href=page.previous and address(page.previous),
        next_href=page.next and address(page.next),
        first_href=address(),
        is_paged=bool(request.args.get("cursor")),
    )


# --- One webhook -------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _MessageList:
    """What the address says of the list of messages."""

    state: MessageState | None
    size: int
    cursor: str

    @classmethod
    def read(cls) -> _MessageList:
        known = {each.value: each for each in MessageState}
        return cls(
            known.get(request.args.get("state", "")),
            read_size(request.args),
            read_cursor(request.args),
        )

    def query(
        self, *, state: MessageState | None, size: int | None = None, cursor: str | None = None
    ) -> str:
        given = {
            "state": None if state is None else state.value,
            "size": size_parameter(size or self.size),
            "cursor": cursor,
        }
        return urlencode({name: value for name, value in given.items() if value is not None})

    @property
    def choices(self) -> list[tuple[str, str, bool]]:
        """The lines of the filter's menu: label, query, whether it is on."""
        states = [(None, "Every state"), *_STATE_WORDS.items()]
        return [(words, self.query(state=each), self.state is each) for each, words in states]


@bp.get(_ONE)
@requires(Permission.WEBHOOKS_READ)
def show(webhook_id: int) -> Response:
    """A webhook with its messages, newest first."""
    actor = current_actor()
    endpoint = webhooks.get_endpoint(actor, webhook_id)
    shown = _MessageList.read()
    page = webhooks.list_messages(
        actor, endpoint, state=shown.state, size=shown.size, cursor=shown.cursor
    )
    here = url_for("webhooks.show", webhook_id=webhook_id)

    def address(query: str) -> str:
        return f"{here}?{query}" if query else here

    def step(cursor: str | None) -> str | None:
        return cursor and address(shown.query(state=shown.state, cursor=cursor))

    words = None if shown.state is None else _STATE_WORDS[shown.state]
    return respond(
        "webhooks/show.html",
        "webhooks/_messages.html",
        endpoint=endpoint,
        host=webhooks.host_of(endpoint),
        listed=page,
        choices=[(label, address(query), is_on) for label, query, is_on in shown.choices],
        chips=[] if words is None else [("State", words, here)],
        here=here,
        is_paged=bool(shown.cursor),
        sizes=[
            (each, address(shown.query(state=shown.state, size=each)), each == shown.size)
            for each in PAGE_SIZES
        ],
        previous_href=step(page.previous),
        next_href=step(page.next),
        may_edit=actor.may(Permission.WEBHOOKS_EDIT),
        is_overlapping=webhooks.is_overlapping(endpoint),
    )


@bp.post(f"{_ONE}/test")
@requires(Permission.WEBHOOKS_EDIT)
def test(webhook_id: int) -> Response:
    """Send it a test, and show what becomes of that."""
    actor = current_actor()
    endpoint = webhooks.get_endpoint(actor, webhook_id)
    try:
        message = webhooks.send_test(actor, endpoint)
    except Conflict as error:
        flash(error.message, "attention")
        return _go_to(endpoint)
    flash("The test is on its way. Load this page again to see what was answered.", "good")
    return _go_to_message(message)


@bp.post(f"{_ONE}/enable")
@requires(Permission.WEBHOOKS_EDIT)
def enable(webhook_id: int) -> Response:
    return _switch(webhook_id, webhooks.Changes(enabled=True), "It is told again from now on.")


@bp.route(f"{_ONE}/disable", methods=["GET", "POST"])
@requires(Permission.WEBHOOKS_EDIT)
def disable(webhook_id: int) -> Response:
    """What that means, then doing it."""
    if request.method == "GET":
        return _ask("webhooks/disable.html", webhook_id)
    changes = webhooks.Changes(enabled=False)
    return _switch(webhook_id, changes, "It is told nothing more until somebody enables it.")


def _switch(webhook_id: int, changes: webhooks.Changes, done: str) -> Response:
    actor = current_actor()
    endpoint = webhooks.get_endpoint(actor, webhook_id)
    form = VersionForm()
    try:
        webhooks.change_endpoint(actor, endpoint, changes, form.versions)
    except Stale as error:
        flash(error.message, "attention")
    else:
        flash(done, "good")
    return _go_to(endpoint)


@bp.route(f"{_ONE}/rotate-secret", methods=["GET", "POST"])
@requires(Permission.WEBHOOKS_EDIT)
def rotate_secret(webhook_id: int) -> Response:
    """What that means; then the new secret, in the answer to the POST and nowhere else."""
    if request.method == "GET":
        return _ask("webhooks/rotate.html", webhook_id)
    actor = current_actor()
    endpoint = webhooks.get_endpoint(actor, webhook_id)
    try:
        endpoint, secret = webhooks.rotate_secret(actor, endpoint, VersionForm().versions)
    except Stale:
        flash(
            "This webhook was changed since the form was opened, perhaps by sending it twice. "
            "A secret that was shown then cannot be shown again. Rotate it if nobody has it.",
            "attention",
        )
        return _go_to(endpoint)
    response = respond(
        "webhooks/secret.html",
        endpoint=endpoint,
        host=webhooks.host_of(endpoint),
        secret=secret,
    )
    response.headers["Cache-Control"] = "no-store"
    return response


def _ask(page: str, webhook_id: int) -> Response:
    endpoint = webhooks.get_endpoint(current_actor(), webhook_id)
    form = VersionForm(data={"version": endpoint.version})
    return respond(
        page,
        form=form,
        endpoint=endpoint,
        host=webhooks.host_of(endpoint),
        is_overlapping=webhooks.is_overlapping(endpoint),
    )


# --- One message -------------------------------------------------------------------------------


@bp.get(_MESSAGE)
@requires(Permission.WEBHOOKS_READ)
def message(webhook_id: int, message_id: int) -> Response:
    """What is told, and each attempt to tell it."""
    actor = current_actor()
    endpoint = webhooks.get_endpoint(actor, webhook_id)
    found = webhooks.get_message(actor, endpoint, message_id)
    return respond(
        "webhooks/message.html",
        endpoint=endpoint,
        host=webhooks.host_of(endpoint),
        message=found,
        attempts=webhooks.list_attempts(found),
        body=_in_lines(found.body),
        may_edit=actor.may(Permission.WEBHOOKS_EDIT),
    )


def _in_lines(body: str | None) -> str:
    """The JSON as people read it."""
    return "" if body is None else json.dumps(json.loads(body), ensure_ascii=False, indent=2)


@bp.post(f"{_MESSAGE}/replay")
@requires(Permission.WEBHOOKS_EDIT)
def replay(webhook_id: int, message_id: int) -> Response:
    actor = current_actor()
    endpoint = webhooks.get_endpoint(actor, webhook_id)
    found = webhooks.get_message(actor, endpoint, message_id)
    try:
        webhooks.replay_message(actor, endpoint, found)
    except Conflict as error:
        flash(error.message, "attention")
    else:
        flash("The message is sent again. Load this page again to see what was answered.", "good")
    return _go_to_message(found)


def _go_to(endpoint: WebhookEndpoint) -> Response:
    return go(url_for("webhooks.show", webhook_id=endpoint.id))


def _go_to_message(found: WebhookMessage) -> Response:
    return go(url_for("webhooks.message", webhook_id=found.endpoint_id, message_id=found.id))
