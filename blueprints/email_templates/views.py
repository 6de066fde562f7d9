"""E-mail templates for staff: the list, each one with its mail, its versions and its customers."""

from __future__ import annotations

from typing import Any

from flask import Blueprint, Response, flash, request, url_for

from blueprints.email_templates.editor import add_editor
from blueprints.email_templates.forms import AssignForm, SeenForm, read_number
from blueprints.email_templates.frames import frame_faults, frame_preview
from blueprints.email_templates.lists import KINDS, TemplateList
from blueprints.forms import LARGEST_ID, refuse
from blueprints.htmx import go, respond, wants_fragment
from blueprints.lists import clean_search, read_cursor, read_size, size_parameter
from blueprints.security import current_actor, requires
from config import LANGUAGES
from models import EmailTemplateVersion
from services import (
    email_template_assignments,
    email_template_edits,
    email_template_lists,
    email_template_previews,
    email_template_texts,
)
from services.actors import Permission
from services.email_template_previews import SAMPLE_READER, Preview, Reader
from services.email_template_rights import get_template, why_not_changed
from services.errors import (
    Conflict,
    Forbidden,
    InvalidInput,
    InvalidInputs,
    Stale,
    Throttled,
)
from services.paging import PAGE_SIZES

bp = Blueprint("email_templates", __name__, url_prefix="/email-templates")
add_editor(bp)

_ONE = f"/<int(max={LARGEST_ID}):template_id>"
_NUMBER = "<int(max=2147483647):number>"


@bp.get("")
@requires(Permission.TEMPLATES_READ)
def index() -> Response:
    """The list; search, filters, page size and place are all in the address."""
    actor = current_actor()
    shown = TemplateList.read(request.args)
    listed = email_template_lists.list_templates(
        actor, shown.wanted, size=shown.size, cursor=shown.cursor
    )
    return respond(
        "email_templates/index.html",
        "email_templates/_table.html",
        listed=listed,
        shown=shown,
        sizes=PAGE_SIZES,
        kinds=KINDS,
        languages=LANGUAGES,
        may_edit=actor.may(Permission.TEMPLATES_EDIT),
        may_make_all=actor.may(Permission.TEMPLATES_EDIT) and actor.all_groups,
        is_fragment=wants_fragment(),
    )


@bp.post("/defaults")
@requires(Permission.TEMPLATES_EDIT)
def make_defaults() -> Response:
    """The templates that come with Foyer, as far as their names are free."""
    made = email_template_edits.create_defaults(current_actor())
    if made:
        flash(f"Made {', '.join(made)}. Look through them before the first mail.", "good")
    else:
        flash("Templates with these names are there already.", "neutral")
    return go(url_for("email_templates.index"))


@bp.get(_ONE)
@requires(Permission.TEMPLATES_READ)
def show(template_id: int) -> Response:
    """The newest version with its mail, for a made-up reader or the one that the address names."""
    actor = current_actor()
    listed = email_template_lists.get_listed(actor, template_id)
    version = email_template_lists.get_version(actor, template_id)
    ready = email_template_lists.ready_texts(version)
    return respond(
        "email_templates/show.html",
        listed=listed,
        version=version,
        kinds=KINDS,
        languages=LANGUAGES,
        remarks=email_template_texts.find_remarks(listed.template.kind, ready) if ready else [],
        broken=[LANGUAGES.get(each, each) for each in listed.languages if each not in ready],
        used=email_template_texts.placeholders_used(ready),
        why_not=why_not_changed(actor, listed.template),
        may_edit=actor.may(Permission.TEMPLATES_EDIT),
        **_mail_context(version),
    )


def _mail_context(version: EmailTemplateVersion) -> dict[str, Any]:
    """What the preview of a saved version needs: the mail, or why there is none."""
    reader_word = clean_search(request.args.get("reader", ""))
    preview, faults, reader = None, [], SAMPLE_READER
    try:
        preview, reader = _preview_saved(version)
    except InvalidInputs as error:
        faults = [message for _, message in error.faults]
    return {
        "preview": preview,
        "faults": faults,
        "reader": reader,
        "reader_word": reader_word,
        "shown_part": "text" if request.args.get("shown") == "text" else "html",
        "texts": [each for each in LANGUAGES if each in {text.language for text in version.texts}],
    }


