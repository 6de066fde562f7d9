"""Pages of e-mail templates: the list, the editor, previews, tests, versions, customers."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import pytest
import sqlalchemy as sa
from flask import Flask
from werkzeug.test import TestResponse

from extensions import db
from models import CustomerEmailTemplate, EmailTemplate, Role, TemplateKind, User
from services import email_template_lists as lists
from services.email_template_texts import TypedText
from services.email_templates import find_template_of_kind
from tests.support.factories import (
    actor_for,
    find_customer,
    make_template,
    make_user,
    make_welcome,
)
from tests.support.pages import CheckingClient, Page
from tests.support.smtp_sink import SmtpSink
from tests.support.templates import HOSTILE, create, edit, limited_operator, text

SignInAs = Callable[[str], CheckingClient]
OPERATOR = "operator@foyer.example"
AUDITOR = "auditor@foyer.example"
ADMIN = "prpkeAdmin@kenton-electronics.com"
NEW = "/email-templates/new"
one_database = pytest.mark.parametrize("engine_name", ["sqlite"])


@pytest.fixture
def operator(sign_in_as: SignInAs) -> CheckingClient:
    return sign_in_as(OPERATOR)


@pytest.fixture
def template_id(app: Flask) -> int:
    """A template of CQ001 with one language."""
    with app.app_context():
        actor = actor_for(OPERATOR)
        made = create(actor, "Holiday notice", en=text("Hello"))
        db.session.add(
            CustomerEmailTemplate(
                customer_id=find_customer("CQ001").id, template_id=made.template_id
            )
        )
        db.session.commit()
        return made.template_id


def filled(client: CheckingClient, path: str, **changes: str) -> dict[str, Any]:
    """The editor's form as a browser would send it, with `changes`."""
    page = client.page(path)
    data: dict[str, Any] = page.fields(page.one("form", id="editor"))
    return {**data, "do": "save", **changes}


def submit(client: CheckingClient, path: str, **changes: str) -> TestResponse:
    return client.submit(path, {**filled(client, path, **changes)})


def texts_of(app: Flask, template_id: int, number: int = 0) -> dict[str, TypedText]:
    with app.app_context():
        return lists.typed_texts(lists.get_version(actor_for(OPERATOR), template_id, number))


def shown(response: TestResponse) -> str:
    return Page(response.text).text()


# --- The list ------------------------------------------------------------------------------------


@one_database
def test_the_list_shows_what_there_is_and_is_filtered_by_its_address(
    operator: CheckingClient, template_id: int
) -> None:
    page = operator.page("/email-templates")
    rows = [page.text(row) for row in page.all("tr", data_row="")]
    assert len(rows) == 5
    assert any(row.startswith("Holiday notice General English 1 customer") for row in rows)
    page = operator.page("/email-templates?kind=general&customer=cq001&q=hol")
    assert len(page.all("tr", data_row="")) == 1
    for chip in ("Search: hol", "Kind: General", "Used by: CQ001"):
        assert chip in page.text()
    assert "No template matches" in operator.page("/email-templates?q=zzz").text()
    assert "No template is archived" in operator.page("/email-templates?archived=yes").text()
    assert operator.fragment("/email-templates?q=hol").one("div", id="templates-table") is not None


@pytest.mark.empty_database
@one_database
def test_an_empty_installation_is_helped_along(app: Flask, sign_in_as: SignInAs) -> None:
    with app.app_context():
        make_user(role=Role.LANDLORD, login="first@foyer.example")
    client = sign_in_as("first@foyer.example")
    assert "Make the standard templates" in client.page("/email-templates").text()
    assert client.submit("/email-templates/defaults").status_code == 303
    assert len(client.page("/email-templates").all("tr", data_row="")) == 4


# --- Writing -------------------------------------------------------------------------------------


def test_a_template_is_made_from_what_was_typed(app: Flask, operator: CheckingClient) -> None:
    response = submit(
        operator,
        NEW,
        name="Notice",
        kind="general",
        subject_de="Hallo ((first name))",
        html_de="<p>Hallo<script>x</script></p>",
        note="First",
    )
    assert response.status_code == 303
    page = operator.page(response.location)
    assert page.text(page.one("h1")) == "Notice"
    assert "Taken out of the Deutsch HTML" in page.text()
    assert "<script>" in page.text()
    with app.app_context():
        made = db.session.scalars(
            sa.select(EmailTemplate).where(EmailTemplate.name == "Notice")
        ).one()
    assert texts_of(app, made.id) == {"de": TypedText("Hallo ((first name))", "", "<p>Hallo</p>")}


