"""Every route for every role, and every object for a stranger, driven from the URL map."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any
from urllib.parse import urlsplit

import pytest
import sqlalchemy as sa
from flask import Flask
from flask.testing import FlaskClient
from werkzeug.test import TestResponse

from blueprints.security import access_demanded
from extensions import db
from models import (
    ApiCredential,
    AuditEvent,
    CommandSource,
    Delivery,
    DeliveryState,
    Group,
    Mailing,
    MailingState,
    RequestState,
    Role,
    SelectedUser,
    ServiceTemplate,
    Suppression,
    TemplateKind,
    User,
    UserGroup,
)
from services import command_runs, registration_drafts, request_notifications
from services.actors import DELEGABLE, NEEDS, Permission
from services.email_templates import find_template_of_kind, get_current_version
from services.users import list_bundles_of
from tests.support.access import CQ001, DEMANDS, EXPECTED, ROLES, STRANGERS, Expected
from tests.support.attachments import make_attachment
from tests.support.factories import (
    actor_for,
    find_customer,
    find_user,
    make_invitation,
    make_profile,
    make_template,
    make_user,
    save,
)
from tests.support.pages import CheckingClient, sign_in
from tests.support.parameters import publish_parameters
from tests.support.promises import start_welcome
from tests.support.requests import make_request
from tests.support.smtp_sink import SmtpSink
from tests.support.user_imports import checked, csv_file, people, upload
from tests.support.webhooks import make_endpoint, make_message

# Who may do what is one thing on both databases; the queries behind it are tried on both below.
one_database = pytest.mark.parametrize("engine_name", ["sqlite"])


@dataclass(frozen=True)
class World:
    """Ids of two customers' objects, and a login for each role."""

    ids: dict[str, int]
    foreign: dict[str, int]
    logins: dict[str, str]

    def path(self, expected: Expected) -> str:
        return expected.path.format(**self.ids)

    def data(self, expected: Expected) -> dict[str, Any]:
        return {name: str(value).format(**self.ids) for name, value in expected.data.items()}


ADMIN, OTHER_ADMIN = "prpkeAdmin@kenton-electronics.com", "prphlAdmin@harborlight.example"


def event_of(mailing: int) -> int:
    """The number of the audit event that a mailing was confirmed by."""
    confirmed = AuditEvent.object_type == "mailing", AuditEvent.object_id == mailing
    return db.session.scalars(sa.select(AuditEvent.id).where(*confirmed)).one()


@pytest.fixture
def world(app: Flask) -> World:
    with app.app_context():
        welcome = find_template_of_kind(TemplateKind.WELCOME)
        assert welcome is not None
        kenton, harborlight = find_customer("CQ001"), find_customer("CQ002")
        limited = make_user(role=Role.OPERATOR, login="north@foyer.example")
        group = db.session.scalars(sa.select(Group).where(Group.groupno == 2)).one()
        save(UserGroup(user_id=limited.id, group_id=group.id))
        logins = {
            "landlord": "landlord@foyer.example",
            "operator": "operator@foyer.example",
            "operator of group 2": limited.login,
            "auditor": "auditor@foyer.example",
            "admin": ADMIN,
            "admin of another customer": OTHER_ADMIN,
            "supervisor": make_user(kenton, role=Role.SUPERVISOR).login,
            "supervisor of everything": make_user(
                kenton,
                role=Role.SUPERVISOR,
                profile_id=make_profile(kenton, *map(str, Permission)).id,
            ).login,
            "user": make_user(kenton).login,
            "prospect": make_user(role=Role.PROSPECT, login="new@prospect.example").login,
            "must change": make_user(
                kenton, role=Role.CUSTOMER_ADMIN, must_change_password=True
            ).login,
        }
        found: list[dict[str, int]] = []
        for customer, admin in ((kenton, ADMIN), (harborlight, OTHER_ADMIN)):
            user = make_user(customer)
            gone = make_user(customer).email_key
            suppressed = save(Suppression(email_key=gone, reason="It does not exist."))
            extra = make_template(customer)
            mailing = start_welcome(
                actor_for(admin), customer.web_id, [make_user(customer)], enqueue=False
            )
            found.append(
                {
                    "user": user.id,
                    "doomed": make_user(customer).id,
                    "profile": make_profile(customer).id,
                    "mailing": mailing,
                    "import": upload(actor_for(admin), customer, csv_file(*people(1))).id,
                    "event": event_of(mailing),
                    "suppression": suppressed.id,
                    "template": extra.id,
                    "version": get_current_version(extra).id,
                }
            )
        for retries in ("1", "2"):
            publish_parameters(actor_for(ADMIN), kenton, callback_retries=retries)
        found[0]["run"] = command_runs.submit(
            actor_for("operator@foyer.example"),
            "$$RESEND WELCOME EMAIL$$ Entry3PhoneNextGenBundle|CQ001",
            source=CommandSource.WINDOW,
        ).id
        found[0]["invitation"] = make_invitation().id
        found[0]["staff"] = limited.id
        found[0]["free"] = make_template().id
        found[0]["bundle"] = list_bundles_of(kenton)[0].id
        found[0]["credential"] = db.session.scalars(sa.select(ApiCredential.id)).one()
        endpoint = make_endpoint()
        found[0] |= {"webhook": endpoint.id, "message": make_message(endpoint).id}
        found[0]["file"] = make_attachment(kenton).id
        found[0]["service"] = db.session.scalars(
            sa.select(ServiceTemplate.id).where(ServiceTemplate.name == "Starter")
        ).one()
        found[0]["draft"] = registration_drafts.start_draft(actor_for(logins["prospect"])).id
        told = make_request(RequestState.REJECTED, created_by_id=find_user(logins["prospect"]).id)
        found[0]["told"] = told.id
        found[0]["notification"] = request_notifications.list_notifications(told)[0].id
        # The last: it leaves the session without what was read before.
        found[0]["checked"] = checked(actor_for(ADMIN), kenton, csv_file(*people(1))).id
        return World(found[0], found[1], logins)


