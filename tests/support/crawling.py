"""Going everywhere that a person's pages lead to, and holding what he meets against what he may.

`furnish` lives in the demo data, so that pages have something to show; `Crawl` follows every link
breadth first, `press` sends every form as it stands.
"""

from __future__ import annotations

import re
import sqlite3
from collections import Counter, deque
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, field
from html import unescape
from itertools import combinations
from typing import Any
from urllib.parse import parse_qsl, urlencode, urljoin, urlsplit

import sqlalchemy as sa
from flask import Flask
from flask.testing import FlaskClient
from werkzeug.exceptions import HTTPException
from werkzeug.routing import RequestRedirect
from werkzeug.test import TestResponse

from extensions import db
from models import (
    CommandSource,
    Group,
    Role,
    Suppression,
    UserGroup,
)
from services import command_runs, demo_requests, registration_drafts
from services.actors import Permission
from tests.support.attachments import make_attachment
from tests.support.factories import (
    actor_for,
    find_customer,
    make_invitation,
    make_profile,
    make_template,
    make_user,
    save,
)
from tests.support.pages import CheckingClient, Page, check_page, check_parsed, sign_in
from tests.support.parameters import publish_parameters
from tests.support.promises import start_welcome
from tests.support.user_imports import checked, csv_file, imported, people, person, upload
from tests.support.webhooks import make_endpoint, make_message

ON_BEHALF = "operator, signed in as an administrator"
ROLES = (
    "nobody",
    "landlord",
    "operator",
    "operator of one group",
    "auditor",
    "administrator",
    "supervisor of everything",
    "supervisor of nothing",
    "user",
    "prospect",
    ON_BEHALF,
)
_ADMIN = "prpkeAdmin@kenton-electronics.com"
_ORIGIN = "http://localhost"

_PER_PAGE = 4
"""How many addresses of one endpoint are opened that differ in the object alone."""
_PER_QUERY = 2
"""The same for fragments, and for filters, orders and pages of lists: any two of them together."""

_RAW = re.compile(
    r"\{\{|\}\}|\{%|%\}"  # A template that was not rendered,
    r"|\bundefined\b|\[object |<[A-Za-z.]+ object at |datetime\.|Markup\("
    r"|\b(?!None\b)[A-Z]\w+\.[A-Z][A-Z_]+\b"  # the name of an enumeration's member.
)
_MISSING = re.compile(r"\b(None|undefined)\b")
_READ_ATTRIBUTES = {"title", "aria-label", "placeholder", "alt"}
_FOLLOWED_ATTRIBUTES = {"href", "action", "hx-get", "hx-post", "src"}
_SHOWN_ON_PURPOSE = {"script", "style", "textarea", "code", "pre", "option", "iframe", "template"}


def furnish(app: Flask) -> dict[str, str]:
    """Give the demo data one of everything that pages show; who has which role, by ROLES."""
    with app.app_context():
        kenton = find_customer("CQ001")
        demo_requests.load_demo_requests()
        limited = make_user(role=Role.OPERATOR, login="north@foyer.example")
        group = db.session.scalars(sa.select(Group).where(Group.groupno == 2)).one()
        save(UserGroup(user_id=limited.id, group_id=group.id))
        everything = make_profile(kenton, *map(str, Permission), name="Deputies")
        logins = {
            "landlord": "landlord@foyer.example",
            "operator": "operator@foyer.example",
            "operator of one group": limited.login,
            "auditor": "auditor@foyer.example",
            "administrator": _ADMIN,
            "supervisor of everything": make_user(
                kenton, role=Role.SUPERVISOR, profile_id=everything.id
            ).login,
            "supervisor of nothing": make_user(kenton, role=Role.SUPERVISOR).login,
            "user": make_user(kenton).login,
            "prospect": f"prospect:{demo_requests.PROSPECTS[0].email}",
        }
        admin = actor_for(_ADMIN)
        gone = make_user(kenton).email_key
        save(Suppression(email_key=gone, reason="It does not exist."))
        make_template(kenton, name="Moving house")
        make_template()
        start_welcome(admin, "CQ001", [make_user(kenton) for _ in range(3)])
        larkspur = actor_for("prplaAdmin@larkspur.example")
        start_welcome(larkspur, "CQ101", [make_user(find_customer("CQ101"))])
        for retries in ("1", "2"):
            publish_parameters(admin, kenton, callback_retries=retries)
        for text in ("$$RESEND WELCOME EMAIL$$ Entry3PhoneNextGenBundle|CQ001", "$$HELP$$"):
            command_runs.submit(
                actor_for("operator@foyer.example"), text, source=CommandSource.WINDOW
            )
        make_invitation()
        endpoint = make_endpoint()
        make_message(endpoint)
        make_attachment(kenton)
        registration_drafts.start_draft(actor_for(logins["prospect"]))
        registration_drafts.start_draft(actor_for("operator@foyer.example"))
        upload(admin, kenton, csv_file(*people(1)))
        checked(admin, kenton, csv_file(*people(2), person("faulty", bundle="None such")))
        imported(admin, kenton, csv_file(*people(2, start=5)))
        db.session.remove()
    return logins