@one_database
def test_one_can_start_from_what_there_is(operator: CheckingClient, template_id: int) -> None:
    page = operator.page(f"{NEW}?from=voicemail-update")
    assert page.one("input", name="name").get("value") == "Voicemail update"
    assert "voicemail" in page.text(page.one("textarea", name="html_en")).lower()
    page = operator.page(f"{NEW}?copy={template_id}")
    assert page.one("input", name="name").get("value") == "Copy of Holiday notice"
    assert page.one("input", name="subject_en").get("value") == "Hello"
    operator.page(f"{NEW}?copy=999999", status=404)
    for strange in ("copy=x", "copy=1&copy=2", "from=../../etc", f"copy={10**30}"):
        operator.page(f"{NEW}?{strange}")


@one_database
def test_what_is_wrong_stands_at_its_field_and_what_was_typed_stays(
    operator: CheckingClient, template_id: int
) -> None:
    path = f"/email-templates/{template_id}/edit"
    response = submit(
        operator,
        path,
        name="a|b",
        subject_en="((frist name))",
        html_en="<p>ok</p>\n((nme))",
        subject_fr="Bonjour",
    )
    assert response.status_code == 422
    page = Page(response.text)
    wrong = {
        str(each.get("name"))
        for tag in ("input", "textarea")
        for each in page.all(tag)
        if each.get("aria-invalid") == "true"
    }
    assert wrong == {"name", "subject_en", "html_en", "html_fr"}
    told = page.text()
    assert "Line 1, column 1" in told
    assert "Line 2, column 1" in told
    assert "Did you mean “((first name))”?" in told
    assert page.one("input", name="subject_en").get("value") == "((frist name))"
    assert page.one("input", name="name").get("value") == "a|b"
    opened = [d for d in page.all("details") if d.get("open") is not None]
    assert [page.text(d)[:7] for d in opened] == ["English", "Françai", "Placeho"]


@one_database
@pytest.mark.parametrize("hostile", HOSTILE)
def test_hostile_texts_in_every_field_are_shown_as_texts(
    operator: CheckingClient, template_id: int, hostile: str
) -> None:
    for path in (NEW, f"/email-templates/{template_id}/edit"):
        changes = dict.fromkeys(
            ("name", "note", "reader", "language", "shown", "version", "told_empty"), hostile
        )
        for language in ("en", "de", "fr", "nl"):
            changes |= {f"{part}_{language}": hostile for part in ("subject", "text", "html")}
        for do in ("save", "check", "test"):
            response = submit(operator, path, **{**changes, "do": do})
            assert response.status_code < 500, (path, do)
            assert "<script>alert" not in response.text
        response = operator.submit("/email-templates/frame", changes)
        assert response.status_code == 200
        assert "<script" not in response.text
    page = operator.get(f"/email-templates/{template_id}").text
    assert "<script>alert" not in page


def test_the_second_of_two_editors_gets_his_text_back_with_the_difference(
    app: Flask, operator: CheckingClient, template_id: int
) -> None:
    path = f"/email-templates/{template_id}/edit"
    mine = filled(operator, path, subject_en="Mine", note="My note")
    with app.app_context():
        edit(actor_for("landlord@foyer.example"), template_id, typed={"en": text("Theirs")})
    response = operator.submit(path, mine)
    assert response.status_code == 409
    page = Page(response.text)
    assert page.one("input", name="subject_en").get("value") == "Mine"
    assert page.one("input", name="note").get("value") == "My note"
    assert "−Theirs" in {page.text(each) for each in page.all("del")}
    assert "+Mine" in {page.text(each) for each in page.all("ins")}
    assert texts_of(app, template_id)["en"].subject == "Theirs"
    data = page.fields(page.one("form", id="editor"))
    assert operator.submit(path, {**data, "do": "save"}).status_code == 303
    assert texts_of(app, template_id)["en"].subject == "Mine"
    assert texts_of(app, template_id, 2)["en"].subject == "Theirs"


