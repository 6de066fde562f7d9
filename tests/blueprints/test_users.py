"""The Users tab: its list, its selection and its actions, as pages show them."""

from __future__ import annotations

import csv
import io
import re
from datetime import timedelta
from operator import attrgetter
from urllib.parse import parse_qsl, quote, urlsplit

import pytest
import sqlalchemy as sa

from extensions import db
from models import AuditEvent, Role, SelectedUser, User, UserStatus, Welcome, WelcomeState, utcnow
from services.paging import encode_cursor
from tests.support import factories
from tests.support.pages import Page

ADMIN = "prpkeAdmin@kenton-electronics.com"
URL = "/customers/CQ001/users"
AT_MOST = 2**63 - 1


@pytest.fixture
def alice(sign_in_as):
    """The administrator of CQ001."""
    return sign_in_as(ADMIN)


@pytest.fixture
def bob(sign_in_as):
    """An auditor: he sees everything and changes nothing."""
    return sign_in_as("auditor@foyer.example")


def names_on(page: Page) -> list[str]:
    return [page.text(a) for row in page.all("tr", data_row="") for a in row.iter("a")]


def ids_on(page: Page) -> list[int]:
    return [int(box.get("value")) for box in page.all("input", data_select_row="")]


def ticked_on(page: Page) -> list[int]:
    boxes = page.all("input", data_select_row="")
    return [int(box.get("value")) for box in boxes if box.get("checked") is not None]


def button(page: Page, identity: str):
    return page.one("button", id=identity)


def press(client, page: Page, identity: str, **changes):
    """The page after pressing a button of the list's form, as a browser without scripts does."""
    pressed = button(page, identity)
    form = page.one("form", id="users-form")
    data = page.fields(form) | {"q": page.one("input", id="search").get("value")}
    data |= {pressed.get("name") or "": pressed.get("value") or "", **changes}
    response = client.post(pressed.get("formaction"), data=data)
    assert response.status_code == 303, response.text
    return client.page(response.location)


def act(client, page: Page, **changes):
    form = page.one("form", id="users-form")
    return client.post(form.get("action"), data=page.fields(form) | changes)


def action_of(page: Page, label: str) -> str:
    for option in page.one("select", id="selection-action").iter("option"):
        if page.text(option) == label:
            return option.get("value")
    raise AssertionError(f"no action {label}")


def count_of(page: Page) -> str:
    return page.text(page.one("p", id="selection-count").find("span"))


def user_ids(app, *conditions, limit=1000):
    with app.app_context():
        query = sa.select(User.id).where(User.customer_id == 1, *conditions)
        query = query.where(User.status != UserStatus.DELETED)
        return list(db.session.scalars(query.order_by(User.name_key, User.id).limit(limit)))


# --- The list ----------------------------------------------------------------------------------


def test_the_list_shows_each_user_with_what_became_of_him(app, alice):
    with app.app_context():
        customer = factories.find_customer("CQ001")
        sent, failed = utcnow() - timedelta(hours=3), utcnow() - timedelta(days=2)
        for name, state, at in (("Aaa Sent", "sent", sent), ("Aaa Failed", "failed", failed)):
            factories.make_user(
                customer,
                first_name=name.split()[0],
                last_name=name.split()[1],
                extension="4711",
                welcome_state=WelcomeState(state),
                welcome_at=at,
                last_sign_in_at=sent,
            )
    page = alice.page(URL)
    rows = {names: page.text(row) for row, names in zip(
        page.all("tr", data_row=""), names_on(page), strict=True)}  # fmt: skip
    assert "4711" in rows["Aaa Sent"]
    assert re.search(r"Sent 3 hours ago", rows["Aaa Sent"])
    assert re.search(r"Failed 2 days ago", rows["Aaa Failed"])
    heads = [page.text(head) for head in page.one("thead").iter("th")]
    assert heads[1:] == [
        "Name", "Login", "E-mail", "Ext.", "Bundle", "Status", "Last welcome mail", "Last sign-in",
    ]  # fmt: skip


