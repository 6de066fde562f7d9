"""The list of customers."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable

import pytest
from flask import Flask

from extensions import db
from models import CustomerStatus, Role, UserGroup
from tests.support.factories import find_customer, make_customer, make_group, make_user
from tests.support.pages import CheckingClient, Page

LANDLORD = "landlord@foyer.example"
SignInAs = Callable[[str], CheckingClient]


def names(page: Page) -> list[str]:
    return [page.text(cell) for cell in page.all("th", scope="row")]


def hrefs(page: Page, id_: str) -> list[str]:
    return [link.get("href") for link in page.all("a", id=id_)]


@pytest.fixture
def many(app: Flask) -> list[str]:
    """60 customers in a group of their own, seen by its operator only; returns their names."""
    with app.app_context():
        group = make_group(name="Many")
        made = [
            make_customer(group_id=group.id, name=f"Acme {number:02}", web_id=f"AC{number:03}")
            for number in range(60)
        ]
        operator = make_user(role=Role.OPERATOR, login="many@foyer.example")
        db.session.add(UserGroup(user_id=operator.id, group_id=group.id))
        db.session.commit()
        return [customer.name for customer in made]


@pytest.mark.parametrize("login", [LANDLORD, "operator@foyer.example", "auditor@foyer.example"])
def test_staff_see_the_customers_with_ways_to_users_and_mailings(
    sign_in_as: SignInAs, login: str
) -> None:
    page = sign_in_as(login).page("/customers")
    assert names(page) == ["Harborlight", "KentonElectronics", "Larkspur", "Ostrava"]
    rows = [page.text(row) for row in page.all("tr")]
    assert rows[0] == "Name Web ID Custno Group UPN suffix Status More"
    assert rows[2] == (
        "KentonElectronics CQ001 1001 Direct kenton-electronics.com Active "
        "Details of KentonElectronics Mailings of KentonElectronics"
    )
    assert page.one("a", href="/customers/CQ001/users").text == "KentonElectronics"
    assert page.one("a", href="/customers/CQ001/mailings")


@pytest.mark.parametrize(
    "login", ["prpkeAdmin@kenton-electronics.com", "camille.gruber@kenton-electronics.com"]
)
def test_customers_do_not_see_the_list(sign_in_as: SignInAs, login: str) -> None:
    response = sign_in_as(login).get("/customers")
    assert response.status_code == 403
    assert "Harborlight" not in response.text


def test_nobody_sees_it_without_signing_in(client: CheckingClient) -> None:
    assert client.get("/customers").location == "/login?next=/customers"


def test_operators_see_their_groups_only(sign_in_as: SignInAs, many: list[str]) -> None:
    client = sign_in_as("many@foyer.example")
    assert names(client.page("/customers?size=100")) == many
    page = client.page("/customers?q=kenton")
    assert not names(page)
    assert "No customer has a name" in page.text()


@pytest.mark.parametrize(
    ("search", "found"),
    [
        ("ken", ["KentonElectronics"]),
        ("KENTON", ["KentonElectronics"]),
        ("  kenton ", ["KentonElectronics"]),
        ("cq1", ["Larkspur"]),
        ("CQ00", ["Harborlight", "KentonElectronics", "Ostrava"]),
        ("ostrava.ex", ["Ostrava"]),
        ("hl", ["Harborlight"]),
        ("electronics", []),
        ("%", []),
        ("_", []),
        ("' OR 1=1 --", []),
        ("<b>x</b>", []),
        ("😀", []),
        ("k\0en", ["KentonElectronics"]),
        ("\r\n", ["Harborlight", "KentonElectronics", "Larkspur", "Ostrava"]),
        ("x" * 5000, []),
        ("ﷺ" * 200, []),
    ],
)
def test_search_matches_from_the_start_of_name_web_id_and_suffix(
    sign_in_as: SignInAs, search: str, found: list[str]
) -> None:
    client = sign_in_as(LANDLORD)
    response = client.get("/customers", query_string={"q": search})
    assert response.status_code == 200
    assert names(Page(response.text)) == found
    fragment = client.get("/customers", query_string={"q": search}, headers={"HX-Request": "true"})
    assert names(Page(fragment.text)) == found


def test_a_search_without_result_offers_the_whole_list(sign_in_as: SignInAs) -> None:
    client = sign_in_as(LANDLORD)
    page = client.page("/customers?q=zzz&size=50")
    assert "starts with “zzz”" in page.text()
    assert page.one("input", id="search").get("value") == "zzz"
    offered = [link.text for link in page.all("a", href="/customers?size=50")]
    assert "Show all customers" in offered
    assert not page.all("table")


def test_an_operator_without_groups_is_told_so(app: Flask, sign_in_as: SignInAs) -> None:
    with app.app_context():
        make_user(role=Role.OPERATOR, login="new@foyer.example")
    page = sign_in_as("new@foyer.example").page("/customers")
    assert "There is no customer in your groups yet." in page.text()


def test_a_fragment_is_the_table_of_the_page(sign_in_as: SignInAs) -> None:
    client = sign_in_as(LANDLORD)
    response = client.get("/customers?size=50", headers={"HX-Request": "true"})
    assert response.text.lstrip().startswith('<div id="customers-table"')
    assert response.text.count("hx-swap-oob") == 2  # The search form's state, and messages.
    assert "HX-Request" in response.headers["Vary"]
    whole = client.get(
        "/customers", headers={"HX-Request": "true", "HX-History-Restore-Request": "true"}
    )
    assert "<h1>" in whole.text
    assert "hx-swap-oob" not in client.get("/customers").text


@pytest.mark.parametrize("size", [25, 50, 100])
def test_pages_lead_through_the_list_and_back(
    sign_in_as: SignInAs, many: list[str], size: int
) -> None:
    client = sign_in_as("many@foyer.example")
    path, seen, pages = f"/customers?q=acme&size={size}", [], []
    while True:
        page = client.page(path)
        pages.append(names(page))
        seen += pages[-1]
        assert page.one("a", id=f"page-size-{size}").get("aria-current") == "true"
        following = hrefs(page, "page-next")
        if not following:
            break
        path = following[0]
        assert "q=acme" in path
    assert seen == many
    assert all(len(rows) == size for rows in pages[:-1])
    for rows in reversed(pages[:-1]):
        page = client.page(hrefs(page, "page-previous")[0])
        assert names(page) == rows
    assert not hrefs(page, "page-previous")


def test_another_page_size_starts_from_the_first_page(
    sign_in_as: SignInAs, many: list[str]
) -> None:
    client = sign_in_as("many@foyer.example")
    second = client.page(hrefs(client.page("/customers"), "page-next")[0])
    (href,) = hrefs(second, "page-size-50")
    assert names(client.page(href)) == many[:50]
    state = client.page("/customers?size=50").one("span", id="search-state")
    assert [(f.get("name"), f.get("value")) for f in state.iter("input")] == [("size", "50")]


@pytest.mark.parametrize(
    "size", ["0", "-1", "26", "1000000", "x", "", "9" * 5000, "25; DROP", "٢٥"]
)
def test_other_sizes_are_the_usual_one(sign_in_as: SignInAs, many: list[str], size: str) -> None:
    response = sign_in_as("many@foyer.example").get("/customers", query_string={"size": size})
    assert response.status_code == 200
    assert len(names(Page(response.text))) == 25


def _cursor(value: object) -> str:
    return base64.urlsafe_b64encode(json.dumps(value).encode()).decode().rstrip("=")


@pytest.mark.parametrize(
    "cursor",
    [
        "x",
        "é",
        "\0",
        "A" * 10_000,
        _cursor([]),
        _cursor({"a": 1}),
        _cursor(["a", "acme", "1"]),
        _cursor(["a", None, 1]),
        _cursor(["a", 7, 1]),
        _cursor(["a", "a\0", 1]),
        _cursor(["z", "acme", 1]),
        _cursor(["a", "acme", 2**70]),
        _cursor(["a", "acme", True]),
        _cursor(["a", "\ud800", 1]),
    ],
)
def test_a_cursor_that_cannot_be_read_is_the_first_page(
    sign_in_as: SignInAs, many: list[str], cursor: str
) -> None:
    response = sign_in_as("many@foyer.example").get("/customers", query_string={"cursor": cursor})
    assert response.status_code == 200
    assert names(Page(response.text)) == many[:25]


def test_a_suspended_customer_says_so_and_a_deleted_one_is_gone(
    app: Flask, sign_in_as: SignInAs
) -> None:
    with app.app_context():
        find_customer("CQ002").status = CustomerStatus.SUSPENDED
        find_customer("CQ003").status = CustomerStatus.DELETED
        db.session.commit()
    page = sign_in_as(LANDLORD).page("/customers")
    assert names(page) == ["Harborlight", "KentonElectronics", "Larkspur"]
    assert "Suspended" in page.text(page.all("tr")[1])


def test_names_are_text_never_markup(app: Flask, sign_in_as: SignInAs) -> None:
    with app.app_context():
        make_customer(name="<script>alert(1)</script>", web_id="EVIL")
    page = sign_in_as(LANDLORD).page("/customers?q=<script>")
    assert names(page) == ["<script>alert(1)</script>"]
