"""The e-mail templates of a customer, for its administrators and for staff."""

from __future__ import annotations

from flask import Blueprint, Response, request

from blueprints.email_templates.frames import frame_faults, frame_preview
from blueprints.email_templates.lists import KINDS
from blueprints.forms import LARGEST_ID
from blueprints.htmx import respond
from blueprints.lists import clean_search, read_cursor
from blueprints.security import current_actor, customer_page
from config import LANGUAGES
from models import Customer, EmailTemplate
from services import email_template_assignments, email_template_lists, email_template_previews
from services.actors import Permission
from services.email_template_previews import SAMPLE_READER, Preview, Reader
from services.email_templates import get_current_texts, page_templates_for
from services.errors import InvalidInput, InvalidInputs

bp = Blueprint("customer_templates", __name__, url_prefix="/customers/<web_id>/email-templates")

_ONE = f"/<int(max={LARGEST_ID}):template_id>"


@bp.get("")
@customer_page(Permission.MAILINGS_READ)
def index(customer: Customer) -> Response:
    cursor = read_cursor(request.args)
    actor = current_actor()
    return respond(
        "email_templates/customer_index.html",
        "email_templates/_customer_table.html",
        customer=customer,
        listed=page_templates_for(actor, customer, cursor=cursor),
        cursor=cursor,
        kinds=KINDS,
        may_send=actor.may(Permission.MAILINGS_SEND),
    )


@bp.get(_ONE)
@customer_page(Permission.MAILINGS_READ)
def show(customer: Customer, template_id: int) -> Response:
    """The mail as the customer's users get it."""
    template = email_template_assignments.get_assigned_template(customer, template_id)
    preview, faults, reader = None, [], SAMPLE_READER
    try:
        preview, reader = _preview(customer, template)
    except InvalidInputs as error:
        faults = [message for _, message in error.faults]
    texts = get_current_texts(template)
    return respond(
        "email_templates/customer_show.html",
        customer=customer,
        template=template,
        kinds=KINDS,
        languages=LANGUAGES,
        preview=preview,
        faults=faults,
        reader=reader,
        reader_word=clean_search(request.args.get("reader", "")),
        shown_part="text" if request.args.get("shown") == "text" else "html",
        texts=[each for each in LANGUAGES if each in {text.language for text in texts}],
        may_send=current_actor().may(Permission.MAILINGS_SEND),
    )


@bp.get(f"{_ONE}/frame")
@customer_page(Permission.MAILINGS_READ)
def frame(customer: Customer, template_id: int) -> Response:
    template = email_template_assignments.get_assigned_template(customer, template_id)
    try:
        preview, _ = _preview(customer, template)
    except InvalidInputs as error:
        return frame_faults([message for _, message in error.faults])
    return frame_preview(preview, request.args.get("shown", ""))


def _preview(customer: Customer, template: EmailTemplate) -> tuple[Preview, Reader]:
    """Raises InvalidInputs."""
    try:
        reader = email_template_previews.find_reader(
            current_actor(), template, clean_search(request.args.get("reader", "")), customer
        )
    except InvalidInput as error:
        raise InvalidInputs([(error.field, error.message)]) from None
    typed = email_template_lists.typed_of(get_current_texts(template))
    language = email_template_previews.pick_language(
        request.args.get("language", ""), list(typed), reader
    )
    if language not in typed:
        raise InvalidInputs([("", "This template has no text yet.")])
    return email_template_previews.preview_text(language, typed[language], reader), reader
