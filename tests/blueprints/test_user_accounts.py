"""One user's pages: adding, also like another, the login confirmed as one types, editing."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import sqlalchemy as sa
from flask import Flask

from extensions import db
from models import (
    CustomerEmailTemplate,
    Delivery,
    Mailing,
    Role,
    SignInSession,
    User,
    UserStatus,
)
from services.actors import Permission
from tests.support.factories import (
    find_customer,
    find_user,
    make_customer,
    make_profile,
    make_user,
)
from tests.support.pages import CheckingClient, Page, check_page
from tests.support.smtp_sink import SmtpSink

SignInAs = Callable[[str], CheckingClient]

ADMIN = "prpkeAdmin@kenton-electronics.com"
URL = "/customers/CQ001/users"
ENTRY = "Entry3PhoneNextGenBundle"
ADA = {
    "user_name": "ada.lovelace",
    "first_name": "Ada",
    "last_name": "Lovelace",
    "email": "ada@elsewhere.example",
    "extension": "2101",
    "bundle": ENTRY,
    "welcome": "later",
}
LOGIN = "ada.lovelace@kenton-electronics.com"
HOSTILE = (
    "<script>alert(1)</script>",
    "=cmd|' /C calc'!A0",
    "((first name))",
    "a\r\nBcc: x@y.example",
    "x" * 300,
    "\u202emalicious",
    "a\0b",
    "{{ 7 * 7 }}",
    "\U0001f993" * 300,
)


@pytest.fixture
def alice(sign_in_as: SignInAs) -> CheckingClient:
    return sign_in_as(ADMIN)


def filled(client: CheckingClient, path: str, **changes: Any) -> dict[str, Any]:
    """What a browser sends for the form at `path` with these changes."""
    page = client.page(path)
    action = path.partition("?")[0]
    form = next(each for each in page.all("form") if each.get("action").startswith(action))
    return page.fields(form) | changes


def add(client: CheckingClient, **changes: Any) -> Any:
    data = filled(client, f"{URL}/new", **{**ADA, **changes})
    return client.post(f"{URL}/new", data=data)


def find(app: Flask, login: str = LOGIN) -> dict[str, Any]:
    with app.app_context():
        user = find_user(login)
        return {
            "id": user.id,
            "name": user.full_name,
            "email": user.email,
            "role": user.role,
            "profile": user.profile.name if user.profile else "",
            "bundle": user.bundle.name if user.bundle else "",
            "language": user.language,
            "extension": user.extension,
            "version": user.version,
        }


def errors_of(response: Any) -> str:
    assert response.status_code == 422, response.status_code
    page = check_page(response)
    (summary,) = [each for each in page.all("div") if "error-summary" in each.get("class", "")]
    return page.text(summary)


# --- Adding --------------------------------------------------------------------------------------


def test_a_user_is_added_and_shown(app: Flask, alice: CheckingClient) -> None:
    response = add(alice)
    assert response.status_code == 303
    page = alice.page(response.location)
    assert page.text(page.one("h1")) == "Ada Lovelace"
    assert LOGIN in page.text()
    assert "Nothing was mailed yet" in page.text()
    found = find(app)
    assert (found["bundle"], found["role"], found["language"]) == (ENTRY, Role.USER, "en")
    with app.app_context():
        assert db.session.scalar(sa.select(Delivery.id)) is None


def test_the_welcome_mail_goes_at_once_and_lets_him_in(
    app: Flask, alice: CheckingClient, sink: SmtpSink, work: Callable[[], None]
) -> None:
    page = alice.page(add(alice, welcome="now").location)
    assert "The welcome mail to ada@elsewhere.example is on its way." in page.text()
    work()
    (mail,) = sink.mails
    assert mail.recipient == "ada@elsewhere.example"
    page = alice.page(f"{URL}/{find(app)['id']}")
    assert "Sent" in page.text()


def test_every_fault_is_told_at_once_and_nothing_typed_is_lost(
    app: Flask, alice: CheckingClient
) -> None:
    typed = {
        "user_name": "ada lovelace",
        "first_name": "Ada",
        "last_name": "",
        "email": "nowhere",
        "extension": "no number",
    }
    response = add(alice, **typed, welcome="now")
    assert "Give the last name" in errors_of(response)
    response = add(alice, **{**typed, "last_name": "L"}, welcome="now")
    said = errors_of(response)
    assert "3 things" in said
    page = Page(response.text)
    for name, value in {**typed, "last_name": "L"}.items():
        assert page.one("input", name=name).get("value") == value
    with app.app_context():
        assert db.session.scalar(sa.select(User.id).where(User.last_name == "L")) is None


def test_who_has_no_address_gets_no_welcome_mail_and_is_not_added(
    app: Flask, alice: CheckingClient
) -> None:
    assert "needs an e-mail address" in errors_of(add(alice, email="", welcome="now"))
    assert add(alice, email="").status_code == 303
    with app.app_context():
        assert db.session.scalar(sa.select(sa.func.count(Mailing.id))) == 0


def test_a_second_click_adds_nobody_twice(alice: CheckingClient) -> None:
    assert add(alice).status_code == 303
    assert f"The login {LOGIN} is taken." in errors_of(add(alice))


def test_the_whole_login_can_be_typed_too(app: Flask, alice: CheckingClient) -> None:
    assert "its own UPN suffix" in errors_of(add(alice, user_name="ada@harborlight.example"))
    assert add(alice, user_name=LOGIN).status_code == 303
    assert find(app)["name"] == "Ada Lovelace"


def test_add_then_another_keeps_whom_they_are_like(app: Flask, alice: CheckingClient) -> None:
    assert add(alice, again="y").location == f"{URL}/new"
    with app.app_context():
        model = make_user(find_customer("CQ001")).id
    path = f"{URL}/new?from={model}"
    data = filled(alice, path, **{**ADA, "user_name": "bea", "again": "y"})
    response = alice.post(path, data=data)
    assert response.location == f"{URL}/new?from={find(app, 'bea@kenton-electronics.com')['id']}"


def test_a_user_like_another_has_all_but_his_identity(app: Flask, alice: CheckingClient) -> None:
    with app.app_context():
        kenton = find_customer("CQ001")
        profile = make_profile(kenton, "users.read", name="Front desk")
        model = make_user(
            kenton,
            role=Role.SUPERVISOR,
            profile_id=profile.id,
            language="de",
            extension="4711",
            bundle_id=db.session.scalars(
                sa.select(User.bundle_id).where(User.bundle_id.is_not(None)).limit(1)
            ).one(),
        )
        assert model.bundle is not None
        model_id, has = model.id, model.bundle.name
    path = f"{URL}/new?from={model_id}"
    page = alice.page(path)
    for name in ("user_name", "first_name", "last_name", "email", "extension"):
        assert page.one("input", name=name).get("value") in {None, ""}
    data = filled(alice, path, user_name="bea", last_name="B", welcome="later")
    assert alice.post(path, data=data).status_code == 303
    found = find(app, "bea@kenton-electronics.com")
    assert (found["bundle"], found["language"], found["profile"]) == (has, "de", "Front desk")
    assert found["role"] is Role.SUPERVISOR
    for strange in ("x", "0", "9" * 30, "1,2"):
        assert alice.get(f"{URL}/new?from={strange}").status_code == 404


def test_where_there_is_no_welcome_mail_the_page_says_so(
    app: Flask, alice: CheckingClient, sign_in_as: SignInAs
) -> None:
    with app.app_context():
        customer = make_customer()
        web_id, admin = customer.web_id, make_user(customer, role=Role.CUSTOMER_ADMIN).login
        assert (
            db.session.scalar(
                sa.select(CustomerEmailTemplate.template_id).where(
                    CustomerEmailTemplate.customer_id == customer.id
                )
            )
            is None
        )
    client = sign_in_as(admin)
    path = f"/customers/{web_id}/users/new"
    page = client.page(path)
    assert "has no welcome mail among its e-mail templates" in page.text()
    assert "has no bundle yet" in page.text()
    assert not page.all("input", name="welcome")
    data = filled(client, path, user_name="ada", last_name="L")
    assert client.post(path, data=data).status_code == 303


def test_the_final_login_is_confirmed_as_one_types(app: Flask, alice: CheckingClient) -> None:
    def said(typed: str) -> str:
        page = alice.fragment(f"{URL}/new/login", query_string={"user_name": typed})
        return page.text()

    assert said("ada.lovelace") == f"Final login: {LOGIN}"
    assert said(f" {LOGIN} ") == f"Final login: {LOGIN}"
    assert said("") == said("  ") == ""
    assert "is taken" in said("prpkeAdmin")
    assert "consists of the letters" in said("a b")
    for hostile in HOSTILE:
        assert "<script>" not in said(hostile)
    assert alice.get(f"{URL}/new/login?user_name=a").location == f"{URL}/new"


@pytest.mark.parametrize(
    "fields",
    [
        ("first_name", "last_name"),
        ("email", "extension", "user_name", "bundle", "language", "role"),
    ],
)
def test_hostile_text_is_refused_or_harmless(
    alice: CheckingClient, fields: tuple[str, ...]
) -> None:
    path = f"{URL}/new"
    data = filled(alice, path, **ADA)
    for number, text in enumerate(HOSTILE):
        changed = {**data, "user_name": f"ada{number}", **dict.fromkeys(fields, text)}
        response = alice.post(path, data=changed)
        assert response.status_code in {303, 422}, (text, response.status_code)
        if response.status_code == 422 and "\0" not in text:
            check_page(response)
        if response.status_code == 303:
            response = alice.get(response.location)
        assert "<script>alert" not in response.text
        assert ">49<" not in response.text


# --- Editing -------------------------------------------------------------------------------------


@pytest.fixture
def ada(app: Flask, alice: CheckingClient) -> str:
    """The address of Ada's page."""
    add(alice)
    return f"{URL}/{find(app)['id']}"


