"""The pages of API credentials without JavaScript, and what the API says to who may not come in."""

from __future__ import annotations

import base64
import logging
import re
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
import sqlalchemy as sa
from flask import Flask
from werkzeug.test import TestResponse

from config import Settings
from extensions import db, queues
from models import ApiCredential, AuditEvent, User, utcnow
from tests.support.api import CQ001, DEMO, SECRET, Caller, basic, make_credential
from tests.support.factories import make_group
from tests.support.pages import CheckingClient, Page, check_page
from tests.test_secrets import Haystack, add_database, add_queue

LANDLORD = "landlord@foyer.example"
URL = "/api-credentials"
NEW = f"{URL}/new"
SECRETS = re.compile(r"foyer_[A-Za-z0-9]{32}")
MARKUP = '<script>alert("x")</script>'

SignInAs = Callable[[str], CheckingClient]
one_database = pytest.mark.parametrize("engine_name", ["sqlite"])


@pytest.fixture
def landlord(sign_in_as: SignInAs) -> CheckingClient:
    return sign_in_as(LANDLORD)


def form_of(client: CheckingClient, path: str) -> dict[str, Any]:
    """What a browser would send for the form of a page that nobody has touched."""
    page = client.page(path)
    return page.fields(page.one("form", action=path))


def submit_page(client: CheckingClient, path: str, **changes: Any) -> TestResponse:
    """Open a page and send its form as a browser would, with `changes`; None leaves a field out."""
    data = form_of(client, path) | changes
    return client.post(
        path, data={name: value for name, value in data.items() if value is not None}
    )


def make(client: CheckingClient, name: str = "billing", **changes: Any) -> TestResponse:
    filled = {"name": name, "scopes": ["read", "send"], "reach": "all", **changes}
    return submit_page(client, NEW, **filled)


def secret_in(response: TestResponse) -> str:
    assert response.status_code == 200, response.status_code
    (secret,) = set(SECRETS.findall(response.text))
    return secret


def id_of(app: Flask, name: str = "billing") -> int:
    with app.app_context():
        return db.session.scalars(
            sa.select(ApiCredential.id).where(ApiCredential.name == name)
        ).one()


def one(app: Flask, name: str = "billing") -> str:
    return f"{URL}/{id_of(app, name)}"


def rows(page: Page) -> list[str]:
    return [page.text(row) for row in page.all("tr", data_row="")]


def row_of(page: Page, name: str) -> str:
    (found,) = [each for each in rows(page) if each.startswith(f"{name} ")]
    return found


def invalid(response: TestResponse) -> set[str]:
    """The fields that a refused form marks."""
    assert response.status_code == 422, response.status_code
    page = Page(response.text)
    marked = {
        element.get("name")
        for tag in ("input", "textarea")
        for element in page.all(tag)
        if element.get("aria-invalid") == "true"
    }
    links = {link.get("href")[1:] for link in page.one("div", class_="error-summary").iter("a")}
    assert links <= {each.get("id") for each in page.root.iter()}, "an error leads nowhere"
    return marked | {each.removesuffix("-0") for each in links}


def may_call(app: Flask, secret: str, name: str = "billing") -> bool:
    response = Caller(app, (name, secret)).get(CQ001)
    assert response.status_code in {200, 403}
    return response.status_code == 200


# --- The list ------------------------------------------------------------------------------------


def test_the_list_says_what_each_may_do_and_when_it_was_used(
    app: Flask, landlord: CheckingClient
) -> None:
    with app.app_context():
        now = utcnow()
        make_credential(
            "used",
            groups=(1, 2),
            description="Invoices",
            last_used_at=now - timedelta(minutes=4),
            last_used_from="198.51.100.7",
        )
        make_credential("soon", groups=(), all_groups=True, expires_at=now + timedelta(days=13))
        make_credential("later", expires_at=now + timedelta(days=15))
        make_credential("over", expires_at=now - timedelta(days=1))
        make_credential("gone", revoked_at=now, expires_at=now + timedelta(days=1))
    page = landlord.page(URL)
    used = row_of(page, "used")
    for words in (
        "Invoices",
        "Active",
        "Read, write, send",
        "1 Direct, 2 Northwind",
        "4 minutes ago",
        "from 198.51.100.7",
    ):
        assert words in used
    assert "Expires soon" in row_of(page, "soon")
    assert "All groups" in row_of(page, "soon")
    assert "Active" in row_of(page, "later")
    assert "Expired" in row_of(page, "over")
    assert "Revoked" in row_of(page, "gone")
    assert "Never" in row_of(page, "demo-api")
    assert page.text(page.one("a", href=URL, aria_current="page")) == "API"