def client_of(app: Flask, world: World, role: str) -> CheckingClient:
    if role == "nobody":
        client = app.test_client()
        assert isinstance(client, CheckingClient)
        return client
    return sign_in(app, world.logins[role])


def routes(app: Flask) -> Iterator[tuple[str, str]]:
    """Those of people; tests/api has those of other systems."""
    for rule in app.url_map.iter_rules():
        if access_demanded(app.view_functions[rule.endpoint]) == "api":
            continue
        for method in sorted((rule.methods or set()) - {"HEAD", "OPTIONS"}):
            yield rule.endpoint, method


def allowed(role: str, expected: Expected) -> bool:
    if role == "must change" and expected.open_to_must_change:
        return True
    return role in DEMANDS[expected.demands] - expected.hidden_from


def refusal(role: str, expected: Expected) -> int:
    if role in expected.hidden_from:
        return 404
    return 404 if "of a customer" in expected.demands and role in STRANGERS else 403


def assert_sent_away(role: str, response: TestResponse, *, htmx: bool) -> None:
    """To the sign-in page, or to the page where the password is changed."""
    target = "/login" if role == "nobody" else "/account/password"
    if htmx:
        assert response.status_code == 401
        assert urlsplit(response.headers["HX-Redirect"]).path == target
        assert not response.data
    else:
        assert response.status_code == 302
        assert urlsplit(response.location).path == target


def fits(status: int, wanted: int | set[int]) -> bool:
    return status in (wanted if isinstance(wanted, set) else {wanted})


@one_database
def test_every_route_says_whom_it_is_for_and_is_expected_here(app: Flask) -> None:
    assert set(routes(app)) == set(EXPECTED)
    for (endpoint, _), expected in EXPECTED.items():
        if endpoint != "static":
            demanded = access_demanded(app.view_functions[endpoint])
            assert demanded == expected.demands, endpoint


@one_database
def test_every_rule_is_reached_by_its_expected_path(app: Flask, world: World) -> None:
    adapter = app.url_map.bind("localhost")
    for (endpoint, method), expected in EXPECTED.items():
        path = urlsplit(world.path(expected)).path
        assert adapter.match(path, method)[0] == endpoint


@pytest.mark.parametrize("role", ROLES)
def test_what_can_be_looked_at(app: Flask, world: World, role: str, engine_name: str) -> None:
    client = client_of(app, world, role)
    is_checked = engine_name == "sqlite"  # How pages are made is one thing on both databases.
    for htmx in (False, True):
        look_at_everything(client, world, role, htmx=htmx, is_checked=is_checked)


