"""What every page knows: its areas, theme and brand."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC
from typing import Any

from flask import Flask, Response, request, url_for
from flask_login import current_user
from werkzeug.local import LocalProxy

from blueprints import markup
from blueprints.formats import register_formats
from blueprints.navigation import areas
from blueprints.security import (
    current_impersonation,
    public,
)
from config import LANGUAGES
from extensions import get_settings

THEMES = ("system", "light", "dark")
_BRAND_STYLESHEET = "/brand.css"


@dataclass(frozen=True, slots=True)
class Brand:
    name: str
    support_email: str
    stylesheet: str


def theme() -> str:
    chosen = request.cookies.get("theme", "")
    return chosen if chosen in THEMES else "system"


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
        # Both are looked up only where they are shown: an error page must not need the database.
        "areas": areas,
        "current_user": current_user,
        "impersonation": LocalProxy(_impersonation_shown),
        "theme": theme(),
        "nav": request.cookies.get("nav", "auto"),
        "language": "en",
        "language_name": LANGUAGES["en"],
        "brand": Brand(settings.provider_name, settings.support_email, _BRAND_STYLESHEET),
    }


def init_app(app: Flask) -> None:
    app.context_processor(_context)

    register_formats(app, zone=lambda: UTC, language=lambda: "en")
    markup.init_app(app, zone=lambda: UTC)

    @app.get(_BRAND_STYLESHEET)
    @public
    def brand_stylesheet() -> Response:
        """The provider's colour, as a sheet of its own because pages hold no inline style."""
        css = f":root {{ --brand: {get_settings().provider_accent}; }}\n"
        response = Response(css, mimetype="text/css")
        response.headers["Cache-Control"] = "public, max-age=300"
        return response