def test_the_list_is_searched_filtered_and_paged_by_its_address(
    app: Flask, landlord: CheckingClient
) -> None:
    with app.app_context():
        for number in range(26):
            make_credential(f"client-{number:02}", revoked_at=utcnow() if number % 2 else None)
    page = landlord.page(URL)
    assert len(rows(page)) == 25
    following = landlord.page(page.one("a", rel="next").get("href"))
    assert [row.split()[0] for row in rows(following)] == ["client-25", "demo-api"]
    previous = landlord.page(following.one("a", rel="prev").get("href"))
    assert rows(previous) == rows(page)
    assert len(rows(landlord.page(f"{URL}?q=client-0"))) == 10
    filtered = landlord.fragment(f"{URL}?q=client-0&state=revoked")
    assert len(rows(filtered)) == 5
    assert not filtered.all("h1")
    chips = filtered.text(filtered.one("ul", class_="chips"))
    assert "client-0" in chips
    assert "Revoked" in chips
    assert "No credential matches" in landlord.page(f"{URL}?q=zzz").text()
    assert len(rows(landlord.page(f"{URL}?state=nonsense&cursor=%00&size=-1"))) == 25


# --- Making --------------------------------------------------------------------------------------


def test_a_credential_is_made_and_its_secret_shown_once(
    app: Flask, landlord: CheckingClient
) -> None:
    form = form_of(landlord, NEW) | {"name": "billing", "scopes": ["read"], "reach": "all"}
    response = landlord.post(NEW, data=form)
    secret = secret_in(response)
    assert response.headers["Cache-Control"] == "no-store"
    page = check_page(response)
    assert page.text(page.one("code", id="credential-secret")) == secret
    assert page.text(page.one("code", id="credential-name")) == "billing"
    assert may_call(app, secret)

    again = landlord.post(NEW, data=form)  # As by a reload.
    assert again.status_code == 303
    assert again.location == one(app)
    page = landlord.page(again.location)
    assert "Its secret was shown then and cannot be shown again." in page.text()
    assert page.all("a", href=f"{one(app)}/rotate")
    for path in (URL, one(app), f"{one(app)}/edit", f"{one(app)}/rotate", f"{one(app)}/revoke"):
        assert not SECRETS.search(landlord.get(path).text)
    with app.app_context():
        assert db.session.scalar(sa.select(sa.func.count(ApiCredential.id))) == 2


@pytest.mark.parametrize(
    ("scopes", "said"),
    [
        (["read", "write"], "curl --user billing {portal}/api/v1/group/1/customer"),
        (["send"], "--request POST {portal}/api/v1/group/1/customer/CUSTNO/send-welcome-email"),
        (["write"], "--json @customer.json {portal}/api/v1/group/1/customer"),
    ],
)
@one_database
def test_a_first_call_is_ready_and_does_not_hold_the_secret(
    landlord: CheckingClient, settings: Settings, scopes: list[str], said: str
) -> None:
    response = make(landlord, scopes=scopes)
    page = Page(response.text)
    example = page.text(page.one("code", id="credential-example"))
    assert said.format(portal=settings.public_url) in example
    assert secret_in(response) not in example
    assert ("number in the place of CUSTNO" in page.text()) == (scopes == ["send"])


@one_database
def test_the_first_call_of_a_reader_finds_customers(
    app: Flask, landlord: CheckingClient, settings: Settings
) -> None:
    response = make(landlord, scopes=["read"])
    example = Page(response.text).one("code", id="credential-example").text
    address = example.rpartition(" ")[2].removeprefix(settings.public_url)
    answered = Caller(app, ("billing", secret_in(response))).get(address)
    assert (answered.status_code, bool(answered.get_json()["items"])) == (200, True)


