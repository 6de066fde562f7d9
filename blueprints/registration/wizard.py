"""Tenant Registration: one's drafts, and the three tabs that end with Create Tenant."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from flask import Blueprint, Response, flash, make_response, render_template, request, url_for

from blueprints.forms import LARGEST_ID, apply_refusal
from blueprints.htmx import go, respond, wants_fragment
from blueprints.registration.wizard_forms import (
    make_form,
    make_visible,
    read_password,
    read_typed,
    read_version,
)
from blueprints.registration.wizard_pages import (
    TABS,
    DraftShown,
    FieldSaid,
    cards_of,
    describe_next,
    faults_elsewhere,
    first_faulty,
    first_open,
    said_of,
    summary_of,
    tab_after,
    tabs_of,
    versions_of,
)
from blueprints.security import current_actor, requires
from models import RequestState, ServiceTemplateVersion, SubscriptionRequest
from services import domain_proofs, registration_drafts, registration_submission, service_templates
from services.actors import Permission
from services.errors import Conflict, InvalidInput
from services.passwords import MIN_LENGTH
from services.registration_drafts import FIELDS, DraftCheck, NotEditable, StaleDraft, Tab
from services.registration_submission import DraftFaults

wizard_bp = Blueprint("wizard", __name__, url_prefix="/tenant-registration")

_ONE = f"/<int(max={LARGEST_ID}):request_id>"
_TAB = f"{_ONE}/<any({', '.join(TABS)}):tab>"


@wizard_bp.errorhandler(NotEditable)
def _submitted(error: NotEditable) -> Response:
    """The back button, a reload, an old bookmark: the request has a page of its own now."""
    return go(_request_url(error.request_id))


def _request_url(request_id: int) -> str:
    return url_for("tenant_creation.show", request_id=request_id)


def _tab_url(request_id: int, tab: Tab, **query: Any) -> str:
    return url_for("wizard.show", request_id=request_id, tab=tab.value, **query)


# --- Drafts ------------------------------------------------------------------------------------


@wizard_bp.get("/drafts")
@requires(Permission.TENANTS_REGISTER)
def index() -> Response:
    """One's own registrations that are not submitted, and the button that begins another."""
    drafts = registration_drafts.list_drafts(current_actor())
    return respond(
        "registration/wizard/drafts.html",
        drafts=[DraftShown.of(each, registration_drafts.check(each)) for each in drafts],
    )


@wizard_bp.post("/drafts")
@requires(Permission.TENANTS_REGISTER)
def start() -> Response:
    try:
        draft = registration_drafts.start_draft(current_actor())
    except Conflict as error:
        flash(error.message, "attention")
        return go(url_for("wizard.index"))
    return go(_tab_url(draft.id, Tab.TEMPLATE))


@wizard_bp.get(_ONE)
@requires(Permission.TENANTS_REGISTER)
def resume(request_id: int) -> Response:
    """To the first tab that is not complete."""
    draft = registration_drafts.get_draft(current_actor(), request_id)
    return go(_tab_url(draft.id, first_open(registration_drafts.check(draft))))


@wizard_bp.get(f"{_ONE}/discard")
@requires(Permission.TENANTS_REGISTER)
def confirm_discard(request_id: int) -> Response:
    """What is lost, before it is."""
    draft = registration_drafts.get_draft(current_actor(), request_id)
    if draft.state is not RequestState.DRAFT:
        return go(_request_url(draft.id))
    check = registration_drafts.check(draft)
    return respond(
        "registration/wizard/discard.html",
        draft=draft,
        shown=DraftShown.of(draft, check),
        summary=summary_of(check),
    )


@wizard_bp.post(f"{_ONE}/discard")
@requires(Permission.TENANTS_REGISTER)
def discard(request_id: int) -> Response:
    registration_drafts.discard(current_actor(), request_id)
    flash("The draft is discarded.", "good")
    return go(url_for("wizard.index"))


# --- A tab -------------------------------------------------------------------------------------


@wizard_bp.get(_TAB)
@requires(Permission.TENANTS_REGISTER)
def show(request_id: int, tab: str) -> Response:
    """A tab; `checked` in the address tells what is still missing as faults, too."""
    draft = registration_drafts.get_draft(current_actor(), request_id)
    check = registration_drafts.check(draft)
    return _show_tab(draft, Tab(tab), check, tell_missing="checked" in request.args)


@wizard_bp.post(_TAB)
@requires(Permission.TENANTS_REGISTER)
def save(request_id: int, tab: str) -> Response:
    """Keep what was typed, right or wrong, and go where the pressed button leads."""
    actor, here, seen = current_actor(), Tab(tab), read_version()
    password, confirmation = read_password()
    before = registration_drafts.get_draft(actor, request_id)
    version = before.draft_version
    try:
        draft = registration_drafts.save_tab(
            actor,
            request_id,
            here,
            _typed(before, here),
            draft_version=seen,
            password=password,
            confirmation=confirmation,
        )
    except StaleDraft as error:
        return _show_versions(here, error)
    match request.form.get("go", ""):
        case "create":
            # Of the versions since the page was made, one may be this very saving's.
            return _create_tenant(draft, here, seen + (draft.draft_version > version))
        case "prove":
            return _prove_domain(draft)
        case "close":
            flash("The draft is saved.", "good")
            return go(url_for("wizard.index"))
        case "next":
            return go(_tab_url(draft.id, tab_after(here) or here))
        case chosen if chosen in set(Tab):
            return go(_tab_url(draft.id, Tab(chosen)))
    return go(_tab_url(draft.id, here))


def _offered(draft: SubscriptionRequest) -> list[ServiceTemplateVersion]:
    return service_templates.list_offered(current_actor(), draft.invitation)


