"""The bar at the left: which areas a person has, in which sections, and where he starts."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from flask import g, request, url_for
from flask_login import current_user

from blueprints.security import current_actor, current_impersonation, current_session
from models import CUSTOMER_ROLES, Customer
from services import subscription_requests
from services.actors import Actor, Permission

SEEN_AT_HOME = (Permission.USERS_READ, Permission.PARAMETERS_READ)
"""A customer's home is for who has one of these; every other permission there needs one of them."""


@dataclass(frozen=True, slots=True)
class NavItem:
    """An area; `current` where the page belongs to it."""

    label: str
    icon: str
    href: str
    current: bool


@dataclass(frozen=True, slots=True)
class NavSection:
    """Areas that belong together, under a heading or none."""

    heading: str
    areas: list[NavItem]


@dataclass(frozen=True, slots=True)
class _Area:
    """An area of staff or of a customer, for who has all of `needs`.

    `blueprints` are those whose pages belong to it, beside that of `endpoint`.
    """

    label: str
    icon: str
    endpoint: str
    needs: tuple[Permission, ...]
    blueprints: frozenset[str] = frozenset()

    def is_here(self) -> bool:
        here = request.blueprint or ""
        return here == self.endpoint.partition(".")[0] or here in self.blueprints

    def item(self, web_id: str | None = None) -> NavItem:
        href = url_for(self.endpoint, web_id=web_id)
        return NavItem(self.label, self.icon, href, self.is_here())


_SEES_CUSTOMERS = Permission.CUSTOMERS_READ

_OF_STAFF: tuple[tuple[str, tuple[_Area, ...]], ...] = (
    (
        "Customers",
        (
            _Area(
                "Customers",
                "building-2",
                "customers.index",
                (_SEES_CUSTOMERS,),
                frozenset({"new_customers"}),
            ),
            _Area("Bundles", "package", "bundles.index", (_SEES_CUSTOMERS,)),
            _Area("Groups", "library", "groups.index", (Permission.GROUPS_MANAGE,)),
        ),
    ),
    (
        "Mail",
        (
            _Area("Mailings", "mails", "staff_mailings.index", (_SEES_CUSTOMERS,)),
            _Area(
                "E-mail templates",
                "file-text",
                "email_templates.index",
                (Permission.TEMPLATES_READ,),
            ),
            _Area("Commands", "square-terminal", "commands.index", (Permission.COMMANDS_READ,)),
        ),
    ),
    (
        "New tenants",
        (
            _Area(
                "Tenant Registration",
                "clipboard-list",
                "wizard.index",
                (Permission.TENANTS_REGISTER,),
                frozenset({"invitations"}),
            ),
            _Area(
                "Tenant Creation Management",
                "list-checks",
                "tenant_creation.index",
                (Permission.REQUESTS_READ,),
                frozenset({"request_actions", "request_notifications"}),
            ),
            _Area(
                "Service templates",
                "layers",
                "service_templates.index",
                (_SEES_CUSTOMERS, Permission.TEMPLATES_READ),
            ),
            _Area(
                "Provisioning",
                "calendar-clock",
                "provisioning.index",
                (Permission.PROVISIONING_READ,),
            ),
        ),
    ),
    (
        "Administration",
        (
            _Area(
                "Staff",
                "shield-check",
                "staff.index",
                (Permission.STAFF_MANAGE,),
                frozenset({"policies"}),
            ),
            _Area("API", "key-round", "credentials.index", (Permission.CREDENTIALS_MANAGE,)),
            _Area("Webhooks", "zap", "webhooks.index", (Permission.WEBHOOKS_READ,)),
            _Area("Audit", "scroll-text", "audit.index", (Permission.AUDIT_READ, _SEES_CUSTOMERS)),
        ),
    ),
)

