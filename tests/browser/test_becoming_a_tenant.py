"""From a stranger on the landing page to the administrator of a tenant that was made for him."""

from __future__ import annotations

from typing import Any

import pytest
from playwright.sync_api import expect

from tests.browser.people import OpenPerson
from tests.browser.test_getting_in import ask_for_link, follow_link
from tests.browser.test_registration import AT_A_REQUEST, CONTACT, SECRET, Registrant
from tests.support.work import wait_until

pytestmark = pytest.mark.xdist_group("journeys")

WAYS = {"scripts": {}, "no-scripts": {"java_script_enabled": False}}


@pytest.mark.parametrize("way", WAYS)
def test_a_stranger_becomes_the_administrator_of_his_tenant(
    open_person: OpenPerson, way: str
) -> None:
    options: dict[str, Any] = WAYS[way]
    word = way.replace("-", "")
    email, suffix = f"owner@{word}.example", f"tenant-{word}.example"
    person = open_person(**options)
    ask_for_link(person, email)
    page = follow_link(person, email)
    page.get_by_role("button", name="Go to Tenant Registration").click()
    expect(page.get_by_role("heading", name="Three tabs to fill in")).to_be_visible()

    registrant = Registrant(person)
    registrant.page = page
    registrant.begin().pick("Starter").go_to("Tenant")
    registrant.fill(
        {
            "Name": f"Whole{word}",
            "Short Name": f"w{word}",
            "UPN Suffix": suffix,
            "User Name": "wjAdmin",
            "ANI": "02 555 12 12",
        }
    ).choose_password()
    registrant.go_to("Contact").fill({**CONTACT, "Contact person": "Willa Journey"})
    expect(registrant.field("E-mail address")).to_have_value(email)
    registrant.create()
    expect(page).to_have_url(AT_A_REQUEST)

    wait_until(lambda: len(person.at.mails_to(email)) == 2)
    if options:  # Nothing comes by itself without scripts.
        page.reload()
    expect(page.locator("main")).to_contain_text("Open the tenant and notify")
    expect(page.locator("main .pill").first).to_contain_text("Done")

    mailbox = person.open_mail(email)
    mail = mailbox.frame_locator("iframe")
    login = f"prpwjAdmin@{suffix}"
    expect(mail.locator("body")).to_contain_text(login)
    address = mail.locator("a.button").get_attribute("href") or ""
    assert address.startswith(person.at.url)

    newcomer = open_person(**options)
    newcomer.page.goto(address)
    newcomer.fill_sign_in(login, SECRET)
    newcomer.sees_heading(f"Whole{word}")
    expect(newcomer.page.locator("main")).to_contain_text("Set the Callback Folder e-mail address")
