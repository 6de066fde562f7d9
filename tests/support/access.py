"""Who may do what: every route with the path, the data and the answers that tests expect of it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

ROLES = (
    "nobody",
    "landlord",
    "operator",
    "operator of group 2",
    "auditor",
    "admin",
    "admin of another customer",
    "supervisor",
    "supervisor of everything",
    "user",
    "prospect",
    "must change",
)
SIGNED_IN = frozenset(ROLES) - {"nobody", "must change"}
STAFF = frozenset({"landlord", "operator", "operator of group 2", "auditor"})
READERS = frozenset({"landlord", "operator", "auditor", "admin", "supervisor of everything"})
SENDERS = READERS - {"auditor"}
MANAGERS = frozenset({"landlord", "operator"})
STRANGERS = frozenset({"operator of group 2", "admin of another customer", "prospect"})
"""Outside the scope of CQ001, so that its pages are not there for them."""

_SELECTING = "mailings.send or users.edit or users.suspend or users.delete"

DEMANDS: dict[str, frozenset[str]] = {
    "public": frozenset(ROLES),
    "signed in": SIGNED_IN,
    "customers.read": STAFF,
    "users.read of a customer": READERS,
    "mailings.read of a customer": READERS,
    "mailings.send of a customer": SENDERS,
    "parameters.read of a customer": READERS,
    "parameters.edit of a customer": SENDERS,
    "users.read or parameters.read of a customer": READERS,
    "users.add of a customer": SENDERS,
    "users.edit of a customer": SENDERS,
    "users.suspend of a customer": SENDERS,
    "users.delete of a customer": SENDERS,
    "users.import of a customer": SENDERS,
    "suppressions.edit of a customer": SENDERS,
    f"{_SELECTING} of a customer": SENDERS,
    f"{_SELECTING} or users.export of a customer": READERS,
    "profiles.edit of a customer": SENDERS - {"supervisor of everything"},
    "setup.edit of a customer": SENDERS,
    "service_templates.edit": frozenset({"landlord"}),
    "commands.read": STAFF,
    "commands.run": STAFF - {"auditor"},
    "requests.read": STAFF | {"prospect"},
    "requests.manage": STAFF - {"auditor"},
    "provisioning.read": STAFF,
    "provisioning.pause": frozenset({"landlord", "operator"}),  # Who works for all groups.
    "provisioning.plan": frozenset({"landlord"}),
    "credentials.manage": frozenset({"landlord"}),
    "webhooks.read": frozenset({"landlord"}),
    "webhooks.edit": frozenset({"landlord"}),
    "prospects.invite": STAFF - {"auditor"},
    "tenants.register": STAFF - {"auditor"} | {"prospect"},
    "mailings.read of staff": STAFF,
    "templates.read of staff": STAFF,
    "templates.read": STAFF,
    "templates.edit": STAFF - {"auditor"},
    "mailings.send of staff": STAFF - {"auditor"},
    "staff.manage": frozenset({"landlord"}),
    "audit.read of staff": STAFF,
    "audit.read of a customer": READERS,
    "customers.read of a customer": MANAGERS | {"auditor"},
    "customers.edit of a customer": MANAGERS,
    "customers.close of a customer": MANAGERS,
    "customers.impersonate of a customer": MANAGERS,
    "bundles.edit": STAFF - {"auditor"},
    "bundles.edit of a customer": MANAGERS,
    "groups.manage": frozenset({"landlord"}),
    "groups.manage of a customer": frozenset({"landlord"}),
    "tenants.register of staff": STAFF - {"auditor"},
}

CQ001 = "/customers/CQ001"


@dataclass(frozen=True)
class Expected:
    """How a route answers those who may: `path` and `data` may name ids of the world.

    `hidden_from` are roles that may ask for such a thing, but not for this one. `takes_token` is
    False for what machines send: they have no session whose token it could be.
    """

    demands: str
    path: str
    status: int | set[int] = 200
    data: dict[str, Any] = field(default_factory=dict)
    fragment: int | set[int] | None = None
    open_to_must_change: bool = False
    hidden_from: frozenset[str] = frozenset()
    takes_token: bool = True


ELSEWHERE = frozenset({"operator of group 2"})
OTHER_AUTHORS = STAFF - {"auditor"}
"""Who registers tenants, but has not begun the prospect's draft."""

_REQUEST = "/tenant-creation-management/{told}"
_CREDENTIAL = "/api-credentials/{credential}"
_WEBHOOK = "/webhooks/{webhook}"
_MESSAGE = f"{_WEBHOOK}/messages/{{message}}"
_SERVICE = "/service-templates/{service}"
_SETUP_FILE = CQ001 + "/setup/files/{file}"
_NOTIFICATION = f"{_REQUEST}/notifications/{{notification}}"
_STAFF = "/staff/{staff}"


