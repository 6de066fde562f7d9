"""General parameters for Smart Queues: the draft, publishing it, and the versions before."""

from __future__ import annotations

from flask import Blueprint, Response, flash, make_response, render_template, request, url_for

from blueprints.htmx import go, respond, wants_fragment
from blueprints.parameters.forms import (
    ParametersForm,
    form_of,
    merge,
    notes_of,
    parse_number,
)
from blueprints.security import current_actor, customer_page
from models import Customer, GeneralParametersVersion
from services import general_parameters
from services.actors import Permission
from services.errors import Conflict, InvalidInput
from services.general_parameters import DraftChanged, ParameterFaults, differing, values_of
from services.parameter_rules import (
    PARAMETERS,
    ParameterGroup,
    find_faults,
    read_value,
    shown_text,
    title_of,
)

bp = Blueprint("parameters", __name__, url_prefix="/customers/<web_id>/general-parameters")

_NEWEST = 5


@bp.get("")
@customer_page(Permission.PARAMETERS_READ)
def index(customer: Customer) -> Response:
    """The draft, as a form for those who may edit it, with what differs from the published."""
    return _show(customer)


@bp.post("")
@customer_page(Permission.PARAMETERS_EDIT)
def save(customer: Customer) -> Response:
    form = ParametersForm()
    if not form.validate():
        return _show(customer, form, status=422)
    try:
        changed = general_parameters.save_draft(
            current_actor(), customer, form.typed, version=form.draft_version
        )
    except (ParameterFaults, DraftChanged) as error:
        return _refuse(customer, form, error)
    if changed:
        flash("The draft is saved. It takes effect when it is published.", "good")
    else:
        flash("Nothing was changed.", "neutral")
    return go(_index_url(customer))


@bp.post("/publish")
@customer_page(Permission.PARAMETERS_EDIT)
def publish(customer: Customer) -> Response:
    """Save what is in the form and publish it."""
    form = ParametersForm()
    if not form.validate():
        return _show(customer, form, status=422)
    try:
        version = general_parameters.publish(
            current_actor(), customer, form.typed, version=form.draft_version
        )
    except (ParameterFaults, DraftChanged) as error:
        return _refuse(customer, form, error)
    if version is None:
        flash("Nothing differs from what is published already.", "neutral")
    else:
        flash(f"Version {version.number} is published.", "good")
    return go(_index_url(customer))


@bp.post("/discard")
@customer_page(Permission.PARAMETERS_EDIT)
def discard(customer: Customer) -> Response:
    """Make the draft what is published."""
    seen = parse_number(request.form.get("version"))
    try:
        changed = general_parameters.discard_changes(current_actor(), customer, version=seen)
    except Conflict as error:
        flash(error.message, "attention")
    else:
        count = len(changed)
        flash(f"{count} change{'' if count == 1 else 's'} discarded.", "good")
    return go(_index_url(customer))


@bp.get("/check")
@customer_page(Permission.PARAMETERS_READ)
def check(customer: Customer) -> Response:
    """How a text is understood, as one types it; nothing where it is not."""
    if not wants_fragment():
        return go(_index_url(customer))
    understood = ""
    for name in request.args.keys() & PARAMETERS.keys():
        parameter = PARAMETERS[name]
        try:
            value = read_value(parameter, request.args[name], country=customer.country)
        except InvalidInput:
            continue
        understood = shown_text(parameter, value)
    return make_response(render_template("parameters/_understood.html", understood=understood))


@bp.get("/versions")
@customer_page(Permission.PARAMETERS_READ)
def versions(customer: Customer) -> Response:
    cursor = request.args.get("cursor", "")[:1000]
    listed = general_parameters.list_versions(current_actor(), customer, cursor=cursor)
    return respond(
        "parameters/versions.html",
        "parameters/_versions.html",
        customer=customer,
        listed=listed,
        cursor=cursor,
    )


@bp.get("/versions/<int(max=2147483647):number>")
@customer_page(Permission.PARAMETERS_READ)
def show(customer: Customer, number: int) -> Response:
    """A published version beside the draft, the published one, or any other."""
    return _show_version(customer, number)