def test_a_placeholder_that_is_empty_for_some_is_asked_about_once(
    app: Flask, operator: CheckingClient, template_id: int
) -> None:
    path = f"/email-templates/{template_id}/edit"
    response = submit(operator, path, html_en="<p>((bundle)) ((extension))</p>")
    assert response.status_code == 422
    page = Page(response.text)
    assert "“((extension))” is empty for" in page.text()
    assert "Save all the same" in page.text()
    data = page.fields(page.one("form", id="editor"))
    assert operator.submit(path, {**data, "do": "save"}).status_code == 303
    assert "((extension))" in texts_of(app, template_id)["en"].html


@one_database
def test_who_may_not_change_it_is_told_why_and_may_copy_it(
    app: Flask, sign_in_as: SignInAs, template_id: int
) -> None:
    with app.app_context():
        login = limited_operator("CQ101").login
    client = sign_in_as(login)
    page = client.page(f"/email-templates/{template_id}")
    assert "Customers of other groups use this template" in page.text()
    labels = {page.text(link) for link in page.all("a")}
    assert "Copy" in labels
    assert "Edit" not in labels
    for path in ("edit", "archive"):
        client.page(f"/email-templates/{template_id}/{path}", status=403)
    reader = sign_in_as(AUDITOR).page(f"/email-templates/{template_id}")
    assert not {"Edit", "Copy", "Archive"} & {reader.text(link) for link in reader.all("a")}


# --- Previews and tests --------------------------------------------------------------------------


def test_what_is_typed_is_previewed_and_not_saved(
    app: Flask, operator: CheckingClient, template_id: int
) -> None:
    path = f"/email-templates/{template_id}/edit"
    typed = filled(
        operator, path, html_en="<p>New ((full name)) ((portal password))</p>", language="en"
    )
    frame = operator.submit("/email-templates/frame", typed)
    assert "New Ada Kenton samp-LePa-ssword-7Kx2" in shown(frame)
    policy = frame.headers["Content-Security-Policy"]
    assert "sandbox;" in policy
    assert "default-src 'none'" in policy
    plain = operator.submit("/email-templates/frame", {**typed, "shown": "text"})
    assert "Hello Ada" in shown(plain)
    check = operator.submit(path, {**typed, "do": "check"}, headers={"HX-Request": "true"})
    assert check.status_code == 200
    assert "resets the portal password" in shown(check)
    assert "The English text lacks the portal password" in shown(check)
    broken = {**typed, "html_en": "<p>((frist name))</p>"}
    check = operator.submit(path, {**broken, "do": "check"}, headers={"HX-Request": "true"})
    assert "cannot be saved yet" in shown(check)
    assert "Did you mean" in shown(operator.submit("/email-templates/frame", broken))
    assert texts_of(app, template_id) == {"en": text("Hello")}


def test_a_preview_is_for_a_real_user_of_a_customer_in_scope(
    app: Flask, operator: CheckingClient, sign_in_as: SignInAs, template_id: int
) -> None:
    with app.app_context():
        users = [
            make_user(find_customer(web_id), first_name="Zora", last_name=web_id, login=login)
            for web_id, login in (
                ("CQ001", "zora.one@kenton-electronics.com"),
                ("CQ002", "zora.two@harborlight.example"),
            )
        ]
        db.session.execute(
            sa.update(User).where(User.id == users[0].id).values(password_hash="secret-hash")
        )
        db.session.commit()
        limited = limited_operator("CQ101").login
    frame = f"/email-templates/{template_id}/frame"
    assert "Hello Zora" in shown(operator.get(f"{frame}?reader=zora"))
    assert "secret-hash" not in operator.get(f"{frame}?reader=zora").text
    assert "No user with a login" in shown(operator.get(f"{frame}?reader=zora.two"))
    assert "No user with a login" in shown(sign_in_as(limited).get(f"{frame}?reader=zora"))
    page = operator.page(f"/email-templates/{template_id}?reader=ZORA.one")
    assert (
        "As Zora CQ001 (zora.one@kenton-electronics.com) of KentonElectronics gets it"
        in page.text()
    )
    typed = filled(operator, f"/email-templates/{template_id}/edit", reader="zora", do="check")
    check = operator.submit(
        f"/email-templates/{template_id}/edit", typed, headers={"HX-Request": "true"}
    )
    options = [each.get("value") for each in Page(check.text).all("option")]
    assert options == ["zora.one@kenton-electronics.com"]