@one_database
def test_the_example_names_a_group_that_it_may_reach(app: Flask, landlord: CheckingClient) -> None:
    with app.app_context():
        group = make_group(groupno=77)
        group_id = group.id
    response = make(landlord, reach="chosen", groups=[str(group_id)])
    assert "/group/77/customer" in response.text


def test_what_is_wrong_stands_at_its_field_and_what_was_typed_stays(
    landlord: CheckingClient,
) -> None:
    typed: dict[str, Any] = {
        "name": "Billing",
        "description": MARKUP,
        "scopes": None,
        "reach": "chosen",
        "last_day": "2020-01-01",
        "networks": "192.0.2.0/24\n192.0.2.1/24\nnowhere",
    }
    response = make(landlord, **typed)
    assert invalid(response) == {"name", "scopes", "groups", "last_day", "networks"}
    page = Page(response.text)
    assert page.one("input", name="name").get("value") == "Billing"
    assert page.one("input", name="description").get("value") == MARKUP
    assert page.one("input", name="last_day").get("value") == "2020-01-01"
    assert "".join(page.one("textarea", name="networks").itertext()).split() == [
        "192.0.2.0/24",
        "192.0.2.1/24",
        "nowhere",
    ]
    assert "Line 2: 192.0.2.1/24" in page.text()
    assert "Line 3: nowhere" in page.text()
    assert MARKUP not in response.text
    # Mended, the same form is taken.
    fixed = page.fields(page.one("form", action=NEW)) | {
        "name": "billing",
        "scopes": ["read"],
        "reach": "all",
        "last_day": "",
        "networks": "",
    }
    secret_in(landlord.post(NEW, data=fixed))


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("name", ""),
        ("name", "\ud800".encode("utf-8", "surrogatepass").decode("latin-1")),
        ("name", "a\0b"),
        ("name", "demo-api"),
        ("description", "x" * 201),
        ("description", "a\0b"),
        ("groups", "999999"),
        ("groups", "-1"),
        ("groups", str(10**30)),
        ("groups", "nonsense"),
        ("groups", ",".join(str(number) for number in range(2000))),
        ("last_day", "tomorrow"),
        ("last_day", "9999-12-31"),
        ("last_day", "0001-01-01"),
        ("networks", "x" * 10_001),
        ("networks", "a\0b"),
        ("reach", "nonsense"),
        ("scopes", "everything"),
    ],
)
@one_database
def test_bad_input_is_refused_at_its_field(
    app: Flask, landlord: CheckingClient, field: str, value: str
) -> None:
    filled: dict[str, Any] = {"reach": "chosen", "groups": ["1"], field: value}
    response = make(landlord, **filled)
    assert field in invalid(response)
    with app.app_context():
        assert db.session.scalar(sa.select(sa.func.count(ApiCredential.id))) == 1


@one_database
def test_a_form_without_its_word_makes_nothing(app: Flask, landlord: CheckingClient) -> None:
    for word in ("", "short", "x" * 500):
        assert make(landlord, confirmation=word).status_code == 400
    with app.app_context():
        assert db.session.scalar(sa.select(sa.func.count(ApiCredential.id))) == 1


# --- One of them ---------------------------------------------------------------------------------


def test_the_page_of_one_says_all_of_it(app: Flask, landlord: CheckingClient) -> None:
    make(
        landlord,
        description="Invoices",
        networks="192.0.2.7\n2001:db8::/32",
        last_day=(utcnow() + timedelta(days=5)).date().isoformat(),
    )
    page = landlord.page(one(app))
    for words in (
        "Invoices",
        "Expires soon",
        "Send welcome mails, which reset passwords",
        "All groups",
        "192.0.2.7",
        "2001:db8::/32",
        "Never",
        "by Lena Hofmann",
        "cannot be shown again",
    ):
        assert words in page.text(), words
    assert "192.0.2.7/32" not in page.text()


def test_one_is_edited(app: Flask, landlord: CheckingClient) -> None:
    secret = secret_in(make(landlord, networks="203.0.113.0/24"))
    assert not may_call(app, secret)
    page = landlord.page(f"{one(app)}/edit")
    assert not page.all("input", name="name")
    response = submit_page(landlord, f"{one(app)}/edit", networks="", description="Now")
    assert response.status_code == 303
    assert may_call(app, secret)
    page = landlord.page(one(app))
    assert "Any address" in page.text()
    assert "Now" in page.text()
    assert Caller(app, ("billing", secret)).patch(CQ001, json={}).status_code == 403


