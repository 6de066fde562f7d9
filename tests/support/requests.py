"""Subscription requests for tests, brought into any state by the ways that there are."""

from __future__ import annotations

import itertools
from collections import deque
from datetime import timedelta
from typing import Any

import sqlalchemy as sa

from extensions import db
from models import (
    Audience,
    Group,
    RequestState,
    Role,
    ServiceTemplate,
    ServiceTemplateVersion,
    StartRule,
    SubscriptionRequest,
    User,
    UserGroup,
    fold,
    utcnow,
)
from services.actors import SYSTEM, Actor
from services.request_states import TRANSITIONS
from services.request_transitions import move
from services.transactions import run_transaction
from tests.support.factories import make_group, make_user, save

_numbers = itertools.count(1)


def make_service_template(**changes: Any) -> ServiceTemplateVersion:
    """The published version of a template of its own; by default it needs approval, then starts."""
    number = next(_numbers)
    name = changes.pop("name", f"Service {number}")
    audience = changes.pop("audience", Audience.EVERYBODY)
    template = save(ServiceTemplate(name=name, name_key=fold(name), audience=audience))
    values: dict[str, Any] = {
        "template_id": template.id,
        "number": 1,
        "needs_approval": True,
        "start_rule": StartRule.IMMEDIATE,
        **changes,
    }
    if "group_id" not in values:
        values["group_id"] = make_group().id
    version: ServiceTemplateVersion = save(ServiceTemplateVersion(**values))
    template.published_version_id = version.id
    db.session.commit()
    return version


def make_prospect(**changes: Any) -> User:
    number = next(_numbers)
    email = f"prospect{number}@prospects.example"
    return make_user(
        **{"role": Role.PROSPECT, "login": f"prospect:{email}", "email": email, **changes}
    )


def make_operator(*groups: Group, role: Role = Role.OPERATOR, **changes: Any) -> User:
    """A member of staff limited to `groups`, or with all of them when none is given."""
    user = make_user(role=role, all_groups=not groups, **changes)
    for group in groups:
        db.session.add(UserGroup(user_id=user.id, group_id=group.id))
    db.session.commit()
    return user


def actor_of(user: User) -> Actor:
    return Actor.from_user(user, "192.0.2.1")


def author_of(request: SubscriptionRequest) -> User:
    """The person who asked for it."""
    assert request.created_by is not None
    return request.created_by


def make_request(
    state: RequestState = RequestState.AWAITING_APPROVAL,
    version: ServiceTemplateVersion | None = None,
    **changes: Any,
) -> SubscriptionRequest:
    """A request that went from its draft to `state` by a shortest way, with all that leaves."""
    number = next(_numbers)
    version = version or make_service_template()
    name = changes.pop("name", f"Tenant{number}")
    values: dict[str, Any] = {
        "group_id": version.group_id,
        "template_version_id": version.id,
        "name": name,
        "name_key": fold(name),
        "short_name": f"t{number}",
        "short_name_key": f"t{number}",
        "upn_suffix": f"t{number}.example",
        "admin_login": f"prpadmin@t{number}.example",
        "password_hash": "x",
        "password_seal": b"sealed",
        "ani": "+3225551212",
        "company": f"{name} Ltd",
        "contact_name": "Pat Prospect",
        "contact_email": f"pat@t{number}.example",
        "submitted_at": utcnow(),
        **changes,
    }
    values.setdefault("contact_email_key", fold(values["contact_email"]))
    if "created_by_id" not in values:
        values["created_by_id"] = make_prospect().id
    if state is RequestState.DRAFT:
        values |= dict.fromkeys(("group_id", "submitted_at"))
    request: SubscriptionRequest = save(SubscriptionRequest(**values))
    for step in way_to(state):
        pass_on(request, step)
    return request


def pass_on(request: SubscriptionRequest, state: RequestState, **values: Any) -> None:
    """Move a request on by itself, as the system does; `request` is read again."""
    if state is RequestState.SCHEDULED:
        values.setdefault("scheduled_for", utcnow() + timedelta(hours=1))
    run_transaction(
        lambda connection: move(
            connection, request.id, request.state, state, actor=SYSTEM, **values
        )
    )
    db.session.refresh(request)


def way_to(state: RequestState) -> list[RequestState]:
    """The states after DRAFT on a shortest way to `state`."""
    ways = deque([[RequestState.DRAFT]])
    while ways:
        way = ways.popleft()
        if way[-1] is state:
            return way[1:]
        ways.extend([*way, each] for each in sorted(TRANSITIONS[way[-1]] - set(way)))
    raise ValueError(f"no way leads to {state}")


def count_rows() -> dict[tuple[int, RequestState], int]:
    """What the counters of groups must say, counted over the requests."""
    rows = db.session.execute(
        sa.select(SubscriptionRequest.group_id, SubscriptionRequest.state, sa.func.count())
        .where(SubscriptionRequest.state != RequestState.DRAFT)
        .group_by(SubscriptionRequest.group_id, SubscriptionRequest.state)
    )
    return {(row[0] or 0, row[1]): row[2] for row in rows}
