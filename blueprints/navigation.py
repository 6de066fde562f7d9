"""The bar at the left: which areas a person has, in which sections, and where he starts."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

from flask import current_app, g, request, url_for
from flask_login import current_user
from markupsafe import Markup

from blueprints.security import current_actor, current_impersonation, current_session
from models import CUSTOMER_ROLES, STAFF_ROLES, Customer, Role
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

    def is_at(self, blueprint: str) -> bool:
        return blueprint == self.endpoint.partition(".")[0] or blueprint in self.blueprints

    def item(self, blueprint: str, web_id: str | None = None) -> NavItem:
        """The area as a page of `blueprint` shows it."""
        href = url_for(self.endpoint, web_id=web_id)
        return NavItem(self.label, self.icon, href, self.is_at(blueprint))


@dataclass(frozen=True, slots=True)
class _Reader:
    """All about a person that decides which areas he has."""

    role: Role | None
    granted: frozenset[Permission] | None
    of_customer: bool
    has_services: bool
    on_behalf: bool

    @property
    def is_staff(self) -> bool:
        return self.role in STAFF_ROLES

    def may(self, permission: Permission) -> bool:
        return Actor(None, "", self.role, granted=self.granted).may(permission)


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


def areas() -> Markup:
    """The sections that the signed-in person has, with their areas; none is empty."""
    if not current_user.is_authenticated:
        return Markup()
    on_behalf = current_impersonation() is not None
    is_held_up = current_user.must_change_password or current_session().lacks_second_factor
    if is_held_up and not on_behalf:
        return Markup()
    actor = current_actor()
    customer: Customer | None = g.get("customer") or current_user.customer
    reader = _Reader(
        actor.role,
        actor.granted,
        of_customer=actor.customer_id is not None,
        has_services=current_user.role in CUSTOMER_ROLES,
        on_behalf=on_behalf,
    )
    at = customer and (customer.web_id, customer.name)
    blueprint, endpoint = request.blueprint or "", request.endpoint or ""
    return _areas(reader, at, blueprint, endpoint, request.script_root)


@lru_cache(maxsize=1024)
def _areas(
    reader: _Reader, at: tuple[str, str] | None, blueprint: str, endpoint: str, _root: str
) -> Markup:
    """Kept by all that it depends on: what somebody may do is found out for every page.

    Addresses begin with `_root`, which is the request's.
    """
    found = []
    if at is not None:  # First: it is what one is at.
        web_id, name = at
        heading = name if reader.is_staff else ""
        found.append(NavSection(heading, _items_of(reader, web_id, blueprint)))
    if not reader.of_customer:
        found += [
            NavSection(
                heading if reader.is_staff else "",
                [area.item(blueprint) for area in areas if all(map(reader.may, area.needs))],
            )
            for heading, areas in _OF_STAFF
        ]
    found.append(NavSection("Yourself" if reader.is_staff else "", _own_items(reader, endpoint)))
    sections = [section for section in found if section.areas]
    template = current_app.jinja_env.get_template("_areas.html")
    return Markup(template.render(sections=sections))  # noqa: S704 - a template escapes


def _items_of(reader: _Reader, web_id: str, blueprint: str) -> list[NavItem]:
    """The areas of one customer: its own people's, or those that staff looks at."""
    items = []
    if any(map(reader.may, SEEN_AT_HOME)):
        href = url_for("customer_home.index", web_id=web_id)
        items.append(NavItem("Home", "house", href, blueprint == "customer_home"))
    left_out = _TEMPLATES if reader.is_staff else _DETAILS
    for area in _OF_CUSTOMER:
        if area is not left_out and all(map(reader.may, area.needs)):
            item = area.item(blueprint, web_id)
            if reader.is_staff and item.label in _ALSO_OF_ALL:
                item = replace(item, label=f"Customer {item.label.lower()}")
            items.append(item)
    return items


def _own_items(reader: _Reader, endpoint: str) -> list[NavItem]:
    items = []
    if reader.has_services:
        href = url_for("account.services")
        items.append(NavItem("My services", "layout-grid", href, endpoint == "account.services"))
    if not reader.on_behalf:
        href = url_for("account.profile")
        items.append(NavItem("My profile", "circle-user", href, endpoint == "account.profile"))
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
