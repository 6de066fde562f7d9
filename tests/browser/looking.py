"""What is held against a page as it stands: axe, light and dark, on a desk and on a phone."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal, TypedDict

from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Page, ViewportSize

DESKTOP: ViewportSize = {"width": 1280, "height": 900}
PHONE: ViewportSize = {"width": 390, "height": 844}

# What makes the page scroll sideways; what scrolls by itself or is cut off does not.
TOO_WIDE = """() => {
  const room = document.documentElement.clientWidth;
  if (document.documentElement.scrollWidth <= room) return [];
  const flows = (each) => each === document.body
    || (getComputedStyle(each).overflowX === "visible" && flows(each.parentElement));
  return [...document.body.querySelectorAll("*")]
    .filter((each) => each.checkVisibility() && each.getBoundingClientRect().right > room + 1)
    .filter((each) => flows(each.parentElement))
    .map((each) => `${each.tagName}.${each.className} ${each.getBoundingClientRect().right}`)
    .slice(0, 5);
}"""

# Two frames on, a change of theme or width is everywhere; then what moves comes to rest.
SETTLED = """async () => {
  await new Promise((seen) => requestAnimationFrame(() => requestAnimationFrame(seen)));
  await Promise.all(document.getAnimations().map((each) => each.finished.catch(() => {})));
}"""

# Chromium leaves some inherited colours as they were in the other theme. What was not shown for a
# moment finds them all anew; nothing moves and no focus is lost, for no frame falls in between.
RESTYLED = """() => {
  document.body.style.display = "none";
  document.body.getBoundingClientRect();
  document.body.style.removeProperty("display");
}"""

_AXE = Axe().axe_script
# Mails stand in frames without scripts, where axe cannot go; they are checked on their own.
_ALL: dict[str, Any] = {"resultTypes": ["violations"], "iframes": False}
# All that a theme can break that the other theme does not show.
_COLOURS = {**_ALL, "runOnly": {"type": "rule", "values": ["color-contrast"]}}

Check = Callable[..., None]


class _Media(TypedDict):
    color_scheme: Literal["light", "dark"]


_LIGHT: _Media = {"color_scheme": "light"}
_DARK: _Media = {"color_scheme": "dark"}
# Everything once in each theme and at each width, and the colours where one of both is new.
_PASSES = (
    (PHONE, _DARK, _ALL),
    (PHONE, _LIGHT, _COLOURS),
    (DESKTOP, _DARK, _COLOURS),
    (DESKTOP, _LIGHT, _ALL),
)


def look_at(page: Page, name: str, *, without: tuple[str, ...] = ()) -> list[str]:
    """The faults of a page, which is on a desk and light afterwards.

    The theme changes as it does for who has left it to his machine, without loading the page
    again. `without` names rules of axe that do not apply.
    """
    page.wait_for_load_state()
    if not page.evaluate("'axe' in window"):
        page.evaluate(_AXE)
    faults = []
    seen_width = 0
    for viewport, media, options in _PASSES:
        where = f"{name}, {viewport['width']} px, {media['color_scheme']}"
        page.emulate_media(**media)
        page.evaluate(RESTYLED)
        is_other_width = viewport["width"] != seen_width
        if is_other_width:
            seen_width = viewport["width"]
            page.set_viewport_size(viewport)
        page.evaluate(SETTLED)
        if is_other_width:
            faults += [f"{where}: too wide: {each}" for each in page.evaluate(TOO_WIDE)]
        faults += [f"{where}: {each}" for each in _violations(page, options, without)]
    return faults


def _violations(page: Page, options: dict[str, Any], without: tuple[str, ...]) -> list[str]:
    rules = {name: {"enabled": False} for name in without}
    chosen = options if "runOnly" in options else {**options, "rules": rules}
    found: list[dict[str, Any]] = page.evaluate(
        "(options) => axe.run(options).then((results) => results.violations)", chosen
    )
    return [
        f"{each['id']}: {node['target']} {node['failureSummary']}"
        for each in found
        for node in each["nodes"][:3]
    ]
