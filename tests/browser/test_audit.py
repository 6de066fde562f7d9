"""Who did what: a landlord administrator looks for it in the trail, with and without scripts."""

from __future__ import annotations

import re

import pytest
from playwright.sync_api import expect

from tests.browser.looking import Check
from tests.browser.people import LANDLORD, OpenPerson

pytestmark = pytest.mark.xdist_group("pages")


@pytest.mark.parametrize("scripts", [True, False])
def test_a_change_is_found_by_who_and_what_and_opened(
    open_person: OpenPerson, check: Check, scripts: bool
) -> None:
    person = open_person(LANDLORD, java_script_enabled=scripts)
    page = person.page
    page.goto("/audit")
    person.sees_heading("Audit")
    page.locator("#filter-events").click()
    page.get_by_label("Who", exact=True).fill("landlord@")
    page.get_by_label("What", exact=True).select_option("sign_in.succeeded")
    if scripts:
        check(page, "audit, filters open")
    page.get_by_role("button", name="Show").click()

    chips = page.locator(".chip")
    expect(chips).to_have_count(2)
    expect(chips.nth(1)).to_contain_text("What: Sign-in succeeded")
    first = page.locator("tr[data-row]").first
    expect(first).to_contain_text(LANDLORD)
    chips.first.click()
    expect(chips).to_have_count(1)
    assert re.search(r"\?action=sign_in\.succeeded$", page.url)

    first.get_by_role("link", name="Sign-in succeeded").click()
    person.sees_heading("Sign-in succeeded")
    expect(page.get_by_role("main")).to_contain_text(LANDLORD)
