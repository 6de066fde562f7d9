"""The Users tab without a mouse, and what a screen reader is told."""

from __future__ import annotations

from typing import Any

import pytest
from playwright.sync_api import Locator, Page, expect

from tests.browser.people import ADMIN, OpenPerson, Person

pytestmark = pytest.mark.xdist_group("journeys")

FOCUS_IS_SEEN = """() => {
  const style = getComputedStyle(document.activeElement);
  const near = document.activeElement.matches("[data-select-row]")
    ? getComputedStyle(document.activeElement.parentElement) : style;
  const outlined = (each) => each.outlineStyle !== "none" && parseFloat(each.outlineWidth) > 0;
  return [style, near].some((each) => outlined(each) || each.boxShadow !== "none");
}"""

WHERE = """() => {
  const at = document.activeElement;
  const parts = {
    skip: ".skip-link", areas: ".sidebar", trail: ".breadcrumbs", search: ".topbar-search",
    actions: ".page-header-actions", tools: ".list-tools", head: "thead", rows: "tbody",
    pager: ".pager", selection: ".selection-bar",
  };
  const part = Object.keys(parts).find((name) => at.closest(parts[name]));
  const box = at.getBoundingClientRect();
  return { part: part ?? at.tagName, shown: box.width > 0 && box.height > 0 };
}"""

COUNT_WORDS = """(id) => {
  window.said = [];
  new MutationObserver(() => {
    const words = document.getElementById(id).textContent.trim();
    if (words) window.said.push(words);
  }).observe(document.getElementById(id), { childList: true, characterData: true, subtree: true });
}"""


@pytest.fixture
def admin(open_person: OpenPerson) -> Person:
    person = open_person(ADMIN)
    person.open_users()
    return person


def test_keys_search_and_select(admin: Person) -> None:
    page = admin.page
    page.keyboard.press("/")
    expect(page.get_by_label("Search users")).to_be_focused()
    page.keyboard.type("x?/")
    expect(page.get_by_label("Search users")).to_have_value("x?/")
    # Its answer comes a moment later, and would take the place of rows that have the focus.
    expect(page.get_by_text("No user matches these filters.")).to_be_visible()
    page.keyboard.press("ControlOrMeta+A")
    page.keyboard.press("Delete")
    expect(admin.rows).to_have_count(25)

    first = admin.rows.first
    first.get_by_role("link").focus()
    page.keyboard.press("x")
    expect(first.get_by_role("checkbox")).to_be_checked()
    admin.sees_selected(1)
    expect(first.get_by_role("link")).to_be_focused()
    page.keyboard.press("x")
    expect(first.get_by_role("checkbox")).not_to_be_checked()
    admin.sees_selected(0)


def test_the_list_of_keys_opens_closes_and_gives_the_focus_back(admin: Person) -> None:
    page = admin.page
    link = admin.rows.nth(2).get_by_role("link")
    link.focus()
    page.keyboard.press("?")
    dialog = page.get_by_role("dialog", name="Keyboard")
    expect(dialog).to_be_visible()
    page.keyboard.press("x")
    page.keyboard.press("/")
    expect(dialog).to_be_visible()
    page.keyboard.press("Escape")
    expect(dialog).to_be_hidden()
    expect(link).to_be_focused()
    admin.sees_selected(0)


def test_a_menu_opens_and_closes_by_key_and_keeps_the_focus(admin: Person) -> None:
    page = admin.page
    menu = page.locator("#filter-bundle")
    choice = page.get_by_role("button", name="Stand4PhoneNextGenBundle")
    menu.focus()
    page.keyboard.press("Enter")
    expect(choice).to_be_visible()
    page.keyboard.press("Tab")
    page.keyboard.press("Escape")
    expect(choice).to_be_hidden()
    expect(menu).to_be_focused()

    page.keyboard.press("Enter")
    choice.focus()
    page.keyboard.press("Enter")
    expect(admin.rows).to_have_count(20)
    expect(menu).to_be_focused()
    page.locator("#sort-email").focus()
    page.keyboard.press("Enter")
    expect(page.locator("th[aria-sort]")).to_have_text("E-mail")
    expect(page.locator("#sort-email")).to_be_focused()


def test_the_focus_goes_in_the_order_that_is_seen_and_is_seen(admin: Person) -> None:
    page = admin.page
    with page.expect_response("**/users/selection"):
        admin.rows.first.get_by_role("checkbox").check()
    page.reload()
    admin.sees_selected(1)
    stops = _walk(page)
    parts = list(dict.fromkeys(stop["part"] for stop in stops))
    assert parts == [
        *("skip", "areas", "trail", "search", "actions", "tools", "head", "rows", "pager"),
        "selection",
    ]
    assert all(stop["shown"] for stop in stops)
    assert all(stop["seen"] for stop in stops), [stop for stop in stops if not stop["seen"]]


def _walk(page: Page) -> list[dict[str, Any]]:
    """Tab through the page from its start to the last stop; the part that each belongs to."""
    stops: list[dict[str, Any]] = []
    page.locator("body").press("Tab")
    while len(stops) < 150:
        stop = page.evaluate(WHERE)
        if stop["part"] in {"BODY", "HTML"}:
            break
        stops.append({**stop, "seen": page.evaluate(FOCUS_IS_SEEN)})
        page.keyboard.press("Tab")
    return stops


def test_the_skip_link_leads_to_the_content(admin: Person) -> None:
    page = admin.page
    page.locator("body").press("Tab")
    skip = page.get_by_role("link", name="Skip to content")
    expect(skip).to_be_focused()
    expect(skip).to_be_in_viewport()
    page.keyboard.press("Enter")
    expect(page.locator("#main")).to_be_focused()


def test_a_change_is_said_once(admin: Person) -> None:
    page = admin.page
    said = page.locator("#users-said")
    expect(said).to_have_attribute("role", "status")
    page.evaluate(COUNT_WORDS, "users-said")
    page.locator("#filter-bundle").click()
    page.get_by_role("button", name="Stand4PhoneNextGenBundle").click()
    expect(admin.rows).to_have_count(20)
    expect(said).to_have_text("20 users on this page")
    assert _said(page) == ["20 users on this page"]

    page.evaluate("window.said = []")
    page.get_by_label("Search users").fill("zzzz")
    expect(said).to_have_text("No users")
    assert _said(page) == ["No users"]


def _said(page: Page) -> list[str]:
    words: list[str] = page.evaluate("window.said")
    return words


def test_shift_and_click_selects_what_lies_between(admin: Person) -> None:
    boxes: Locator = admin.page.locator("[data-select-row]")
    boxes.nth(1).click()
    boxes.nth(5).click(modifiers=["Shift"])
    admin.sees_selected(5)
    expect(admin.page.locator("[data-select-row]:checked")).to_have_count(5)
    admin.page.get_by_role("button", name="Next").click()
    expect(admin.page.locator("[data-select-row]:checked")).to_have_count(0)
    admin.sees_selected(5)
