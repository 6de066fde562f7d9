"""API credentials for landlord administrators: the list, and each one from its making to its end.

A secret is shown in the answer to the POST that makes it and rests nowhere: no session, no row and
no address leads back to it. Whoever sends that form again is told so, and can rotate.
"""

from __future__ import annotations

import secrets
from datetime import timedelta
from typing import Any

from flask import Blueprint, Response, flash, request, url_for

from blueprints.api_access.examples import write_example
from blueprints.api_access.forms import EditForm, NewForm, RevokeForm, RotateForm, fill_in
from blueprints.api_access.lists import CredentialList
from blueprints.forms import LARGEST_ID, SeenForm, refuse
from blueprints.htmx import go, respond, wants_fragment
from blueprints.security import current_actor, requires
from extensions import get_settings
from models import ApiCredential, CredentialState, utcnow
from services import api_credentials
from services.actors import Permission
from services.api_credential_rules import SOON, latest_day, write_networks
from services.api_credentials import Made
from services.errors import Conflict, InvalidInput, InvalidInputs, Stale
from services.paging import PAGE_SIZES

bp = Blueprint("credentials", __name__, url_prefix="/api-credentials")
bp.add_app_template_filter(write_networks, "as_networks")

_ONE = f"/<int(max={LARGEST_ID}):credential_id>"
_YEAR = timedelta(days=365)


@bp.app_template_global()
def expires_soon(credential: ApiCredential) -> bool:
    """Whether somebody should see to it now."""
    now = utcnow()
    return (
        credential.expires_at is not None
        and credential.state_at(now) is CredentialState.ACTIVE
        and credential.expires_at <= now + SOON
    )


@bp.get("")
@requires(Permission.CREDENTIALS_MANAGE)
def index() -> Response:
    """The list; search, filter, page size and place are all in the address."""
    shown = CredentialList.read(request.args)
    page = api_credentials.list_credentials(
        current_actor(),
        search=shown.search,
        state=shown.state,
        size=shown.size,
        cursor=shown.cursor,
    )
    return respond(
        "api_access/index.html",
        "api_access/_table.html",
        listed=page,
        shown=shown,
        sizes=PAGE_SIZES,
        now=utcnow(),
        is_fragment=wants_fragment(),
    )


# --- Making one ----------------------------------------------------------------------------------


@bp.route("/new", methods=["GET", "POST"])
@requires(Permission.CREDENTIALS_MANAGE)
def new() -> Response:
    actor = current_actor()
    now = utcnow()
    form = NewForm(
        data={"confirmation": secrets.token_urlsafe(24), "last_day": (now + _YEAR).date()}
    )
    context = _choices()
    page = "api_access/new.html"
    if not form.validate_on_submit():
        return respond(page, form=form, status=422 if form.errors else 200, **context)
    try:
        made = api_credentials.create_credential(
            actor,
            name=form.name.data,
            terms=form.terms,
            confirmation=form.confirmation.data or "",
        )
    except (InvalidInput, InvalidInputs) as error:
        if getattr(error, "field", "") == "confirmation":
            raise
        return refuse(page, form, error, **context)
    if made.secret is None:
        flash(
            f"This form made {made.credential.name} before. Its secret was shown then and cannot "
            "be shown again. Rotate it if nobody has it.",
            "attention",
        )
        return _go_to(made.credential)
    return _show_secret(made, was_rotated=False)


def _show_secret(made: Made, *, was_rotated: bool) -> Response:
    """The one page that shows a secret. It must not be kept by anything on its way."""
    groups = api_credentials.list_groups(current_actor())
    response = respond(
        "api_access/secret.html",
        credential=made.credential,
        secret=made.secret,
        was_rotated=was_rotated,
        example=write_example(made.credential, groups, get_settings().public_url),
    )
    response.headers["Cache-Control"] = "no-store"
    return response


# --- Looking at one and changing it --------------------------------------------------------------


@bp.get(_ONE)
@requires(Permission.CREDENTIALS_MANAGE)
def show(credential_id: int) -> Response:
    credential = api_credentials.get_credential(current_actor(), credential_id)
    now = utcnow()
    return respond(
        "api_access/show.html",
        credential=credential,
        now=now,
        state=credential.state_at(now),
        has_overlap=credential.has_overlap_at(now),
    )


