"""Imports run one way: app → blueprints → services → models; jobs and commands → services."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.architecture.sources import MODULES, PACKAGES, ROOT, attributes, imports, sources

OURS = {*PACKAGES, *MODULES, "localmail", "tools", "tests"}

MAY_IMPORT: dict[str, set[str]] = {
    "config": set(),
    "models": {"config", "models"},
    "extensions": {"config", "models"},
    "services": {"config", "connectors", "extensions", "models", "services"},
    "connectors": {
        "connectors",
        "extensions",
        "models",
        "services.breaths",
        "services.bulk_rows",
        "services.passwords",
        "services.transactions",
    },
    "jobs": {"extensions", "jobs", "models", "services"},
    "blueprints": {"blueprints", "config", "extensions", "models", "services"},
    "cli": {"extensions", "jobs", "services"},
    "app": {"blueprints", "cli", "config", "extensions"},
}


def is_within(name: str, allowed: set[str]) -> bool:
    return any(name == each or name.startswith(f"{each}.") for each in allowed)


def ours_imported_by(path: Path) -> set[str]:
    """What a file imports of this project; `from services import passwords` names the module."""
    return {name for name in imports(path) if name.split(".")[0] in OURS}


def test_every_part_has_its_rule() -> None:
    assert set(MAY_IMPORT) == {*PACKAGES, *MODULES}


@pytest.mark.parametrize("part", MAY_IMPORT)
def test_imports_run_one_way(part: str) -> None:
    for path in sources(part):
        wrong = {each for each in ours_imported_by(path) if not is_within(each, MAY_IMPORT[part])}
        assert not wrong, f"{path.relative_to(ROOT)} imports {sorted(wrong)}"


def test_tests_and_tools_are_nobodys_dependency() -> None:
    for part in MAY_IMPORT:
        for path in sources(part):
            assert not {each for each in imports(path) if each.split(".")[0] in {"tests", "tools"}}


REQUEST_THINGS = {
    "flask.request",
    "flask.session",
    "flask.g",
    "flask.flash",
    "flask.url_for",
    "flask.redirect",
    "flask.render_template",
    "flask_login",
    "flask_wtf",
    "wtforms",
    "werkzeug",
}


@pytest.mark.parametrize("part", ["services", "connectors", "jobs"])
def test_rules_know_nothing_of_requests(part: str) -> None:
    for path in sources(part):
        wrong = {each for each in imports(path) if is_within(each, REQUEST_THINGS)}
        assert not wrong, f"{path.relative_to(ROOT)} imports {sorted(wrong)}"


def test_models_know_nothing_of_the_application() -> None:
    for path in sources("models"):
        wrong = {
            each
            for each in imports(path)
            if each.split(".")[0] in {"flask", "rq", "redis", "extensions"}
        }
        assert not wrong, f"{path.relative_to(ROOT)} imports {sorted(wrong)}"


def test_pages_neither_query_nor_commit() -> None:
    """Only the error handlers know the database: its error classes, and to roll back."""
    for path in sources("blueprints"):
        name = str(path.relative_to(ROOT))
        sql = {each for each in imports(path) if each.split(".")[0] == "sqlalchemy"}
        uses = {each for each in attributes(path) if each.startswith(("db.session", "db.engine"))}
        if name == "blueprints/errors.py":
            assert all(each.startswith("sqlalchemy.exc.") for each in sql)
            assert uses == {"db.session", "db.session.rollback"}
            continue
        assert not sql, f"{name} imports {sorted(sql)}"
        assert not uses, f"{name} uses {sorted(uses)}"
        assert "extensions.db" not in set(imports(path)), f"{name} imports the database"
        queries = {
            each for each in attributes(path) if each.endswith((".query", ".execute", ".commit"))
        }
        # The query strings of lists.
        queries -= {
            f"{each}.query" for each in ("self", "shown", "call", "choice", "column", "declared")
        }
        assert not {q for q in queries if not q.endswith(").query")}, f"{name}: {sorted(queries)}"


def test_only_the_composition_root_knows_every_part() -> None:
    for part in set(MAY_IMPORT) - {"app"}:
        for path in sources(part):
            assert not {each for each in imports(path) if each.split(".")[0] == "app"}, path
