"""Drafts of subscription requests: kept as they are typed, checked as a whole.

A draft is a request that may be edited: one in DRAFT, or in CHANGES_REQUESTED. It belongs to
who began it; for everybody else it does not exist.

Beside the tabs, `draft` has "prefilled" (texts by tab), "saved" (the draft's version when a tab was
last changed), "password_fault" (why the password typed last was refused), "password_login" (the
final ID that the password was held against) and "proved" (the suffix whose proof
`domain_proved_at` is).
"""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from datetime import timedelta
from typing import Any

import sqlalchemy as sa
from sqlalchemy.orm import joinedload

from config import LANGUAGES, Registration
from extensions import db, get_settings
from models import (
    RegistrationLink,
    RequestState,
    SubscriptionRequest,
    User,
    is_storable,
    utcnow,
)
from services import (
    countries,
    domain_names,
    passwords,
    registration_checks,
    request_passwords,
    service_templates,
    tenant_rules,
)
from services.actors import SYSTEM, Actor, Permission
from services.audit_events import insert_events, record_event
from services.errors import Conflict, Forbidden, InvalidInput, NotFound
from services.registration_checks import (
    FIELDS,
    LABELS,
    MAX_LENGTHS,
    OPTIONAL,
    DraftCheck,
    Fault,
    SummaryLine,
    Tab,
    TabState,
    Verdict,
    Verdicts,
    check,
    form_values,
)
from services.request_states import EDITABLE
from services.transactions import run_session_transaction

__all__ = [
    "FIELDS",
    "LABELS",
    "MAX_LENGTHS",
    "OPTIONAL",
    "DraftCheck",
    "Fault",
    "NotEditable",
    "StaleDraft",
    "SummaryLine",
    "Tab",
    "TabState",
    "Verdict",
    "Verdicts",
    "change_draft",
    "check",
    "check_field",
    "delete_stale_drafts",
    "discard",
    "form_values",
    "get_draft",
    "has_password",
    "list_drafts",
    "save_tab",
    "start_draft",
]

MOST_DRAFTS = 50
KEPT = timedelta(days=30)
LONGEST_KEPT = 2000
"""Letters of a field that are kept; what is longer than any limit stays so."""

_DELETED_AT_ONCE = 200
_TRIES = 20


class StaleDraft(Conflict):
    """Another window changed the same tab since; nothing of what was typed here is kept yet.

    `current` is the draft as it is stored, `stored` and `typed` hold both texts of the fields that
    differ. Saving `typed` again with `current.draft_version` goes on with this window's.
    `had_password`: a password was typed, and has to be typed again. `tab` is None when it was to
    be submitted.
    """

    def __init__(
        self,
        current: SubscriptionRequest,
        tab: Tab | None,
        stored: Mapping[str, str],
        typed: Mapping[str, str],
        *,
        had_password: bool = False,
    ) -> None:
        super().__init__("This registration was changed in another window since you opened it.")
        self.current = current
        self.tab = tab
        self.stored = stored
        self.typed = typed
        self.had_password = had_password


class NotEditable(Conflict):
    """It was submitted already; `request_id` has a page in Tenant Creation Management."""

    def __init__(self, request_id: int) -> None:
        super().__init__("This registration was submitted already.")
        self.request_id = request_id


# --- Begin, find, end ----------------------------------------------------------------------------