def _preview_saved(version: EmailTemplateVersion) -> tuple[Preview, Reader]:
    """Raises InvalidInputs."""
    try:
        reader = email_template_previews.find_reader(
            current_actor(), version.template, clean_search(request.args.get("reader", ""))
        )
    except InvalidInput as error:
        raise InvalidInputs([(error.field, error.message)]) from None
    typed = email_template_lists.typed_texts(version)
    language = email_template_previews.pick_language(
        request.args.get("language", ""), list(typed), reader
    )
    if language not in typed:
        raise InvalidInputs([("", "This version has no text.")])
    return email_template_previews.preview_text(language, typed[language], reader), reader


@bp.get(f"{_ONE}/frame")
@requires(Permission.TEMPLATES_READ)
def frame(template_id: int) -> Response:
    """A saved version as a mail, for a frame."""
    number = max(0, read_number(request.args.get("version")))
    version = email_template_lists.get_version(current_actor(), template_id, number)
    try:
        preview, _ = _preview_saved(version)
    except InvalidInputs as error:
        return frame_faults([message for _, message in error.faults])
    return frame_preview(preview, request.args.get("shown", ""))


@bp.post(f"{_ONE}/test")
@requires(Permission.TEMPLATES_EDIT)
def send_test(template_id: int) -> Response:
    """The newest version to who asks."""
    actor = current_actor()
    version = email_template_lists.get_version(actor, template_id)
    typed = email_template_lists.typed_texts(version)
    language = email_template_previews.pick_language(
        request.form.get("language", ""), list(typed), SAMPLE_READER
    )
    try:
        if language not in typed:
            raise Conflict("This template has no text to send.")
        address = email_template_previews.send_test(
            actor, version.template, language, typed[language], SAMPLE_READER
        )
    except InvalidInputs as error:
        flash(f"The test was not sent. {error.faults[0][1]}", "bad")
    except (Conflict, Throttled) as error:
        flash(error.message, "bad")
    else:
        flash(f"The {LANGUAGES[language]} test is on its way to {address}.", "good")
    return _go_to(template_id)


# --- Out of use and back -------------------------------------------------------------------------


@bp.route(f"{_ONE}/archive", methods=["GET", "POST"])
@requires(Permission.TEMPLATES_EDIT)
def archive(template_id: int) -> Response:
    """What archiving means, before it is done."""
    actor = current_actor()
    listed = email_template_lists.get_listed(actor, template_id)
    reason = why_not_changed(actor, listed.template)
    if reason is not None:
        raise Forbidden(reason)
    if request.method == "GET":
        form = SeenForm(data={"version": listed.template.version})
        return respond("email_templates/archive.html", listed=listed, form=form)
    try:
        name = email_template_edits.archive_template(actor, template_id, version=SeenForm().seen)
    except Conflict as error:
        flash(error.message, "attention")
    else:
        flash(f"{name} is archived. Mailings that were confirmed go on with it.", "good")
    return _go_to(template_id)


@bp.post(f"{_ONE}/unarchive")
@requires(Permission.TEMPLATES_EDIT)
def unarchive(template_id: int) -> Response:
    try:
        name = email_template_edits.unarchive_template(
            current_actor(), template_id, version=SeenForm().seen
        )
    except Conflict as error:
        flash(error.message, "attention")
    else:
        flash(f"{name} is in use again.", "good")
    return _go_to(template_id)


# --- Versions ------------------------------------------------------------------------------------


@bp.get(f"{_ONE}/versions")
@requires(Permission.TEMPLATES_READ)
def versions(template_id: int) -> Response:
    actor = current_actor()
    cursor = read_cursor(request.args)
    return respond(
        "email_templates/versions.html",
        "email_templates/_versions.html",
        template=get_template(actor, template_id),
        listed=email_template_lists.list_versions(actor, template_id, cursor=cursor),
        cursor=cursor,
    )


@bp.get(f"{_ONE}/versions/{_NUMBER}")
@requires(Permission.TEMPLATES_READ)
def version(template_id: int, number: int) -> Response:
    """One version: how it differs from the one before, or from the newest, and its mail."""
    actor = current_actor()
    template = get_template(actor, template_id)
    found = email_template_lists.get_version(actor, template_id, number)
    newest = email_template_lists.get_version(actor, template_id)
    against_newest = request.args.get("with") == "newest" and newest.number != number
    before: EmailTemplateVersion | None = None
    after = found
    if against_newest:
        before, after = found, newest
    elif number > 1:
        before = email_template_lists.get_version(actor, template_id, number - 1)
    typed = email_template_lists.typed_texts
    return respond(
        "email_templates/version.html",
        template=template,
        version=found,
        newest=newest,
        before=before,
        after=after,
        against_newest=against_newest,
        differences=email_template_lists.compare_versions(
            {} if before is None else typed(before), typed(after)
        ),
        may_restore=newest.number != number and why_not_changed(actor, template) is None,
        languages=LANGUAGES,
        form=SeenForm(data={"version": template.version}),
        **_mail_context(found),
    )