def test_an_untouched_edit_changes_nothing(app: Flask, landlord: CheckingClient) -> None:
    make(landlord, networks="192.0.2.7\n10.0.0.0/8", reach="all")
    assert submit_page(landlord, f"{one(app)}/edit").status_code == 303
    with app.app_context():
        actions = db.session.scalars(sa.select(AuditEvent.action)).all()
        assert "api_credential.changed" not in actions


def test_the_second_editor_keeps_his_input_and_decides(
    app: Flask, landlord: CheckingClient
) -> None:
    make(landlord)
    path = f"{one(app)}/edit"
    late = form_of(landlord, path) | {"description": "Late"}
    submit_page(landlord, path, description="Early")
    response = landlord.post(path, data=late)
    assert response.status_code == 409
    page = Page(response.text)
    assert "has changed since you opened that page" in page.text()
    assert page.one("input", name="description").get("value") == "Late"
    again = landlord.post(path, data=page.fields(page.one("form", action=path)))
    assert again.status_code == 303
    assert "Late" in landlord.page(one(app)).text()


def test_one_is_rotated_with_an_overlap_that_ends_early(
    app: Flask, landlord: CheckingClient
) -> None:
    old = secret_in(make(landlord))
    path = f"{one(app)}/rotate"
    assert invalid(submit_page(landlord, path)) == {"overlap"}
    form = form_of(landlord, path) | {"overlap": "86400"}
    response = landlord.post(path, data=form)
    new = secret_in(response)
    check_page(response)
    assert response.headers["Cache-Control"] == "no-store"
    assert "stops in 1 day" in Page(response.text).text()
    assert may_call(app, old)
    assert may_call(app, new)

    again = landlord.post(path, data=form)  # As by a reload.
    assert (again.status_code, again.location) == (303, one(app))
    page = landlord.page(one(app))
    assert "was shown then and cannot be shown again" in page.text()
    assert may_call(app, old)

    (ending,) = page.all("form", action=f"{one(app)}/end-overlap")
    assert landlord.post(ending.get("action"), data=page.fields(ending)).status_code == 303
    assert not may_call(app, old)
    assert may_call(app, new)
    page = landlord.page(one(app))
    assert "Only the newest secret of billing works now." in page.text()
    assert not page.all("form", action=f"{one(app)}/end-overlap")


def test_while_two_secrets_work_one_is_asked_for(app: Flask, landlord: CheckingClient) -> None:
    old = secret_in(make(landlord))
    path = f"{one(app)}/rotate"
    assert not landlord.page(path).all("input", name="keep")
    lost = secret_in(submit_page(landlord, path, overlap="604800"))
    assert invalid(submit_page(landlord, path, overlap="3600")) == {"keep"}
    assert invalid(submit_page(landlord, path, overlap="3600", keep="nonsense")) == {"keep"}
    new = secret_in(submit_page(landlord, path, overlap="3600", keep="previous"))
    assert [may_call(app, each) for each in (old, lost, new)] == [True, False, True]


def test_one_is_revoked_by_its_name(app: Flask, landlord: CheckingClient) -> None:
    secret = secret_in(make(landlord))
    path = f"{one(app)}/revoke"
    assert invalid(submit_page(landlord, path, name="")) == {"name"}
    assert invalid(submit_page(landlord, path, name="billin")) == {"name"}
    assert may_call(app, secret)
    assert submit_page(landlord, path, name="billing").status_code == 303
    assert not may_call(app, secret)
    page = landlord.page(one(app))
    assert "It signs in no more" in page.text()
    for verb in ("edit", "rotate", "revoke"):
        assert not page.all("a", href=f"{one(app)}/{verb}")
        for response in (
            landlord.get(f"{one(app)}/{verb}"),
            landlord.submit(f"{one(app)}/{verb}", {"version": "1", "overlap": "0"}),
        ):
            assert response.status_code == 303
    assert "is revoked for good" in landlord.page(one(app)).text()