def test_what_is_known_is_changed(app: Flask, alice: CheckingClient, ada: str) -> None:
    data = filled(alice, f"{ada}/edit", first_name="Augusta", email="", language="de")
    assert data["last_name"] == ["Lovelace"]
    response = alice.post(f"{ada}/edit", data=data)
    assert response.location == ada
    found = find(app)
    assert (found["name"], found["email"], found["language"]) == ("Augusta Lovelace", "", "de")
    assert found["version"] == 2


def test_a_role_is_given_and_taken(app: Flask, alice: CheckingClient, ada: str) -> None:
    with app.app_context():
        profile = make_profile(find_customer("CQ001"), "users.read", name="Front desk").id
        foreign = make_profile(find_customer("CQ002")).id
    for role, expected in (
        (f"profile-{profile}", (Role.SUPERVISOR, "Front desk")),
        ("customer_admin", (Role.CUSTOMER_ADMIN, "")),
        ("user", (Role.USER, "")),
    ):
        alice.post(f"{ada}/edit", data=filled(alice, f"{ada}/edit", role=role))
        found = find(app)
        assert (found["role"], found["profile"]) == expected
    for role in (f"profile-{foreign}", "supervisor", "landlord", "", "profile-x"):
        response = alice.post(f"{ada}/edit", data=filled(alice, f"{ada}/edit", role=role))
        assert "Choose one of the roles" in errors_of(response)
    assert find(app)["role"] is Role.USER