def test_administrators_are_told_from_users(alice):
    page = alice.page(f"{URL}?q=prpke")
    assert "Administrator" in page.text(page.one("tbody"))


def test_htmx_gets_the_same_table_as_the_page(alice):
    whole, fragment = alice.page(URL), alice.fragment(URL)
    assert not fragment.source.lstrip().startswith("<!doctype")
    assert names_on(whole) == names_on(fragment)
    assert whole.one("div", id="users-table") is not None
    assert fragment.one("p", id="users-said").get("hx-swap-oob") == "innerHTML"


@pytest.mark.parametrize("size", [25, 50, 100])
def test_a_page_has_as_many_rows_as_asked_for(alice, size):
    assert len(names_on(alice.page(f"{URL}?size={size}"))) == min(size, 61)


@pytest.mark.parametrize("order", ["asc", "desc"])
@pytest.mark.parametrize("sort", ["name", "login", "email", "extension", "welcome", "sign_in"])
def test_paging_shows_everybody_once_in_order_both_ways(app, alice, sort, order):
    with app.app_context():
        tie = utcnow() - timedelta(days=1)
        some = User.customer_id == 1, User.id % 3 == 0
        db.session.execute(
            sa.update(User).where(*some).values(last_sign_in_at=tie, extension="4000")
        )
        factories.note_welcomes(
            Welcome.customer_id == 1, Welcome.user_id % 3 == 0, state="sent", at=tie
        )
    pages, url = [], f"{URL}?sort={sort}&order={order}"
    page = alice.page(url)
    while True:
        pages.append(ids_on(page))
        if not page.all("button", id="page-next"):
            break
        page = press(alice, page, "page-next")
    seen = [each for ids in pages for each in ids]
    assert sorted(seen) == sorted(user_ids(app))
    assert len(seen) == len(set(seen)) == 61
    attribute = {"name": "name_key", "login": "login_key", "email": "email_key",
                 "extension": "extension", "welcome": "welcome.at",
                 "sign_in": "last_sign_in_at"}[sort]  # fmt: skip
    with app.app_context():
        value_of = attrgetter(attribute)
        users = db.session.query(User).filter_by(customer_id=1)
        values = {user.id: _earliest(value_of(user)) for user in users}
    keys = [(values[each], each) for each in seen]
    assert keys == sorted(keys, reverse=order == "desc")
    for earlier in reversed(pages[:-1]):
        page = press(alice, page, "page-prev")
        assert ids_on(page) == earlier
    assert not page.all("button", id="page-prev")


def _earliest(value):
    return "" if value is None else str(value)


def test_sorting_by_the_current_column_turns_it_round(alice):
    page = alice.page(URL)
    first = names_on(page)[0]
    assert button(page, "sort-name").get("value") == "order=desc"
    turned = press(alice, page, "sort-name")
    assert names_on(turned)[0] > first
    assert turned.one("th", aria_sort="descending") is not None


def test_search_finds_by_the_start_of_name_surname_login_email_and_extension(app, alice):
    with app.app_context():
        customer = factories.find_customer("CQ001")
        factories.make_user(
            customer, first_name="Zoë", last_name="Quirinus", login="zq@kenton-electronics.com",
            email="mailbox-zq@elsewhere.example", extension="987654",
        )  # fmt: skip
    for term in ("zoë q", "QUIRI", "zq@k", "mailbox-z", "98765"):
        assert names_on(alice.page(f"{URL}?q={quote(term)}")) == ["Zoë Quirinus"], term
    assert names_on(alice.page(f"{URL}?q=irinus")) == []