def _typed(draft: SubscriptionRequest, tab: Tab) -> dict[str, str]:
    """What was typed on a tab; a suggestion that was taken over is as good as typed."""
    typed = read_typed(tab, _offered(draft) if tab is Tab.TEMPLATE else [])
    if tab is Tab.TENANT and "use_short_name" in request.form:
        typed["short_name"] = make_visible(request.form["use_short_name"])
    return typed


def _create_tenant(draft: SubscriptionRequest, here: Tab, version: int) -> Response:
    """Submit, or open the first tab with a fault.

    What another window changed on the other tabs is not submitted before it has been seen.
    """
    try:
        submitted = registration_submission.submit(current_actor(), draft.id, draft_version=version)
    except StaleDraft as error:
        return _show_versions(here, error)
    except DraftFaults as error:
        tab = first_faulty(error.check)
        address = _tab_url(draft.id, tab, checked=1)
        return _show_tab(draft, tab, error.check, tell_missing=True, address=address, status=422)
    return go(_request_url(submitted.id))


def _prove_domain(draft: SubscriptionRequest) -> Response:
    """Look the TXT record up, after what was typed is kept."""
    try:
        proved = domain_proofs.prove_domain(current_actor(), draft.id)
    except InvalidInput as error:
        check = registration_drafts.check(draft)
        return _show_tab(draft, Tab.TENANT, check, proof_error=error.message, status=422)
    except Conflict as error:
        flash(error.message, "attention")
        return go(_tab_url(draft.id, Tab.TENANT))
    flash("The record is there: the domain is proven to be yours.", "good")
    return go(_tab_url(proved.id, Tab.TENANT))


def _show_versions(here: Tab, error: StaleDraft) -> Response:
    """Both windows' versions of a tab, this one's in its fields; or that other tabs changed."""
    check = registration_drafts.check(error.current)
    versions = versions_of(here, error, _offered(error.current))
    return _show_tab(
        error.current,
        here,
        check,
        typed=error.typed,
        overtaken=error,
        versions=versions,
        status=409,
    )


def _show_tab(
    draft: SubscriptionRequest,
    tab: Tab,
    check: DraftCheck,
    *,
    typed: Mapping[str, str] | None = None,
    tell_missing: bool = False,
    status: int = 200,
    **context: Any,
) -> Response:
    values = {**registration_drafts.form_values(draft, tab), **(typed or {})}
    verdicts = registration_drafts.check_field(current_actor(), draft.id, tab, values)
    faults = [each for each in check.faults_of(tab) if tell_missing or not each.is_missing]
    if typed:
        faults = []  # They are those of the other window.
    form = make_form(tab, values)
    errors = {}
    for fault in faults:
        errors[fault.field] = fault.message
        if fault.field in form:
            apply_refusal(form, InvalidInput(fault.field, fault.message))
    return respond(
        "registration/wizard/show.html",
        status=status,
        draft=draft,
        tab=tab,
        tabs=tabs_of(check, tab, is_checked=tell_missing),
        following=tab_after(tab),
        form=form,
        errors=errors,
        is_checked=tell_missing,
        faults_elsewhere=faults_elsewhere(check, tab) if tell_missing else [],
        missing=[each for each in check.faults_of(tab) if each.is_missing and not tell_missing],
        said=said_of(FIELDS[tab], verdicts),
        cards=cards_of(_offered(draft), values, errors) if tab is Tab.TEMPLATE else [],
        has_password=registration_drafts.has_password(draft),
        min_length=MIN_LENGTH,
        challenge=domain_proofs.find_challenge(draft) if tab is Tab.TENANT else None,
        **_chosen(draft, check),
        **context,
    )


def _chosen(draft: SubscriptionRequest, check: DraftCheck) -> dict[str, Any]:
    """What stands beside the form and below its last button."""
    zone = registration_drafts.form_values(draft, Tab.CONTACT).get("time_zone", "")
    return {"summary": summary_of(check), "next_words": describe_next(check, zone)}


@wizard_bp.post(f"{_TAB}/draft")
@requires(Permission.TENANTS_REGISTER)
def autosave(request_id: int, tab: str) -> Response:
    """What the page sends while one types, and what there is to say on it.

    A password is kept once its confirmation is the same, so that half a one is never taken.
    """
    actor, here = current_actor(), Tab(tab)
    typed = _typed(registration_drafts.get_draft(actor, request_id), here)
    password, confirmation = read_password()
    is_confirmed = password == confirmation
    try:
        draft = registration_drafts.save_tab(
            actor,
            request_id,
            here,
            typed,
            draft_version=read_version(),
            password=password if is_confirmed else "",
            confirmation=confirmation if is_confirmed else "",
        )
    except StaleDraft as error:
        return _answer_saving(is_stale=True) if wants_fragment() else _show_versions(here, error)
    if not wants_fragment():
        return go(_tab_url(request_id, here))
    check = registration_drafts.check(draft)
    said: dict[str, FieldSaid] = {}
    if here is not Tab.TEMPLATE:  # Whose options are judged when they are submitted.
        if here is Tab.TENANT:
            typed |= {"password": password, "confirmation": confirmation}
        said = said_of(typed, registration_drafts.check_field(actor, request_id, here, typed))
    return _answer_saving(
        draft=draft,
        tab=here,
        tabs=tabs_of(check, is_checked="checked" in request.args),
        said=said,
        challenge=domain_proofs.find_challenge(draft) if here is Tab.TENANT else None,
        **_chosen(draft, check),
    )


def _answer_saving(**context: Any) -> Response:
    """Fragments that go to their places by themselves."""
    return make_response(
        render_template("registration/wizard/_saved.html", is_fragment=True, **context)
    )