def test_a_test_goes_to_who_asks_with_samples_and_says_so(
    app: Flask, sink: SmtpSink, operator: CheckingClient, template_id: int
) -> None:
    path = f"/email-templates/{template_id}/edit"
    response = submit(
        operator, path, do="test", html_en="<p>Typed ((portal password))</p>", text_en=""
    )
    assert response.status_code == 200
    assert "test is on its way to operator@foyer.example" in shown(response)
    page = Page(response.text)
    assert "Typed" in page.text(page.one("textarea", name="html_en"))
    (mail,) = sink.mails
    assert mail.recipients == (OPERATOR,)
    assert mail.message["Subject"] == "[Test] Hello"
    body = mail.message.get_body(("html",))
    assert body is not None
    assert "samp-LePa-ssword-7Kx2" in body.get_content()
    assert texts_of(app, template_id) == {"en": text("Hello")}
    assert operator.submit(f"/email-templates/{template_id}/test").status_code == 303
    assert len(sink.mails) == 2
    for _ in range(9):
        operator.submit(f"/email-templates/{template_id}/test")
    page = operator.page(f"/email-templates/{template_id}")
    assert "Too many attempts" in page.text()
    assert len(sink.mails) < 12


@one_database
def test_a_test_that_the_server_refuses_tells_its_words(
    sink: SmtpSink, operator: CheckingClient, template_id: int
) -> None:
    sink.refuse(OPERATOR, 550, "5.7.1 Not today")
    operator.submit(f"/email-templates/{template_id}/test")
    assert "Not today" in operator.page(f"/email-templates/{template_id}").text()
    response = submit(
        operator, f"/email-templates/{template_id}/edit", do="test", html_en="((nme))"
    )
    assert "The test was not sent" in shown(response)


# --- Versions ------------------------------------------------------------------------------------


def test_versions_are_compared_and_restored(
    app: Flask, operator: CheckingClient, template_id: int
) -> None:
    with app.app_context():
        edit(actor_for(OPERATOR), template_id, typed={"en": text("Second")}, note="Why")
    base = f"/email-templates/{template_id}/versions"
    page = operator.page(base)
    assert "Version 2" in page.text()
    assert "Why" in page.text()
    first = operator.page(f"{base}/1?with=newest")
    assert "+Second" in {first.text(each) for each in first.all("ins")}
    assert "It is the first version" in operator.page(f"{base}/1").text()
    second = operator.page(f"{base}/2")
    assert "−Hello" in {second.text(each) for each in second.all("del")}
    assert "Restore version 2" not in second.text()
    form = next(f for f in first.all("form") if f.get("action", "").endswith("/restore"))
    assert operator.submit(f"{base}/1/restore", first.fields(form)).status_code == 303
    assert texts_of(app, template_id)["en"].subject == "Hello"
    again = operator.submit(f"{base}/1/restore", first.fields(form))
    assert "Somebody else changed" in operator.page(again.location).text()
    operator.page(f"{base}/9", status=404)
    operator.page(f"{base}/{10**30}", status=404)


# --- Archiving and customers ---------------------------------------------------------------------


def test_a_template_is_archived_and_put_back(
    app: Flask, operator: CheckingClient, template_id: int
) -> None:
    path = f"/email-templates/{template_id}"
    page = operator.page(f"{path}/archive")
    assert "1 customer" in page.text()
    form = next(f for f in page.all("form") if f.get("action", "").endswith("/archive"))
    assert operator.submit(f"{path}/archive", page.fields(form)).status_code == 303
    page = operator.page(path)
    assert "Nobody can use it" in page.text()
    form = next(f for f in page.all("form") if f.get("action", "").endswith("/unarchive"))
    operator.submit(f"{path}/unarchive", page.fields(form))
    assert "Nobody can use it" not in operator.page(path).text()
    with app.app_context():
        welcome = find_template_of_kind(TemplateKind.WELCOME)
        assert welcome is not None
        path = f"/email-templates/{welcome.id}"
    operator.submit(f"{path}/archive", {"version": "1"})
    assert "no other Welcome than Welcome" in operator.page(path).text()