@pytest.mark.parametrize(
    ("query", "condition"),
    [
        ("status=suspended", User.status == UserStatus.SUSPENDED),
        ("mailed=never", User.welcome.has(state=WelcomeState.NEVER)),
        ("mailed=failed", User.welcome.has(state=WelcomeState.FAILED)),
        ("signed_in=never", User.last_sign_in_at.is_(None)),
    ],
)
def test_a_filter_shows_whom_it_names_and_a_chip_that_removes_it(app, alice, query, condition):
    with app.app_context():
        some = User.customer_id == 1, User.id % 5 == 0
        db.session.execute(sa.update(User).where(*some).values(last_sign_in_at=utcnow()))
        factories.note_welcomes(
            Welcome.customer_id == 1, Welcome.user_id % 5 == 0, state="failed", at=utcnow()
        )
    page = alice.page(f"{URL}?{query}&size=100")
    assert ids_on(page) == user_ids(app, condition)
    chip = page.one("button", class_="as-link chip")
    assert chip.get("value") == "size=100"


def test_the_bundle_filter_offers_the_customers_bundles_only(app, alice):
    page = alice.page(URL)
    menu = next(d for d in page.all("details") if page.text(d.find("summary")) == "Bundle")
    choices = [page.text(each) for each in menu.iter("button")]
    assert choices == ["All bundles", "Entry3PhoneNextGenBundle", "Stand4PhoneNextGenBundle"]
    chosen = press(alice, page, "filter-bundle-3")
    total = [press(alice, chosen, "page-size-100")]
    assert len(ids_on(total[0])) == 20


def test_nobody_found_says_why_and_how_to_mend_it(alice):
    page = alice.page(f"{URL}?q=nobodyhere")
    assert "No user matches these filters." in page.source
    assert "Clear all filters" in page.source


def test_a_customer_without_users_says_so(app, sign_in_as):
    with app.app_context():
        web_id = factories.make_customer(name="Emptyfield").web_id
    page = sign_in_as("landlord@foyer.example").page(f"/customers/{web_id}/users")
    assert "Emptyfield has no users yet." in page.source


def test_deleted_users_are_nowhere(app, alice):
    with app.app_context():
        user = factories.make_user(factories.find_customer("CQ001"), status=UserStatus.DELETED,
                                   last_name="Gonegirl")  # fmt: skip
        gone = user.id
    assert gone not in ids_on(alice.page(f"{URL}?q=Gonegirl"))
    assert gone not in ids_on(alice.page(f"{URL}?status=deleted&size=100"))
    page = alice.page(f"{URL}/{gone}")
    assert "was deleted" in page.source
    assert not page.all("a", href=f"{URL}/{gone}/edit")
    assert alice.get(f"{URL}/{gone}/edit").status_code == 404


STRANGE = [
    "q=%00", "q=" + "x" * 5000, "q=%ff%fe", "bundle=99999999999999999999999", "bundle=x",
    "status=nobody", "role=%00", "role=landlord", "profile=x", "profile=%00", "profile=0",
    "profile=" + "9" * 18, "profile=" + "9" * 400, "mailed=%00",
    "sort=password_hash", "order=sideways", "size=1000000",
    "size=-1", "cursor=%00", "cursor=" + "A" * 5000, "cursor=WyJhIiwiXHVkODAwIiwxXQ",
    "cursor=" + encode_cursor("a", "x", AT_MOST), "cursor=WyJhIiwgIngiLCAxZTk5OV0",
    "sort=welcome&cursor=" + encode_cursor("a", "0001-01-01T00:00:00+23:59", 1),
    "sort=welcome&cursor=" + encode_cursor("b", "not a time", 1),
    "sort=sign_in&cursor=" + encode_cursor("a", "x" * 3000, 1),
]  # fmt: skip


def test_a_strange_address_still_shows_the_list(alice):
    for query in STRANGE:
        assert alice.get(f"{URL}?{query}").status_code == 200, query


def test_hostile_names_are_shown_harmless(app, alice):
    with app.app_context():
        evil = '<script>alert(1)</script>"><img src=x onerror=alert(1)>'
        user = factories.make_user(factories.find_customer("CQ001"), first_name="Aa",
                                   last_name=evil[:64], email='"><b>@x.example')  # fmt: skip
        user_id = user.id
    for url in (f"{URL}?q=aa", f"{URL}/{user_id}"):
        page = alice.page(url)
        assert not page.all("img")
        assert "<script>alert" not in page.source
        assert page.text(page.one("main")).count("<script>alert(1)</script>")


