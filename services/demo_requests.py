"""Demonstration data for Tenant Creation Management: a few requests in each state that lasts."""

from __future__ import annotations

import json
import secrets
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

import sqlalchemy as sa

from extensions import db, get_settings
from models import (
    Audience,
    RequestNotification,
    RequestState,
    RequestTransition,
    Role,
    ServiceTemplate,
    ServiceTemplateVersion,
    StartRule,
    SubscriptionRequest,
    User,
    fold,
    utcnow,
)
from services import provisioning, provisioning_policy, registration_drafts
from services.actors import Actor, get_staff_actor
from services.demo_data import PASSWORD
from services.errors import Conflict
from services.registration_drafts import Tab
from services.request_passwords import seal_password
from services.request_transitions import move
from services.service_templates import option_field

S = RequestState
_OPERATOR = "operator@foyer.example"
_TRIAL = "Trial platform"
_MISHAP = {"rules": [{"operation": "create_tenant", "do": "refuse", "reason": "Out of licences."}]}


@dataclass(frozen=True, slots=True)
class DemoProspect:
    email: str
    first_name: str
    last_name: str
    language: str = "en"


_JONAS = DemoProspect("jonas.brandt@brightmoor.example", "Jonas", "Brandt", "de")
_INGRID = DemoProspect("ingrid.solheim@fjordvik.example", "Ingrid", "Solheim")
_MARLOES = DemoProspect("marloes.vink@zandhoek.example", "Marloes", "Vink", "nl")
PROSPECTS = (_JONAS, _INGRID, _MARLOES)


@dataclass(frozen=True, slots=True)
class DemoRequest:
    """A request, the states it went through after SUBMITTED, and how long ago it was submitted.

    A way is a state with the reason that was given; staff goes it, unless it is the registrant's.
    """

    template: str
    name: str
    short_name: str
    author: DemoProspect
    city: str
    country: str
    telephone: str
    time_zone: str
    age: timedelta
    ways: Sequence[tuple[RequestState, str]]
    options: dict[str, str] = field(default_factory=dict)

    @property
    def upn_suffix(self) -> str:
        return f"{self.name.lower()}.example"


REQUESTS = (
    DemoRequest(
        "Business",
        "Brightmoor",
        "bm",
        _JONAS,
        "Hamburg",
        "DE",
        "+49 40 376 2400",
        "Europe/Berlin",
        timedelta(hours=3, minutes=12),
        [(S.AWAITING_APPROVAL, "")],
        {"lines": "40", "recording": "yes"},
    ),
    DemoRequest(
        "Business",
        "Fjordvik",
        "fv",
        _INGRID,
        "Bergen",
        "NO",
        "+47 55 23 40 10",
        "Europe/Oslo",
        timedelta(days=1, hours=5),
        [(S.AWAITING_APPROVAL, "")],
    ),
    DemoRequest(
        "Business",
        "Calloway",
        "cw",
        _INGRID,
        "Leeds",
        "GB",
        "0113 496 0123",
        "Europe/London",
        timedelta(days=2, hours=1),
        [
            (S.AWAITING_APPROVAL, ""),
            (
                S.CHANGES_REQUESTED,
                "You asked for 5 lines and mention three branches. How many lines has each?",
            ),
        ],
        {"lines": "5"},
    ),
    DemoRequest(
        "Business",
        "Nordlys",
        "nl",
        _INGRID,
        "Oslo",
        "NO",
        "+47 22 11 40 00",
        "Europe/Oslo",
        timedelta(days=1, hours=20),
        [(S.AWAITING_APPROVAL, ""), (S.SCHEDULED, "")],
        {"numbers": "New local numbers"},
    ),
    DemoRequest(
        "Starter",
        "Seabright",
        "sb",
        _MARLOES,
        "Utrecht",
        "NL",
        "+31 30 231 4455",
        "Europe/Amsterdam",
        timedelta(days=3, hours=7),
        [(S.SCHEDULED, ""), (S.COMPLETED, "")],
    ),
    DemoRequest(
        _TRIAL,
        "Tessera",
        "ts",
        _MARLOES,
        "Antwerpen",
        "BE",
        "03 226 40 40",
        "Europe/Brussels",
        timedelta(hours=9),
        [(S.SCHEDULED, ""), (S.FAILED, "")],
    ),
    DemoRequest(
        "Business",
        "Quillfeather",
        "qf",
        _MARLOES,
        "Gent",
        "BE",
        "09 225 11 22",
        "Europe/Brussels",
        timedelta(days=6, hours=2),
        [
            (S.AWAITING_APPROVAL, ""),
            (
                S.REJECTED,
                "We have no lines in your street yet. Ask again in spring, when they are laid.",
            ),
        ],
    ),
    DemoRequest(
        "Starter",
        "Zandhoek",
        "zh",
        _MARLOES,
        "Haarlem",
        "NL",
        "+31 23 531 7700",
        "Europe/Amsterdam",
        timedelta(days=12),
        [(S.SCHEDULED, ""), (S.CANCELLED, "Registered twice by mistake.")],
    ),
    DemoRequest(
        "Business",
        "Halvorsen",
        "hv",
        _INGRID,
        "Trondheim",
        "NO",
        "+47 73 80 12 00",
        "Europe/Oslo",
        timedelta(days=1, hours=2),
        [(S.AWAITING_APPROVAL, ""), (S.SCHEDULED, "")],
    ),
    DemoRequest(
        "Business",
        "Pellworm",
        "pw",
        _JONAS,
        "Husum",
        "DE",
        "+49 4841 66 10",
        "Europe/Berlin",
        timedelta(days=4),
        [
            (S.AWAITING_APPROVAL, ""),
            (
                S.CHANGES_REQUESTED,
                "Is the company in Husum or in Flensburg? The address names both.",
            ),
        ],
    ),
    DemoRequest(
        "Starter",
        "Wrenfield",
        "wf",
        _JONAS,
        "Bremen",
        "DE",
        "+49 421 33 80",
        "Europe/Berlin",
        timedelta(days=20),
        [(S.SCHEDULED, ""), (S.COMPLETED, "")],
    ),
    DemoRequest(
        _TRIAL,
        "Oakhollow",
        "oh",
        _INGRID,
        "Stavanger",
        "NO",
        "+47 51 50 70 00",
        "Europe/Oslo",
        timedelta(days=1, hours=9),
        [(S.SCHEDULED, ""), (S.FAILED, "")],
    ),
    DemoRequest(
        "Business",
        "Quarrystone",
        "qs",
        _JONAS,
        "Kiel",
        "DE",
        "+49 431 90 10",
        "Europe/Berlin",
        timedelta(days=9),
        [
            (S.AWAITING_APPROVAL, ""),
            (S.REJECTED, "The company is in the register under another name."),
        ],
    ),
    DemoRequest(
        "Starter",
        "Millrace",
        "mr",
        _INGRID,
        "Hamar",
        "NO",
        "+47 62 53 40 00",
        "Europe/Oslo",
        timedelta(days=15),
        [(S.SCHEDULED, ""), (S.CANCELLED, "We move first and register afterwards.")],
    ),
)


