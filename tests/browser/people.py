"""People at a browser, and what is held against every page that they see."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from playwright.sync_api import (
    BrowserContext,
    ConsoleMessage,
    Locator,
    Page,
    Request,
    WebError,
    expect,
)

from services.demo_data import PASSWORD
from tests.browser.installation import Installation, path_of
from tests.support.work import wait_until

ADMIN = "prpkeAdmin@kenton-electronics.com"
OPERATOR = "operator@foyer.example"
AUDITOR = "auditor@foyer.example"
LANDLORD = "landlord@foyer.example"
NEW_PASSWORD = "quiet harbour lantern"

_STATUS = re.compile(r"Failed to load resource: the server responded with a status of (\d+)")
# Who leaves a page ends what it was asking for. (An answer that fails says `htmx:sendError`.)
_LEFT = re.compile(r"htmx:(afterRequest|sendAbort), ")

# Patient enough for a machine that does something else besides.
expect.set_options(timeout=15_000)

OpenPerson = Callable[..., "Person"]


class Person:
    """Someone with a browser window of his own.

    Faults that pages make on the way are kept: whatever the console says, a script's error, a
    request that leaves this machine. `check_clean` asserts that there was none.
    """

    def __init__(self, installation: Installation, context: BrowserContext) -> None:
        self.at = installation
        self.context = context
        self.requests: list[str] = []
        self._faults: list[str] = []
        self._expected: set[str] = set()
        context.on("console", self._note_console)
        context.on("weberror", self._note_error)
        context.on("request", self._note_request)
        self.page: Page = context.new_page()

    def _note_console(self, message: ConsoleMessage) -> None:
        status = _STATUS.match(message.text)
        if status and status.group(1) in self._expected:
            return
        if _LEFT.match(message.text):
            return
        if message.type in {"error", "warning", "assert"}:
            where = path_of(message.page.url) if message.page else "?"
            self._faults.append(f"console at {where}: {message.text}")

    def _note_error(self, error: WebError) -> None:
        self._faults.append(f"script: {error.error}")

    def _note_request(self, request: Request) -> None:
        self.requests.append(request.url)
        own = ("http://127.0.0.1:", "http://localhost:", "data:", "blob:", "about:")
        if not request.url.startswith(own):
            self._faults.append(f"request to elsewhere: {request.url}")

    def expects(self, *statuses: int) -> None:
        """Answers that the browser's console reports, and that the journey is about."""
        self._expected |= {str(status) for status in statuses}

    def check_clean(self) -> None:
        assert not self._faults, self._faults

    # Getting about

    def sign_in(self, login: str, password: str = PASSWORD) -> None:
        self.page.goto("/login")
        self.fill_sign_in(login, password)

    def fill_sign_in(self, login: str, password: str = PASSWORD) -> None:
        self.page.get_by_label("Login").fill(login)
        self.page.get_by_label("Password", exact=True).fill(password)
        self.page.get_by_role("button", name="Sign in", exact=True).click()

    def sees_heading(self, text: str) -> None:
        """On a page that has loaded: what is typed before its scripts run, they do not hear."""
        expect(self.page.get_by_role("heading", level=1)).to_have_text(text)
        self.page.wait_for_load_state()

    # The Users tab

    def open_users(self) -> None:
        """From the customer's home, where administrators start."""
        areas = self.page.get_by_role("navigation", name="Areas")
        areas.get_by_role("link", name="Users", exact=True).click()
        self.sees_heading("Users")

    @property
    def rows(self) -> Locator:
        return self.page.locator("#users-table tbody tr")

    def row(self, name: str) -> Locator:
        return self.rows.filter(has=self.page.get_by_role("link", name=name, exact=True))

    def tick(self, name: str) -> None:
        self.page.get_by_label(f"Select {name}", exact=True).check()

    def sees_selected(self, count: int) -> None:
        expect(self.page.locator("#selection-count")).to_contain_text(f"{count} of 25 selected")

    def choose_action(self, action: str) -> None:
        self.page.get_by_label("Select an Action").select_option(label=action)
        self.page.get_by_role("button", name="Continue").click()

    def send(self, **options: Any) -> None:
        self.send_button.click(**options)

    @property
    def send_button(self) -> Locator:
        return self.page.get_by_role("button", name="Reset passwords and send to")

    # A mailing's page

    def sees_state(self, word: str) -> None:
        expect(self.page.locator("#mailings-state")).to_have_text(word)

    def sees_figures(self, text: str) -> None:
        expect(self.page.locator(".progress-figures")).to_contain_text(text)

    def count_of(self, state: str) -> Locator:
        return self.page.locator(f"#count-{state}")

    # The mailbox

    def wait_for_mail(self, address: str) -> None:
        wait_until(lambda: bool(self.at.mails_to(address)))

    def open_mail(self, address: str) -> Page:
        """The newest mail to an address, open at the mailbox in a tab of its own."""
        mailbox = self.context.new_page()
        mailbox.goto(self.at.mailbox_url)
        mailbox.get_by_label("Recipient").fill(address)
        mailbox.get_by_role("button", name="Search").click()
        mailbox.locator("tbody").get_by_role("link").first.click()
        expect(mailbox.locator("dl")).to_contain_text(address)
        return mailbox


def secrets_in(mailbox: Page) -> list[str]:
    """Login, portal password, login, application password, as a welcome mail shows them."""
    secrets = mailbox.frame_locator("iframe").locator("code.secret")
    expect(secrets).to_have_count(4)
    return secrets.all_inner_texts()