# --- Selection ---------------------------------------------------------------------------------


def test_ticks_are_kept_across_pages_filters_and_searches_without_scripts(alice):
    page = alice.page(URL)
    first = ids_on(page)[:3]
    page = press(alice, page, "page-next", selected=[str(each) for each in first])
    assert count_of(page) == "3 of 25 selected"
    second = ids_on(page)[:2]
    page = press(alice, page, "filter-status-2", selected=[str(each) for each in second])
    assert count_of(page) == "5 of 25 selected"
    assert set(ticked_on(page)) <= set(first + second)
    form = page.one("form", id="users-form")
    data = page.fields(form) | {"q": "zzz", "go": "search"}
    page = alice.page(alice.post(f"{URL}/selection", data=data).location)
    assert names_on(page) == []
    assert count_of(page) == "5 of 25 selected"
    assert page.one("div", id="users-selection").get("data-elsewhere") == "5"
    page = alice.page(URL)
    assert ticked_on(page) == first


def test_unticking_takes_away_only_what_the_page_shows(alice):
    page = alice.page(URL)
    first = ids_on(page)[0]
    page = press(alice, page, "page-next", selected=[str(first)])
    page = press(alice, page, "page-prev", selected=[str(ids_on(page)[0])])
    page = press(alice, page, "sort-login", selected=[])
    assert count_of(page) == "1 of 25 selected"


def test_a_search_goes_on_from_the_filters_that_are_on(alice):
    page = alice.page(f"{URL}?status=active&sort=login&size=50")
    data = page.fields(page.one("form", id="users-form")) | {"q": "an", "go": "search"}
    location = alice.post(f"{URL}/selection", data=data).location
    query = dict(parse_qsl(urlsplit(location).query))
    assert query == {"q": "an", "status": "active", "sort": "login", "size": "50"}


def test_htmx_posts_the_ticks_and_gets_their_count(app, alice):
    page = alice.page(URL)
    data = page.fields(page.one("form", id="users-form"))
    data["selected"] = [str(each) for each in ids_on(page)]
    response = alice.post(f"{URL}/selection", data=data, headers={"HX-Request": "true"})
    assert response.status_code == 200
    assert "<strong data-selection-count>25</strong> of 25 selected" in response.text
    assert "<html" not in response.text
    with app.app_context():
        assert db.session.query(SelectedUser).count() == 25


def test_clear_forgets_the_selection_of_every_page(app, alice):
    page = alice.page(URL)
    page = press(alice, page, "page-next", selected=[str(each) for each in ids_on(page)])
    page = press(alice, page, "selection-clear")
    assert ticked_on(page) == []
    with app.app_context():
        assert db.session.query(SelectedUser).count() == 0


def test_ids_of_strangers_are_not_selected(app, alice):
    with app.app_context():
        stranger = db.session.scalar(sa.select(User.id).where(User.customer_id == 2).limit(1))
    alice.submit(f"{URL}/selection", {"selected": [str(stranger)], "shown": str(stranger)})
    with app.app_context():
        assert db.session.query(SelectedUser).count() == 0


def test_a_selection_is_of_its_session(alice, sign_in_as):
    page = alice.page(URL)
    press(alice, page, "page-next", selected=[str(ids_on(page)[0])])
    colleague = sign_in_as("landlord@foyer.example").page(URL)
    assert ticked_on(colleague) == []


NO_IDS = [
    ["x"], ["1.5"], ["-1"], ["0"], [str(2**63)], ["9" * 400], ["\0"], ["٣"],
    [str(each) for each in range(1, 2001)], [",".join(map(str, range(1, 2001)))],
]  # fmt: skip