def load_demo_requests() -> None:
    """Create the requests once; needs the rest of the demonstration. Nothing of it is mailed.

    One of them is provisioned, and another fails on a platform that refuses it this once.
    Raises Conflict when the settings say production.
    """
    if get_settings().is_production:
        raise Conflict("Demonstration data is refused in production: its passwords are public.")
    if db.session.scalar(sa.select(SubscriptionRequest.id).limit(1)) is not None:
        return
    _add_trial_platform()
    authors = {demo.email: _prospect(demo) for demo in PROSPECTS}
    _draft(REQUESTS[0], authors[_INGRID.email], {"name": "Tidewater", "short_name": "tw"})
    hashed, seal = seal_password(PASSWORD)
    made = []
    for demo in REQUESTS:
        request = _draft(demo, authors[demo.author.email])
        request.password_hash, request.password_seal = hashed, seal
        db.session.flush()
        made.append((demo, request.id))
        _submit(demo, request)
    db.session.commit()
    for demo, request_id in made:
        if demo.ways[-1][0] in {S.COMPLETED, S.FAILED}:
            _provision(demo, request_id)
    for demo, request_id in made:
        _age(demo, request_id)
    db.session.execute(sa.delete(RequestNotification))
    db.session.commit()


def _add_trial_platform() -> None:
    """A template that is not published, whose platform fails as it is told."""
    starter = _version("Starter")
    template = ServiceTemplate(
        name=_TRIAL, name_key=fold(_TRIAL), audience=Audience.STAFF, position=9
    )
    db.session.add(template)
    db.session.flush()
    db.session.add(
        ServiceTemplateVersion(
            template_id=template.id,
            number=1,
            description="For trying what happens when a platform fails.",
            group_id=starter.group_id,
            needs_approval=False,
            start_rule=StartRule.IMMEDIATE,
            connector="faulty",
            parameters=starter.parameters,
            must_replace=starter.must_replace,
            bundles=list(starter.bundles),
            email_templates=list(starter.email_templates),
        )
    )
    db.session.flush()


def _prospect(demo: DemoProspect) -> User:
    login = f"prospect:{demo.email}"
    found: User | None = db.session.scalar(sa.select(User).where(User.login_key == fold(login)))
    if found is not None:
        return found
    user = User(
        login=login,
        login_key=fold(login),
        role=Role.PROSPECT,
        first_name=demo.first_name,
        last_name=demo.last_name,
        name_key=fold(f"{demo.first_name} {demo.last_name}"),
        surname_key=fold(demo.last_name),
        email=demo.email,
        email_key=fold(demo.email),
        language=demo.language,
    )
    db.session.add(user)
    db.session.flush()
    return user


