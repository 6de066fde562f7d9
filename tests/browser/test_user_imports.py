"""Importing users in a browser: a row is corrected in its place, and progress ends by itself."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Page, expect

from services.users import list_bundles_of
from tests.browser.installation import Installation
from tests.browser.people import OpenPerson
from tests.support.factories import find_customer
from tests.support.user_imports import csv_file

pytestmark = pytest.mark.xdist_group("journeys")

_AXE = Axe()
_SCHEMES: tuple[Literal["dark", "light"], ...] = ("dark", "light")
_SETTLED = """() =>
  Promise.all(document.getAnimations().map((each) => each.finished.catch(() => {})))"""


def check_axe(page: Page) -> None:
    for scheme in _SCHEMES:
        page.emulate_media(color_scheme=scheme, reduced_motion="reduce")
        page.evaluate(_SETTLED)
        found = _AXE.run(page, options={"resultTypes": ["violations"]}).response["violations"]
        assert not found, [(each["id"], each["nodes"][0]["html"]) for each in found]


def test_a_file_of_users_is_corrected_imported_and_undone(
    installation: Installation, open_person: OpenPerson, tmp_path: Path
) -> None:
    tenant = installation.add_tenant(1)
    with installation.app.app_context():
        bundle = list_bundles_of(find_customer(tenant.web_id))[0].name
    rows = [
        (f"guest{number}@{tenant.suffix}", "Guest", "x" if number == 7 else "", bundle)
        for number in range(40)
    ]
    file = tmp_path / "guests.csv"
    file.write_bytes(csv_file(*rows, headings=("Login", "Nachname", "Durchwahl", "Paket")))
    admin = open_person(tenant.admin)
    admin.expects(422)
    page = admin.page
    page.goto(f"/customers/{tenant.web_id}/users/import")
    check_axe(page)
    page.get_by_label("File").set_input_files(file)
    page.get_by_role("button", name="Upload").click()
    admin.sees_heading("guests.csv")
    expect(page.get_by_label("Nachname")).to_have_value("last_name")
    check_axe(page)
    page.get_by_role("button", name="Check all rows").click()

    page.get_by_role("link", name="Correct row 9").click()
    form = page.locator(".import-row-form")
    form.get_by_label("Extension").fill("y")
    form.get_by_role("button", name="Check this row").click()
    expect(form.locator(".error-summary")).to_be_focused()
    check_axe(page)
    form.get_by_label("Extension").fill("4711")
    form.get_by_role("button", name="Check this row").click()
    expect(page.locator("#toasts")).to_contain_text("Row 9 is right now")
    expect(page.get_by_role("link", name="Correct row 9")).to_be_focused()
    page.get_by_role("button", name="Add 40 users").click()

    expect(page.locator(".page-header .pill")).to_have_text("Imported")
    check_axe(page)
    page.locator("summary", has_text="Undo").click()
    page.get_by_role("button", name="Delete the added users").click()
    expect(page.locator(".page-header .pill")).to_have_text("Undone")