@bp.post("/versions/<int(max=2147483647):number>/restore")
@customer_page(Permission.PARAMETERS_EDIT)
def restore(customer: Customer, number: int) -> Response:
    """Publish what a version says once more."""
    seen = parse_number(request.form.get("published"))
    try:
        version = general_parameters.restore(current_actor(), customer, number, published=seen)
    except Conflict as error:
        flash(error.message, "attention")
        return go(url_for("parameters.show", web_id=customer.web_id, number=number))
    except ParameterFaults as error:
        return _show_version(customer, number, faults=error.faults, status=422)
    flash(f"Version {version.number} is published. It says what version {number} said.", "good")
    return go(_index_url(customer))


def _index_url(customer: Customer) -> str:
    return url_for("parameters.index", web_id=customer.web_id)


def _show(
    customer: Customer,
    form: ParametersForm | None = None,
    *,
    is_overtaken: bool = False,
    status: int = 200,
) -> Response:
    actor = current_actor()
    parameters = general_parameters.get_parameters(actor, customer)
    form = form or form_of(parameters)
    notes = merge(form, parameters) if is_overtaken else notes_of(form, parameters)
    form.list_choices()
    return respond(
        "parameters/index.html",
        status=status,
        customer=customer,
        form=form,
        notes=notes,
        parameters=parameters,
        groups=[
            (group, [each for each in PARAMETERS.values() if each.group is group])
            for group in ParameterGroup
        ],
        differing=[title_of(PARAMETERS[name]) for name in parameters.differing],
        obstacles=[
            (name, title_of(PARAMETERS[name]))
            for name in find_faults(parameters.draft, parameters.must_replace)
        ],
        newest=general_parameters.list_versions(actor, customer, size=_NEWEST).rows,
        may_edit=actor.may(Permission.PARAMETERS_EDIT),
        is_overtaken=is_overtaken,
        shown_text=shown_text,
    )


def _refuse(
    customer: Customer, form: ParametersForm, error: ParameterFaults | DraftChanged
) -> Response:
    """The form again with what was typed: 422 with its faults, 409 on top of another's changes."""
    if isinstance(error, DraftChanged):
        return _show(customer, form, is_overtaken=True, status=409)
    for name, message in error.faults.items():
        form[name].errors = [message]
    return _show(customer, form, status=422)


def _show_version(
    customer: Customer, number: int, *, faults: dict[str, str] | None = None, status: int = 200
) -> Response:
    actor = current_actor()
    version = general_parameters.get_version(actor, customer, number)
    parameters = general_parameters.get_parameters(actor, customer)
    published = parameters.published or version
    compared, others, beside = _beside(customer, version, published)
    other = parameters.draft if beside is None else values_of(beside)
    values = values_of(version)
    different = differing(other, values)
    return respond(
        "parameters/show.html",
        status=status,
        customer=customer,
        version=version,
        published=published,
        compared=compared,
        others=others,
        rows=[
            {
                "title": title_of(parameter),
                "value": shown_text(parameter, values[name]),
                "other": shown_text(parameter, other[name]),
                "differs": name in different,
            }
            for name, parameter in PARAMETERS.items()
        ],
        different=len(different),
        changes=[title_of(PARAMETERS[name]) for name in differing(values_of(published), values)],
        has_changes=bool(parameters.differing),
        faults=faults or {},
        may_edit=actor.may(Permission.PARAMETERS_EDIT),
    )


def _beside(
    customer: Customer, version: GeneralParametersVersion, published: GeneralParametersVersion
) -> tuple[str, list[tuple[str, str]], GeneralParametersVersion | None]:
    """What to compare with (value and word), all there is to choose, and the version that it is.

    The version is None for the draft. A version is compared with the published one, and that one
    with the one before it, unless the address says otherwise.
    """
    newest, previous = published.number, version.number - 1
    wanted = request.args.get("with", "")
    number = newest if wanted == "published" else parse_number(wanted)
    if not 0 < number <= newest or number == version.number:
        number = newest if version.number != newest else previous
    offered = sorted({newest, previous, number} - {version.number, 0}, reverse=True)
    choices = [("draft", "The draft")]
    choices += [(str(each), f"Version {each}") for each in offered]
    if wanted == "draft" or not number:
        return "draft", choices, None
    beside = general_parameters.get_version(current_actor(), customer, number)
    return str(number), choices, beside
