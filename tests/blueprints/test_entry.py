"""Getting in: the public page, the mailed link, and the invitations of the staff."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import timedelta

import pytest
import sqlalchemy as sa
from flask import Flask
from werkzeug.test import TestResponse

from extensions import db
from models import (
    RegistrationLink,
    Role,
    ServiceTemplate,
    SignInSession,
    SubscriptionRequest,
    Suppression,
    User,
    UserGroup,
    UserStatus,
    utcnow,
)
from tests.support.factories import (
    find_user,
    make_group,
    make_invitation,
    make_user,
    save,
)
from tests.support.pages import CheckingClient, Page
from tests.support.smtp_sink import SmtpSink

START, INVITATIONS = "/tenant-registration", "/tenant-registration/invitations"
DRAFTS, NEW = "/tenant-registration/drafts", f"{INVITATIONS}/new"
ADA = "ada@harbour.example"
OPERATOR, AUDITOR = "operator@foyer.example", "auditor@foyer.example"
ADMIN = "prpkeAdmin@kenton-electronics.com"

SignInAs = Callable[[str], CheckingClient]
Work = Callable[[], None]
one_database = pytest.mark.parametrize("engine_name", ["sqlite"])
_LINK = re.compile(r"https?://[^/\s]+(/tenant-registration/link/\S+)")
_TOKEN = re.compile(r'name="csrf_token" value="[^"]+"')


def registration(mode: str) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("settings_changes", [{"REGISTRATION": mode}], ids=[mode])


def ask(client: CheckingClient, email: str = ADA, **more: str) -> TestResponse:
    return client.submit(START, {"email": email, "homepage": "", **more})


def link_for(client: CheckingClient, sink: SmtpSink, work: Work, email: str = ADA) -> str:
    """The path of the link that comes by mail."""
    assert ask(client, email).status_code == 303
    work()
    found = _LINK.search(sink.mails_to(email)[-1].text)
    assert found
    return found.group(1)


def press(client: CheckingClient, link: str) -> TestResponse:
    """The button of the link's page, as a browser without scripts presses it."""
    page = client.page(link)
    form = next(each for each in page.all("form") if each.get("action") == link)
    return client.post(link, data=page.fields(form))


def read(response: TestResponse) -> Page:
    return Page(response.get_data(as_text=True))


def errors_of(response: TestResponse) -> list[str]:
    page = read(response)
    lists = [element for element in page.all("ul") if element.get("class") == "error-list"]
    return [page.text(line) for found in lists for line in found.iter("li")]


def signed_in_email(client: CheckingClient) -> str:
    page = client.page("/account/profile")
    values = [page.text(each) for each in page.all("dd")]
    return next((each for each in values if "@" in each), "")


# --- The start page ------------------------------------------------------------------------------


def test_the_sign_in_page_leads_to_the_start_page(client: CheckingClient) -> None:
    assert client.page("/login").one("a", href=START) is not None
    page = client.page(START)
    assert page.text(page.one("h1")) == "Register a tenant"
    field = page.one("input", id="email")
    assert (field.get("type"), field.get("autocomplete")) == ("email", "email")


@pytest.mark.parametrize(
    ("settings_changes", "heading"),
    [
        ({"REGISTRATION": "invitation"}, "Registration is by invitation"),
        ({"REGISTRATION": "closed"}, "Registration is closed"),
    ],
    ids=["invitation", "closed"],
)
@one_database
def test_a_page_that_is_not_open_says_so_and_lets_those_back_who_have_registered(
    app: Flask, client: CheckingClient, sink: SmtpSink, work: Work, heading: str
) -> None:
    assert not client.page("/login").all("a", href=START)
    page = client.page(START)
    assert page.text(page.one("h1")) == heading
    with app.app_context():
        make_user(role=Role.PROSPECT, login=f"prospect:{ADA}", email=ADA)
    link = link_for(client, sink, work)
    assert ask(client, "new@harbour.example").status_code == 303
    work()
    assert [each.recipient for each in sink.mails] == [ADA]
    assert press(client, link).location == DRAFTS
    response = client.submit(DRAFTS)
    assert (response.status_code, response.location) == (303, DRAFTS)
    with app.app_context():
        assert db.session.scalars(sa.select(SubscriptionRequest)).all() == []