def client_of(app: Flask, logins: dict[str, str], role: str) -> CheckingClient:
    """A client for one of ROLES."""
    if role == "nobody":
        client = app.test_client()
        assert isinstance(client, CheckingClient)
        return client
    if role != ON_BEHALF:
        return sign_in(app, logins[role])
    client = sign_in(app, logins["operator"])
    answer = client.submit("/customers/CQ001/sign-in-as", {"reason": "He asked how it looks."})
    assert answer.status_code == 303, answer.get_data(as_text=True)
    return client


@dataclass(frozen=True)
class Found:
    """A form as a page shows it, with one of its buttons pressed."""

    method: str
    action: str
    data: dict[str, Any] = field(hash=False)
    is_upload: bool
    page: str
    endpoint: str

    @property
    def kind(self) -> tuple[str, frozenset[str]]:
        return self.endpoint, frozenset(self.data)


@dataclass(frozen=True)
class _Address:
    """What waits to be opened; of some it is enough that they answer, and they are not read."""

    path: str
    source: str
    is_fragment: bool
    is_read: bool


class Crawl:
    """Every page that links lead to from a home, and what is wrong on the way.

    `pages` has an address for each endpoint that answered a whole page, `forms` what can be sent.
    Unless it `is_thorough`, it opens one page of each kind, and looks for nothing but links.
    """

    def __init__(self, app: Flask, client: FlaskClient, *, is_thorough: bool = True) -> None:
        self._client = client
        self._is_thorough = is_thorough
        self._map = app.url_map.bind("localhost")
        self._queue: deque[_Address] = deque()
        self._seen: set[str] = set()
        self._counts: Counter[tuple[str, tuple[str, ...], bool]] = Counter()
        self.pages: dict[str, str] = {}
        self.forms: list[Found] = []
        self.faults: list[str] = []
        self.opened = 0

    def run(self, home: str = "/") -> None:
        self._note(home, "the beginning")
        while self._queue:
            self._open(self._queue.popleft())

    # Addresses

    def _note(self, address: str, source: str, *, is_fragment: bool = False) -> None:
        """Put an address in the queue, unless enough of its kind are there."""
        path = self._local(address, source)
        if path is None or (key := ("#" if is_fragment else "") + path) in self._seen:
            return
        self._seen.add(key)
        endpoint = self._endpoint(path, "GET", source)
        if endpoint is None:
            return
        names = frozenset(name for name, _ in parse_qsl(urlsplit(path).query))
        most = _PER_QUERY if names or is_fragment else _PER_PAGE
        if not self._is_thorough:
            names, most = frozenset(), not is_fragment
        pairs = combinations(sorted(names), 2) if len(names) > 1 else [tuple(names)]
        kinds = [(endpoint, pair, is_fragment) for pair in pairs]
        fewest = min(self._counts[kind] for kind in kinds)
        if fewest < most:
            self._counts.update(kinds)
            is_read = not fewest or most == _PER_PAGE
            self._queue.append(_Address(path, source, is_fragment, is_read))

    def _local(self, address: str, source: str) -> str | None:
        """The path with its query; None for what leads out of Foyer."""
        parts = urlsplit(urljoin(f"{_ORIGIN}{source if source[:1] == '/' else '/'}", address))
        if parts.scheme not in {"http", "https"} or parts.netloc != "localhost":
            return None
        return parts.path + (f"?{parts.query}" if parts.query else "")

    def _endpoint(self, path: str, method: str, source: str) -> str | None:
        try:
            endpoint, _ = self._map.match(urlsplit(path).path, method)
        except RequestRedirect:
            self.faults.append(f"{source}: {path} is redirected to be found")
        except HTTPException as error:
            self.faults.append(f"{source}: {method} {path} is no address ({error.code})")
        else:
            return endpoint
        return None

    # Pages

    def _open(self, address: _Address) -> None:
        path = address.path
        headers = {"HX-Request": "true"} if address.is_fragment else {}
        # Not the client's own check: a fault is one of several here.
        response = FlaskClient.open(self._client, path, headers=headers)
        self.opened += 1
        status = response.status_code
        if status >= 400:
            self.faults.append(f"{address.source} leads to {path}, which answers {status}")
        elif status >= 300:
            self._note(response.location or "", path)
        elif response.mimetype == "text/html" and address.is_read:
            self._read(response, path)
        response.close()

    def _read(self, response: TestResponse, path: str) -> None:
        if "sandbox" in response.headers.get("Content-Security-Policy", ""):
            return  # A mail in its frame follows the rules of mails.
        page = Page(response.get_data(as_text=True))
        if is_whole := _is_page(response):
            self.pages.setdefault(self._map.match(urlsplit(path).path, "GET")[0], path)
        if self._is_thorough:
            self.faults.extend(f"{path}: shows {raw!r}" for raw in _raw_words(page))
            if is_whole:
                self._check(page, path)
        self._follow(page, path)

    def _check(self, page: Page, path: str) -> None:
        try:
            check_parsed(page)
        except AssertionError as error:
            self.faults.append(f"{path}: {error}")
        self._check_way_on(page, path)

    def _check_way_on(self, page: Page, path: str) -> None:
        """Somewhere to go or something to do, beside the page itself and what every page has."""
        ways = {
            urlsplit(link.get("href")).path
            for link in page.all("a")
            if (link.get("href") or "#")[:1] != "#" and link.get("class") != "skip-link"
        }
        forms = {form.get("action") for form in page.all("form")}
        ways |= forms - {"/account/theme", "/account/sign-out", None}
        if not ways - {urlsplit(path).path}:
            self.faults.append(f"{path}: no way on")

    def _follow(self, page: Page, path: str) -> None:
        form_of = {id(each): form for form in page.all("form") for each in form.iter()}
        for element in page.root.iter():
            if not isinstance(element.tag, str):
                continue
            for attribute in ("href", "src"):
                if address := element.get(attribute):
                    self._note(address, path)
            if address := element.get("hx-get"):
                includes = element.tag == "form" or element.get("hx-include") == "closest form"
                form = form_of.get(id(element))
                if includes and form is not None:
                    address += ("&" if "?" in address else "?") + _query(page.fields(form))
                self._note(address, path, is_fragment=True)
            if address := element.get("hx-post"):
                self._endpoint(self._local(address, path) or "", "POST", path)
        for form in page.all("form"):
            for found in self._uses_of(page, form, path):
                if found.method == "get":
                    self._note(f"{found.action}?{_query(found.data)}", path)
                else:
                    self.forms.append(found)

    def _uses_of(self, page: Page, form: Any, path: str) -> Iterator[Found]:
        """The form once for each of its buttons, those outside it that name it included."""
        method = form.get("method", "get")
        if method == "dialog":
            return
        data = page.fields(form)
        inside = [each for each in form.iter() if _is_submit(each) and not each.get("form")]
        named = form.get("id")
        outside = [each for each in page.root.iter() if _is_submit(each)]
        buttons = inside + [each for each in outside if named and each.get("form") == named]
        if method == "post" and not buttons:
            return  # Shown to who may look at it only.
        for button in buttons or [None]:
            action, pressed = form.get("action"), {}
            if button is not None:
                action = button.get("formaction") or action
                if name := button.get("name"):
                    pressed = {name: [button.get("value", "")]}
            target = self._local(action or "", path)
            endpoint = self._endpoint(target or "", method.upper(), path)
            if target is not None and endpoint is not None:
                is_upload = form.get("enctype") == "multipart/form-data"
                yield Found(method, target, {**data, **pressed}, is_upload, path, endpoint)


