"""All operations of the API, on the blueprint that `create_app` registers."""

from __future__ import annotations

from flask import Flask

from blueprints.api import (
    bundles,
    customers,
    direct_debits,
    mailings,
    requests,
    suppressions,
    users,
    webhooks,
)
from blueprints.api.docs_pages import docs_bp
from blueprints.api.operations import api_bp

RESOURCES = (
    customers,
    direct_debits,
    users,
    bundles,
    mailings,
    suppressions,
    requests,
    webhooks,
)
"""Importing them declares their operations."""


def init_app(app: Flask) -> None:
    """At the seed's address, and at the short one."""
    app.register_blueprint(api_bp, url_prefix="/api/v1")
    app.register_blueprint(api_bp, url_prefix="/tiab/api/v1", name="tiab_api")
    app.register_blueprint(docs_bp)
