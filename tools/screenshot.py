"""Take the README's picture: the Users tab of the demonstration, some users mailed, some selected.

`python -m tools.screenshot` starts a Foyer of its own in a temporary folder, and writes
docs/images/users.png.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from playwright.sync_api import Page, expect, sync_playwright

from tools import chromium, ports

ROOT = Path(__file__).resolve().parent.parent
PICTURE = ROOT / "docs" / "images" / "users.png"
LOGIN, PASSWORD = "prpkeAdmin@kenton-electronics.com", "foyer-demo-1"
_FIRST_PORT = 18_000
_READY_SECONDS = 60.0
_MAILED = (0, 1, 4, 6, 7, 10)
_SELECTED = (2, 3, 5)


def main() -> int:
    """Return 0 with the picture written, 1 where there is no Chromium."""
    browser = chromium.find()
    if browser is None:
        print("No Chromium was found: python -m tools.chromium", file=sys.stderr)
        return 1
    with _foyer() as url, sync_playwright() as playwright:
        window = playwright.chromium.launch(
            executable_path=str(browser), args=["--no-sandbox", "--disable-dev-shm-usage"]
        )
        page = window.new_page(
            base_url=url,
            viewport={"width": 1440, "height": 900},
            color_scheme="light",
            reduced_motion="reduce",
        )
        _prepare(page)
        PICTURE.parent.mkdir(parents=True, exist_ok=True)
        page.screenshot(path=PICTURE)
        window.close()
    print(f"{PICTURE.relative_to(ROOT)}: {PICTURE.stat().st_size / 1000:.0f} kB")
    return 0


@contextmanager
def _foyer() -> Iterator[str]:
    """A whole Foyer with demo data and nothing else; gives its address."""
    port = ports.first_free(_FIRST_PORT)
    url = f"http://{ports.HOST}:{port}"
    # What is set for the installation that one works with must not be used here.
    kept = {name: os.environ[name] for name in ("PATH", "HOME", "LANG") if name in os.environ}
    with tempfile.TemporaryDirectory(prefix="foyer-picture-") as folder:
        run = subprocess.Popen(
            [sys.executable, "-m", "tools.run"],
            cwd=ROOT,
            env={**kept, "VAR_DIR": folder, "PORT": str(port)},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
        )
        try:
            _wait_until_ready(run, port)
            yield url
        finally:
            run.send_signal(signal.SIGTERM)
            run.wait()


def _wait_until_ready(run: subprocess.Popen[bytes], port: int) -> None:
    deadline = time.monotonic() + _READY_SECONDS
    while run.poll() is None and time.monotonic() < deadline:
        try:
            with urllib.request.urlopen(f"http://{ports.HOST}:{port}/readyz", timeout=5):
                return
        except OSError:
            time.sleep(0.1)
    raise RuntimeError("Foyer does not start.")


def _prepare(page: Page) -> None:
    """Sign in, mail a few users, and select a few others."""
    page.goto("/login")
    page.get_by_label("Login").fill(LOGIN)
    page.get_by_label("Password", exact=True).fill(PASSWORD)
    page.get_by_role("button", name="Sign in").click()
    page.wait_for_url("**/users")
    users = page.url
    _tick(page, _MAILED)
    page.get_by_label("Select an Action").select_option(label="Resend Welcome Mail")
    page.get_by_role("button", name="Continue").click()
    page.get_by_role("button", name="Reset passwords and send").click()
    expect(page.locator("#mailings-state")).to_have_text("Finished", timeout=30_000)
    page.goto(users)
    _tick(page, _SELECTED)
    page.get_by_label("Select an Action").select_option(label="Resend Welcome Mail")
    page.mouse.move(0, 0)


def _tick(page: Page, rows: tuple[int, ...]) -> None:
    for row in rows:
        page.locator("[data-select-row]").nth(row).check()
    expect(page.locator("#selection-count")).to_contain_text(f"{len(rows)} of 25 selected")


if __name__ == "__main__":
    sys.exit(main())