def test_the_answer_is_the_same_for_every_address(
    app: Flask, client: CheckingClient, sink: SmtpSink, work: Work
) -> None:
    with app.app_context():
        make_user(role=Role.PROSPECT, login="prospect:known@harbour.example")
        find_user("prospect:known@harbour.example").email = "known@harbour.example"
        barred = make_user(role=Role.PROSPECT, login="prospect:barred@harbour.example")
        barred.status = UserStatus.SUSPENDED
        save(Suppression(email_key="returned@harbour.example", reason="bounced"))
    answers = {}
    for name in ("unknown", "known", "barred", "returned"):
        response = ask(client, f"{name}@harbour.example")
        headers = {
            key: value
            for key, value in response.headers
            if key not in {"X-Request-ID", "Set-Cookie"}
        }
        shown = _TOKEN.sub("", client.get(response.location).text)
        answers[name] = (response.status_code, response.text, headers, shown)
    honey = ask(client, "bot@harbour.example", homepage="https://spam.example")
    shown = _TOKEN.sub("", client.get(honey.location).text)
    assert answers["unknown"][0] == 303
    assert len({repr(each) for each in answers.values()}) == 1
    assert (honey.status_code, honey.text, shown) == (
        answers["unknown"][0],
        answers["unknown"][1],
        answers["unknown"][3],
    )
    work()
    assert {each.recipient for each in sink.mails} == {
        "unknown@harbour.example",
        "known@harbour.example",
    }


def test_the_trap_for_programs_is_hidden_from_people(client: CheckingClient) -> None:
    page = client.page(START)
    field = page.one("input", id="homepage")
    assert (field.get("tabindex"), field.get("autocomplete")) == ("-1", "off")
    around = [
        each
        for each in page.all("div", aria_hidden="true")
        if any(inner is field for inner in each.iter())
    ]
    assert [each.get("class") for each in around] == ["visually-hidden"]


def test_a_sixth_wish_within_the_hour_gets_the_same_answer_and_no_mail(
    client: CheckingClient, sink: SmtpSink, work: Work
) -> None:
    assert {ask(client).location for _ in range(7)} == {f"{START}?sent=1"}
    work()
    assert len(sink.mails) == 5


def test_a_network_that_asks_too_often_is_told_how_long_to_wait(client: CheckingClient) -> None:
    for number in range(20):
        assert ask(client, f"name{number}@harbour.example").status_code == 303
    response = ask(client, "one.more@harbour.example")
    assert response.status_code == 429
    assert int(response.headers["Retry-After"]) >= 1
    assert re.fullmatch(r"Too many attempts\. Try again in \d+ seconds?\.", errors_of(response)[0])
    assert read(response).one("input", id="email").get("value") == "one.more@harbour.example"


@pytest.mark.parametrize(
    "email", ["", "ada", "ada@harbour", "a\r\nBcc: b@c.example", "a\0b@c.example", "<b>@c.example"]
)
@one_database
def test_what_is_no_address_is_refused_with_what_was_typed(
    client: CheckingClient, email: str
) -> None:
    response = ask(client, email)
    assert response.status_code == 422
    assert len(errors_of(response)) == 1
    assert "<b>@" not in response.text
    if "\0" not in email and "\n" not in email:
        assert read(response).one("input", id="email").get("value") == email