def look_at_everything(
    client: CheckingClient, world: World, role: str, *, htmx: bool, is_checked: bool
) -> None:
    look = client.open if is_checked else partial(FlaskClient.open, client)
    headers = {"HX-Request": "true"} if htmx else {}
    for (endpoint, method), expected in EXPECTED.items():
        if method != "GET":
            continue
        response = look(world.path(expected), headers=headers)
        where = f"{endpoint} for {role}: {response.status_code}"
        wanted = expected.status
        if htmx and expected.fragment is not None:
            wanted = expected.fragment
        if allowed(role, expected):
            assert fits(response.status_code, wanted), where
        elif role in {"nobody", "must change"}:
            assert_sent_away(role, response, htmx=htmx)
        else:
            assert response.status_code == refusal(role, expected), where
            assert world_is_unseen(response), where
        if htmx and response.status_code == 200 and response.mimetype == "text/html":
            assert "HX-Request" in response.vary, where
        response.close()


def world_is_unseen(response: TestResponse) -> bool:
    """Nothing in a refusal tells of the customer that was asked for."""
    main = re.search(r"<main.*</main>", response.text, re.DOTALL)
    shown = main.group(0) if main else response.text
    return "Kenton" not in shown and "kenton" not in shown


@pytest.mark.parametrize("role", ROLES)
def test_what_can_be_done_and_by_whom(app: Flask, world: World, role: str) -> None:
    for (endpoint, method), expected in EXPECTED.items():
        if method != "POST":
            continue
        client = client_of(app, world, role)  # Anew, since signing out is among them.
        response = client.submit(world.path(expected), world.data(expected))
        where = f"{endpoint} for {role}: {response.status_code}"
        if allowed(role, expected):
            assert fits(response.status_code, expected.status), where
        elif role in {"nobody", "must change"}:
            assert_sent_away(role, response, htmx=False)
        else:
            assert response.status_code == refusal(role, expected), where
        response.close()


@one_database
@pytest.mark.parametrize("role", ROLES)
def test_those_who_may_not_change_nothing_even_with_htmx(
    app: Flask, world: World, role: str
) -> None:
    client = client_of(app, world, role)
    token = client.token()
    before = all_rows(app)
    for (endpoint, method), expected in EXPECTED.items():
        if method != "POST" or allowed(role, expected):
            continue
        data = {"csrf_token": token, **world.data(expected)}
        response = client.post(world.path(expected), data=data, headers={"HX-Request": "true"})
        where = f"{endpoint} for {role}: {response.status_code}"
        if role in {"nobody", "must change"}:
            assert_sent_away(role, response, htmx=True)
        else:
            assert response.status_code == refusal(role, expected), where
            assert response.headers["HX-Reswap"] == "none"
    assert all_rows(app) == before


ASKS_FOR_MORE = {("user_imports.undo", "POST")}
"""What takes away users again that were added is for who may delete them, too."""


@one_database
@pytest.mark.parametrize("permission", sorted(DELEGABLE))
def test_an_item_of_a_profile_opens_what_it_names_and_nothing_else(
    app: Flask, world: World, permission: Permission
) -> None:
    granted = {permission, *NEEDS[permission]}
    with app.app_context():
        kenton = find_customer("CQ001")
        profile = make_profile(kenton, *granted)
        login = make_user(kenton, role=Role.SUPERVISOR, profile_id=profile.id).login
    client = sign_in(app, login)
    token = client.token()
    for (endpoint, method), expected in EXPECTED.items():
        if expected.demands in {"public", "signed in"}:
            continue
        words, _, whose = expected.demands.partition(" of ")
        opens = whose == "a customer" and any(each in granted for each in words.split(" or "))
        if opens and (endpoint, method) in ASKS_FOR_MORE:
            continue
        data = {"csrf_token": token, **world.data(expected)} if method == "POST" else None
        # Others check the pages themselves.
        response = FlaskClient.open(client, world.path(expected), method=method, data=data)
        where = f"{endpoint} {method} with {permission}: {response.status_code}"
        assert response.status_code in ({200, 302, 303, 409, 422} if opens else {403}), where
        response.close()


@one_database
@pytest.mark.parametrize("role", ROLES)
def test_without_a_token_nothing_is_changed(app: Flask, world: World, role: str) -> None:
    client = client_of(app, world, role)
    client.get("/login")  # A session of nobody's has a token, too, which is not sent.
    before = all_rows(app)
    for (endpoint, method), expected in EXPECTED.items():
        if method != "POST" or not expected.takes_token:
            continue
        for data in ({}, {"csrf_token": ""}, {"csrf_token": "IjEi.Zm9v.YmFy"}):
            response = client.post(world.path(expected), data={**data, **world.data(expected)})
            where = f"{endpoint} for {role}: {response.status_code}"
            if role in {"nobody", "must change"} and not allowed(role, expected):
                assert_sent_away(role, response, htmx=False)
            else:
                assert response.status_code == 400, where
                assert "nothing was changed" in response.text, where
    assert all_rows(app) == before