@one_database
def test_an_expired_one_is_not_rotated_but_prolonged(app: Flask, landlord: CheckingClient) -> None:
    with app.app_context():
        make_credential("over", expires_at=utcnow() - timedelta(days=3))
    path = one(app, "over")
    assert "It expired 3 days ago" in landlord.page(path).text()
    assert submit_page(landlord, f"{path}/rotate", overlap="0").status_code == 303
    assert "Give it a later expiry date first" in landlord.page(path).text()
    later = (utcnow() + timedelta(days=3)).date().isoformat()
    assert submit_page(landlord, f"{path}/edit", last_day=later).status_code == 303
    assert may_call(app, SECRET, "over")


@one_database
def test_changes_without_a_version_are_refused(app: Flask, landlord: CheckingClient) -> None:
    path = one(app, "demo-api")
    for version in ("", "x", "-1", "9" * 30, "1\0"):
        response = landlord.submit(f"{path}/end-overlap", {"version": version})
        assert response.status_code == 400
        data = {"version": version, "overlap": "0"}
        assert landlord.submit(f"{path}/rotate", data).status_code == 400
    assert may_call(app, DEMO[1], DEMO[0])


@one_database
def test_ids_of_nothing_are_not_there(landlord: CheckingClient) -> None:
    for wrong in ("0", "999999", str(2**63 - 1), str(2**63), str(10**30), "-1", "x"):
        for verb in ("", "/edit", "/rotate", "/revoke"):
            assert landlord.get(f"{URL}/{wrong}{verb}").status_code == 404


# --- Secrets do not rest -------------------------------------------------------------------------


