"""A credential of the API from its making to its end, with a browser's ways back to its secret."""

from __future__ import annotations

import base64
import re
import urllib.error
import urllib.request
from contextlib import suppress

import pytest
from playwright.sync_api import Error, Page, expect

from tests.browser.installation import Installation
from tests.browser.people import LANDLORD, OpenPerson, Person

pytestmark = pytest.mark.xdist_group("journeys")

SECRET = re.compile(r"foyer_[A-Za-z0-9]{32}")
ONCE = "It was shown then, once, and cannot be shown again"


def fill_in(page: Page, name: str) -> None:
    page.goto("/api-credentials/new")
    page.get_by_label("Name", exact=True).fill(name)
    page.get_by_label("Read", exact=True).check()
    page.get_by_label("1 Direct").check()


def make(page: Page, name: str) -> str:
    """A credential that reads customers of group 1; its secret."""
    fill_in(page, name)
    page.get_by_role("button", name="Make the credential").click()
    return secret_on(page)


def secret_on(page: Page) -> str:
    text = page.locator("#credential-secret").inner_text()
    assert SECRET.fullmatch(text)
    return text


def status_of(at: Installation, name: str, secret: str) -> int:
    request = urllib.request.Request(f"{at.url}/api/v1/group/1/customer/1001")
    coded = base64.b64encode(f"{name}:{secret}".encode()).decode()
    request.add_header("Authorization", f"Basic {coded}")
    try:
        with urllib.request.urlopen(request, timeout=15) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as error:
        return error.code


def test_a_secret_is_seen_once_copied_and_never_again(
    installation: Installation, open_person: OpenPerson
) -> None:
    person = open_person(LANDLORD, permissions=["clipboard-read", "clipboard-write"])
    page = person.page
    page.get_by_role("navigation", name="Areas").get_by_role("link", name="API").click()
    person.sees_heading("API credentials")
    page.get_by_role("link", name="New credential").click()
    person.sees_heading("New API credential")
    secret = make(page, "seen-once")
    person.sees_heading("seen-once is made")
    page.locator("[data-copy=credential-secret]").click()
    expect(page.locator("[data-copy=credential-secret]")).to_contain_text("Copied")
    assert page.evaluate("navigator.clipboard.readText()") == secret
    assert status_of(installation, "seen-once", secret) == 200
    here = page.url

    page.reload()
    person.sees_heading("seen-once")
    expect(page.get_by_text(ONCE)).to_be_visible()
    assert secret not in page.content()
    page.get_by_role("link", name="API credentials").click()
    person.sees_heading("API credentials")
    page.go_back()
    person.sees_heading("seen-once")
    assert page.url == here
    assert secret not in page.content()
    page.get_by_role("link", name="Rotate").first.click()
    person.sees_heading("Rotate seen-once")


def test_without_scripts_it_is_made_rotated_and_revoked(
    installation: Installation, open_person: OpenPerson
) -> None:
    person = open_person(LANDLORD, java_script_enabled=False)
    page = person.page
    old = make(page, "no-scripts")
    page.reload()  # The form is sent again.
    person.sees_heading("no-scripts")
    expect(page.get_by_text("cannot be shown again").first).to_be_visible()
    assert old not in page.content()

    page.get_by_role("link", name="Rotate").first.click()
    page.get_by_label("Works for another hour").check()
    page.get_by_role("button", name="Make a new secret").click()
    person.sees_heading("The new secret of no-scripts")
    new = secret_on(page)
    page.get_by_role("link", name="I have copied it").click()
    person.sees_heading("no-scripts")
    with suppress(Error):  # The answer was not to be kept: the browser asks before it sends again.
        page.go_back()
    expect(page).not_to_have_title(re.compile("no-scripts"))
    expect(page.locator("body")).not_to_contain_text(new)
    page.reload()
    person.sees_heading("no-scripts")
    expect(page.get_by_text("was shown then and cannot be shown again")).to_be_visible()
    assert [status_of(installation, "no-scripts", each) for each in (old, new)] == [200, 200]

    page.goto("/api-credentials?q=no-scripts")
    page.get_by_role("link", name="no-scripts", exact=True).click()
    page.get_by_role("button", name="End the overlap now").click()
    person.sees_heading("no-scripts")
    assert [status_of(installation, "no-scripts", each) for each in (old, new)] == [403, 200]
    page.get_by_role("link", name="Revoke").click()
    page.get_by_label("Its name").fill("no-scripts")
    page.get_by_role("button", name="Revoke for good").click()
    expect(page.get_by_text("It signs in no more")).to_be_visible()
    assert status_of(installation, "no-scripts", new) == 403


def test_two_windows_with_the_same_form_make_one_credential(open_person: OpenPerson) -> None:
    """As when a window is duplicated, or a button pressed twice."""
    person = open_person(LANDLORD)
    first = person.page
    fill_in(first, "twice")
    word = first.locator("input[name=confirmation]").input_value()
    second = person.context.new_page()
    fill_in(second, "twice-more")
    second.locator("input[name=confirmation]").evaluate("(field, word) => field.value = word", word)
    first.get_by_role("button", name="Make the credential").click()
    secret_on(first)
    second.get_by_role("button", name="Make the credential").click()
    expect(second.get_by_role("heading", level=1)).to_have_text("twice")
    expect(second.locator("#toasts")).to_contain_text("This form made twice before.")
    assert not SECRET.search(second.content())
    second.goto("/api-credentials?q=twice")
    expect(second.locator("#credentials-table tbody tr")).to_have_count(1)


def test_what_belongs_to_a_choice_is_asked_with_it(open_person: OpenPerson) -> None:
    person = open_person(LANDLORD)
    page = person.page
    page.goto("/api-credentials/new")
    expect(page.get_by_label("1 Direct")).to_be_visible()
    page.get_by_label("All groups").check()
    expect(page.get_by_label("1 Direct")).to_be_hidden()

    make(page, "two-secrets")
    for overlap in ("Works for another week", "Works for another day"):
        page.get_by_role("link", name="I have copied it").click()
        person.sees_heading("two-secrets")
        page.get_by_role("link", name="Rotate").first.click()
        person.sees_heading("Rotate two-secrets")
        page.get_by_label(overlap).check()
        if overlap.endswith("day"):
            page.get_by_label("The one before it").check()
            page.get_by_label("Stops at once").check()
            expect(page.get_by_label("The one before it")).to_be_hidden()
            page.get_by_label(overlap).check()
        page.get_by_role("button", name="Make a new secret").click()
        person.sees_heading("The new secret of two-secrets")


def test_the_list_is_searched_and_filtered_as_one_types(open_person: OpenPerson) -> None:
    person = open_person(LANDLORD)
    page = person.page
    _make_some(person)
    page.goto("/api-credentials")
    page.get_by_label("Name").fill("some-")
    rows = page.locator("#credentials-table tbody tr")
    expect(rows).to_have_count(2)
    page.locator("#filter-state").click()
    page.get_by_role("link", name="Revoked", exact=True).click()
    expect(page.get_by_text("No credential matches these filters.")).to_be_visible()
    expect(page).to_have_url(re.compile(r"\?q=some-&state=revoked$"))
    page.get_by_role("link", name="Clear all filters").click()
    expect(rows.filter(has_text="demo-api")).to_have_count(1)


def _make_some(person: Person) -> None:
    for name in ("some-client", "some-other"):
        make(person.page, name)
