"""Writing an e-mail template: one form that saves, checks, and sends a test to its author.

`do` is what its buttons are called. Scripts ask for a check while one types; whatever was typed
stands in the form again, whichever way it was sent.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from flask import Blueprint, Response, flash, request, url_for

from blueprints.email_templates.forms import (
    EditorForm,
    languages_to_open,
    texts_data,
)
from blueprints.email_templates.frames import frame_faults, frame_preview
from blueprints.forms import LARGEST_ID, apply_refusal, parse_ids
from blueprints.htmx import go, respond, wants_fragment
from blueprints.security import current_actor, requires
from config import LANGUAGES
from models import EmailTemplate, TemplateKind
from services import (
    email_template_edits,
    email_template_lists,
    email_template_previews,
    email_template_texts,
    mail_texts,
)
from services.actors import Permission
from services.email_template_edits import DEFAULTS, Saved, Unsure
from services.email_template_lists import PartDifference
from services.email_template_previews import Preview, Reader
from services.email_template_rights import get_template, may_create, why_not_changed
from services.email_template_texts import Remark, TypedText
from services.errors import Conflict, Forbidden, InvalidInput, InvalidInputs, Stale, Throttled
from services.placeholders import editor_placeholders

_PAGE = "email_templates/editor.html"
_ONE = f"/<int(max={LARGEST_ID}):template_id>"


@dataclass(slots=True)
class _Check:
    """What is told of what was typed: faults by field, remarks, and the mail it makes."""

    faults: Sequence[tuple[str, str]] = ()
    remarks: Sequence[Remark] = ()
    preview: Preview | None = None
    reader: Reader | None = None
    readers: Sequence[str] = field(default_factory=list)


def add_editor(bp: Blueprint) -> None:
    """The editor's routes below /email-templates."""
    both = ["GET", "POST"]
    bp.add_url_rule("/new", view_func=requires(Permission.TEMPLATES_EDIT)(new), methods=both)
    bp.add_url_rule(
        f"{_ONE}/edit", view_func=requires(Permission.TEMPLATES_EDIT)(edit), methods=both
    )
    bp.add_url_rule(
        "/frame", view_func=requires(Permission.TEMPLATES_EDIT)(draft_frame), methods=["POST"]
    )


def new() -> Response:
    """From nothing, from a template that comes with Foyer (`from`), or from another (`copy`)."""
    form = EditorForm(data=_data_of_new() if request.method == "GET" else None)
    if request.method == "GET":
        return _show(form, None)
    if (answer := _check_or_test(form, None)) is not None:
        return answer
    try:
        saved = email_template_edits.create_template(
            current_actor(),
            name=form.name.data or "",
            kind=form.chosen_kind,
            typed=form.typed,
            note=form.note.data or "",
        )
    except InvalidInputs as error:
        return _refuse(form, None, error)
    flash(f"{saved.name} is made.", "good")
    _tell_taken_out(saved)
    return go(url_for("email_templates.show", template_id=saved.template_id))


def _data_of_new() -> dict[str, object]:
    slug = request.args.get("from", "")
    if slug in DEFAULTS:
        texts = {
            language: TypedText(*parts)
            for language, parts in mail_texts.load_default_template(slug).items()
        }
        name = mail_texts.DEFAULT_TEMPLATES[slug]
        return {"name": name, "kind": DEFAULTS[slug].value, **texts_data(texts)}
    try:
        (source,) = parse_ids(request.args.getlist("copy"))
    except (InvalidInput, ValueError):
        return {"kind": TemplateKind.GENERAL.value}
    actor = current_actor()
    template = get_template(actor, source)
    texts = email_template_lists.typed_texts(email_template_lists.get_version(actor, source))
    kind = template.kind if may_create(actor, template.kind) else TemplateKind.GENERAL
    name = f"Copy of {template.name}"[:64]
    return {
        "name": name,
        "kind": kind.value,
        "note": f"Copied from {template.name}",
        **texts_data(texts),
    }


def edit(template_id: int) -> Response:
    """Another name or other texts. Who is told that somebody else was faster keeps his own."""
    actor = current_actor()
    template = get_template(actor, template_id)
    reason = why_not_changed(actor, template)
    if reason is not None:
        raise Forbidden(reason)
    saved_texts = email_template_lists.typed_texts(
        email_template_lists.get_version(actor, template_id)
    )
    if request.method == "GET":
        data = {
            "name": template.name,
            "version": template.version,
            "template": template.id,
            "language": next((each for each in LANGUAGES if each in saved_texts), ""),
            **texts_data(saved_texts),
        }
        return _show(EditorForm(data=data), template)
    form = EditorForm()
    if (answer := _check_or_test(form, template)) is not None:
        return answer
    try:
        saved = email_template_edits.edit_template(
            actor,
            template_id,
            version=form.seen,
            name=form.name.data or "",
            typed=form.typed,
            note=form.note.data or "",
            told_empty=form.told,
        )
    except InvalidInputs as error:
        return _refuse(form, template, error)
    except Unsure as error:
        form.told_empty.data = ",".join(each.placeholder for each in error.empty)
        return _show(form, template, status=422, unsure=error.empty)
    except Stale as error:
        form.version.data = str(template.version)
        form.form_errors.append(
            f"{error.message} What you typed stands here: save again to put it in the other's "
            "place."
        )
        differences = email_template_lists.compare_versions(saved_texts, form.typed)
        return _show(form, template, status=409, differences=differences)
    if saved.is_new:
        flash(f"Version {saved.number} of {saved.name} is saved.", "good")
        _tell_taken_out(saved)
    else:
        flash(f"{saved.name} is saved. Its texts are as they were.", "neutral")
    return go(url_for("email_templates.show", template_id=template_id))