def all_rows(app: Flask) -> dict[str, list[tuple[Any, ...]]]:
    """Every row of every table, without the time a session was last seen."""
    with app.app_context(), db.engine.connect() as connection:
        return {
            table.name: sorted(
                (
                    tuple(connection_row)
                    for connection_row in connection.execute(
                        sa.select(*[c for c in table.c if c.name != "last_seen_at"])
                    )
                ),
                key=repr,
            )
            for table in db.metadata.sorted_tables
        }


# --- Someone else's objects --------------------------------------------------------------------


def rules_with(app: Flask, argument: str) -> Iterator[tuple[str, str, str]]:
    """Endpoint, method and path below a customer of each route that names such an object."""
    for rule in app.url_map.iter_rules():
        if {argument, "web_id"} <= rule.arguments:
            path = re.sub(rf"<[^>]*{argument}>", "{id}", rule.rule)
            for method in sorted((rule.methods or set()) - {"HEAD", "OPTIONS"}):
                yield rule.endpoint, method, path.replace("<web_id>", "{web_id}")


def ask(client: CheckingClient, method: str, path: str, token: str) -> TestResponse:
    return client.open(path, method=method, data={"csrf_token": token} if method == "POST" else {})


@pytest.mark.parametrize("role", ["admin", "landlord", "operator"])
@pytest.mark.parametrize("argument", ["user_id", "mailing_id", "profile_id", "import_id"])
def test_an_object_of_another_customer_is_not_there(
    app: Flask, world: World, role: str, argument: str
) -> None:
    """CQ001's address with CQ002's object: even for those who may see both."""
    client = client_of(app, world, role)
    token = client.token()
    foreign = world.foreign[argument.removesuffix("_id")]
    before = all_rows(app)
    tried = list(rules_with(app, argument))
    assert tried
    for endpoint, method, path in tried:
        for stranger in (foreign, 999_999_999, 0, 2**63 - 1):
            response = ask(client, method, path.format(web_id="CQ001", id=stranger), token)
            assert response.status_code == 404, (endpoint, stranger)
            assert "Harborlight" not in response.text
    assert all_rows(app) == before


@one_database
def test_a_customer_out_of_scope_is_told_from_none_by_nothing(app: Flask, world: World) -> None:
    """CQ002's own addresses, asked for by CQ001's administrator, are as those of nobody."""
    client = client_of(app, world, "admin")
    token = client.token()
    before = all_rows(app)
    for rule in app.url_map.iter_rules():
        if "web_id" not in rule.arguments:
            continue
        path = re.sub(r"<[^>]*user_id>", str(world.foreign["user"]), rule.rule)
        path = re.sub(r"<[^>]*mailing_id>", str(world.foreign["mailing"]), path)
        path = re.sub(r"<[^>]*profile_id>", str(world.foreign["profile"]), path)
        for method in sorted((rule.methods or set()) - {"HEAD", "OPTIONS"}):
            answers = [
                ask(client, method, path.replace("<web_id>", web_id), token)
                for web_id in ("CQ002", "ZZ999")
            ]
            assert [answer.status_code for answer in answers] == [404, 404], rule.endpoint
            bodies = [
                re.sub(r"ZZ999|CQ002|[0-9a-f]{16}|value=\"I[jm][^\"]*\"", "", answer.text)
                for answer in answers
            ]
            assert bodies[0] == bodies[1], rule.endpoint
    assert all_rows(app) == before


def post_mailing(client: CheckingClient, users: list[int], version: int) -> TestResponse:
    return client.submit(
        f"{CQ001}/mailings",
        {
            "users": ",".join(map(str, users)),
            "version": str(version),
            "confirmation": "abcdefghijklmnopqrst",
            "recent": "y",
        },
    )


def test_a_confirmation_that_names_strangers_sends_nothing_to_anybody(
    app: Flask, world: World, sink: SmtpSink, work: Callable[[], None]
) -> None:
    own, foreign = world.ids, world.foreign
    before = deliveries(app)
    for role in ("admin", "landlord"):
        client = client_of(app, world, role)
        for users in ([foreign["user"]], [own["user"], foreign["user"]], [own["user"], 999_999]):
            assert post_mailing(client, users, own["version"]).status_code == 404
        assert post_mailing(client, [own["user"]], foreign["version"]).status_code == 404
        assert post_mailing(client, [own["user"]], 999_999).status_code == 404
    work()
    assert deliveries(app) == before
    assert sink.mails == []