@bp.post(f"{_ONE}/versions/{_NUMBER}/restore")
@requires(Permission.TEMPLATES_EDIT)
def restore(template_id: int, number: int) -> Response:
    form = SeenForm()
    try:
        saved = email_template_edits.restore_version(
            current_actor(), template_id, number, version=form.seen, note=form.note.data or ""
        )
    except Stale as error:
        flash(f"{error.message} Compare with what it says now, and restore again.", "attention")
    except InvalidInputs as error:
        flash(f"Version {number} cannot be sent any more. {error.faults[0][1]}", "bad")
    except (Conflict, InvalidInput) as error:
        flash(error.message, "attention")
    else:
        flash(f"Version {saved.number} says what version {number} said.", "good")
        return _go_to(template_id)
    return go(url_for("email_templates.version", template_id=template_id, number=number))


# --- Customers -----------------------------------------------------------------------------------


@bp.get(f"{_ONE}/customers")
@requires(Permission.TEMPLATES_READ)
def customers(template_id: int) -> Response:
    """The customers who may use it."""
    actor = current_actor()
    search = clean_search(request.args.get("q", ""))
    size = read_size(request.args)
    cursor = read_cursor(request.args)
    page = email_template_assignments.list_assigned(
        actor, template_id, search=search, size=size, cursor=cursor
    )

    def address(cursor: str | None = None, size: int = size, search: str = search) -> str:
        return url_for(
            "email_templates.customers",
            template_id=template_id,
            q=search or None,
            size=size_parameter(size),
            cursor=cursor,
        )

    return respond(
        "email_templates/customers.html",
        "email_templates/_customers.html",
        template=get_template(actor, template_id),
        listed=page,
        search=search,
        cursor=cursor,
        size=size,
        sizes=[(each, address(size=each), each == size) for each in PAGE_SIZES],
        previous_href=page.previous and address(page.previous),
        next_href=page.next and address(page.next),
        all_href=address(search=""),
        may_edit=actor.may(Permission.TEMPLATES_EDIT),
        is_fragment=wants_fragment(),
    )


@bp.route(f"{_ONE}/customers/change", methods=["GET", "POST"])
@requires(Permission.TEMPLATES_EDIT)
def assign(template_id: int) -> Response:
    """Who is to have it, or to have it no more: first how many that are, then the change."""
    actor = current_actor()
    template = get_template(actor, template_id)
    form = AssignForm(data=_asked() if request.method == "GET" else None)
    bundles, groups = email_template_assignments.list_choices(actor)
    context: dict[str, Any] = {"template": template, "bundles": bundles, "groups": groups}
    page = "email_templates/assign.html"
    if request.method == "GET":
        return respond(page, form=form, **context)
    if not form.validate():
        return respond(page, form=form, status=422, **context)
    back = url_for("email_templates.customers", template_id=template_id)
    try:
        if not form.confirmed.data:
            effect = email_template_assignments.preview_change(
                actor, template_id, form.chosen_verb, form.choice
            )
            return respond("email_templates/confirm.html", form=form, effect=effect, **context)
        count = email_template_assignments.change_assignments(
            actor, template_id, form.chosen_verb, form.choice
        )
    except InvalidInput as error:
        return refuse(page, form, error, **context)
    except Conflict as error:
        form.form_errors.append(error.message)
        return respond(page, form=form, status=409, **context)
    whom = "1 customer" if count == 1 else f"{count:,} customers"
    if form.chosen_verb is email_template_assignments.Verb.ASSIGN:
        flash(f"{template.name} is assigned to {whom}.", "good")
    else:
        flash(f"{template.name} is removed from {whom}.", "good")
    return go(back)


def _asked() -> dict[str, str]:
    """What the address says already, for links that lead here."""
    names = ("verb", "by", "web_ids", "bundle", "group")
    return {name: clean_search(request.args[name]) for name in names if request.args.get(name)}


def _go_to(template_id: int) -> Response:
    return go(url_for("email_templates.show", template_id=template_id))