def draft_frame() -> Response:
    """What is typed as a mail, for the frame beside it. Nothing is saved."""
    form = EditorForm()
    template = _template_of(form)
    try:
        reader = _find_reader(form, template)
        preview = _preview(form, reader)
    except InvalidInputs as error:
        return frame_faults([message for _, message in error.faults])
    return frame_preview(preview, form.shown.data or "")


# --- Checking and testing ------------------------------------------------------------------------


def _check_or_test(form: EditorForm, template: EmailTemplate | None) -> Response | None:
    """The answer to the buttons that do not save; None for the one that does."""
    wish = request.form.get("do", "")
    if wish == "check":
        return _show(form, template, check=_check(form, template))
    if wish != "test":
        return None
    status = 200
    try:
        reader = _find_reader(form, template)
        language = _language(form, reader)
        address = email_template_previews.send_test(
            current_actor(), template, language, form.typed[language], reader
        )
        flash(f"The {LANGUAGES[language]} test is on its way to {address}.", "good")
    except InvalidInputs as error:
        for _, message in error.faults:
            flash(f"The test was not sent. {message}", "bad")
        status = 422
    except Throttled as error:
        flash(error.message, "bad")
        status = 429
    except Conflict as error:
        flash(error.message, "bad")
        status = 409
    if wants_fragment():
        status = 200  # The sentence is told as a message; the page stays as it is.
    return _show(form, template, status=status, check=_check(form, template))


def _check(form: EditorForm, template: EmailTemplate | None) -> _Check:
    actor = current_actor()
    check = _Check(
        readers=email_template_previews.suggest_readers(actor, template, form.reader.data or "")
    )
    kind = template.kind if template is not None else form.chosen_kind
    faults: list[tuple[str, str]] = []
    try:
        ready = email_template_texts.check_texts(kind, form.typed)
        remarks = email_template_texts.find_remarks(kind, ready)
        for language, text in ready.items():
            if text.taken_out:
                remarks.append(Remark("attention", _taken_out(language, text.taken_out)))
        if template is not None:
            empty = email_template_edits.find_newly_empty(actor, template.id, ready)
            remarks += [Remark("attention", each.sentence) for each in empty]
        check.remarks = remarks
    except InvalidInputs as error:
        faults += error.faults
    try:
        check.reader = _find_reader(form, template)
        check.preview = _preview(form, check.reader)
    except InvalidInputs as error:
        faults += [fault for fault in error.faults if fault not in faults]
    check.faults = faults
    return check


def _template_of(form: EditorForm) -> EmailTemplate | None:
    return get_template(current_actor(), form.template_id) if form.template_id else None


def _find_reader(form: EditorForm, template: EmailTemplate | None) -> Reader:
    try:
        return email_template_previews.find_reader(
            current_actor(), template, form.reader.data or ""
        )
    except InvalidInput as error:
        raise InvalidInputs([(error.field, error.message)]) from None


def _language(form: EditorForm, reader: Reader) -> str:
    return email_template_previews.pick_language(form.language.data or "", form.written(), reader)


def _preview(form: EditorForm, reader: Reader) -> Preview:
    language = _language(form, reader)
    return email_template_previews.preview_text(language, form.typed[language], reader)


# --- Answers -------------------------------------------------------------------------------------


def _refuse(form: EditorForm, template: EmailTemplate | None, error: InvalidInputs) -> Response:
    apply_refusal(form, error)
    return _show(form, template, status=422)


def _show(
    form: EditorForm,
    template: EmailTemplate | None,
    *,
    status: int = 200,
    check: _Check | None = None,
    differences: Sequence[PartDifference] = (),
    unsure: Sequence[object] = (),
) -> Response:
    actor = current_actor()
    if not form.language.data:
        form.language.data = next(iter(form.written()), next(iter(LANGUAGES)))
    return respond(
        _PAGE,
        "email_templates/_check.html" if check is not None else None,
        form=form,
        status=status,
        template=template,
        check=check,
        differences=differences,
        unsure=unsure,
        opened=languages_to_open(form),
        languages=LANGUAGES,
        placeholders=editor_placeholders(),
        kinds=[kind for kind in TemplateKind if may_create(actor, kind)],
        starts=[(slug, mail_texts.DEFAULT_TEMPLATES[slug]) for slug in DEFAULTS],
    )


def _tell_taken_out(saved: Saved) -> None:
    for language, things in saved.taken_out.items():
        flash(_taken_out(language, things), "attention")


def _taken_out(language: str, things: Sequence[str]) -> str:
    shown = ", ".join(things[:10])
    rest = f" and {len(things) - 10} others" if len(things) > 10 else ""
    where = f"the {LANGUAGES[language]} HTML"
    return f"Taken out of {where}, because mails cannot carry it: {shown}{rest}."