@pytest.mark.parametrize("name", ["selected", "shown"])
def test_ids_that_are_none_or_too_many_are_refused(app, alice, name):
    for ids in NO_IDS:
        response = alice.submit(f"{URL}/selection", {name: ids})
        assert response.status_code == 400, ids
    with app.app_context():
        assert db.session.query(SelectedUser).count() == 0


def test_where_to_go_next_stays_within_the_list(alice):
    for go in ("//evil.example", "https://evil.example/", "search\r\nX: 1", "q=%0d%0aX:1&size=50"):
        response = alice.submit(f"{URL}/selection", {"go": go})
        assert response.status_code == 303
        assert urlsplit(response.location).path == URL
        assert not urlsplit(response.location).netloc


# --- Actions -----------------------------------------------------------------------------------


def test_the_actions_are_the_customers_templates(alice, sign_in_as):
    page = alice.page(URL)
    labels = [page.text(o) for o in page.one("select", id="selection-action").iter("option")]
    assert labels == [
        "Select an Action", "Resend Welcome Mail", "Password update", "Voicemail update",
        "Reset password", "Change bundle", "Suspend", "Resume", "Delete", "Export CSV",
    ]  # fmt: skip
    other = sign_in_as("prphlAdmin@harborlight.example").page("/customers/CQ002/users")
    labels = [other.text(o) for o in other.one("select", id="selection-action").iter("option")]
    assert labels[1:3] == ["Resend Welcome Mail", "Reset password"]


def test_an_action_leads_to_its_confirmation(alice):
    page = alice.page(URL)
    action = action_of(page, "Resend Welcome Mail")
    response = act(alice, page, selected=[str(each) for each in ids_on(page)[:2]], action=action)
    assert response.status_code == 303
    assert response.location.endswith(f"/mailings/new?template={action.removeprefix('mail-')}")


def test_more_than_25_are_refused_with_everything_kept(alice):
    page = alice.page(f"{URL}?size=50&sort=login")
    ids = ids_on(page)[:26]
    action = action_of(page, "Reset password")
    response = act(alice, page, selected=[str(each) for each in ids], action=action)
    assert response.status_code == 422
    page = Page(response.text)
    alert = page.text(page.one("div", role="alert", data_focus=""))
    assert "26 users are selected" in alert
    assert "up to 25" in alert
    assert "$$RESEND WELCOME EMAIL$$" in alert
    assert ticked_on(page) == ids
    assert count_of(page) == "26 of 25 selected"
    assert page.one("span", class_="selection-over").get("hidden") is None
    assert page.one("option", value=action).get("selected") is not None
    assert page.one("input", name="at").get("value") == "sort=login&size=50"


def test_back_from_a_refusal_leads_to_the_list_as_it_was(alice):
    page = alice.page(f"{URL}?status=active&size=50")
    response = act(alice, page)
    assert response.status_code == 422
    address = Page(response.text).one("form", id="users-form").get("action")
    assert alice.get(address).location == f"{URL}?status=active&size=50"


def test_nobody_or_nothing_chosen_is_refused_with_everything_kept(alice):
    page = alice.page(URL)
    response = act(alice, page, action=action_of(page, "Resend Welcome Mail"))
    assert response.status_code == 422
    assert "No user is selected" in response.text
    ids = ids_on(page)[:2]
    for action in ("", "mail-999999", "nonsense"):
        response = act(alice, page, selected=[str(each) for each in ids], action=action)
        assert response.status_code == 422
        assert "No action is chosen" in response.text
        assert ticked_on(Page(response.text)) == ids


def rows_of(response) -> list[dict[str, str]]:
    assert response.mimetype == "text/csv"
    assert "attachment" in response.headers["Content-Disposition"]
    text = response.get_data(as_text=True)
    assert text.startswith("\ufeff")
    return list(csv.DictReader(io.StringIO(text.removeprefix("\ufeff"))))