def test_customers_are_counted_before_they_are_changed(
    app: Flask, operator: CheckingClient, template_id: int
) -> None:
    path = f"/email-templates/{template_id}/customers/change"
    base = {"verb": "assign", "by": "listed", "web_ids": "cq001, CQ002;\nCQ101"}
    response = operator.submit(path, base)
    assert response.status_code == 200
    assert "2 customers can use it from now on" in shown(response)
    assert "1 customer of them has it already" in shown(response)
    assert (
        len(operator.page(f"/email-templates/{template_id}/customers").all("tr", data_row="")) == 1
    )
    page = Page(response.text)
    form = next(f for f in page.all("form") if f.get("action") == path)
    assert operator.submit(path, page.fields(form)).status_code == 303
    rows = operator.page(f"/email-templates/{template_id}/customers").all("tr", data_row="")
    assert len(rows) == 3
    found = operator.page(f"/email-templates/{template_id}/customers?q=harb").all("tr", data_row="")
    assert len(found) == 1
    response = operator.submit(path, {**base, "web_ids": "CQ001 nope CQ999"})
    assert response.status_code == 422
    assert "NOPE, CQ999 are no customers" in shown(response)
    assert "CQ001 nope CQ999" in shown(response)
    response = operator.submit(path, {"verb": "remove", "by": "all", "confirmed": "yes"})
    assert response.status_code == 303
    assert "removed from 3 customers" in operator.page(response.location).text()


@one_database
def test_removing_the_last_welcome_is_refused_with_the_reason(
    app: Flask, operator: CheckingClient
) -> None:
    with app.app_context():
        welcome = make_welcome(find_customer("CQ001"))
        first = find_template_of_kind(TemplateKind.WELCOME)
        assert first is not None
        newest, other = welcome.id, first.id
    assert newest == other, "the newest is found first"
    path = f"/email-templates/{newest}/customers/change"
    data = {"verb": "remove", "by": "listed", "web_ids": "CQ001"}
    assert operator.submit(path, data).status_code == 200
    operator.submit(path, {**data, "confirmed": "yes"})
    with app.app_context():
        oldest = db.session.scalars(
            sa.select(sa.func.min(EmailTemplate.id)).where(
                EmailTemplate.kind == TemplateKind.WELCOME
            )
        ).one()
    response = operator.submit(f"/email-templates/{oldest}/customers/change", data)
    assert response.status_code == 409
    assert "CQ001 has no other Welcome than Welcome" in shown(response)


# --- For a customer ------------------------------------------------------------------------------


@one_database
def test_a_customers_administrator_sees_what_is_assigned_and_how_it_looks(
    app: Flask, sign_in_as: SignInAs, template_id: int
) -> None:
    with app.app_context():
        foreign = make_template(find_customer("CQ002")).id
        user = make_user(find_customer("CQ001"), first_name="Zora")
        stranger = make_user(find_customer("CQ002"))
    client = sign_in_as(ADMIN)
    base = "/customers/CQ001/email-templates"
    page = client.page(base)
    names = [page.text(row) for row in page.all("tr", data_row="")]
    assert "Holiday notice General" in names
    assert "Password reset Password reset" in names
    assert "E-mail templates" in page.text(page.one("nav", aria_label="Areas"))
    page = client.page(f"{base}/{template_id}?reader={user.login}")
    assert "As Zora" in page.text()
    assert "Hello Zora" in shown(client.get(f"{base}/{template_id}/frame?reader={user.login}"))
    assert (
        "No user with a login"
        in client.page(f"{base}/{template_id}?reader={stranger.login}").text()
    )
    client.page(f"{base}/{foreign}", status=404)
    client.page(f"{base}/{foreign}/frame", status=404)
    client.page(f"/email-templates/{template_id}", status=403)
    assert not re.search(r"/email-templates/\d+/edit", client.get(f"{base}/{template_id}").text)
