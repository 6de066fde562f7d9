"""Every setting is documented, and nobody reads the environment past config.py."""

from __future__ import annotations

import ast
import re

from tests.architecture.sources import ROOT, attributes, sources, tree_of

_READERS = {"text", "flag", "number", "integer", "numbers"}
_HELPERS = {
    "_url",
    "_email",
    "_colour",
    "_country",
    "_dns_servers",
    "_bounce_address",
    "_listen",
    "_hook_secret",
    "_rate_limit",
}
_NAME = re.compile(r"[A-Z][A-Z0-9_]+")
OF_THE_TOOLS = {"MAILBOX_PORT"}
"""Settings that only `make run` reads."""


def settings_read() -> set[str]:
    """The variables that config.py reads, by the calls that read them."""
    found = set()
    for node in ast.walk(tree_of(ROOT / "config.py")):
        if not isinstance(node, ast.Call) or not node.args:
            continue
        function = node.func
        position = 0
        if isinstance(function, ast.Name) and function.id in _HELPERS:
            position = 1
        elif not (isinstance(function, ast.Attribute) and function.attr in _READERS):
            continue
        name = node.args[position]
        if isinstance(name, ast.Constant) and _NAME.fullmatch(str(name.value)):
            found.add(str(name.value))
    return found


def documents() -> str:
    paths = (ROOT / "README.md", ROOT / "docs" / "settings.md")
    return "\n".join(path.read_text() for path in paths if path.exists())


def test_every_setting_is_documented() -> None:
    names = settings_read()
    assert {"SECRET_KEY", "PUBLIC_URL", "MAIL_DEFAULT_SENDER", "LEASE_SECONDS"} <= names
    text = documents()
    missing = {name for name in names | OF_THE_TOOLS if f"`{name}`" not in text}
    assert not missing, f"no word in README.md or docs/settings.md on {sorted(missing)}"


def test_the_environment_is_read_in_one_place() -> None:
    for part in ("app", "blueprints", "cli", "connectors", "extensions", "jobs", "models"):
        for path in (*sources(part), *sources("services")):
            reads = {each for each in attributes(path) if each in {"os.environ", "os.getenv"}}
            assert not reads, path
