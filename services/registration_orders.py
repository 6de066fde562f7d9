"""Orders: a tenant that another system asks for, all at once and without a draft.

The same rules judge it as the three tabs of Tenant Registration, and the same ways follow. Either
the request is stored with its names held, or nothing is.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from functools import partial
from typing import Any

import sqlalchemy as sa
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import joinedload

from config import LANGUAGES
from extensions import db, get_settings
from models import (
    Customer,
    Group,
    OptionKind,
    RequestState,
    ServiceOption,
    ServiceTemplateVersion,
    SubscriptionRequest,
    fold,
    utcnow,
)
from services import (
    countries,
    domain_names,
    domain_proofs,
    passwords,
    registration_checks,
    request_passwords,
    seals,
    service_templates,
)
from services.actors import Actor, Permission
from services.errors import Conflict, Forbidden, InvalidInput, InvalidInputs
from services.registration_checks import FIELDS, DraftCheck, Tab
from services.registration_submission import Taken, enter, follow_up
from services.request_transitions import Moved
from services.transactions import run_transaction

_TRIES = 5
_SHOWN = 60
_MOST_TYPED = 2000
_FIRST_PAUSE, _LONGEST_PAUSE = 0.05, 1.0

OptionValue = bool | int | str


@dataclass(frozen=True, slots=True)
class Order:
    """What is asked for. `template` is a name or an id, `values` are texts by the names of FIELDS.

    `options` are by name, those left out have their default. An empty `password` is made, and known
    to nobody: the tenant's administrator gets one with his welcome mail.
    """

    template: str | int
    values: Mapping[str, str]
    options: Mapping[str, OptionValue] = field(default_factory=dict)
    password: str = field(default="", repr=False)


def submit_order(actor: Actor, group: Group, order: Order) -> SubscriptionRequest:
    """Check an order and submit it in a group that the caller has found in the actor's scope.

    Language and time zone have defaults: English, and the first of the contact's country. Where the
    provider asked the actor for changes of a request in the group with the same name or suffix, the
    order is its next version, and without a password it keeps the one before. Raises InvalidInputs
    with every fault, by the names of FIELDS, "template", "options.<name>" and "password"; and
    Forbidden.
    """
    actor.require(Permission.TENANTS_REGISTER)
    if (actor.credential_id is None) == (actor.user_id is None):
        raise Forbidden("A registration belongs to a person or to an API credential.")
    password: dict[str, Any] | None = None
    group_id = group.id
    for _ in range(_TRIES):
        returned = _find_returned(actor, group_id, order)
        request, version, checked = _check(actor, order, returned)
        if password is None and (order.password or returned is None):
            password = _password_columns(order.password)
        work = partial(
            _store,
            actor=actor,
            returned=returned,
            columns={
                "draft": request.draft,
                "domain_token": request.domain_token or "",
                **(password or {}),
            },
            values={**checked.values, "group_id": group_id},
            version=version,
        )
        db.session.commit()  # Gives its connection back, which the transaction below may need.
        try:
            moved = run_transaction(work)
        except (Taken, Conflict, IntegrityError):
            continue
        follow_up(moved)
        return _load(moved[-1].request_id)
    raise Conflict(
        "Others are registering tenants with the same names at this moment. Try again in a minute."
    )


def find_faults(actor: Actor, order: Order) -> list[tuple[str, str]]:
    """What is wrong with an order that is not submitted, by the names of `submit_order`.

    Raises Forbidden.
    """
    actor.require(Permission.TENANTS_REGISTER)
    try:
        _check(actor, order, None)
    except InvalidInputs as error:
        return list(error.faults)
    return []


def _load(request_id: int) -> SubscriptionRequest:
    return db.session.get_one(
        SubscriptionRequest,
        request_id,
        populate_existing=True,
        options=[joinedload(SubscriptionRequest.customer).joinedload(Customer.group)],
    )


@dataclass(frozen=True, slots=True)
class _Returned:
    """A request that the provider asked the actor to change, as it was seen."""

    id: int
    version: int


def _find_returned(actor: Actor, group_id: int, order: Order) -> _Returned | None:
    try:
        suffix = domain_names.parse_suffix(order.values["upn_suffix"], allow_reserved=True).ascii
    except InvalidInput:
        suffix = ""
    found = db.session.execute(
        sa.select(SubscriptionRequest.id, SubscriptionRequest.version)
        .where(
            SubscriptionRequest.state == RequestState.CHANGES_REQUESTED,
            SubscriptionRequest.group_id == group_id,
            SubscriptionRequest.created_by_id == actor.user_id,
            SubscriptionRequest.credential_id == actor.credential_id,
            sa.or_(
                SubscriptionRequest.upn_suffix == suffix,
                SubscriptionRequest.name_key == fold(order.values["name"]),
            ),
        )
        .order_by(SubscriptionRequest.id)
        .limit(1)
    ).one_or_none()
    return None if found is None else _Returned(found.id, found.version)


def _store(
    connection: sa.Connection,
    *,
    actor: Actor,
    returned: _Returned | None,
    columns: Mapping[str, Any],
    values: dict[str, Any],
    version: ServiceTemplateVersion,
) -> list[Moved]:
    now = utcnow()
    if returned is None:
        request_id: int = connection.execute(
            sa.insert(SubscriptionRequest)
            .values(
                state=RequestState.DRAFT,
                created_by_id=actor.user_id,
                credential_id=actor.credential_id,
                **columns,
            )
            .returning(SubscriptionRequest.id)
        ).scalar_one()
        values = {"submitted_at": now, **values}
    else:
        request_id = returned.id
        values = {"comment": "", **columns, **values}
    return enter(
        connection,
        actor,
        request_id,
        RequestState.DRAFT if returned is None else RequestState.CHANGES_REQUESTED,
        version=1 if returned is None else returned.version,
        values=values,
        needs_approval=version.needs_approval,
        rule=version.start_rule,
    )


def _password_columns(password: str) -> dict[str, Any]:
    if password:
        hashed, seal = request_passwords.seal_password(password)
    else:
        made = passwords.generate_password()
        hashed, seal = passwords.hash_generated(made), seals.sealer().encrypt(made.encode())
    return {"password_hash": hashed, "password_seal": seal}


# --- What is right -------------------------------------------------------------------------------


def _check(
    actor: Actor, order: Order, returned: _Returned | None
) -> tuple[SubscriptionRequest, ServiceTemplateVersion, DraftCheck]:
    """The order as a request that is not stored. Raises InvalidInputs."""
    faults: list[tuple[str, str]] = []
    version = _find_template(actor, order.template)
    typed: dict[str, str] = {}
    if version is None:
        faults.append(
            (
                "template",
                f"There is no service template “{str(order.template)[:_SHOWN]}”, or it is not "
                "offered to you.",
            )
        )
    else:
        typed["template"] = str(version.template_id)
        for name, value in order.options.items():
            try:
                typed.update(_typed_option(version, name, value))
            except InvalidInput as error:
                faults.append((error.field, error.message))
    request = _unstored(order, typed)
    if returned is not None:
        request.id = returned.id  # What it holds already is not taken.
    try:
        domain_proofs.prove_order(actor, request)
    except InvalidInput as error:
        faults.append((error.field, error.message))
    checked = registration_checks.check_order(actor, request, order.password)
    told = {name for name, _ in faults}
    for fault in checked.faults:
        name = fault.field
        if version is not None and name.startswith(prefix := f"option-{version.template_id}-"):
            name = f"options.{name.removeprefix(prefix)}"
        if name not in told:
            faults.append((name, fault.message))
    if faults or version is None:
        raise InvalidInputs(faults)
    return request, version, checked


def _find_template(actor: Actor, wanted: str | int) -> ServiceTemplateVersion | None:
    for version in service_templates.list_offered(actor):
        if wanted == version.template_id:
            return version
        if isinstance(wanted, str) and fold(wanted) == version.template.name_key:
            return version
    return None


def _typed_option(version: ServiceTemplateVersion, name: str, value: OptionValue) -> dict[str, str]:
    """A value as the form would have it. Raises InvalidInput naming `options.<name>`."""
    place = f"options.{name[:_SHOWN]}"
    option = next((each for each in version.options if each.name == name), None)
    if option is None:
        known = ", ".join(each.name for each in version.options) or "none"
        raise InvalidInput(
            place, f"{version.template.name} has no option of this name. It has: {known}."
        )
    if type(value) is not _TYPES[option.kind]:
        raise InvalidInput(place, f"{option.label}: {_KINDS[option.kind]}.")
    text = ("yes" if value else "no") if isinstance(value, bool) else str(value)
    _refuse_unread(option, text, place)
    return {service_templates.option_field(version, option): text}


_TYPES = {OptionKind.CHOICE: str, OptionKind.COUNT: int, OptionKind.YES_NO: bool}
_KINDS = {
    OptionKind.CHOICE: "Send one of its choices as a text",
    OptionKind.COUNT: "Send a whole number",
    OptionKind.YES_NO: "Send true or false",
}


def _refuse_unread(option: ServiceOption, text: str, place: str) -> None:
    """In the form an empty field is the default; here it would be one by mistake."""
    if not text.strip():
        raise InvalidInput(
            place, f"{option.label}: The text is empty. Leave it out for its default."
        )


def _unstored(order: Order, template: Mapping[str, str]) -> SubscriptionRequest:
    values = {name: text[:_MOST_TYPED] for name, text in order.values.items()}
    if not values.get("language"):
        values["language"] = next(iter(LANGUAGES))
    if not values.get("time_zone"):
        country = values.get("country", "")
        known = country if countries.is_country(country) else get_settings().provider_country
        values["time_zone"] = countries.find_time_zone(known) or "UTC"
    draft: dict[str, Any] = {
        tab: {name: values[name] for name in FIELDS[tab] if name in values} for tab in Tab
    }
    draft[Tab.TEMPLATE] = dict(template)
    return SubscriptionRequest(draft=draft)


# --- What becomes of it --------------------------------------------------------------------------


def wait_for_end(request: SubscriptionRequest, seconds: float) -> SubscriptionRequest:
    """Wait until nothing happens to a request by itself any more, `seconds` at most.

    One that waits for its approval or for a later start is returned at once. No transaction is open
    between two looks.
    """
    ends_at = time.monotonic() + seconds
    pause = _FIRST_PAUSE
    while True:
        left = ends_at - time.monotonic()
        if left <= 0 or not _is_moving(request, left):
            return request
        db.session.commit()
        time.sleep(min(pause, left))
        pause = min(1.5 * pause, _LONGEST_PAUSE)
        request = _load(request.id)


def _is_moving(request: SubscriptionRequest, seconds: float) -> bool:
    if request.state is RequestState.SCHEDULED:
        soon = utcnow() + timedelta(seconds=seconds)
        return request.scheduled_for is not None and request.scheduled_for <= soon
    return request.state is RequestState.PROVISIONING