def _factors(path: str, status: int | set[int]) -> Expected:
    """A page of one's own second factors; a prospect, who has none, is sent to his profile."""
    answers = {303} | (status if isinstance(status, set) else {status})
    return Expected(
        "signed in", f"/account/second-factors{path}", answers, fragment={*answers, 204}
    )


_IMPORT = CQ001 + "/users/imports/{import}"
_CHECKED = CQ001 + "/users/imports/{checked}"

_TEMPLATE = "/email-templates/{free}"
_TEMPLATE_OF = CQ001 + "/email-templates/{template}"

EXPECTED: dict[tuple[str, str], Expected] = {
    ("account.home", "GET"): Expected("public", "/", 303, fragment=204),
    ("account.sign_in", "GET"): Expected("public", "/login", {200, 303}, fragment={200, 204}),
    ("account.sign_in", "POST"): Expected("public", "/login", {422, 303}),
    ("account.old_sign_in", "GET"): Expected("public", "/konos/sp/spLogin.do", 301),
    ("account.sign_out", "POST"): Expected(
        "signed in", "/account/sign-out", 303, open_to_must_change=True
    ),
    ("account.forgot_password", "GET"): Expected("public", "/password/forgot"),
    ("account.forgot_password", "POST"): Expected("public", "/password/forgot", 422),
    ("account.choose_password", "GET"): Expected("public", "/password/choose/none", 410),
    ("account.choose_password", "POST"): Expected("public", "/password/choose/none", 410),
    ("account.change_password", "GET"): Expected(
        "signed in",
        "/account/password",
        {200, 303},
        fragment={200, 204},
        open_to_must_change=True,
    ),
    ("account.change_password", "POST"): Expected(
        "signed in", "/account/password", {422, 303}, open_to_must_change=True
    ),
    ("account.profile", "GET"): Expected("signed in", "/account/profile"),
    ("account.services", "GET"): Expected("signed in", "/account/services"),
    ("account.set_theme", "POST"): Expected("public", "/account/theme", 303, {"theme": "dark"}),
    ("api_docs.document", "GET"): Expected("public", "/api/v1/openapi.json"),
    ("api_docs.index", "GET"): Expected("public", "/api/v1/docs"),
    ("api_docs.problem", "GET"): Expected("public", "/api/v1/problems/conflict"),
    ("audit.index", "GET"): Expected("audit.read of staff", "/audit"),
    ("audit.show", "GET"): Expected("audit.read of staff", "/audit/{event}", hidden_from=ELSEWHERE),
    ("audit.export", "POST"): Expected("audit.read of staff", "/audit/export"),
    ("customer_audit.index", "GET"): Expected("audit.read of a customer", f"{CQ001}/audit"),
    ("customer_audit.show", "GET"): Expected("audit.read of a customer", CQ001 + "/audit/{event}"),
    ("customer_audit.export", "POST"): Expected(
        "audit.read of a customer", f"{CQ001}/audit/export"
    ),
    ("brand_stylesheet", "GET"): Expected("public", "/brand.css"),
    ("static", "GET"): Expected("public", "/static/css/base.css"),
    ("system.healthz", "GET"): Expected("public", "/healthz"),
    ("system.readyz", "GET"): Expected("public", "/readyz"),
    ("system.metrics", "GET"): Expected("public", "/metrics"),
    ("customers.index", "GET"): Expected("customers.read", "/customers"),
    ("new_customers.new", "GET"): Expected("tenants.register of staff", "/customers/new"),
    ("new_customers.new", "POST"): Expected(
        "tenants.register of staff", "/customers/new", 422, {"name": "x"}
    ),
    ("customer_details.show", "GET"): Expected("customers.read of a customer", f"{CQ001}/details"),
    ("customer_details.edit", "GET"): Expected(
        "customers.edit of a customer", f"{CQ001}/details/edit"
    ),
    ("customer_details.edit", "POST"): Expected(
        "customers.edit of a customer", f"{CQ001}/details/edit", 422, {"version": "1"}
    ),
    ("customer_details.group", "GET"): Expected(
        "groups.manage of a customer", f"{CQ001}/details/group"
    ),
    ("customer_details.group", "POST"): Expected(
        "groups.manage of a customer", f"{CQ001}/details/group", 422, {"group": "0", "version": "1"}
    ),
    **{
        (f"customer_states.{verb}", method): Expected(
            "customers.close of a customer",
            f"{CQ001}/{verb}",
            303 if verb in {"resume", "restore"} else {"GET": 200, "POST": 422}[method],
            {"reason": ""},
            fragment=204 if verb in {"resume", "restore"} else None,
        )
        for verb in ("suspend", "resume", "delete", "restore")
        for method in ("GET", "POST")
    },
    ("customer_bundles.assign", "GET"): Expected(
        "bundles.edit of a customer", f"{CQ001}/bundles/assign", {200, 303}, fragment={200, 204}
    ),
    ("customer_bundles.assign", "POST"): Expected(
        "bundles.edit of a customer", f"{CQ001}/bundles/assign", {422, 303}
    ),
    ("customer_bundles.move", "GET"): Expected(
        "bundles.edit of a customer", f"{CQ001}/bundles/{{bundle}}/move"
    ),
    ("customer_bundles.move", "POST"): Expected(
        "bundles.edit of a customer", f"{CQ001}/bundles/{{bundle}}/move", 422
    ),
    ("customer_bundles.remove", "POST"): Expected(
        "bundles.edit of a customer", f"{CQ001}/bundles/{{bundle}}/remove", 303
    ),
    ("impersonations.begin", "GET"): Expected(
        "customers.impersonate of a customer", f"{CQ001}/sign-in-as"
    ),
    ("impersonations.begin", "POST"): Expected(
        "customers.impersonate of a customer", f"{CQ001}/sign-in-as", 422
    ),
    ("impersonations.end", "POST"): Expected("signed in", "/impersonation/end", 303),
    ("bundles.index", "GET"): Expected("customers.read", "/bundles"),
    ("bundles.new", "GET"): Expected("bundles.edit", "/bundles/new"),
    ("bundles.new", "POST"): Expected("bundles.edit", "/bundles/new", 422),
    ("bundles.show", "GET"): Expected("customers.read", "/bundles/{bundle}"),
    **{
        (f"bundles.{verb}", method): Expected(
            "bundles.edit",
            f"/bundles/{{bundle}}/{verb}",
            {"GET": 200, "POST": 422}[method],
            {"services": "x" * 501},
        )
        for verb in ("edit", "assign", "remove")
        for method in ("GET", "POST")
    },
    ("bundles.archive", "POST"): Expected("bundles.edit", "/bundles/{bundle}/archive", 303),
    ("bundles.restore", "POST"): Expected("bundles.edit", "/bundles/{bundle}/restore", 303),
    ("groups.index", "GET"): Expected("groups.manage", "/groups"),
    ("groups.new", "GET"): Expected("groups.manage", "/groups/new"),
    ("groups.new", "POST"): Expected("groups.manage", "/groups/new", 422),
    ("groups.show", "GET"): Expected("groups.manage", "/groups/1"),
    ("groups.rename", "GET"): Expected("groups.manage", "/groups/1/rename"),
    ("groups.rename", "POST"): Expected("groups.manage", "/groups/1/rename", 422, {"name": ""}),
    ("customer_home.index", "GET"): Expected("users.read or parameters.read of a customer", CQ001),
    ("parameters.index", "GET"): Expected(
        "parameters.read of a customer", f"{CQ001}/general-parameters"
    ),
    ("parameters.check", "GET"): Expected(
        "parameters.read of a customer",
        f"{CQ001}/general-parameters/check?number_shown=1",
        303,
        fragment=200,
    ),
    ("parameters.versions", "GET"): Expected(
        "parameters.read of a customer", f"{CQ001}/general-parameters/versions"
    ),
    ("parameters.show", "GET"): Expected(
        "parameters.read of a customer", f"{CQ001}/general-parameters/versions/1"
    ),
    ("parameters.save", "POST"): Expected(
        "parameters.edit of a customer", f"{CQ001}/general-parameters", 422
    ),
    ("parameters.publish", "POST"): Expected(
        "parameters.edit of a customer", f"{CQ001}/general-parameters/publish", 422
    ),
    ("parameters.discard", "POST"): Expected(
        "parameters.edit of a customer", f"{CQ001}/general-parameters/discard", 303
    ),
    ("parameters.restore", "POST"): Expected(
        "parameters.edit of a customer",
        f"{CQ001}/general-parameters/versions/1/restore",
        303,
        {"published": "2"},
    ),
    ("users.index", "GET"): Expected("users.read of a customer", f"{CQ001}/users"),
    ("users.show", "GET"): Expected("users.read of a customer", CQ001 + "/users/{user}"),
    ("users.select", "POST"): Expected(
        f"{_SELECTING} of a customer", f"{CQ001}/users/selection", 303, {"selected": "{user}"}
    ),
    ("users.clear", "POST"): Expected(
        f"{_SELECTING} of a customer", f"{CQ001}/users/selection/clear", 303
    ),
    ("users.act", "POST"): Expected(
        f"{_SELECTING} or users.export of a customer", f"{CQ001}/users/actions", 422
    ),
    ("users.leave_actions", "GET"): Expected(
        "users.read of a customer", f"{CQ001}/users/actions", 302
    ),
    ("user_imports.index", "GET"): Expected("users.import of a customer", f"{CQ001}/users/imports"),
    ("user_imports.new", "GET"): Expected("users.import of a customer", f"{CQ001}/users/import"),
    ("user_imports.create", "POST"): Expected(
        "users.import of a customer", f"{CQ001}/users/imports", 422
    ),
    ("user_imports.show", "GET"): Expected("users.import of a customer", _IMPORT),
    ("user_imports.progress", "GET"): Expected(
        "users.import of a customer", f"{_IMPORT}/progress", 302, fragment=200
    ),
    ("user_imports.change_layout", "POST"): Expected(
        "users.import of a customer", f"{_IMPORT}/layout", 303
    ),
    ("user_imports.check", "POST"): Expected("users.import of a customer", f"{_IMPORT}/check", 422),
    ("user_imports.faults", "POST"): Expected("users.import of a customer", f"{_IMPORT}/faults"),
    ("user_imports.edit_row", "GET"): Expected("users.import of a customer", f"{_CHECKED}/rows/2"),
    ("user_imports.save_row", "POST"): Expected(
        "users.import of a customer", f"{_CHECKED}/rows/2", 422
    ),
    ("user_imports.undo", "POST"): Expected("users.import of a customer", f"{_CHECKED}/undo", 409),
    ("user_imports.reopen", "POST"): Expected(
        "users.import of a customer", f"{_IMPORT}/reopen", 409
    ),
    ("user_imports.start", "POST"): Expected("users.import of a customer", f"{_IMPORT}/start", 409),
    ("user_imports.cancel", "POST"): Expected(
        "users.import of a customer", f"{_CHECKED}/cancel", 303
    ),
    ("user_accounts.new", "GET"): Expected("users.add of a customer", f"{CQ001}/users/new"),
    ("user_accounts.new", "POST"): Expected("users.add of a customer", f"{CQ001}/users/new", 422),
    ("user_accounts.check_login", "GET"): Expected(
        "users.add of a customer",
        f"{CQ001}/users/new/login?user_name=ada",
        303,
        fragment=200,
    ),
    ("user_accounts.edit", "GET"): Expected(
        "users.edit of a customer", CQ001 + "/users/{user}/edit"
    ),
    ("user_accounts.edit", "POST"): Expected(
        "users.edit of a customer", CQ001 + "/users/{user}/edit", 422
    ),
    **{
        (f"user_changes.{change}", method): Expected(
            f"users.{permission} of a customer",
            f"{CQ001}/users/actions/{change}?user={{doomed}}",
            status if method == "POST" else 200,
            {"users": "{doomed}"} if method == "POST" else {},
        )
        for change, permission, status in (
            ("bundle", "edit", 422),
            ("suspend", "suspend", 303),
            ("resume", "suspend", 303),
            ("delete", "delete", 303),
        )
        for method in ("GET", "POST")
    },
    ("profiles.index", "GET"): Expected("users.read of a customer", f"{CQ001}/profiles"),
    ("profiles.show", "GET"): Expected("users.read of a customer", CQ001 + "/profiles/{profile}"),
    ("profiles.new", "GET"): Expected("profiles.edit of a customer", f"{CQ001}/profiles/new"),
    ("profiles.new", "POST"): Expected("profiles.edit of a customer", f"{CQ001}/profiles/new", 422),
    **{
        (f"profiles.{verb}", method): Expected(
            "profiles.edit of a customer",
            CQ001 + "/profiles/{profile}/" + verb,
            status if method == "POST" else 200,
        )
        for verb, status in (("edit", 422), ("delete", 303))
        for method in ("GET", "POST")
    },
    ("hooks.bounce", "POST"): Expected("public", "/hooks/bounce", 404, takes_token=False),
    ("suppressions.index", "GET"): Expected("mailings.read of a customer", f"{CQ001}/suppressed"),
    ("suppressions.confirm", "GET"): Expected(
        "suppressions.edit of a customer", CQ001 + "/suppressed/clear?address={suppression}"
    ),
    ("suppressions.clear", "POST"): Expected(
        "suppressions.edit of a customer",
        f"{CQ001}/suppressed/clear",
        303,
        {"address": "{suppression}"},
    ),
    ("mailings.index", "GET"): Expected("mailings.read of a customer", f"{CQ001}/mailings"),
    ("mailings.create", "POST"): Expected(
        "mailings.send of a customer",
        f"{CQ001}/mailings",
        303,
        {"users": "{user}", "version": "{version}", "confirmation": "abcdefghijklmnopqrst"},
    ),
    ("mailings.new", "GET"): Expected(
        "mailings.send of a customer", CQ001 + "/mailings/new?template={template}&user={user}"
    ),
    ("mailings.preview_frame", "GET"): Expected(
        "mailings.send of a customer", CQ001 + "/mailings/preview?template={template}&user={user}"
    ),
    ("mailings.show", "GET"): Expected(
        "mailings.read of a customer", CQ001 + "/mailings/{mailing}"
    ),
    ("mailings.progress", "GET"): Expected(
        "mailings.read of a customer", CQ001 + "/mailings/{mailing}/progress", 302, fragment=200
    ),
    ("mailings.export", "POST"): Expected(
        "mailings.read of a customer", CQ001 + "/mailings/{mailing}/export"
    ),
    ("commands.old_window", "GET"): Expected("public", "/konos/commands.jsp", 301),
    ("commands.index", "GET"): Expected("commands.read", "/sp/commands"),
    ("commands.submit", "POST"): Expected(
        "commands.run", "/sp/commands", 303, {"text": "$$HELP$$"}
    ),
    ("commands.show", "GET"): Expected(
        "commands.read", "/sp/commands/{run}", hidden_from=ELSEWHERE
    ),
    ("commands.progress", "GET"): Expected(
        "commands.read", "/sp/commands/{run}/progress", 302, fragment=200, hidden_from=ELSEWHERE
    ),
    ("commands.mail_frame", "GET"): Expected(
        "commands.read", "/sp/commands/{run}/mail/1", hidden_from=ELSEWHERE
    ),
    ("commands.run", "POST"): Expected(
        "commands.run", "/sp/commands/{run}/run", {303, 403}, hidden_from=ELSEWHERE
    ),
    ("registration.start", "GET"): Expected(
        "public", "/tenant-registration", {200, 303}, fragment={200, 204}
    ),
    ("registration.start", "POST"): Expected("public", "/tenant-registration", 422),
    ("registration.link", "GET"): Expected("public", "/tenant-registration/link/none", 410),
    ("registration.link", "POST"): Expected("public", "/tenant-registration/link/none", 410),
    ("invitations.index", "GET"): Expected("prospects.invite", "/tenant-registration/invitations"),
    ("invitations.new", "GET"): Expected(
        "prospects.invite", "/tenant-registration/invitations/new"
    ),
    ("invitations.new", "POST"): Expected(
        "prospects.invite", "/tenant-registration/invitations/new", 422
    ),
    ("invitations.resend", "POST"): Expected(
        "prospects.invite",
        "/tenant-registration/invitations/{invitation}/resend",
        303,
        {"seen": "2026-01-01T00:00:00+00:00"},
        hidden_from=ELSEWHERE,
    ),
    ("invitations.withdraw", "POST"): Expected(
        "prospects.invite",
        "/tenant-registration/invitations/{invitation}/withdraw",
        303,
        hidden_from=ELSEWHERE,
    ),
    ("wizard.index", "GET"): Expected("tenants.register", "/tenant-registration/drafts"),
    ("wizard.start", "POST"): Expected("tenants.register", "/tenant-registration/drafts", 303),
    ("wizard.resume", "GET"): Expected(
        "tenants.register",
        "/tenant-registration/{draft}",
        303,
        fragment=204,
        hidden_from=OTHER_AUTHORS,
    ),
    ("wizard.show", "GET"): Expected(
        "tenants.register", "/tenant-registration/{draft}/tenant", hidden_from=OTHER_AUTHORS
    ),
    ("wizard.save", "POST"): Expected(
        "tenants.register",
        "/tenant-registration/{draft}/contact",
        303,
        {"draft_version": "1", "company": "Kenton"},
        hidden_from=OTHER_AUTHORS,
    ),
    ("wizard.autosave", "POST"): Expected(
        "tenants.register",
        "/tenant-registration/{draft}/template/draft",
        303,
        {"draft_version": "1"},
        hidden_from=OTHER_AUTHORS,
    ),
    ("wizard.confirm_discard", "GET"): Expected(
        "tenants.register", "/tenant-registration/{draft}/discard", hidden_from=OTHER_AUTHORS
    ),
    ("wizard.discard", "POST"): Expected(
        "tenants.register", "/tenant-registration/{draft}/discard", 303, hidden_from=OTHER_AUTHORS
    ),
    ("staff_mailings.index", "GET"): Expected("mailings.read of staff", "/sp/mailings"),
    ("staff_mailings.show", "GET"): Expected(
        "mailings.read of staff", "/sp/mailings/{mailing}", hidden_from=ELSEWHERE
    ),
    ("staff_mailings.progress", "GET"): Expected(
        "mailings.read of staff",
        "/sp/mailings/{mailing}/progress",
        302,
        fragment=200,
        hidden_from=ELSEWHERE,
    ),
    ("staff_mailings.export", "POST"): Expected(
        "mailings.read of staff", "/sp/mailings/{mailing}/export", hidden_from=ELSEWHERE
    ),
    ("tenant_creation.index", "GET"): Expected("requests.read", "/tenant-creation-management"),
    ("tenant_creation.news", "GET"): Expected(
        "requests.read", "/tenant-creation-management/news", 302, fragment=200
    ),
    ("tenant_creation.export", "POST"): Expected(
        "requests.read", "/tenant-creation-management/export"
    ),
    ("tenant_creation.show", "GET"): Expected("requests.read", _REQUEST, hidden_from=ELSEWHERE),
    ("tenant_creation.progress", "GET"): Expected(
        "requests.read", f"{_REQUEST}/progress", 302, fragment=200, hidden_from=ELSEWHERE
    ),
    ("request_actions.ask", "GET"): Expected(
        "requests.read",
        f"{_REQUEST}/cancel",
        {303, 403},  # An auditor may read it.
        fragment={204, 403},
        hidden_from=ELSEWHERE,
    ),
    ("request_actions.act", "POST"): Expected(
        "requests.read", f"{_REQUEST}/cancel", {303, 403}, {"version": "1"}, hidden_from=ELSEWHERE
    ),
    ("request_actions.leave", "GET"): Expected(
        "requests.read", "/tenant-creation-management/actions", 302
    ),
    ("request_actions.choose", "POST"): Expected(
        "requests.manage", "/tenant-creation-management/actions", 422
    ),
    ("request_actions.act_on_many", "POST"): Expected(
        "requests.manage", "/tenant-creation-management/actions/approve", 422
    ),
    ("request_notifications.show", "GET"): Expected(
        "requests.read", _NOTIFICATION, hidden_from=ELSEWHERE
    ),
    ("request_notifications.mail_frame", "GET"): Expected(
        "requests.read", f"{_NOTIFICATION}/mail", hidden_from=ELSEWHERE
    ),
    ("request_notifications.resend", "POST"): Expected(
        "requests.manage", f"{_NOTIFICATION}/resend", 303, hidden_from=ELSEWHERE
    ),
    ("provisioning.index", "GET"): Expected("provisioning.read", "/provisioning"),
    ("provisioning.pause", "GET"): Expected("provisioning.pause", "/provisioning/pause"),
    ("provisioning.pause", "POST"): Expected(
        "provisioning.pause", "/provisioning/pause", 303, {"reason": "Storm"}
    ),
    ("provisioning.resume", "POST"): Expected("provisioning.pause", "/provisioning/resume", 303),
    ("provisioning.limits", "GET"): Expected("provisioning.plan", "/provisioning/limits"),
    ("provisioning.limits", "POST"): Expected(
        "provisioning.plan", "/provisioning/limits", 422, {"version": "1", "max_runs": "0"}
    ),
    ("provisioning.new_window", "GET"): Expected("provisioning.plan", "/provisioning/windows/new"),
    ("provisioning.new_window", "POST"): Expected(
        "provisioning.plan", "/provisioning/windows/new", 422
    ),
    ("provisioning.edit_window", "GET"): Expected("provisioning.plan", "/provisioning/windows/1"),
    ("provisioning.edit_window", "POST"): Expected(
        "provisioning.plan", "/provisioning/windows/1", 422
    ),
    ("provisioning.remove_window", "POST"): Expected(
        "provisioning.plan", "/provisioning/windows/1/remove", 303, {"version": "1"}
    ),
    ("provisioning.new_exception", "GET"): Expected(
        "provisioning.plan", "/provisioning/exceptions/new"
    ),
    ("provisioning.new_exception", "POST"): Expected(
        "provisioning.plan", "/provisioning/exceptions/new", 422
    ),
    ("provisioning.remove_exception", "POST"): Expected(
        "provisioning.plan", "/provisioning/exceptions/2026-12-25/remove", 303, {"version": "1"}
    ),
    ("setup.index", "GET"): Expected("users.read of a customer", f"{CQ001}/setup"),
    ("setup.save", "POST"): Expected("setup.edit of a customer", f"{CQ001}/setup", 409),
    ("setup.add_file", "POST"): Expected("setup.edit of a customer", f"{CQ001}/setup/files", 422),
    ("setup.download", "GET"): Expected("users.read of a customer", _SETUP_FILE),
    ("setup.move_file", "POST"): Expected(
        "setup.edit of a customer", f"{_SETUP_FILE}/move", 303, {"way": "up"}
    ),
    ("setup.remove_file", "POST"): Expected(
        "setup.edit of a customer", f"{_SETUP_FILE}/remove", 303
    ),
    ("account.setup_file", "GET"): Expected(
        "signed in",
        "/account/services/files/{file}",
        hidden_from=SIGNED_IN - {"admin", "supervisor", "supervisor of everything", "user"},
    ),
    ("email_templates.index", "GET"): Expected("templates.read", "/email-templates"),
    ("email_templates.show", "GET"): Expected("templates.read", _TEMPLATE),
    ("email_templates.frame", "GET"): Expected("templates.read", f"{_TEMPLATE}/frame"),
    ("email_templates.versions", "GET"): Expected("templates.read", f"{_TEMPLATE}/versions"),
    ("email_templates.version", "GET"): Expected("templates.read", f"{_TEMPLATE}/versions/1"),
    ("email_templates.customers", "GET"): Expected("templates.read", f"{_TEMPLATE}/customers"),
    ("email_templates.new", "GET"): Expected("templates.edit", "/email-templates/new"),
    ("email_templates.new", "POST"): Expected("templates.edit", "/email-templates/new", 422),
    ("email_templates.edit", "GET"): Expected("templates.edit", f"{_TEMPLATE}/edit"),
    ("email_templates.edit", "POST"): Expected("templates.edit", f"{_TEMPLATE}/edit", 422),
    ("email_templates.draft_frame", "POST"): Expected("templates.edit", "/email-templates/frame"),
    ("email_templates.archive", "GET"): Expected("templates.edit", f"{_TEMPLATE}/archive"),
    ("email_templates.assign", "GET"): Expected("templates.edit", f"{_TEMPLATE}/customers/change"),
    ("email_templates.assign", "POST"): Expected(
        "templates.edit", f"{_TEMPLATE}/customers/change", 422
    ),
    **{
        (f"email_templates.{name}", "POST"): Expected("templates.edit", path, 303)
        for name, path in (
            ("make_defaults", "/email-templates/defaults"),
            ("send_test", f"{_TEMPLATE}/test"),
            ("archive", f"{_TEMPLATE}/archive"),
            ("unarchive", f"{_TEMPLATE}/unarchive"),
            ("restore", f"{_TEMPLATE}/versions/1/restore"),
        )
    },
    ("customer_templates.index", "GET"): Expected(
        "mailings.read of a customer", f"{CQ001}/email-templates"
    ),
    ("customer_templates.show", "GET"): Expected("mailings.read of a customer", _TEMPLATE_OF),
    ("customer_templates.frame", "GET"): Expected(
        "mailings.read of a customer", f"{_TEMPLATE_OF}/frame"
    ),
    ("service_templates.index", "GET"): Expected("templates.read of staff", "/service-templates"),
    ("service_templates.show", "GET"): Expected(
        "templates.read of staff", _SERVICE, hidden_from=ELSEWHERE
    ),
    ("service_templates.versions", "GET"): Expected(
        "templates.read of staff", f"{_SERVICE}/versions", hidden_from=ELSEWHERE
    ),
    ("service_templates.version", "GET"): Expected(
        "templates.read of staff", f"{_SERVICE}/versions/1", hidden_from=ELSEWHERE
    ),
    ("service_templates.new", "GET"): Expected("service_templates.edit", "/service-templates/new"),
    ("service_templates.new", "POST"): Expected(
        "service_templates.edit", "/service-templates/new", 422
    ),
    ("service_templates.edit", "GET"): Expected("service_templates.edit", f"{_SERVICE}/edit"),
    ("service_templates.edit", "POST"): Expected("service_templates.edit", f"{_SERVICE}/edit", 409),
    ("service_templates.publish", "POST"): Expected(
        "service_templates.edit", f"{_SERVICE}/publish", 422
    ),
    **{
        (f"service_templates.{name}", "POST"): Expected(
            "service_templates.edit", f"{_SERVICE}/{path}", 303, {"way": "up"}
        )
        for name, path in (
            ("unpublish", "unpublish"),
            ("archive", "archive"),
            ("unarchive", "unarchive"),
            ("move", "move"),
            ("restore", "versions/1/restore"),
        )
    },
    ("webhooks.index", "GET"): Expected("webhooks.read", "/webhooks"),
    ("webhooks.show", "GET"): Expected("webhooks.read", _WEBHOOK),
    ("webhooks.message", "GET"): Expected("webhooks.read", _MESSAGE),
    ("webhooks.replay", "POST"): Expected("webhooks.edit", f"{_MESSAGE}/replay", 303),
    ("webhooks.test", "POST"): Expected("webhooks.edit", f"{_WEBHOOK}/test", 303),
    ("webhooks.enable", "POST"): Expected("webhooks.edit", f"{_WEBHOOK}/enable", 303),
    **{
        (f"webhooks.{name}", method): Expected(
            "webhooks.edit",
            f"{_WEBHOOK}/{name.replace('_', '-')}",
            303 if method == "POST" else 200,
        )
        for name in ("disable", "rotate_secret")
        for method in ("GET", "POST")
    },
    ("credentials.index", "GET"): Expected("credentials.manage", "/api-credentials"),
    ("credentials.new", "GET"): Expected("credentials.manage", "/api-credentials/new"),
    ("credentials.new", "POST"): Expected("credentials.manage", "/api-credentials/new", 422),
    ("credentials.show", "GET"): Expected("credentials.manage", _CREDENTIAL),
    ("credentials.end_overlap", "POST"): Expected(
        "credentials.manage", f"{_CREDENTIAL}/end-overlap", 303, {"version": "1"}
    ),
    **{
        (f"credentials.{verb}", method): Expected(
            "credentials.manage",
            f"{_CREDENTIAL}/{verb}",
            200 if method == "GET" else 422,
            {} if method == "GET" else {"version": "1"},
        )
        for verb in ("edit", "rotate", "revoke")
        for method in ("GET", "POST")
    },
    ("second_steps.show", "GET"): Expected("public", "/login/second-step", 303, fragment=204),
    ("second_steps.show", "POST"): Expected("public", "/login/second-step", 303),
    ("second_steps.ask_passkey", "POST"): Expected("public", "/login/second-step/passkey", 409),
    ("second_steps.ask_any_passkey", "POST"): Expected("public", "/login/passkey/ask"),
    ("second_steps.sign_in_with_passkey", "POST"): Expected("public", "/login/passkey", 303),
    ("account.confirm", "GET"): Expected(
        "signed in", "/account/confirm", {200, 303}, fragment={200, 204}
    ),
    ("account.confirm", "POST"): Expected("signed in", "/account/confirm", {422, 303}),
    ("sessions.index", "GET"): Expected("signed in", "/account/sessions"),
    ("sessions.end", "POST"): Expected("signed in", "/account/sessions/1/end", 303),
    ("sessions.end_others", "POST"): Expected("signed in", "/account/sessions/end-others", 303),
    ("second_factors.index", "GET"): _factors("", 200),
    ("second_factors.begin_app", "POST"): _factors("/app/new", 303),
    ("second_factors.app", "GET"): _factors("/app", {200, 303}),
    ("second_factors.app", "POST"): _factors("/app", {422, 303}),
    ("second_factors.remove_app", "GET"): _factors("/app/remove", 303),
    ("second_factors.remove_app", "POST"): _factors("/app/remove", 303),
    ("second_factors.recovery_codes", "GET"): _factors("/recovery-codes", 303),
    ("second_factors.recovery_codes", "POST"): _factors("/recovery-codes", 303),
    ("second_factors.ask_new_passkey", "POST"): _factors("/passkeys/ask", {200, 303}),
    ("second_factors.new_passkey", "GET"): _factors("/passkeys/new", 200),
    ("second_factors.new_passkey", "POST"): _factors("/passkeys/new", {422, 303}),
    ("second_factors.remove_passkey", "GET"): _factors("/passkeys/1/remove", {404, 303}),
    ("second_factors.remove_passkey", "POST"): _factors("/passkeys/1/remove", {404, 303}),
    ("staff_welcome.accept", "GET"): Expected("public", "/staff/welcome/none", 410),
    ("staff_welcome.accept", "POST"): Expected("public", "/staff/welcome/none", 410),
    ("policies.edit", "GET"): Expected("staff.manage", "/sign-in-policies"),
    ("policies.edit", "POST"): Expected("staff.manage", "/sign-in-policies", 303),
    ("staff.index", "GET"): Expected("staff.manage", "/staff"),
    ("staff.invite", "GET"): Expected("staff.manage", "/staff/invite"),
    ("staff.invite", "POST"): Expected("staff.manage", "/staff/invite", 422),
    ("staff.show", "GET"): Expected("staff.manage", _STAFF),
    ("staff.edit", "GET"): Expected("staff.manage", f"{_STAFF}/edit"),
    ("staff.edit", "POST"): Expected("staff.manage", f"{_STAFF}/edit", 422),
    ("staff.suspend", "GET"): Expected("staff.manage", f"{_STAFF}/suspend"),
    ("staff.suspend", "POST"): Expected(
        "staff.manage", f"{_STAFF}/suspend", 303, {"version": "999"}
    ),
    ("staff.resume", "POST"): Expected("staff.manage", f"{_STAFF}/resume", 303, {"version": "1"}),
    ("staff.delete", "GET"): Expected("staff.manage", f"{_STAFF}/delete"),
    ("staff.delete", "POST"): Expected("staff.manage", f"{_STAFF}/delete", 422),
    ("staff.resend", "POST"): Expected(
        "staff.manage", f"{_STAFF}/resend", 303, {"seen": "2026-01-01T00:00:00+00:00"}
    ),
    ("staff.withdraw", "GET"): Expected("staff.manage", f"{_STAFF}/withdraw", 303, fragment=204),
    ("staff.withdraw", "POST"): Expected("staff.manage", f"{_STAFF}/withdraw", 303),
    ("staff.end_sessions", "POST"): Expected(
        "staff.manage", f"{_STAFF}/sessions/end", 303, {"session": "999999"}
    ),
    ("staff.reset_second_factors", "GET"): Expected(
        "staff.manage", "/staff/second-factors/{staff}/reset"
    ),
    ("staff.reset_second_factors", "POST"): Expected(
        "staff.manage", "/staff/second-factors/{staff}/reset", 303
    ),
    **{
        (f"staff_mailings.{verb}", "POST"): Expected(
            "mailings.send of staff",
            "/sp/mailings/{mailing}/" + verb,
            303,
            hidden_from=ELSEWHERE,
        )
        for verb in ("pause", "resume", "cancel", "retry")
    },
    **{
        (f"mailings.{verb}", "POST"): Expected(
            "mailings.send of a customer", CQ001 + "/mailings/{mailing}/" + verb, 303
        )
        for verb in ("pause", "resume", "cancel", "retry")
    },
}
