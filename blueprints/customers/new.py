"""A customer without the wizard: everything on one page, submitted as other systems' orders are."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from flask import Blueprint, Response, flash, request, url_for

from blueprints.customers.forms import NewForm, parse_choice
from blueprints.forms import apply_refusal
from blueprints.htmx import go, respond
from blueprints.registration.wizard_forms import read_typed
from blueprints.registration.wizard_pages import cards_of
from blueprints.security import current_actor, staff_page
from config import LANGUAGES
from extensions import get_settings
from models import ServiceTemplateVersion
from services import countries, groups, preparations, registration_orders, service_templates
from services.actors import Permission
from services.errors import Conflict, InvalidInput, InvalidInputs
from services.registration_checks import FIELDS, Tab
from services.registration_orders import OptionValue, Order
from services.service_templates import option_field

new_bp = Blueprint("new_customers", __name__)

_NAMES = (*FIELDS[Tab.TENANT], *FIELDS[Tab.CONTACT])


@new_bp.route("/customers/new", methods=["GET", "POST"])
@staff_page(Permission.TENANTS_REGISTER)
def new() -> Response:
    """The form, with what was typed whatever is wrong with it; then the request's own page."""
    actor = current_actor()
    offered = service_templates.list_offered(actor)
    mine = groups.list_mine(actor)
    if request.method == "GET" and not (offered and mine):
        needed = preparations.find_preparations(actor)
        return respond("customers/not_yet.html", preparations=needed)
    country = get_settings().provider_country
    form = NewForm(
        data={
            "group": str(mine[0].id) if len(mine) == 1 else "",
            "country": country,
            "language": next(iter(LANGUAGES)),
            "time_zone": countries.find_time_zone(country) or "",
        }
    )
    form.group.choices = {
        "": "Choose a group",
        **{str(each.id): f"{each.groupno} {each.name}" for each in mine},
    }
    typed = read_typed(Tab.TEMPLATE, offered) if request.method == "POST" else {}
    if not form.validate_on_submit():
        return _show(form, offered, typed, {}, status=422 if form.errors else 200)
    group = next((each for each in mine if each.id == parse_choice(form.group.data)), None)
    faults: list[tuple[str, str]] = []
    if group is None:
        faults.append(("group", "Choose the group that the customer belongs to."))
    order = _read_order(form, offered, typed, faults)
    try:
        if faults or group is None:
            told = {name for name, _ in faults}
            others = registration_orders.find_faults(actor, order)
            raise InvalidInputs([*faults, *(each for each in others if each[0] not in told)])
        submitted = registration_orders.submit_order(actor, group, order)
    except (InvalidInputs, Conflict) as error:
        return _refuse(form, offered, typed, error)
    flash(f"{submitted.name} is being created. This page says how far it is.", "good")
    return go(url_for("tenant_creation.show", request_id=submitted.id))


def _read_order(
    form: NewForm,
    offered: list[ServiceTemplateVersion],
    typed: Mapping[str, str],
    faults: list[tuple[str, str]],
) -> Order:
    """The order that the form is; options that cannot be read are noted in `faults`."""
    chosen = parse_choice(typed.get("template"))
    version = next((each for each in offered if each.template_id == chosen), None)
    options: dict[str, OptionValue] = {}
    if version is not None:
        for option in version.options:
            text = typed.get(option_field(version, option), "")
            try:
                options[option.name] = service_templates.check_option(version, option, text)
            except InvalidInput as error:
                faults.append((error.field, error.message))
    values = {name: form[name].data or "" for name in _NAMES}
    return Order(template=chosen or 0, values=values, options=options)


def _refuse(
    form: NewForm,
    offered: list[ServiceTemplateVersion],
    typed: Mapping[str, str],
    error: InvalidInputs | Conflict,
) -> Response:
    """The faults at their fields; those of template and options at the cards."""
    errors: dict[str, str] = {}
    if isinstance(error, InvalidInputs):
        chosen = parse_choice(typed.get("template"))
        rest = []
        for name, message in error.faults:
            if name == "template":
                errors[name] = "Choose a service template." if chosen is None else message
            elif name.startswith("options."):
                errors[f"option-{chosen}-{name.removeprefix('options.')}"] = message
            elif name.startswith("option-"):
                errors[name] = message
            else:
                rest.append((name, message))
        error = InvalidInputs(rest)
    apply_refusal(form, error)
    return _show(form, offered, typed, errors, status=422)


def _show(
    form: NewForm,
    offered: list[ServiceTemplateVersion],
    typed: Mapping[str, str],
    errors: Mapping[str, str],
    *,
    status: int,
) -> Response:
    chosen: dict[str, Any] = dict(typed)
    if len(offered) == 1:
        chosen.setdefault("template", str(offered[0].template_id))
    return respond(
        "customers/new.html",
        form=form,
        cards=cards_of(offered, chosen, errors),
        errors=errors,
        said={},
        status=status,
    )