@one_database
def test_hostile_bodies_never_fail(client: CheckingClient) -> None:
    for email in (
        "\ud800".encode("utf-8", "surrogatepass").decode("latin-1") + "@c.example",
        "x" * 100_000,
        "\ufdfa" * 50 + "@c.example",
        "a@" + "\u202e" * 9 + ".example",
    ):
        assert ask(client, email).status_code == 422
    assert ask(client, "x" * 1_100_000).status_code == 413
    token = client.token()
    for body in (b"\xff\xfe=\xff", b"email=a&email=b", b"&&=="):
        response = client.post(
            START,
            data=body,
            headers={"X-CSRFToken": token},
            content_type="application/x-www-form-urlencoded",
        )
        assert response.status_code in {400, 422}, body
    for language in ("\x00", "de;q=zzz", "x" * 9000, "*;q=0"):
        headers = {"Accept-Language": language.replace("\x00", "")}
        data = {"email": f"l{len(language)}@harbour.example"}
        assert client.submit(START, data, headers=headers).status_code == 303


def test_the_mail_is_in_the_language_that_the_browser_likes(
    client: CheckingClient, sink: SmtpSink, work: Work
) -> None:
    client.submit(START, {"email": ADA}, headers={"Accept-Language": "ja, fr-CH;q=0.9, en;q=0.5"})
    work()
    assert sink.mails[0].message["Content-Language"] == "fr"


def test_those_who_may_register_are_led_on_and_the_others_see_the_page(
    app: Flask, sign_in_as: SignInAs
) -> None:
    with app.app_context():
        prospect = make_user(role=Role.PROSPECT).login
    for login in (prospect, OPERATOR, "landlord@foyer.example"):
        assert sign_in_as(login).get(START).location == DRAFTS
    for login in (AUDITOR, ADMIN):
        assert sign_in_as(login).page(START).one("input", id="email") is not None


# --- The link ------------------------------------------------------------------------------------


def test_a_link_signs_in_by_its_button_alone_and_once(
    app: Flask, client: CheckingClient, sink: SmtpSink, work: Work
) -> None:
    link = link_for(client, sink, work)
    for _ in range(2):
        response = client.get(link)
        assert response.headers["Referrer-Policy"] == "no-referrer"
        assert ADA in response.text
    assert client.head(link).status_code == 200
    with app.app_context():
        assert db.session.scalars(sa.select(SignInSession)).all() == []
    client.get("/login")
    with client.session_transaction() as session:
        session["planted"] = "before"
    response = press(client, link)
    assert (response.status_code, response.location) == (303, DRAFTS)
    with client.session_transaction() as session:
        assert "planted" not in session
    assert signed_in_email(client) == ADA

    for response in (client.get(link), client.submit(link)):
        assert response.status_code == 410
        assert "It has been used." in response.text
        assert read(response).one("a", href=START) is not None
    assert signed_in_email(client) == ADA


def test_somebody_signed_in_is_told_and_replaced_by_the_button_alone(
    app: Flask, client: CheckingClient, sink: SmtpSink, work: Work, sign_in_as: SignInAs
) -> None:
    link = link_for(client, sink, work)
    operator = sign_in_as(OPERATOR)
    text = operator.page(link).text()
    assert "You are signed in as Omar Nasser" in text
    assert signed_in_email(operator) == OPERATOR
    assert press(operator, link).location == DRAFTS
    assert signed_in_email(operator) == ADA
    with app.app_context():
        [session] = db.session.scalars(sa.select(SignInSession))
        assert session.user.email == ADA
    again = link_for(client, sink, work)
    assert "You are signed in as" not in operator.page(again).text()


@pytest.mark.parametrize(
    "token", ["none", "%00", "%ed%a0%80", "x" * 5000, "..%2f..", "a%0d%0aX:y", "<script>"]
)
@one_database
def test_links_that_are_none_say_so(client: CheckingClient, token: str) -> None:
    path = f"{START}/link/{token}"
    for response in (client.get(path), client.submit(path)):
        assert response.status_code in {404, 410}
        assert "<script>" not in re.sub(r"<script src[^>]*>", "", response.text)