@bp.route(f"{_ONE}/edit", methods=["GET", "POST"])
@requires(Permission.CREDENTIALS_MANAGE)
def edit(credential_id: int) -> Response:
    """Another description, scopes, groups, networks and expiry; the name stays.

    Who is told that somebody else was faster keeps his own input; saving once more is then his
    decision.
    """
    actor = current_actor()
    credential = api_credentials.get_credential(actor, credential_id)
    form = EditForm(data=fill_in(credential))
    context = {"credential": credential, **_choices()}
    page = "api_access/edit.html"
    if credential.state_at(utcnow()) is CredentialState.REVOKED:
        return _refuse_revoked(credential)
    if not form.validate_on_submit():
        return respond(page, form=form, status=422 if form.errors else 200, **context)
    try:
        changed = api_credentials.change_credential(
            actor, credential_id, version=form.seen, terms=form.terms
        )
    except InvalidInputs as error:
        return refuse(page, form, error, **context)
    except Stale as error:
        return _show_overtaken(page, form, error, credential, **_choices())
    except Conflict:
        return _refuse_revoked(credential)
    flash(f"{changed.name} is saved. This holds from its next request on.", "good")
    return _go_to(changed)


@bp.route(f"{_ONE}/rotate", methods=["GET", "POST"])
@requires(Permission.CREDENTIALS_MANAGE)
def rotate(credential_id: int) -> Response:
    """A new secret, and how long the one until now works beside it."""
    actor = current_actor()
    credential = api_credentials.get_credential(actor, credential_id)
    form = RotateForm(data={"version": credential.version})
    page = "api_access/rotate.html"
    context: dict[str, Any] = {
        "credential": credential,
        "has_overlap": credential.has_overlap_at(utcnow()),
    }
    if credential.state_at(utcnow()) is CredentialState.REVOKED:
        return _refuse_revoked(credential)
    if not form.validate_on_submit():
        return respond(page, form=form, status=422 if form.errors else 200, **context)
    try:
        made = api_credentials.rotate_secret(actor, credential_id, version=form.seen, **form.chosen)
    except InvalidInput as error:
        if error.field == "version":
            raise
        return refuse(page, form, error, **context)
    except Stale as error:
        flash(
            f"{error.message} A secret that was made meanwhile was shown then and cannot be shown "
            "again. Rotate it if nobody has it.",
            "attention",
        )
        return _go_to(credential)
    except Conflict as error:
        flash(error.message, "attention")
        return _go_to(credential)
    return _show_secret(made, was_rotated=True)


@bp.post(f"{_ONE}/end-overlap")
@requires(Permission.CREDENTIALS_MANAGE)
def end_overlap(credential_id: int) -> Response:
    """The secret before the last rotation stops to work."""
    credential = api_credentials.get_credential(current_actor(), credential_id)
    try:
        api_credentials.end_overlap(current_actor(), credential_id, version=SeenForm().seen)
    except Conflict as error:
        flash(error.message, "attention")
    else:
        flash(f"Only the newest secret of {credential.name} works now.", "good")
    return _go_to(credential)


@bp.route(f"{_ONE}/revoke", methods=["GET", "POST"])
@requires(Permission.CREDENTIALS_MANAGE)
def revoke(credential_id: int) -> Response:
    """For good, and asked once: the name is typed."""
    actor = current_actor()
    credential = api_credentials.get_credential(actor, credential_id)
    form = RevokeForm()
    page = "api_access/revoke.html"
    if credential.state_at(utcnow()) is CredentialState.REVOKED:
        return _refuse_revoked(credential)
    if not form.validate_on_submit():
        status = 422 if form.errors else 200
        return respond(page, form=form, status=status, credential=credential)
    try:
        revoked = api_credentials.revoke_credential(actor, credential_id, typed_name=form.name.data)
    except InvalidInput as error:
        return refuse(page, form, error, credential=credential)
    flash(f"{revoked.name} is revoked. Its next request is refused.", "good")
    return _go_to(revoked)


def _choices() -> dict[str, Any]:
    """What the fields of terms offer."""
    now = utcnow()
    return {
        "all_groups": api_credentials.list_groups(current_actor()),
        "earliest": now.date().isoformat(),
        "latest": latest_day(now).isoformat(),
    }


def _show_overtaken(
    page: str, form: EditForm, error: Stale, credential: ApiCredential, **context: Any
) -> Response:
    newest = api_credentials.get_credential(current_actor(), credential.id)
    form.version.data = str(newest.version)
    form.form_errors.append(
        f"{error.message} Here stands what you chose: save again to put it in the other's place."
    )
    return respond(page, form=form, status=409, credential=newest, **context)


def _refuse_revoked(credential: ApiCredential) -> Response:
    flash(f"{credential.name} is revoked for good. Nothing of it can be changed.", "attention")
    return _go_to(credential)


def _go_to(credential: ApiCredential) -> Response:
    return go(url_for("credentials.show", credential_id=credential.id))