_DETAILS = _Area(
    "Details",
    "building",
    "customer_details.show",
    (Permission.USERS_READ, _SEES_CUSTOMERS),
    frozenset({"customer_states", "customer_bundles", "impersonations"}),
)
_TEMPLATES = _Area(
    "E-mail templates",
    "file-text",
    "customer_templates.index",
    (Permission.USERS_READ, Permission.MAILINGS_READ),
)
_OF_CUSTOMER: tuple[_Area, ...] = (
    _DETAILS,
    _Area(
        "Users",
        "users",
        "users.index",
        (Permission.USERS_READ,),
        frozenset({"user_accounts", "user_changes", "user_imports", "profiles", "suppressions"}),
    ),
    _Area("Mailings", "mail", "mailings.index", (Permission.USERS_READ, Permission.MAILINGS_READ)),
    _TEMPLATES,
    _Area("Setup instructions", "life-buoy", "setup.index", (Permission.USERS_READ,)),
    _Area(
        "General parameters",
        "sliders-horizontal",
        "parameters.index",
        (Permission.PARAMETERS_READ,),
    ),
    _Area("Audit", "scroll-text", "customer_audit.index", (Permission.AUDIT_READ,)),
)

_ALSO_OF_ALL = {"Mailings", "Audit"}
"""Areas that staff has of one customer and of all."""


def nav_sections() -> list[NavSection]:
    """The sections that the signed-in person has, with their areas; none is empty."""
    if not current_user.is_authenticated:
        return []
    on_behalf = current_impersonation() is not None
    is_held_up = current_user.must_change_password or current_session().lacks_second_factor
    if is_held_up and not on_behalf:
        return []
    actor = current_actor()
    customer: Customer | None = g.get("customer") or current_user.customer
    found = []
    if customer is not None:  # First: it is what one is at.
        heading = customer.name if actor.is_staff else ""
        found.append(NavSection(heading, _items_of(actor, customer)))
    if actor.customer_id is None:
        found += [
            NavSection(
                heading if actor.is_staff else "",
                [area.item() for area in areas if all(map(actor.may, area.needs))],
            )
            for heading, areas in _OF_STAFF
        ]
    found.append(NavSection("Yourself" if actor.is_staff else "", _own_items(on_behalf)))
    return [section for section in found if section.areas]


def _items_of(actor: Actor, customer: Customer) -> list[NavItem]:
    """The areas of one customer: its own people's, or those that staff looks at."""
    items = []
    if actor.may_any(*SEEN_AT_HOME):
        href = url_for("customer_home.index", web_id=customer.web_id)
        items.append(NavItem("Home", "house", href, request.blueprint == "customer_home"))
    left_out = _TEMPLATES if actor.is_staff else _DETAILS
    for area in _OF_CUSTOMER:
        if area is not left_out and all(map(actor.may, area.needs)):
            item = area.item(customer.web_id)
            if actor.is_staff and item.label in _ALSO_OF_ALL:
                item = replace(item, label=f"Customer {item.label.lower()}")
            items.append(item)
    return items


def _own_items(on_behalf: bool) -> list[NavItem]:
    at = request.endpoint
    items = []
    if current_user.role in CUSTOMER_ROLES:
        href = url_for("account.services")
        items.append(NavItem("My services", "layout-grid", href, at == "account.services"))
    if not on_behalf:
        href = url_for("account.profile")
        items.append(NavItem("My profile", "circle-user", href, at == "account.profile"))
    return items


def home_for(user: Any) -> str:
    """The address of the page that a person starts from."""
    actor = Actor.from_user(user)
    if actor.may(Permission.CUSTOMERS_READ):
        return url_for("customers.index")
    if user.customer_id is not None and actor.may_any(*SEEN_AT_HOME):
        return url_for("customer_home.index", web_id=user.customer.web_id)
    if actor.may(Permission.REQUESTS_READ):
        if subscription_requests.has_submitted(actor):
            return url_for("tenant_creation.index")
        return url_for("registration.start")
    if user.customer_id is not None:
        return url_for("account.services")
    return url_for("account.profile")