def test_an_old_link_offers_a_new_one(
    app: Flask, client: CheckingClient, sink: SmtpSink, work: Work
) -> None:
    link = link_for(client, sink, work)
    with app.app_context():
        db.session.execute(
            sa.update(RegistrationLink).values(expires_at=utcnow() - timedelta(seconds=1))
        )
        db.session.commit()
    page = client.page(link, status=410)
    assert "It is too old." in page.text()
    assert page.one("a", href=START) is not None


def test_what_prospects_see_of_themselves(
    client: CheckingClient, sink: SmtpSink, work: Work
) -> None:
    press(client, link_for(client, sink, work))
    page = client.page("/account/profile")
    assert ADA in page.text()
    assert "prospect:" not in page.source
    assert "/account/password" not in page.source
    assert page.one("a", href=START) is not None
    for response in (client.get("/account/password"), client.submit("/account/password")):
        assert (response.status_code, response.location) == (303, "/account/profile")
    assert "You have no password." in client.get("/account/profile").text
    assert client.get("/").location == START
    assert client.get("/customers").status_code == 403


def test_signing_out_and_a_session_that_ended_lead_back_to_the_start_page(
    app: Flask, client: CheckingClient, sink: SmtpSink, work: Work
) -> None:
    press(client, link_for(client, sink, work))
    assert client.submit("/account/sign-out").location == START
    assert "You are signed out." in client.get(START).text

    press(client, link_for(client, sink, work))
    with app.app_context():
        db.session.execute(sa.delete(SignInSession))
        db.session.commit()
    response = client.get(DRAFTS, headers={"HX-Request": "true"})
    assert (response.status_code, response.headers["HX-Redirect"]) == (401, START)
    assert "Your session has ended. Get a new link" in client.get(START).text
    assert client.get(DRAFTS).location == f"/login?next={DRAFTS}", "a stranger has no link"


# --- Invitations ---------------------------------------------------------------------------------


def fill(client: CheckingClient, path: str, **values: str) -> TestResponse:
    """The form of a page as it opens, with some fields filled in."""
    page = client.page(path)
    form = next(each for each in page.all("form") if each.get("action") == path)
    return client.post(path, data={**page.fields(form), **values})


def rows_of(page: Page) -> list[str]:
    bodies = page.all("tbody")
    return [page.text(row) for body in bodies for row in body.iter("tr")]


def press_in_row(client: CheckingClient, email: str, word: str) -> TestResponse:
    page = client.page(INVITATIONS)
    row = next(each for each in page.all("tr") if email in page.text(each))
    form = next(each for each in row.iter("form") if page.text(each).startswith(word))
    response = client.post(form.get("action"), data=page.fields(form))
    assert (response.status_code, response.location) == (303, INVITATIONS)
    return response


def test_an_invitation_from_the_form_to_the_draft_without_scripts(
    app: Flask, client: CheckingClient, sink: SmtpSink, work: Work, sign_in_as: SignInAs
) -> None:
    operator = sign_in_as(OPERATOR)
    assert operator.page(DRAFTS).one("a", href=INVITATIONS) is not None
    assert "Nobody has been invited yet." in operator.page(INVITATIONS).text()
    with app.app_context():
        preset = db.session.scalars(
            sa.select(ServiceTemplate).where(ServiceTemplate.name == "Contact centre")
        ).one()
        template_id = preset.id
    response = fill(
        operator, NEW, email=ADA, language="de", template=str(template_id), message="Bis bald."
    )
    assert (response.status_code, response.location) == (303, INVITATIONS)
    page = operator.page(INVITATIONS)
    assert "ada@harbour.example is invited. The mail in Deutsch is on its way." in page.text()
    [row] = rows_of(page)
    assert row.startswith(f"{ADA} Waiting Contact centre by Omar Nasser")
    work()
    assert "Mailed" in rows_of(operator.page(INVITATIONS))[0]
    [sent] = sink.mails
    assert "Bis bald." in sent.text
    found = _LINK.search(sent.text)
    assert found
    response = press(client, found.group(1))
    assert re.fullmatch(r"/tenant-registration/\d+", response.location)
    page = client.page(f"{response.location}/template")
    chosen = [each for each in page.all("input", name="template") if "checked" in each.attrib]
    assert [each.get("value") for each in chosen] == [str(template_id)]
    [row] = rows_of(operator.page(INVITATIONS))
    assert "Accepted" in row
    assert "Resend" not in row
    assert "Withdraw" not in row