def _query(data: dict[str, Any]) -> str:
    return urlencode(data, doseq=True)


def _is_page(response: TestResponse) -> bool:
    """Whether it is a whole page; a mail in its frame follows the rules of mails."""
    is_mail = "sandbox" in response.headers.get("Content-Security-Policy", "")
    is_html = response.mimetype == "text/html" and not is_mail
    return is_html and b"<!doctype" in response.data[:200].lower()


def _is_submit(element: Any) -> bool:
    if element.get("disabled") is not None:
        return False
    kind = element.get("type")
    if element.tag == "button":
        return kind in {None, "submit"}
    return element.tag == "input" and kind == "submit"


def _raw_words(page: Page) -> list[str]:
    """What was meant for programs, in texts and in attributes that people see or follow."""
    found: list[str] = []
    shown: list[str] = []
    for element in page.root.iter():
        if not isinstance(element.tag, str) or element.tag in _SHOWN_ON_PURPOSE:
            continue
        texts = [
            unescape(each) for each in (element.text, *(child.tail for child in element)) if each
        ]
        is_word = element.get("class") == "muted" and (element.text or "").strip() == "None"
        if not is_word:
            found.extend("None" for each in texts if each.strip() == "None")
        shown.extend(texts)
        for name, value in element.attrib.items():
            if name in _READ_ATTRIBUTES:
                shown.append(value)
            elif name in _FOLLOWED_ATTRIBUTES and _MISSING.search(value):
                found.append(f"{name}={value}")
    # In one go, which is many times quicker: nothing that is looked for goes over two lines.
    found.extend(match.group() for match in _RAW.finditer("\n".join(shown)))
    return found