def start_draft(
    actor: Actor, *, invitation_id: int | None = None, template_id: int | None = None
) -> SubscriptionRequest:
    """Begin a registration; an invitation presets its template.

    Without `invitation_id`, a prospect's accepted invitation that has led to no request yet is
    used. A draft in which nothing was typed is given again instead of one more. Raises NotFound for
    an invitation of somebody else or a template that is not offered, Forbidden, and Conflict when
    the actor has too many drafts or registration is not open to him.
    """
    actor.require(Permission.TENANTS_REGISTER)
    if actor.user_id is None:
        raise Forbidden("A registration belongs to a person. Sign in to begin one.")
    author = db.session.get_one(User, actor.user_id)
    invitation = _find_invitation(author, invitation_id)
    _refuse_if_not_open(author, invitation)
    if template_id is None and invitation is not None:
        template_id = invitation.template_id
    elif template_id is not None:
        service_templates.get_offered(actor, invitation, template_id)
    invited_by = invitation.id if invitation is not None else None
    contact = _prefill(author, invitation)
    draft: dict[str, Any] = {
        Tab.TEMPLATE: {} if template_id is None else {"template": str(template_id)},
        "prefilled": {Tab.CONTACT: contact},
    }
    for known in (drafts := list_drafts(actor)):
        if (known.draft_version, known.invitation_id, known.draft) == (1, invited_by, draft):
            return known
    if len(drafts) >= MOST_DRAFTS:
        raise Conflict(
            f"You have {MOST_DRAFTS} registrations that are not submitted. "
            "Submit or discard one of them first."
        )
    request = SubscriptionRequest(
        created_by_id=author.id,
        invitation_id=invited_by,
        language=contact["language"],
        domain_token=secrets.token_urlsafe(32),
        draft=draft,
    )
    db.session.add(request)
    db.session.flush()
    record_event(actor, "draft.started", object_type="request", object_id=request.id)
    db.session.commit()
    return request


def _refuse_if_not_open(author: User, invitation: RegistrationLink | None) -> None:
    """The setting is about beginnings: what was begun may be gone on with."""
    mode = get_settings().registration
    if author.is_staff or mode is Registration.OPEN:
        return
    if mode is Registration.CLOSED:
        raise Conflict(
            "Registration is closed at present. What you have begun, you can go on with."
        )
    if invitation is None:
        raise Conflict("Registration is by invitation. Ask for one to register another tenant.")


def _find_invitation(author: User, invitation_id: int | None) -> RegistrationLink | None:
    if invitation_id is None and author.is_staff:
        return None
    leads_on = sa.exists().where(
        SubscriptionRequest.invitation_id == RegistrationLink.id,
        SubscriptionRequest.state != RequestState.DRAFT,
    )
    query = sa.select(RegistrationLink).where(
        RegistrationLink.email_key == author.email_key,
        RegistrationLink.invited_by_id.is_not(None),
        RegistrationLink.used_at.is_not(None),
        ~leads_on,
    )
    if invitation_id is None:
        newest = query.order_by(RegistrationLink.id.desc()).limit(1)
        return db.session.scalar(newest)
    found = db.session.scalar(query.where(RegistrationLink.id == invitation_id))
    if found is None:
        raise NotFound("There is no such invitation, or it has led to a request already.")
    return found


def _prefill(author: User, invitation: RegistrationLink | None) -> dict[str, str]:
    """Staff registers for somebody else, whose address and language it does not share."""
    country = get_settings().provider_country
    language = invitation.language if invitation is not None else author.language
    known = {"country": country, "time_zone": countries.find_time_zone(country)}
    if author.is_staff:
        return known | {"language": next(iter(LANGUAGES))}
    return known | {"language": language, "contact_email": author.email}


def get_draft(actor: Actor, request_id: int) -> SubscriptionRequest:
    """The actor's own draft. Raises NotFound, and NotEditable when it was submitted."""
    request = find_own(actor, request_id)
    if request.state not in EDITABLE:
        raise NotEditable(request.id)
    return request


def find_own(actor: Actor, request_id: int) -> SubscriptionRequest:
    """A request of the actor in whatever state, as it is stored now. Raises NotFound."""
    actor.require(Permission.TENANTS_REGISTER)
    found = None
    if 0 < request_id < 2**63:
        found = db.session.scalar(
            sa.select(SubscriptionRequest)
            .where(
                SubscriptionRequest.id == request_id,
                SubscriptionRequest.created_by_id == actor.user_id,
            )
            .options(joinedload(SubscriptionRequest.invitation))
            .execution_options(populate_existing=True)
        )
    if found is None:
        raise NotFound("There is no such registration, or it is not yours.")
    return found