def _version(name: str) -> ServiceTemplateVersion:
    return db.session.scalars(
        sa.select(ServiceTemplateVersion)
        .join(ServiceTemplate, ServiceTemplate.id == ServiceTemplateVersion.template_id)
        .where(ServiceTemplate.name_key == fold(name))
        .order_by(ServiceTemplateVersion.number.desc())
        .limit(1)
    ).one()


def _draft(
    demo: DemoRequest, author: User, typed: dict[str, str] | None = None
) -> SubscriptionRequest:
    """What was typed on the three tabs; with `typed`, no more than that on the tenant's."""
    version = _version(demo.template)
    tenant = {
        "name": demo.name,
        "short_name": demo.short_name,
        "upn_suffix": demo.upn_suffix,
        "user_name": f"{demo.short_name}Admin",
        "ani": demo.telephone,
    }
    contact = {
        "company": f"{demo.name} {'GmbH' if demo.country == 'DE' else 'Ltd'}",
        "street": "1 Market Square",
        "postal_code": "1000",
        "city": demo.city,
        "country": demo.country,
        "contact_name": author.full_name,
        "contact_phone": demo.telephone,
        "contact_email": author.email,
        "language": author.language,
        "time_zone": demo.time_zone,
    }
    template = {"template": str(version.template_id)} | {
        option_field(version, option): demo.options.get(option.name, option.default)
        for option in version.options
    }
    request = SubscriptionRequest(
        created_by_id=author.id,
        language=author.language,
        domain_token=secrets.token_urlsafe(32),
        draft={
            Tab.TEMPLATE: template,
            Tab.TENANT: tenant if typed is None else typed,
            Tab.CONTACT: contact if typed is None else {"contact_email": author.email},
        },
        created_at=utcnow() - demo.age,
    )
    db.session.add(request)
    db.session.flush()
    return request


def _submit(demo: DemoRequest, request: SubscriptionRequest) -> None:
    """Go the ways of a request as far as people go them; the worker goes the others."""
    values = registration_drafts.check(request).values
    version = _version(demo.template)
    values |= {"template_version_id": version.id, "group_id": version.group_id}
    author = Actor.from_user(db.session.get_one(User, request.created_by_id))
    operator = get_staff_actor(_OPERATOR)
    connection = db.session.connection()
    submitted = {"submitted_at": utcnow(), **values}
    move(connection, request.id, S.DRAFT, S.SUBMITTED, actor=author, **submitted)
    state = S.SUBMITTED
    for to_state, reason in demo.ways:
        if to_state in {S.COMPLETED, S.FAILED}:
            break
        further: dict[str, Any] = {"comment": reason} if reason else {}
        if to_state is S.SCHEDULED:
            further = _plan(version)
        by_author = state is S.SUBMITTED or to_state is S.CANCELLED
        actor = author if by_author else operator
        move(connection, request.id, state, to_state, actor=actor, reason=reason, **further)
        state = to_state


def _plan(version: ServiceTemplateVersion) -> dict[str, Any]:
    if version.start_rule is StartRule.IMMEDIATE:
        return {"scheduled_for": utcnow()}
    tomorrow = utcnow() + timedelta(hours=16)
    return {"scheduled_for": provisioning_policy.plan_start(tomorrow), "off_peak": True}


def _provision(demo: DemoRequest, request_id: int) -> None:
    orders = get_settings().var_dir / "faulty-connector.json"
    if demo.template == _TRIAL and not orders.exists():
        orders.write_text(json.dumps(_MISHAP))
        try:
            provisioning.provision(request_id)
        finally:
            orders.unlink()
    else:
        provisioning.provision(request_id)


def _age(demo: DemoRequest, request_id: int) -> None:
    """Put a request and its timeline into the past; what is done of late took some minutes."""
    request = db.session.get_one(SubscriptionRequest, request_id, populate_existing=True)
    submitted = utcnow() - demo.age
    request.created_at = submitted - timedelta(minutes=14)
    request.submitted_at = submitted
    transitions = db.session.scalars(
        sa.select(RequestTransition)
        .where(RequestTransition.request_id == request_id)
        .order_by(RequestTransition.id)
    ).all()
    later = demo.age / (len(transitions) + 4)
    starts_at_once = request.scheduled_for is not None and not request.off_peak
    if starts_at_once:
        request.scheduled_for = submitted
    for number, transition in enumerate(transitions):
        if starts_at_once and transition.scheduled_for is not None:
            transition.scheduled_for = submitted
        transition.at = submitted + max(number - 1, 0) * min(later, timedelta(minutes=38))
        request.changed_at = transition.at
    if request.ended_at is not None:
        request.ended_at = request.changed_at
