"""What every page knows: its areas, theme and brand."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC
from functools import cache
from typing import Any

from flask import Flask, Response, g, request, url_for
from flask_login import current_user
from werkzeug.local import LocalProxy

from blueprints import markup
from blueprints.formats import register_formats
from blueprints.security import (
    current_actor,
    current_impersonation,
    current_session,
    public,
)
from config import LANGUAGES
from extensions import get_settings
from models import Role
from services import subscription_requests
from services.actors import Actor, Permission

THEMES = ("system", "light", "dark")

SEEN_AT_HOME = (Permission.USERS_READ, Permission.PARAMETERS_READ)
"""A customer's home is for who has one of these; every other permission there needs one of them."""

_OF_USERS = {
    "users",
    "user_accounts",
    "user_changes",
    "user_imports",
    "profiles",
    "suppressions",
}


@dataclass(frozen=True, slots=True)
class NavItem:
    """An area in the bar at the left; `current` where the page belongs to it."""

    label: str
    icon: str
    href: str
    current: bool


@dataclass(frozen=True, slots=True)
class Brand:
    name: str
    support_email: str
    stylesheet: str


def theme() -> str:
    chosen = request.cookies.get("theme", "")
    return chosen if chosen in THEMES else "system"


def nav_items() -> list[NavItem]:
    """The areas the signed-in person's role has, in their order."""
    if not current_user.is_authenticated:
        return []
    on_behalf = current_impersonation() is not None
    is_held_up = current_user.must_change_password or current_session().lacks_second_factor
    if is_held_up and not on_behalf:
        return []
    actor = current_actor()
    here = request.blueprint
    customer = g.get("customer") or current_user.customer
    items = []
    if actor.may(Permission.CUSTOMERS_READ):
        href = url_for("customers.index")
        is_here = here in {"customers", "new_customers"}
        items.append(NavItem("Customers", "building-2", href, is_here))
        href = url_for("staff_mailings.index")
        items.append(NavItem("Mailings", "mails", href, here == "staff_mailings"))
    if actor.may(Permission.CUSTOMERS_READ):
        href = url_for("bundles.index")
        items.append(NavItem("Bundles", "package", href, here == "bundles"))
    if actor.may(Permission.GROUPS_MANAGE):
        href = url_for("groups.index")
        items.append(NavItem("Groups", "library", href, here == "groups"))
    if actor.may(Permission.TENANTS_REGISTER):
        href = url_for("wizard.index")
        is_here = here in {"wizard", "invitations"}
        items.append(NavItem("Tenant Registration", "clipboard-list", href, is_here))
    if actor.may(Permission.REQUESTS_READ):
        href = url_for("tenant_creation.index")
        is_here = here in {"tenant_creation", "request_actions", "request_notifications"}
        items.append(NavItem("Tenant Creation Management", "list-checks", href, is_here))
    if actor.may(Permission.COMMANDS_READ):
        href = url_for("commands.index")
        items.append(NavItem("Commands", "square-terminal", href, here == "commands"))
    if actor.may(Permission.PROVISIONING_READ):
        href = url_for("provisioning.index")
        items.append(NavItem("Provisioning", "calendar-clock", href, here == "provisioning"))
    if actor.may(Permission.AUDIT_READ) and actor.may(Permission.CUSTOMERS_READ):
        href = url_for("audit.index")
        items.append(NavItem("Audit", "scroll-text", href, here == "audit"))
    if actor.may(Permission.CUSTOMERS_READ) and actor.may(Permission.TEMPLATES_READ):
        href = url_for("service_templates.index")
        items.append(NavItem("Service templates", "layers", href, here == "service_templates"))
    if actor.may(Permission.TEMPLATES_READ):
        href = url_for("email_templates.index")
        items.append(NavItem("E-mail templates", "file-text", href, here == "email_templates"))
    if actor.may(Permission.STAFF_MANAGE):
        href = url_for("staff.index")
        items.append(NavItem("Staff", "shield-check", href, here in {"staff", "policies"}))
    if actor.may(Permission.CREDENTIALS_MANAGE):
        href = url_for("credentials.index")
        items.append(NavItem("API", "key-round", href, here == "credentials"))
    if actor.may(Permission.WEBHOOKS_READ):
        href = url_for("webhooks.index")
        items.append(NavItem("Webhooks", "zap", href, here == "webhooks"))
    if customer is not None and actor.may_any(*SEEN_AT_HOME):
        href = url_for("customer_home.index", web_id=customer.web_id)
        items.append(NavItem("Home", "house", href, here == "customer_home"))
    if customer is not None and actor.may(Permission.USERS_READ):
        web_id = customer.web_id
        if actor.may(Permission.CUSTOMERS_READ):
            href = url_for("customer_details.show", web_id=web_id)
            is_here = here in {
                "customer_details",
                "customer_states",
                "customer_bundles",
                "impersonations",
            }
            items.append(NavItem("Details", "building", href, is_here))
        href = url_for("users.index", web_id=web_id)
        items.append(NavItem("Users", "users", href, here in _OF_USERS))
        if actor.may(Permission.MAILINGS_READ):
            href = url_for("mailings.index", web_id=web_id)
            label = "Customer mailings" if current_user.is_staff else "Mailings"
            items.append(NavItem(label, "mail", href, here == "mailings"))
            if not current_user.is_staff or actor.customer_id is not None:
                href = url_for("customer_templates.index", web_id=web_id)
                is_here = here == "customer_templates"
                items.append(NavItem("E-mail templates", "file-text", href, is_here))
        href = url_for("setup.index", web_id=web_id)
        items.append(NavItem("Setup instructions", "life-buoy", href, here == "setup"))
    if customer is not None and actor.may(Permission.PARAMETERS_READ):
        href = url_for("parameters.index", web_id=customer.web_id)
        label = "General parameters"
        items.append(NavItem(label, "sliders-horizontal", href, here == "parameters"))
    if customer is not None and actor.may(Permission.AUDIT_READ):
        href = url_for("customer_audit.index", web_id=customer.web_id)
        label = "Customer audit" if current_user.is_staff else "Audit"
        items.append(NavItem(label, "scroll-text", href, here == "customer_audit"))
    at = request.endpoint
    if current_user.role in {Role.USER, Role.SUPERVISOR, Role.CUSTOMER_ADMIN}:
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