def list_drafts(actor: Actor) -> list[SubscriptionRequest]:
    """The actor's own drafts, the one changed last first."""
    actor.require(Permission.TENANTS_REGISTER)
    return list(
        db.session.scalars(
            sa.select(SubscriptionRequest)
            .where(
                SubscriptionRequest.created_by_id == actor.user_id,
                SubscriptionRequest.state.in_(EDITABLE),
            )
            .order_by(SubscriptionRequest.changed_at.desc(), SubscriptionRequest.id.desc())
            .limit(2 * MOST_DRAFTS)
        )
    )


def discard(actor: Actor, request_id: int) -> None:
    """Delete a draft with all that was typed. Raises Conflict for one that was submitted before."""
    request = get_draft(actor, request_id)
    if request.state is not RequestState.DRAFT:
        raise Conflict(
            "The provider asked for changes of this request. Cancel it instead of discarding it."
        )
    db.session.expunge(request)
    deleted = db.session.connection().execute(
        sa.delete(SubscriptionRequest).where(
            SubscriptionRequest.id == request_id, SubscriptionRequest.state == RequestState.DRAFT
        )
    )
    if deleted.rowcount:
        record_event(actor, "draft.discarded", object_type="request", object_id=request_id)
    db.session.commit()


def delete_stale_drafts() -> int:
    """Delete drafts that nobody touched for 30 days, some at a time; how many that were."""
    stale = sa.and_(
        SubscriptionRequest.state == RequestState.DRAFT,
        SubscriptionRequest.changed_at < utcnow() - KEPT,
    )
    some = sa.select(SubscriptionRequest.id).where(stale).limit(_DELETED_AT_ONCE)
    ids = db.session.scalars(some).all()
    if not ids:
        return 0
    connection = db.session.connection()
    deleted = connection.scalars(
        sa.delete(SubscriptionRequest)
        .where(SubscriptionRequest.id.in_(ids), stale)
        .returning(SubscriptionRequest.id)
    ).all()
    insert_events(
        connection,
        SYSTEM,
        "draft.expired",
        object_type="request",
        details={each: {} for each in deleted},
    )
    db.session.commit()
    return len(deleted)


# --- What is typed -------------------------------------------------------------------------------


def has_password(request: SubscriptionRequest) -> bool:
    """Whether a good password is set."""
    return request.password_hash is not None


def save_tab(
    actor: Actor,
    request_id: int,
    tab: Tab,
    typed: Mapping[str, str],
    *,
    draft_version: int,
    password: str = "",
    confirmation: str = "",
) -> SubscriptionRequest:
    """Keep what was typed on a tab, right or wrong; fields that are not in `typed` stay.

    `draft_version` is that of the page. When another window changed this very tab since,
    StaleDraft is raised. A change of other tabs loses nothing: then the draft that is returned is
    more than one version ahead of `draft_version`. Saving what is there already changes nothing.

    The password that was typed last counts: a good one is hashed and sealed, a refused one leaves
    none set, with a fault that `check` tells until a good one is typed. Both fields empty leave it
    as it is.
    """
    request = get_draft(actor, request_id)
    fields = _fields_of(actor, request, tab)
    kept = {name: _storable(text) for name, text in typed.items() if name in fields}
    has_typed_password = tab is Tab.TENANT and bool(password or confirmation)
    columns: dict[str, Any] = {}
    noted: dict[str, Any] = {}
    if has_typed_password:
        login = _login_of(form_values(request, tab) | kept)
        columns, noted = _hold_password(request, login, password, confirmation)
    for _ in range(_TRIES):
        shown = form_values(request, tab)
        differing = {name: text for name, text in kept.items() if text != shown.get(name, "")}
        if not (differing or columns):
            return request
        if _is_stale(request, tab, draft_version):
            raise StaleDraft(
                request,
                tab,
                {name: shown.get(name, "") for name in differing},
                differing,
                had_password=bool(columns),
            )
        draft = {**request.draft, tab: {**request.draft.get(tab, {}), **differing}, **noted}
        draft["saved"] = {**draft.get("saved", {}), tab: request.draft_version + 1}
        changed = change_draft(actor, request, draft, **columns)
        if changed is not None:
            return changed
        request = get_draft(actor, request_id)
    raise Conflict("This registration is being changed in another window. Save again in a moment.")