def test_the_last_administrator_keeps_his_role(app: Flask, alice: CheckingClient) -> None:
    with app.app_context():
        admin = find_user(ADMIN).id
    path = f"{URL}/{admin}/edit"
    response = alice.post(path, data=filled(alice, path, role="user", bundle=ENTRY))
    assert "the last active administrator" in errors_of(response)
    assert find(app, ADMIN)["role"] is Role.CUSTOMER_ADMIN


def test_who_comes_second_is_told_and_loses_nothing(
    app: Flask, alice: CheckingClient, sign_in_as: SignInAs, ada: str
) -> None:
    mine = filled(alice, f"{ada}/edit", first_name="Mine", extension="1111")
    bob = sign_in_as("operator@foyer.example")
    bob.post(f"{ada}/edit", data=filled(bob, f"{ada}/edit", first_name="Theirs"))

    response = alice.post(f"{ada}/edit", data=mine)

    assert response.status_code == 409
    page = check_page(response)
    assert "was changed in the meantime" in page.text()
    assert "Theirs" in page.text()
    assert page.one("input", name="first_name").get("value") == "Mine"
    assert find(app)["name"] == "Theirs Lovelace"
    form = page.one("form", action=f"{ada}/edit")
    assert alice.post(f"{ada}/edit", data=page.fields(form)).status_code == 303
    found = find(app)
    assert (found["name"], found["extension"]) == ("Mine Lovelace", "1111")