def test_a_look_at_a_mailing_to_strangers_is_not_given(app: Flask, world: World) -> None:
    own, foreign = world.ids, world.foreign
    client = client_of(app, world, "admin")
    for path in ("new", "preview"):
        address = f"{CQ001}/mailings/{path}"
        for template, user in (
            (own["template"], foreign["user"]),
            (foreign["template"], own["user"]),
        ):
            response = client.get(f"{address}?template={template}&user={user}")
            assert response.status_code == 404
            assert "harborlight" not in response.text.lower()


def test_strangers_in_a_selection_are_not_in_it(
    app: Flask, world: World, sink: SmtpSink, work: Callable[[], None]
) -> None:
    own, foreign = world.ids, world.foreign
    client = client_of(app, world, "admin")
    ticked = f"{own['user']},{foreign['user']}"
    client.submit(f"{CQ001}/users/selection", {"selected": ticked, "shown": ticked})
    response = client.submit(
        f"{CQ001}/users/actions",
        {"selected": ticked, "shown": ticked, "action": f"mail-{own['template']}"},
    )
    assert response.status_code == 303
    page = client.page(response.location)
    form = page.one("form", action=f"{CQ001}/mailings")
    client.post(form.get("action"), data=page.fields(form))
    work()
    with app.app_context():
        mine = db.session.get_one(User, own["user"]).email
        chosen = set(db.session.scalars(sa.select(SelectedUser.user_id)))
        mailed = set(
            db.session.scalars(
                sa.select(Delivery.user_id).where(Delivery.state == DeliveryState.SENT)
            )
        )
    assert foreign["user"] not in chosen
    assert mailed == {own["user"]}
    assert [mail.recipient for mail in sink.mails] == [mine]


def test_a_word_of_confirmation_is_its_actors_alone(app: Flask, world: World) -> None:
    """Another person's word must neither show nor block a mailing."""
    own = world.ids
    first = post_mailing(client_of(app, world, "admin"), [own["user"]], own["version"])
    second = post_mailing(client_of(app, world, "operator"), [own["user"]], own["version"])
    assert first.status_code == second.status_code == 303
    assert first.location != second.location


def test_a_word_of_confirmation_leads_to_no_other_customers_mailing(
    app: Flask, world: World
) -> None:
    """An operator's word, sent to another customer's address, must not lead into a wrong page."""
    own, foreign = world.ids, world.foreign
    client = client_of(app, world, "operator")
    assert post_mailing(client, [own["user"]], own["version"]).status_code == 303
    response = client.submit(
        "/customers/CQ002/mailings",
        {
            "users": str(foreign["user"]),
            "version": str(foreign["version"]),
            "confirmation": "abcdefghijklmnopqrst",
        },
    )
    assert response.status_code in {404, 409}


def deliveries(app: Flask) -> list[tuple[Any, ...]]:
    with app.app_context():
        rows = db.session.execute(sa.select(Delivery.id, Delivery.user_id).order_by(Delivery.id))
        return [tuple(row) for row in rows]


def test_the_sign_in_of_a_suspended_customer_is_over(app: Flask, world: World) -> None:
    client = client_of(app, world, "admin")
    assert client.get(f"{CQ001}/users").status_code == 200
    with app.app_context():
        find_customer("CQ001").status = type(find_customer("CQ001").status).SUSPENDED
        db.session.commit()
    assert_sent_away("nobody", client.get(f"{CQ001}/users"), htmx=False)
    landlord = client_of(app, world, "landlord")
    assert landlord.get(f"{CQ001}/users").status_code == 200


@one_database
def test_a_person_whose_role_is_taken_away_loses_the_page_at_once(app: Flask, world: World) -> None:
    client = client_of(app, world, "admin")
    assert client.get(f"{CQ001}/users").status_code == 200
    with app.app_context():
        find_user(ADMIN).role = Role.USER
        db.session.commit()
    assert client.get(f"{CQ001}/users").status_code == 403


@one_database
def test_a_mailing_stays_as_it_is_whoever_may_not_steer_it(app: Flask, world: World) -> None:
    for role in ("auditor", "supervisor", "user", "prospect", "admin of another customer"):
        client = client_of(app, world, role)
        for verb in ("pause", "resume", "cancel", "retry"):
            client.submit(f"{CQ001}/mailings/{world.ids['mailing']}/{verb}")
    with app.app_context():
        mailing = db.session.get_one(Mailing, world.ids["mailing"])
        assert mailing.state is MailingState.RUNNING
        assert (mailing.queued, mailing.cancelled) == (1, 0)