def change_draft(
    actor: Actor, request: SubscriptionRequest, draft: Mapping[str, Any], **columns: Any
) -> SubscriptionRequest | None:
    """Write a draft over the version that was read; None when somebody was faster. Commits."""

    def work() -> bool:
        changed = db.session.connection().execute(
            sa.update(SubscriptionRequest)
            .where(
                SubscriptionRequest.id == request.id,
                SubscriptionRequest.draft_version == request.draft_version,
                SubscriptionRequest.state.in_(EDITABLE),
            )
            .values(
                draft=dict(draft),
                draft_version=request.draft_version + 1,
                changed_at=utcnow(),
                **columns,
            )
        )
        db.session.commit()
        return bool(changed.rowcount)

    return get_draft(actor, request.id) if run_session_transaction(work) else None


def _is_stale(request: SubscriptionRequest, tab: Tab, draft_version: int) -> bool:
    """Whether the tab changed since, or the page is of an earlier draft with the same number."""
    saved: int = request.draft.get("saved", {}).get(tab, 0)
    return saved > draft_version or draft_version > request.draft_version


def _fields_of(actor: Actor, request: SubscriptionRequest, tab: Tab) -> frozenset[str]:
    if tab is not Tab.TEMPLATE:
        return frozenset(FIELDS[tab])
    options = (
        service_templates.option_field(version, option)
        for version in service_templates.list_offered(actor, request.invitation)
        for option in version.options
    )
    return frozenset((*FIELDS[tab], *options))


def _storable(text: str) -> str:
    """What no database keeps is replaced by the mark for it, which no rule takes for a letter."""
    text = text[:LONGEST_KEPT]
    if is_storable(text):
        return text
    return "".join(letter if is_storable(letter) else "\ufffd" for letter in text)


def _hold_password(
    request: SubscriptionRequest, login: str, password: str, confirmation: str
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Columns and notes of the draft that a typed password changes; none when it is set already."""
    fault = registration_checks.find_password_fault(password, confirmation, login)
    if fault is None:
        if passwords.verify(request.password_hash, password):
            return {}, {}
        hashed, seal = request_passwords.seal_password(password)
        return (
            {"password_hash": hashed, "password_seal": seal},
            {"password_fault": None, "password_login": login},
        )
    told = dict(zip(("field", "message"), fault, strict=True))
    if request.password_hash is None and request.draft.get("password_fault") == told:
        return {}, {}
    return {"password_hash": None, "password_seal": None}, {"password_fault": told}


def _login_of(values: Mapping[str, str]) -> str:
    """The final ID as far as it is typed, which the password must differ from."""
    try:
        suffix = domain_names.parse_suffix(values.get("upn_suffix", ""), allow_reserved=True)
    except InvalidInput:
        return ""
    user_name = values.get("user_name", "").strip()
    return tenant_rules.make_login(user_name, suffix.ascii) if user_name else ""


def check_field(actor: Actor, request_id: int, tab: Tab, typed: Mapping[str, str]) -> Verdicts:
    """Judge what is being typed on a tab; nothing is saved.

    `typed` may be one field or all, "password" and "confirmation" among them. What is not in it is
    taken from the draft.
    """
    return registration_checks.judge(get_draft(actor, request_id), tab, typed)
