"""What a request asks for, by the tabs of the registration; the password is in none of them."""

from __future__ import annotations

from config import LANGUAGES
from models import SubscriptionRequest
from services import countries, domain_names, phone_numbers, service_templates
from services.subscription_requests import template_name_of

Pairs = list[tuple[str, str]]


def describe_asked(request: SubscriptionRequest) -> list[tuple[str, Pairs]]:
    """Titles with labels and values, as texts."""
    return [
        ("Template", _template(request)),
        ("Tenant", _tenant(request)),
        ("Contact", _contact(request)),
    ]


def _template(request: SubscriptionRequest) -> Pairs:
    version = request.template_version
    pairs = [("Template", template_name_of(request))]
    if version is None:
        return pairs
    if version.bundles:
        pairs.append(("Bundles", ", ".join(bundle.name for bundle in version.bundles)))
    for option in version.options:
        if option.name in request.options:
            chosen = service_templates.show_option(request.options[option.name])
            pairs.append((option.label, chosen))
    return pairs


def _tenant(request: SubscriptionRequest) -> Pairs:
    return [
        ("Name", request.name),
        ("Short Name", request.short_name),
        ("UPN Suffix", _domain(request.upn_suffix)),
        ("Administrator", request.admin_login),
        ("Password", "Chosen by the registrant, shown to nobody"),
        ("ANI", _number(request.ani)),
    ]


def _contact(request: SubscriptionRequest) -> Pairs:
    place = " ".join(filter(None, (request.postal_code, request.city)))
    country = countries.country_name(request.country) if request.country else ""
    address = ", ".join(filter(None, (request.street, place, request.region, country)))
    return [
        ("Company", request.company),
        ("Address", address),
        ("Contact person", request.contact_name),
        ("E-mail", request.contact_email),
        ("Phone", _number(request.contact_phone)),
        ("Language", LANGUAGES.get(request.language, request.language)),
        ("Time zone", request.time_zone),
    ]


def _number(stored: str) -> str:
    shown = phone_numbers.show_number(stored) if stored else None
    return shown.international if shown else stored


def _domain(suffix: str) -> str:
    """With its letters, where those are not what is stored."""
    name = domain_names.show_name(suffix)
    return suffix if name.unicode == suffix else f"{name.unicode} ({suffix})"
