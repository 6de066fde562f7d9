"""A test client that checks every page it gets, and small helpers to read pages."""

from __future__ import annotations

import itertools
import re
from typing import Any

import html5lib
from flask import Flask, session
from flask.testing import FlaskClient
from flask_wtf.csrf import generate_csrf
from werkzeug.test import TestResponse

from extensions import db
from models import SignInSession, User, fold
from services import sign_ins

_NS = "{http://www.w3.org/1999/xhtml}"
_numbers = itertools.count()
_VOID_LABELS = {"hidden", "submit", "button", "image", "reset"}


class Page:
    """A parsed HTML document or fragment."""

    def __init__(self, text: str) -> None:
        self.source = text
        parser = html5lib.HTMLParser(namespaceHTMLElements=False)
        self.root = parser.parse(text)
        self.faults = [code for _, code, _ in parser.errors if "unknown" not in code]

    def all(self, tag: str, **attributes: str) -> list[Any]:
        wanted = {name.rstrip("_").replace("_", "-"): value for name, value in attributes.items()}
        return [
            element
            for element in self.root.iter(tag)
            if all(element.get(name) == value for name, value in wanted.items())
        ]

    def one(self, tag: str, **attributes: str) -> Any:
        found = self.all(tag, **attributes)
        assert len(found) == 1, f"{len(found)} elements <{tag}> with {attributes}"
        return found[0]

    def text(self, element: Any = None) -> str:
        element = self.root if element is None else element
        return " ".join("".join(element.itertext()).split())

    def fields(self, form: Any) -> dict[str, Any]:
        """What a browser would send for a form that nobody has touched, without buttons."""
        data: dict[str, Any] = {}
        for element in form.iter():
            name = element.get("name")
            if not name or element.get("disabled") is not None:
                continue
            if element.tag == "input" and element.get("type") in {"checkbox", "radio"}:
                if element.get("checked") is not None:
                    data.setdefault(name, []).append(element.get("value", "on"))
            elif element.tag == "input" and element.get("type") not in {"submit", "button"}:
                data.setdefault(name, []).append(element.get("value", ""))
            elif element.tag == "textarea":
                data.setdefault(name, []).append("".join(element.itertext()))
            elif element.tag == "select":
                chosen = [o for o in element.iter("option") if o.get("selected") is not None]
                options = chosen or list(element.iter("option"))[:1]
                data.setdefault(name, []).extend(o.get("value", "") for o in options)
        return data


def check_page(response: TestResponse) -> Page:
    """Assert what holds for every page, and return it parsed."""
    page = Page(response.get_data(as_text=True))
    check_parsed(page)
    return page


def check_parsed(page: Page) -> None:
    """The same for a page that has been parsed."""
    assert not page.faults, f"invalid HTML: {page.faults[:3]}"
    heading = page.one("h1")
    title = page.text(page.one("title"))
    assert title.startswith(page.text(heading)), (title, page.text(heading))
    ids = [element.get("id") for element in page.root.iter() if element.get("id")]
    assert len(ids) == len(set(ids)), f"ids twice: {[i for i in ids if ids.count(i) > 1]}"
    for element in page.root.iter():
        assert element.get("style") is None, "inline style"
        assert not [name for name in element.attrib if str(name).startswith("on")], "inline script"
    assert not [s for s in page.all("script") if not s.get("src")], "inline script"
    assert not page.all("style"), "inline style sheet"
    _check_forms(page)
    _check_labels(page, set(ids))
    for attribute in ("src", "href", "action"):
        for element in page.root.iter():
            address = element.get(attribute) or ""
            outside = re.match(r"(https?:)?//", address)
            assert not outside or element.tag == "a", f"external request: {address}"


def _check_forms(page: Page) -> None:
    for form in page.all("form"):
        if form.get("method") == "dialog":
            continue  # Sent to nobody: it closes its dialog.
        assert form.get("method") in {"get", "post"}, "form without method"
        assert form.get("action"), "form without action"
        if form.get("method") == "post":
            names = {field.get("name") for field in form.iter("input")}
            assert "csrf_token" in names, f"no CSRF token in the form to {form.get('action')}"


def _check_labels(page: Page, ids: set[str]) -> None:
    labelled = {label.get("for") for label in page.all("label")}
    assert labelled - {None} <= ids, f"labels without a field: {labelled - ids}"
    wrapped = {id(field) for label in page.all("label") for field in label.iter()}
    for tag in ("input", "select", "textarea"):
        for field in page.all(tag):
            if field.get("type") in _VOID_LABELS:
                continue
            assert field.get("id") in labelled or id(field) in wrapped or field.get("aria-label"), (
                f"no label: {field.get('name')}"
            )


class CheckingClient(FlaskClient):
    """Every GET that answers a whole HTML page has the page checked."""

    _checked: tuple[TestResponse, Page] | None = None

    def open(self, *args: Any, **kwargs: Any) -> TestResponse:
        response = super().open(*args, **kwargs)
        is_get = kwargs.get("method", "GET") == "GET"
        whole = response.mimetype == "text/html" and b"<!doctype" in response.data[:200].lower()
        # A mail is shown in a sandboxed frame and follows the rules of mails, not of pages.
        is_mail = "sandbox" in response.headers.get("Content-Security-Policy", "")
        if is_get and whole and not is_mail:
            self._checked = response, check_page(response)
        return response

    def page(self, path: str, status: int = 200, **kwargs: Any) -> Page:
        """GET `path` and return it parsed."""
        response = self.get(path, **kwargs)
        assert response.status_code == status, (path, response.status_code, response.location)
        if self._checked is not None and self._checked[0] is response:
            return self._checked[1]
        return Page(response.get_data(as_text=True))

    def fragment(self, path: str, **kwargs: Any) -> Page:
        """GET `path` as htmx does."""
        headers = {"HX-Request": "true", **kwargs.pop("headers", {})}
        return self.page(path, headers=headers, **kwargs)

    def token(self) -> str:
        """A CSRF token of this client's session, as its pages have them."""
        with self.session_transaction() as kept, self.application.test_request_context():
            session.update(kept)
            token = generate_csrf()
            kept["csrf_token"] = session["csrf_token"]
        return token

    def submit(self, path: str, data: dict[str, Any] | None = None, **kwargs: Any) -> TestResponse:
        """POST a form with a valid CSRF token."""
        return self.post(path, data={"csrf_token": self.token(), **(data or {})}, **kwargs)


def sign_in(app: Flask, login: str) -> CheckingClient:
    """A client that is signed in as `login`, without the page."""
    client = app.test_client()
    token = f"test-session-{next(_numbers)}"
    with app.app_context():
        user = db.session.query(User).filter_by(login_key=fold(login)).one()
        db.session.add(SignInSession(token_hash=sign_ins._token_hash(token), user_id=user.id))
        db.session.commit()
    with client.session_transaction() as kept:
        kept["sign_in"] = token
    assert isinstance(client, CheckingClient)
    return client
