"""The page of setup instructions: text and files, and how users get them."""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import Any

import pytest
from flask import Flask
from werkzeug.test import TestResponse

from extensions import db
from models import TemplateKind
from services.email_templates import find_template_of_kind
from tests.support.attachments import PDF, PNG, make_attachment
from tests.support.factories import find_customer, make_user
from tests.support.pages import CheckingClient, Page, check_page, sign_in

ADMIN = "prpkeAdmin@kenton-electronics.com"
OPERATOR = "operator@foyer.example"
AUDITOR = "auditor@foyer.example"
URL = "/customers/CQ001/setup"

SignInAs = Callable[[str], CheckingClient]


@pytest.fixture
def admin(sign_in_as: SignInAs) -> CheckingClient:
    return sign_in_as(ADMIN)


def upload(client: CheckingClient, name: str, content: bytes) -> TestResponse:
    response = client.submit(
        f"{URL}/files",
        {"file": (io.BytesIO(content), name)},
        content_type="multipart/form-data",
    )
    response.request.environ["wsgi.input"].close()  # A temporary file, where it is large.
    return response


def form_of(client: CheckingClient) -> dict[str, Any]:
    page = client.page(URL)
    fields: dict[str, Any] = page.fields(page.one("form", action=URL))
    return fields


def listed(client: CheckingClient) -> list[str]:
    return [each.text or "" for each in client.page(URL).all("bdi")]


@pytest.mark.parametrize("login", [ADMIN, OPERATOR])
def test_the_text_is_edited_and_stands_on_my_services(
    app: Flask, sign_in_as: SignInAs, login: str
) -> None:
    client = sign_in_as(login)
    text = "Plug it in.\n<script>alert(1)</script> ((first name))"
    response = client.post(URL, data={**form_of(client), "text": text})
    assert response.status_code == 303
    assert "The text is saved" in client.get(URL).text
    assert form_of(client)["text"] == [text]
    with app.app_context():
        user = make_user(find_customer("CQ001")).login
    services = sign_in(app, user).page("/account/services")
    assert "<script>alert" not in services.source
    assert "Plug it in." in services.text()
    response = client.post(URL, data=form_of(client), follow_redirects=True)
    assert "Nothing was changed" in response.text


def test_two_who_edit_see_both_texts(sign_in_as: SignInAs) -> None:
    first, second = sign_in_as(ADMIN), sign_in_as(OPERATOR)
    seen = form_of(second)
    first.post(URL, data={**form_of(first), "text": "Of the first"})
    response = second.post(URL, data={**seen, "text": "Of the second"})
    assert response.status_code == 409
    page = check_page(response)
    assert "Of the first" in page.text(page.one("pre"))
    fields = page.fields(page.one("form", action=URL))
    assert fields["text"] == ["Of the second"]
    assert second.post(URL, data=fields).status_code == 303
    assert form_of(first)["text"] == ["Of the second"]


def test_what_is_too_long_comes_back(admin: CheckingClient) -> None:
    response = admin.post(URL, data={**form_of(admin), "text": "x" * 5001})
    assert response.status_code == 422
    page = check_page(response)
    assert "5,001 characters" in page.text()
    assert page.fields(page.one("form", action=URL))["text"] == ["x" * 5001]


def test_what_cannot_be_seen_is_shown_as_such(admin: CheckingClient) -> None:
    response = admin.post(URL, data={**form_of(admin), "text": "a\0b"})
    assert response.status_code == 422
    page = check_page(response)
    assert page.fields(page.one("form", action=URL))["text"] == ["a\ufffdb"]


def test_files_are_attached_moved_replaced_and_removed(admin: CheckingClient) -> None:
    for name, content in (("a.pdf", PDF), ("b.png", PNG)):
        assert upload(admin, name, content).status_code == 303
    assert listed(admin) == ["a.pdf", "b.png"]
    moves = [each for each in admin.page(URL).all("form") if "/move" in (each.get("action") or "")]
    page = admin.page(URL)
    assert admin.post(moves[0].get("action"), data=page.fields(moves[0])).status_code == 303
    assert listed(admin) == ["b.png", "a.pdf"]
    assert upload(admin, "a.pdf", PDF + b"2").status_code == 303
    assert "a.pdf is replaced" in admin.get(URL).text
    assert listed(admin) == ["b.png", "a.pdf"]
    removal = next(
        each
        for each in admin.page(URL).all("form")
        if (each.get("action") or "").endswith("/remove")
    )
    response = admin.post(removal.get("action"), data=page.fields(removal), follow_redirects=True)
    assert "b.png is removed" in response.text
    assert listed(admin) == ["a.pdf"]
    again = admin.post(removal.get("action"), data=page.fields(removal), follow_redirects=True)
    assert "no longer there" in again.text
    move = removal.get("action").replace("/remove", "/move")
    assert admin.submit(move, {"way": "sideways"}).status_code == 400
    assert "no longer there" in admin.submit(move, {"way": "up"}, follow_redirects=True).text


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("a.exe", b"MZ", "none of the kinds"),
        ("a.pdf", b"<script>alert(1)</script>", "its content is none"),
        ("<img src=x onerror=alert(1)>.pdf", b"MZ", "its content is none"),
        ("a.pdf", b"", "is empty"),
        ("big.pdf", PDF + bytes(2_000_000), "2.0 MB at most"),
        ("a\0b", b"x", "none of the kinds"),
    ],
)
def test_refused_files_are_told_at_the_field(
    admin: CheckingClient, name: str, content: bytes, words: str
) -> None:
    response = upload(admin, name, content)
    assert response.status_code == 422
    page = check_page(response)
    field = page.one("input", type="file")
    assert field.get("aria-invalid") == "true"
    assert words in page.text()
    kept = page.fields(page.one("form", action=URL))["text"]
    assert kept == form_of(admin)["text"] != [""]
    assert listed(admin) == []