def test_the_export_has_who_is_selected(app, alice):
    page = alice.page(URL)
    chosen = [str(each) for each in ids_on(page)[:3]]
    response = act(alice, page, selected=chosen, action="export")
    names = [f"{row['First name']} {row['Last name']}" for row in rows_of(response)]
    assert names == names_on(page)[:3]
    with app.app_context():
        event = db.session.query(AuditEvent).filter_by(action="users.exported").one()
        assert event.detail == {"selected": 3}


def test_the_export_without_a_selection_has_what_the_filters_show(alice):
    page = alice.page(f"{URL}?status=suspended")
    data = page.fields(page.one("form", id="users-form"))
    rows = rows_of(alice.post(f"{URL}/actions", data=data | {"action": "export"}))
    assert {row["Status"] for row in rows} == {"suspended"}
    page = alice.page(URL)
    data = page.fields(page.one("form", id="users-form"))
    assert len(rows_of(alice.post(f"{URL}/actions", data=data | {"action": "export"}))) == 61


def test_the_export_opens_harmlessly(app, alice):
    with app.app_context():
        factories.make_user(factories.find_customer("CQ001"), first_name="=cmd|' /C calc'!A0",
                            last_name="Aaa, \"q\"", extension="+1555")  # fmt: skip
    rows = rows_of(alice.submit(f"{URL}/actions", {"action": "export"}))
    row = next(row for row in rows if "cmd" in row["First name"])
    assert row["First name"] == "'=cmd|' /C calc'!A0"
    assert row["Last name"] == 'Aaa, "q"'
    assert row["Extension"] == "'+1555"


# --- Roles and one user ------------------------------------------------------------------------


def test_an_auditor_sees_the_list_and_cannot_select(bob):
    page = bob.page(URL)
    assert len(names_on(page)) == 25
    assert not page.all("input", data_select_row="")
    assert not page.all("select", id="selection-action")
    assert not page.all("form", id="users-form")
    link = page.one("a", id="page-next")
    assert len(names_on(bob.page(link.get("href")))) == 25
    search = page.one("form", role="search")
    assert search.get("method") == "get"
    for path in ("selection", "selection/clear"):
        assert bob.submit(f"{URL}/{path}").status_code == 403
    for action in ("", "suspend", "mail-1"):
        assert bob.submit(f"{URL}/actions", {"action": action}).status_code == 422
    form = page.one("form", action=f"{URL}/actions")
    response = bob.post(form.get("action"), data=page.fields(form) | {"action": "export"})
    assert response.mimetype == "text/csv"


def test_a_stranger_finds_nothing(sign_in_as):
    stranger = sign_in_as("prphlAdmin@harborlight.example")
    assert stranger.get(URL).status_code == 404
    assert stranger.get(f"{URL}/1").status_code == 404
    assert stranger.submit(f"{URL}/actions").status_code == 404


def test_a_users_page_shows_him_and_leads_to_the_actions(app, alice):
    user_id = user_ids(app, User.role == Role.USER, limit=1)[0]
    page = alice.page(f"{URL}/{user_id}")
    link = next(a for a in page.all("a") if page.text(a) == "Resend Welcome Mail")
    assert f"user={user_id}" in link.get("href")
    assert "No mail has been sent" in page.source
    assert alice.page(link.get("href")).text(page.one("h1"))


def test_the_users_page_of_another_customer_is_not_there(app, alice):
    with app.app_context():
        stranger = db.session.scalar(sa.select(User.id).where(User.customer_id == 2).limit(1))
    assert alice.get(f"{URL}/{stranger}").status_code == 404


def test_an_id_of_nobody_is_not_there(alice):
    for user_id in ("0", "999999999", str(AT_MOST), str(2**63), "9" * 100, "x"):
        assert alice.get(f"{URL}/{user_id}").status_code == 404, user_id


def test_an_auditor_sees_a_user_without_actions(app, bob):
    user_id = user_ids(app, limit=1)[0]
    assert "Resend Welcome Mail" not in bob.page(f"{URL}/{user_id}").source