def test_an_invitation_is_sent_again_and_withdrawn_from_the_list(
    client: CheckingClient, sink: SmtpSink, work: Work, sign_in_as: SignInAs
) -> None:
    operator = sign_in_as(OPERATOR)
    fill(operator, NEW, email=ADA)
    work()
    press_in_row(operator, ADA, "Resend")
    assert "The old one no longer works." in operator.page(INVITATIONS).text()
    work()
    old, new = (_LINK.search(each.text).group(1) for each in sink.mails)  # type: ignore[union-attr]
    assert client.get(old).status_code == 410
    assert client.get(new).status_code == 200
    press_in_row(operator, ADA, "Withdraw")
    assert "Withdrawn" in rows_of(operator.page(INVITATIONS))[0]
    page = client.page(new, status=410)
    assert "The invitation was withdrawn." in page.text()


def test_the_list_says_what_became_of_each(app: Flask, sign_in_as: SignInAs) -> None:
    with app.app_context():
        now = utcnow()
        make_invitation(email="a@harbour.example", used_at=now)
        make_invitation(email="b@harbour.example", ended_at=now, answer="550 <b>No</b> mailbox")
        make_invitation(email="c@harbour.example", ended_at=now)
        make_invitation(email="d@harbour.example", expires_at=now - timedelta(hours=1))
        make_invitation(email="e@harbour.example")
        make_invitation(email="f@harbour.example", mailed_at=None, answer="451 Greylisted")
    page = sign_in_as(OPERATOR).page(INVITATIONS)
    words = ["Waiting", "Mailed", "Expired", "Withdrawn", "Failed", "Accepted"]
    rows = rows_of(page)
    assert [word in row for word, row in zip(words, rows, strict=True)] == [True] * 6
    assert "550 <b>No</b> mailbox" in rows[4]
    assert "451 Greylisted" in rows[0]
    assert ["Resend" in row for row in rows] == [True] * 5 + [False]
    assert ["Withdraw " in row for row in rows] == [True] * 2 + [False] * 4


def test_the_list_is_searched_and_paged(app: Flask, sign_in_as: SignInAs) -> None:
    with app.app_context():
        for number in range(27):
            make_invitation(email=f"{'ab'[number % 2]}{number:02}@harbour.example")
    operator = sign_in_as(OPERATOR)
    page = operator.page(INVITATIONS)
    assert len(rows_of(page)) == 25
    following = page.one("a", rel="next").get("href")
    assert len(rows_of(operator.page(following))) == 2
    fragment = operator.fragment(f"{INVITATIONS}?q=A0")
    assert [row[:3] for row in rows_of(fragment)] == ["a08", "a06", "a04", "a02", "a00"]
    assert "starts with “zz”" in operator.page(f"{INVITATIONS}?q=zz").text()
    for strange in ("?cursor=x", "?size=7", "?q=%00", "?q=%ed%a0%80", f"?cursor={'9' * 5000}"):
        assert operator.get(INVITATIONS + strange).status_code == 200