def test_a_page_without_its_version_changes_nothing(
    app: Flask, alice: CheckingClient, ada: str
) -> None:
    data = filled(alice, f"{ada}/edit", first_name="X")
    for version in ("", "x", "9" * 40, "-1"):
        response = alice.post(f"{ada}/edit", data={**data, "version": version})
        assert response.status_code == 400
    assert find(app)["name"] == "Ada Lovelace"


# --- What the page of a user offers --------------------------------------------------------------


def offered(page: Page) -> set[str]:
    main = page.one("main")
    return {page.text(each) for each in main.iter() if each.tag in {"a", "button"}}


def test_the_page_offers_what_fits_the_state(app: Flask, alice: CheckingClient, ada: str) -> None:
    active = offered(alice.page(ada))
    assert {"Resend Welcome Mail", "Reset password", "Edit", "Suspend", "Delete"} <= active
    assert "Add a user like this" in active
    assert "Resume" not in active
    with app.app_context():
        find_user(LOGIN).status = UserStatus.SUSPENDED
        db.session.commit()
    suspended = offered(alice.page(ada))
    assert {"Resume", "Edit", "Delete"} <= suspended
    assert not {"Resend Welcome Mail", "Suspend"} & suspended


def test_an_auditor_is_offered_nothing(sign_in_as: SignInAs, ada: str) -> None:
    found = offered(sign_in_as("auditor@foyer.example").page(ada))
    assert not {"Edit", "Suspend", "Delete", "Resend Welcome Mail", "Add a user like this"} & found


# --- Supervisors ---------------------------------------------------------------------------------


def supervisor(app: Flask, *permissions: Permission) -> str:
    """The login of a supervisor of CQ001 with these permissions and what they need."""
    with app.app_context():
        kenton = find_customer("CQ001")
        profile = make_profile(kenton, *permissions)
        return make_user(kenton, role=Role.SUPERVISOR, profile_id=profile.id).login


def narrow(login: str, *permissions: str) -> None:
    """Leave a supervisor's profile these permissions."""
    profile = find_user(login).profile
    assert profile is not None
    profile.permissions = list(permissions)


def test_a_supervisor_gives_no_role(
    app: Flask, sign_in_as: SignInAs, alice: CheckingClient, ada: str
) -> None:
    login = supervisor(app, Permission.USERS_READ, Permission.USERS_ADD, Permission.USERS_EDIT)
    client = sign_in_as(login)
    with app.app_context():
        profile = make_profile(find_customer("CQ001"), "users.read").id
    for path in (f"{URL}/new", f"{ada}/edit"):
        assert not client.page(path).all("select", name="role")
        for number, role in enumerate(("customer_admin", f"profile-{profile}", "supervisor")):
            data = filled(client, path, role=role, profile=str(profile), profile_id=str(profile))
            data |= {"user_name": f"eve{number}", "last_name": "Eve", "bundle": ENTRY}
            assert client.post(path, data=data).status_code == 303
    with app.app_context():
        made = db.session.scalars(sa.select(User).where(User.last_name == "Eve")).all()
        assert len(made) == 4
        assert {user.role for user in made} == {Role.USER}