def test_a_form_without_a_file_is_told(admin: CheckingClient) -> None:
    for data in ({}, {"file": "a text"}):
        response = admin.submit(f"{URL}/files", data)
        assert response.status_code == 422
        assert "No file is chosen" in response.text


@pytest.mark.parametrize("engine_name", ["sqlite"])
def test_more_than_the_page_takes_is_refused_unread(
    admin: CheckingClient, sign_in_as: SignInAs
) -> None:
    assert upload(admin, "a.pdf", PDF + bytes(5_000_000)).status_code == 413
    outside = sign_in_as("prphlAdmin@harborlight.example")
    assert upload(outside, "a.pdf", PDF).status_code == 404
    other = admin.submit(URL, {"text": "x" * 2_000_000})
    assert other.status_code == 413


def test_a_file_is_a_download_and_never_a_page(app: Flask, admin: CheckingClient) -> None:
    with app.app_context():
        file = make_attachment(find_customer("CQ001"), "Zoë’s “steps”.pdf").id
        user = make_user(find_customer("CQ001")).login
        stranger = make_user(find_customer("CQ002")).login
    for client, path in (
        (admin, f"{URL}/files/{file}"),
        (sign_in(app, user), f"/account/services/files/{file}"),
    ):
        response = client.get(path)
        assert response.data == PDF
        assert response.mimetype == "application/pdf"
        disposition = response.headers["Content-Disposition"]
        disposition.encode("ascii")
        assert disposition.startswith("attachment; filename=")
        assert "UTF-8''Zo%C3%AB%E2%80%99s%20%E2%80%9Csteps%E2%80%9D.pdf" in disposition
        assert response.headers["X-Content-Type-Options"] == "nosniff"
        assert "sandbox" in response.headers["Content-Security-Policy"]
    with app.app_context():
        hebrew = make_attachment(find_customer("CQ001"), "שלום.pdf").id
    named = admin.get(f"{URL}/files/{hebrew}").headers["Content-Disposition"]
    assert named.startswith("attachment; filename=file.pdf;")
    assert sign_in(app, stranger).get(f"/account/services/files/{file}").status_code == 404
    assert sign_in(app, stranger).get(f"{URL}/files/{file}").status_code == 404
    assert sign_in(app, AUDITOR).get(f"/account/services/files/{file}").status_code == 404
    page = sign_in(app, user).page("/account/services")
    link, _ = [each for each in page.all("a") if each.get("download") is not None]
    assert link.get("href") == f"/account/services/files/{file}"
    assert "Zoë’s “steps”.pdf" in page.text(link)


def test_who_only_reads_sees_text_and_files_and_no_form(app: Flask, sign_in_as: SignInAs) -> None:
    with app.app_context():
        make_attachment(find_customer("CQ001"))
    page = sign_in_as(AUDITOR).page(URL)
    assert not [each for each in page.all("form") if URL in (each.get("action") or "")]
    assert "First steps.pdf" in page.text()
    assert "Record your voicemail greeting." in page.text()


def test_the_preview_of_a_welcome_mail_names_its_files(app: Flask, admin: CheckingClient) -> None:
    with app.app_context():
        make_attachment(find_customer("CQ001"))
        user = make_user(find_customer("CQ001")).id
        welcome = find_template_of_kind(TemplateKind.WELCOME)
        assert welcome is not None
        address = f"/customers/CQ001/mailings/new?template={welcome.id}&user={user}"
        db.session.remove()
    page: Page = admin.page(address)
    assert "With it go First steps.pdf" in page.text()


@pytest.mark.parametrize("engine_name", ["sqlite"])
@pytest.mark.parametrize("settings_changes", [{"ATTACHMENT_FILES": "0"}])
def test_without_files_there_is_no_field_for_them(admin: CheckingClient) -> None:
    assert not admin.page(URL).all("input", type="file")