def test_no_secret_of_a_credential_rests_anywhere(
    app: Flask,
    settings: Settings,
    landlord: CheckingClient,
    caplog: pytest.LogCaptureFixture,
    capfd: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    caplog.set_level(logging.DEBUG)
    made = make(landlord)
    rotated = submit_page(landlord, f"{one(app)}/rotate", overlap="86400")
    secrets = [secret_in(made), secret_in(rotated)]
    for secret in secrets:
        assert may_call(app, secret)
        wrong = Caller(app, ("billing", f"{secret}x"))
        assert wrong.get(CQ001).status_code == 403
    typed = "typed-where-it-does-not-belong-271828"
    secrets.append(typed)
    with monkeypatch.context() as patch:  # A failure, with the secret in its frames.
        patch.setattr("services.api_credentials._find", _fail)
        assert Caller(app, ("billing", typed)).get(CQ001).status_code == 500

    hay = Haystack()
    with app.app_context():
        add_database(hay, settings)
        add_queue(hay, queues.connection)
    for file in settings.var_dir.rglob("*"):
        if file.is_file():
            hay.add(f"file {file.name}", file.read_bytes())
    hay.add("logs", caplog.text)
    captured = capfd.readouterr()
    hay.add("standard output", captured.out)
    hay.add("standard error", captured.err)
    for response in (made, rotated):
        hay.add("headers", str(response.headers))
    with landlord.session_transaction() as session:
        hay.add("session", dict(session))
    for path in (URL, one(app), f"{one(app)}/edit", f"{one(app)}/rotate"):
        hay.add("pages", landlord.get(path).data)

    assert {"api_credentials.name", "audit_events.detail", "pages"} <= set(hay.find("billing"))
    assert "session" in hay.find("sign_in")
    assert "RuntimeError" in caplog.text
    for secret in secrets:
        assert hay.find(secret) == [], f"a secret rests in {hay.find(secret)}"


def _fail(*_: Any, **__: Any) -> Any:
    raise RuntimeError("forced")


# --- What the API says to who may not come in ----------------------------------------------------


def coded(text: bytes) -> str:
    return f"Basic {base64.b64encode(text).decode()}"


STRANGE = {
    "nothing": None,
    "an empty header": "",
    "a scheme alone": "Basic",
    "no base64": "Basic !!!!",
    "base64 that ends early": "Basic ZGVtby1hcGk",
    "no colon": coded(b"demo-api"),
    "nothing but a colon": coded(b":"),
    "an empty secret": coded(b"demo-api:"),
    "an empty name": coded(f":{DEMO[1]}".encode()),
    "a wrong secret": basic("demo-api", "wrong"),
    "a secret with more": basic("demo-api", f"{DEMO[1]}:x"),
    "a name that nobody has": basic("unknown", DEMO[1]),
    "another case": basic("Demo-API", DEMO[1]),
    "a huge name": basic("x" * 50_000, DEMO[1]),
    "a huge secret": basic("demo-api", "x" * 50_000),
    "NULs": basic("demo-api\0", f"{DEMO[1]}\0"),
    "half a surrogate pair": coded(b"demo-api:\xed\xa0\x80"),
    "no UTF-8": coded(b"\xff\xfe:\xff"),
    "Latin-1": coded("demo-api:é".encode("latin-1")),
    "Bearer": f"Bearer {DEMO[1]}",
    "Digest": 'Digest username="demo-api", realm="x", nonce="", uri="/", response="0"',
    "a scheme that is none": f"{DEMO[0]}:{DEMO[1]}",
    "parameters": "Basic username=demo-api, password=x",
    "expired": basic("expired", SECRET),
    "revoked": basic("revoked", SECRET),
    "fenced in": basic("fenced", SECRET),
    "the secret before, over": basic("rotated", "the-earlier-secret"),
}


def test_whoever_may_not_come_in_hears_the_same(app: Flask) -> None:
    now = utcnow()
    with app.app_context():
        make_credential("expired", expires_at=now)
        make_credential("revoked", revoked_at=now)
        make_credential("fenced", networks=["198.51.100.0/24"])
        make_credential("rotated", previous_hash="x", previous_until=now - timedelta(hours=1))
    answers = {}
    nobody = Caller(app, None)
    for name, header in STRANGE.items():
        headers = {} if header is None else {"Authorization": header}
        for method, path in (
            ("GET", CQ001),
            ("GET", "/group/999/customer/1"),
            ("POST", f"{CQ001}/send-welcome-email"),
        ):
            response = nobody.call(method, path, headers=headers)
            told = {
                key: value
                for key, value in response.headers.items()
                if key != "X-Request-ID" and not key.lower().startswith("ratelimit")
            }
            answers[(name, method, path)] = (
                response.status_code,
                response.data,
                tuple(told.items()),
            )
    assert len(set(answers.values())) == 1, answers
    status, body, told_first = answers[("nothing", "GET", CQ001)]
    assert (status, body) == (403, b"Invalid access")
    assert dict(told_first)["WWW-Authenticate"] == 'Basic realm="Foyer API", charset="UTF-8"'
    assert may_call(app, DEMO[1], DEMO[0])


def test_who_is_known_gets_the_same_words_without_the_challenge(app: Flask) -> None:
    response = Caller(app).get("/group/2/customer/1002")
    assert (response.status_code, response.data) == (403, b"Invalid access")
    assert "WWW-Authenticate" not in response.headers


@pytest.mark.parametrize(
    ("settings_changes", "may"),
    [({}, False), ({"TRUSTED_PROXIES": "1"}, True)],
    ids=["no proxy", "one proxy"],
)
@one_database
def test_behind_proxies_the_forwarded_address_counts(app: Flask, may: bool) -> None:
    with app.app_context():
        make_credential("fenced", networks=["198.51.100.0/24"])
    caller = Caller(app, ("fenced", SECRET))
    # What the caller claims himself stands to the left of what the proxy has seen.
    for header, fits in (
        ("198.51.100.7", may),
        ("203.0.113.1, 198.51.100.7", may),
        ("198.51.100.7, 203.0.113.1", False),
        ("nonsense", False),
        ("", False),
    ):
        response = caller.get(CQ001, headers={"X-Forwarded-For": header})
        assert (response.status_code == 200) == fits, header
    if may:
        with app.app_context():
            noted = db.session.scalars(
                sa.select(ApiCredential.last_used_from).where(ApiCredential.name == "fenced")
            ).one()
            assert noted == "198.51.100.7"


@one_database
def test_a_credential_signs_in_to_no_page(app: Flask) -> None:
    client = app.test_client()
    response = client.get(URL, headers={"Authorization": basic(*DEMO)})
    assert response.status_code == 302
    with app.app_context():
        logins = db.session.scalars(sa.select(User.login)).all()
        assert DEMO[0] not in logins