@dataclass(frozen=True, slots=True)
class ImpersonationShown:
    """Whom one is signed in as, for the banner."""

    name: str
    customer: str
    stop_url: str


def _impersonation_shown() -> ImpersonationShown | None:
    found = current_impersonation()
    if found is None:
        return None
    return ImpersonationShown(
        found.administrator.full_name, found.customer.name, url_for("impersonations.end")
    )


def _context() -> dict[str, Any]:
    settings = get_settings()
    return {
        # Both are looked up only by pages that show them: an error page must not need the database.
        "nav_items": LocalProxy(cache(nav_items)),
        "current_user": current_user,
        "impersonation": LocalProxy(_impersonation_shown),
        "theme": theme(),
        "nav": request.cookies.get("nav", "auto"),
        "language": "en",
        "language_name": LANGUAGES["en"],
        "brand": Brand(settings.provider_name, settings.support_email, url_for("brand_stylesheet")),
    }


def init_app(app: Flask) -> None:
    app.context_processor(_context)

    register_formats(app, zone=lambda: UTC, language=lambda: "en")
    markup.init_app(app, zone=lambda: UTC)

    @app.get("/brand.css")
    @public
    def brand_stylesheet() -> Response:
        """The provider's colour, as a sheet of its own because pages hold no inline style."""
        css = f":root {{ --brand: {get_settings().provider_accent}; }}\n"
        response = Response(css, mimetype="text/css")
        response.headers["Cache-Control"] = "public, max-age=300"
        return response
