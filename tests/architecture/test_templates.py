"""Templates compile, hold no script or style of their own, and lead to no foreign server."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from flask import Flask

from tests.architecture.sources import ROOT

TEMPLATES = ROOT / "templates"
PAGES = sorted(
    path
    for folder in (TEMPLATES, ROOT / "localmail" / "templates")
    for path in folder.rglob("*.html")
    if "email" not in path.relative_to(folder).parts[:1]
)
_NAMESPACES = ("http://www.w3.org/", "https://www.w3.org/")
_ADDRESS = re.compile(r"""(?:https?:)?//[a-z0-9.-]+\.[a-z]{2,}[^\s"')>]*""", re.IGNORECASE)
_COMMENTS = re.compile(r"/\*.*?\*/|<!--.*?-->", re.DOTALL)


@pytest.mark.parametrize("engine_name", ["sqlite"])
def test_every_template_compiles(app: Flask) -> None:
    names = [name for name in app.jinja_env.list_templates() if not name.startswith("email/")]
    assert len(names) > 30
    for name in names:
        app.jinja_env.get_template(name)


def test_templates_hold_neither_script_nor_style() -> None:
    assert len(PAGES) > 30
    for path in PAGES:
        text = re.sub(r"{#.*?#}", "", path.read_text(), flags=re.DOTALL)
        name = path.relative_to(ROOT)
        assert not re.search(r"<style[\s>]", text), f"{name}: a style sheet"
        assert not re.search(r"\sstyle\s*=", text), f"{name}: a style"
        assert not re.search(r"\son[a-z]+\s*=", text), f"{name}: an event handler"
        assert not re.search(r"\shx-on", text), f"{name}: an event handler of htmx"
        assert "javascript:" not in text, name
        for tag in re.findall(r"<script[^>]*>", text):
            assert " src=" in tag, f"{name}: an inline script"


def test_templates_escape_what_they_show() -> None:
    for path in PAGES:
        text = path.read_text()
        assert "autoescape" not in text, path
        unsafe = re.findall(r"\|\s*safe\b", text)
        assert not unsafe, f"{path.relative_to(ROOT)} shows something unescaped"


def test_partials_have_an_id_of_their_name_and_no_page_is_a_partial() -> None:
    for path in TEMPLATES.rglob("_*.html"):
        text = path.read_text()
        assert "{% extends" not in text, f"{path.name} is a partial and extends a page"


def foreign_addresses(path: Path) -> set[str]:
    text = _COMMENTS.sub("", path.read_text(errors="replace"))
    return {each for each in _ADDRESS.findall(text) if not each.startswith(_NAMESPACES)}


def test_pages_and_static_files_ask_no_foreign_server() -> None:
    """Outside of licences and comments, no address but the namespaces of SVG and XHTML."""
    files = [
        path
        for folder in (ROOT / "static", ROOT / "localmail" / "static")
        if folder.exists()
        for path in folder.rglob("*")
        if path.suffix in {".css", ".js", ".svg", ".html"} and "icense" not in path.name.lower()
    ]
    assert files
    for path in (*files, *PAGES):
        assert not foreign_addresses(path), path.relative_to(ROOT)


def test_vendored_files_say_where_they_are_from() -> None:
    vendor = ROOT / "static" / "vendor"
    licences = [path for path in vendor.rglob("*") if "licen" in path.name.lower()]
    assert licences