# --- Sending forms ----------------------------------------------------------------------------


class Restored:
    """A SQLite database that is put back as it was before each form."""

    def __init__(self, app: Flask) -> None:
        with app.app_context():
            db.session.remove()
            self._path = str(db.engine.url.database)
        self._kept = sqlite3.connect(":memory:")
        with closing(sqlite3.connect(self._path)) as source:
            source.backup(self._kept)

    def put_back(self) -> None:
        with closing(sqlite3.connect(self._path)) as target:
            self._kept.backup(target)


_LEAVES = {"account.sign_out", "impersonations.end"}


def press(app: Flask, client: FlaskClient, forms: list[Found], most: int = 2) -> list[str]:
    """Send each kind of form untouched, `most` times at different places; the faults.

    What a form leads to has to be allowed and to answer: done, or refused with a reason.
    """
    faults: list[str] = []
    counts: Counter[tuple[str, frozenset[str]]] = Counter()
    sent: set[tuple[str, str]] = set()
    restored = Restored(app)
    for found in forms:
        if found.endpoint in _LEAVES or (found.action, str(found.data)) in sent:
            continue
        sent.add((found.action, str(found.data)))
        counts[found.kind] += 1
        if counts[found.kind] > most:
            continue
        restored.put_back()
        faults.extend(f"{found.page}: {each}" for each in _press(client, found))
    restored.put_back()
    return faults


_ANSWERS = {200, 204, 302, 303, 409, 422}


def _press(client: FlaskClient, found: Found) -> Iterator[str]:
    kind = "multipart/form-data" if found.is_upload else "application/x-www-form-urlencoded"
    answer = FlaskClient.open(
        client, found.action, method="POST", data=found.data, content_type=kind
    )
    if answer.status_code not in _ANSWERS:
        yield f"sending {found.action} with {sorted(found.data)} answers {answer.status_code}"
    elif answer.status_code in {302, 303}:
        target = urlsplit(answer.location)
        path = target.path + (f"?{target.query}" if target.query else "")
        after = FlaskClient.open(client, path)
        if after.status_code >= 400:
            yield f"sending {found.action} leads to {path}, which answers {after.status_code}"
        elif target.path == "/login" != urlsplit(found.page).path:
            yield f"sending {found.action} asks to sign in"
        after.close()
    elif _is_page(answer):
        try:
            check_page(answer)
        except AssertionError as error:
            yield f"after sending {found.action}: {error}"
    answer.close()