def test_what_is_wrong_with_an_invitation_is_said_at_its_field(sign_in_as: SignInAs) -> None:
    operator = sign_in_as(OPERATOR)
    for values, words in (
        ({"email": ""}, "Enter the e-mail address to invite."),
        ({"email": "ada@"}, "E-mail address: "),
        ({"email": ADA, "template": "999999"}, "This is not offered (any more)."),
        ({"email": ADA, "template": "9" * 30}, "This is not offered (any more)."),
        ({"email": ADA, "group": "-1"}, "This is not offered (any more)."),
        ({"email": ADA, "language": "ja"}, "This is not offered (any more)."),
        ({"email": ADA, "message": "x" * 1001}, "The limit is 1,000."),
        ({"email": ADA, "message": "a\0b"}, "a character that cannot be seen"),
    ):
        response = fill(operator, NEW, **values)
        assert response.status_code == 422, values
        assert words in errors_of(response)[0]
        kept = read(response).one("input", id="email").get("value")
        assert (kept or "") == values["email"]
    fill(operator, NEW, email=ADA)
    response = fill(operator, NEW, email=ADA)
    assert response.status_code == 422
    assert "has an invitation that still works" in errors_of(response)[0]


@one_database
def test_those_of_other_groups_cannot_be_seen_or_steered(app: Flask, sign_in_as: SignInAs) -> None:
    with app.app_context():
        login = make_user(role=Role.OPERATOR).login
        group = make_group()
        save(UserGroup(user_id=find_user(login).id, group_id=group.id))
        hidden = make_invitation()
        seen = hidden.requested_at.isoformat()
    operator = sign_in_as(login)
    assert rows_of(operator.page(INVITATIONS)) == []
    choices = [each.get("value") for each in operator.page(NEW).one("select", id="group")]
    assert choices == [str(group.id)]
    for verb in ("resend", "withdraw"):
        for stranger in (hidden.id, 0, 2**63 - 1):
            path = f"{INVITATIONS}/{stranger}/{verb}"
            assert operator.submit(path, {"seen": seen}).status_code == 404
        assert operator.submit(f"{INVITATIONS}/{10**30}/{verb}").status_code == 404


@one_database
def test_a_resend_without_its_time_is_refused(app: Flask, sign_in_as: SignInAs) -> None:
    with app.app_context():
        invitation_id = make_invitation().id
    operator = sign_in_as(OPERATOR)
    for seen in ("", "x", "2026-01-01", "2026-01-01T00:00:00", "\0", "9" * 5000):
        response = operator.submit(f"{INVITATIONS}/{invitation_id}/resend", {"seen": seen})
        assert response.status_code == 400


@registration("closed")
@one_database
def test_nobody_can_be_invited_while_registration_is_closed(
    app: Flask, sign_in_as: SignInAs
) -> None:
    with app.app_context():
        make_invitation(email=ADA)
    operator = sign_in_as(OPERATOR)
    page = operator.page(INVITATIONS)
    assert "Registration is closed" in page.text()
    assert not page.all("a", href=NEW)
    [row] = rows_of(page)
    assert "Resend" not in row
    assert not operator.page(NEW).all("input", id="email")
    assert operator.submit(NEW, {"email": "b@harbour.example", "language": "en"}).status_code == 422
    press_in_row(operator, ADA, "Withdraw")


def test_a_withdrawn_template_leads_the_invited_to_his_list(
    app: Flask, client: CheckingClient, sink: SmtpSink, work: Work, sign_in_as: SignInAs
) -> None:
    """The draft begins all the same; what is not offered any more is said there."""
    with app.app_context():
        preset = db.session.scalars(
            sa.select(ServiceTemplate).where(ServiceTemplate.name == "Contact centre")
        ).one()
        template_id = preset.id
    fill(sign_in_as(OPERATOR), NEW, email=ADA, template=str(template_id))
    work()
    with app.app_context():
        db.session.get_one(ServiceTemplate, template_id).published_version_id = None
        db.session.commit()
    found = _LINK.search(sink.mails[0].text)
    assert found
    response = press(client, found.group(1))
    assert response.location.startswith(START)
    assert client.get(response.location, follow_redirects=True).status_code == 200
    with app.app_context():
        assert len(db.session.scalars(sa.select(User).where(User.role == Role.PROSPECT)).all()) == 1