def test_a_supervisor_reaches_users_alone(app: Flask, sign_in_as: SignInAs) -> None:
    """Neither administrators nor supervisors, himself among them: their address would be theirs."""
    login = supervisor(app, *Permission)
    client = sign_in_as(login)
    with app.app_context():
        others = [find_user(ADMIN).id, find_user(login).id]
        others.append(make_user(find_customer("CQ001"), role=Role.SUPERVISOR).id)
        before = [tuple(row) for row in db.session.execute(sa.select(User.__table__))]
    token = client.token()
    for user_id in others:
        page = client.page(f"{URL}/{user_id}")
        assert not {"Edit", "Suspend", "Delete", "Add a user like this"} & offered(page)
        assert client.get(f"{URL}/{user_id}/edit").status_code == 403
        assert client.get(f"{URL}/new?from={user_id}").status_code == 403
        data = {"csrf_token": token, "version": "1", "last_name": "X", "email": "eve@x.example"}
        assert client.post(f"{URL}/{user_id}/edit", data=data).status_code == 403
        for change in ("suspend", "resume", "delete", "bundle"):
            data = {"csrf_token": token, "users": str(user_id), "bundle": ENTRY}
            client.post(f"{URL}/actions/{change}", data=data)
    with app.app_context():
        after = [tuple(row) for row in db.session.execute(sa.select(User.__table__))]
        assert after == before


def test_a_supervisor_may_resend_to_an_administrator_at_his_own_address(
    app: Flask, sign_in_as: SignInAs, sink: SmtpSink, work: Callable[[], None]
) -> None:
    client = sign_in_as(
        supervisor(
            app,
            Permission.USERS_READ,
            Permission.USERS_EDIT,
            Permission.MAILINGS_READ,
            Permission.MAILINGS_SEND,
        )
    )
    with app.app_context():
        admin, address = find_user(ADMIN).id, find_user(ADMIN).email
    page = client.page(f"{URL}/{admin}")
    link = next(a for a in page.all("a") if page.text(a) == "Resend Welcome Mail")
    form = client.page(link.get("href"))
    sent = form.one("form", action="/customers/CQ001/mailings")
    data = form.fields(sent) | {"email": "eve@x.example", "recipient": "eve@x.example"}
    assert client.post("/customers/CQ001/mailings", data=data).status_code == 303
    work()
    assert [mail.recipient for mail in sink.mails] == [address]


def test_what_a_profile_loses_is_gone_at_the_next_request(app: Flask, sign_in_as: SignInAs) -> None:
    login = supervisor(app, Permission.USERS_READ, Permission.USERS_ADD)
    client = sign_in_as(login)
    assert client.get(f"{URL}/new").status_code == 200
    with app.app_context():
        narrow(login, "users.read")
        db.session.commit()
    assert client.get(f"{URL}/new").status_code == 403
    assert "Add a user" not in offered(client.page(URL))
    with app.app_context():
        narrow(login)
        db.session.commit()
        assert db.session.scalar(sa.select(sa.func.count(SignInSession.id))) == 1
    assert client.get(URL).status_code == 403


@pytest.mark.parametrize(
    ("permissions", "home", "areas"),
    [
        ((), "/account/services", []),
        (("mailings.send",), "/account/services", []),
        (("users.read",), "/customers/CQ001", ["Home", "Users"]),
        (
            ("users.read", "mailings.read"),
            "/customers/CQ001",
            ["Home", "Users", "Mailings"],
        ),
        (("parameters.read",), "/customers/CQ001", ["Home", "General parameters"]),
    ],
)
def test_a_supervisor_starts_where_he_can_do_something(
    app: Flask, sign_in_as: SignInAs, permissions: tuple[str, ...], home: str, areas: list[str]
) -> None:
    client = sign_in_as(supervisor(app, *map(Permission, permissions)))
    assert client.get("/").location == home
    page = client.page(home)
    nav = next(each for each in page.all("nav") if each.get("aria-label") == "Areas")
    shown = [page.text(each) for each in nav.iter("a")]
    ours = {"Home", "Users", "Mailings", "General parameters", "Audit"}
    assert [name for name in shown if name in ours] == areas
    assert shown[-2:] == ["My services", "My profile"]
    for each in (*nav.iter("a"), *page.one("main").iter("a")):
        href = each.get("href")
        if href.startswith("/"):
            assert client.get(href).status_code in {200, 303}, href
