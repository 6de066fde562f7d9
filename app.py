"""Foyer's web application: composition only."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from flask import Flask
from werkzeug.middleware.proxy_fix import ProxyFix

import blueprints.api.views as api
import cli
from blueprints import errors, pages, request_ids, security
from blueprints.account.second_factors import bp as second_factors
from blueprints.account.second_steps import bp as second_steps
from blueprints.account.sessions import bp as sessions
from blueprints.account.views import bp as account
from blueprints.api_access.views import bp as credentials
from blueprints.audit.views import bp as audit
from blueprints.audit.views import customer_bp as customer_audit
from blueprints.bundles.views import bp as bundles
from blueprints.commands.views import bp as commands
from blueprints.customer_home.views import bp as customer_home
from blueprints.customers.assignments import assignments_bp as customer_bundles
from blueprints.customers.details import details_bp as customer_details
from blueprints.customers.impersonations import impersonations_bp as impersonations
from blueprints.customers.new import new_bp as new_customers
from blueprints.customers.states import states_bp as customer_states
from blueprints.customers.views import bp as customers
from blueprints.email_templates.customer_views import bp as customer_templates
from blueprints.email_templates.views import bp as email_templates
from blueprints.groups.views import bp as groups
from blueprints.hooks.views import bp as hooks
from blueprints.mailings.views import bp as mailings
from blueprints.mailings.views import staff_bp as staff_mailings
from blueprints.parameters.views import bp as parameters
from blueprints.profiles.views import bp as profiles
from blueprints.provisioning.views import bp as provisioning
from blueprints.registration.entry import entry_bp as registration
from blueprints.registration.invitations import invitations_bp as invitations
from blueprints.registration.wizard import wizard_bp as wizard
from blueprints.routes import LazyRule
from blueprints.service_templates.views import bp as service_templates
from blueprints.setup.views import bp as setup
from blueprints.staff.policies import bp as policies
from blueprints.staff.views import bp as staff
from blueprints.staff.welcome import bp as staff_welcome
from blueprints.suppressions.views import bp as suppressions
from blueprints.system.views import bp as system
from blueprints.tenant_creation.actions import actions_bp as request_actions
from blueprints.tenant_creation.notifications import notifications_bp as request_notifications
from blueprints.tenant_creation.views import bp as tenant_creation
from blueprints.user_imports.views import bp as user_imports
from blueprints.users.accounts import bp as user_accounts
from blueprints.users.changes import bp as user_changes
from blueprints.users.views import bp as users
from blueprints.webhooks.views import bp as webhooks
from config import PROJECT_ROOT, Settings
from extensions import csrf, db, login_manager, migrate, queues

BLUEPRINTS = (
    account,
    audit,
    bundles,
    commands,
    credentials,
    customer_audit,
    customer_bundles,
    customer_details,
    customer_home,
    customer_states,
    customer_templates,
    customers,
    email_templates,
    groups,
    hooks,
    impersonations,
    invitations,
    mailings,
    new_customers,
    policies,
    profiles,
    provisioning,
    staff_mailings,
    parameters,
    registration,
    request_actions,
    request_notifications,
    second_factors,
    second_steps,
    service_templates,
    sessions,
    setup,
    staff,
    staff_welcome,
    suppressions,
    system,
    tenant_creation,
    user_accounts,
    user_changes,
    user_imports,
    users,
    webhooks,
    wizard,
)


class Foyer(Flask):
    """Flask for views that are plain functions."""

    def ensure_sync(self, func: Callable[..., Any]) -> Callable[..., Any]:
        """As it is: to ask each hook of each request whether it is a coroutine takes its time."""
        return func


def create_app(settings: Settings | None = None) -> Flask:
    """The application for `settings`, by default those of the environment.

    Raises SettingsError when the environment's are wrong or incomplete.
    """
    settings = settings or Settings.from_env()
    request_ids.init_logging()
    app = Foyer(__name__)
    app.url_rule_class = LazyRule
    app.config.from_mapping(settings.flask_config())
    app.extensions["settings"] = settings
    if settings.database_url.startswith("sqlite"):
        settings.var_dir.mkdir(parents=True, exist_ok=True)
    if settings.trusted_proxies:
        hops = settings.trusted_proxies
        app.wsgi_app = ProxyFix(app.wsgi_app, x_for=hops, x_proto=hops, x_host=hops)  # type: ignore[method-assign]
    db.init_app(app)
    migrate.init_app(app, db, directory=str(PROJECT_ROOT / "migrations"))
    # Its init_app would look for a "remember me" cookie after each request: there is none.
    app.login_manager = login_manager  # type: ignore[attr-defined]
    queues.init_app(app)
    request_ids.init_app(app)
    security.init_app(app)
    csrf.init_app(app)
    errors.init_app(app)
    pages.init_app(app)
    for blueprint in BLUEPRINTS:
        app.register_blueprint(blueprint)
    api.init_app(app)
    cli.init_app(app)
    return app
