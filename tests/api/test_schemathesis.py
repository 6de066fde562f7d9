"""schemathesis over the whole document, as everybody who may call: no 500, nothing undocumented."""

from __future__ import annotations

from collections import Counter, defaultdict
from typing import Any

import pytest
from flask import Flask
from schemathesis import openapi
from schemathesis.config import SchemathesisConfig
from schemathesis.engine import from_schema
from schemathesis.engine.events import (
    FatalError,
    NonFatalError,
    ScenarioFinished,
)

from blueprints.api import openapi as openapi_document
from blueprints.api.operations import OPERATIONS
from models import ApiScope
from tests.support.api import DEMO, basic, make_credential

pytestmark = pytest.mark.timeout(300)

CALLERS: dict[str, Any] = {
    "all scopes": {},
    "read only": {"scopes": (ApiScope.READ,)},
    "write only": {"scopes": (ApiScope.WRITE,)},
    "send only": {"scopes": (ApiScope.SEND,)},
    "another group": {"groups": (2,)},
    "nobody": None,
}

_OFF = {"enabled": False}
_CHECKS = {
    # What the rules of a service refuse is more than a schema can say, and what it may not know
    # is 403 before its data is looked at.
    "positive_data_acceptance": _OFF,
    "negative_data_rejection": _OFF,
    # 403 for all credentials but valid ones is what this API documents.
    "ignored_auth": _OFF,
    "missing_required_header": _OFF,
    "object_level_authorization": _OFF,
    "unsupported_method": _OFF,
    # `users/bulk` is also the address of a user whose number is none.
    "allow_header_conformance": _OFF,
    "use_after_free": _OFF,
    "ensure_resource_availability": _OFF,
}


def configuration(examples: int, *, is_whole: bool) -> SchemathesisConfig:
    """The whole of it, or as many generated requests alone."""
    return SchemathesisConfig.from_dict(
        {
            "seed": 1,
            "cache": {"enabled": False},
            "generation": {
                "deterministic": True,
                "no-shrink": True,
                "max-examples": examples,
                "mode": "all",
            },
            "checks": _CHECKS,
            "phases": {
                "examples": {"enabled": True},
                "coverage": {"enabled": is_whole},
                "fuzzing": {"enabled": True},
                "stateful": _OFF,
            },
        }
    )


def chains(examples: int) -> SchemathesisConfig:
    """Requests that follow the links of answers, in a customer that there is."""
    return SchemathesisConfig.from_dict(
        {
            "seed": 1,
            "cache": {"enabled": False},
            "parameters": {"path.groupno": 1, "path.custno": 1001},
            "generation": {"deterministic": True, "no-shrink": True, "mode": "positive"},
            "checks": _CHECKS,
            "phases": {
                "examples": _OFF,
                "coverage": _OFF,
                "fuzzing": _OFF,
                "stateful": {
                    "enabled": True,
                    "max-steps": 6,
                    "generation": {"max-examples": examples},
                },
            },
        }
    )


def faults_of_document(
    app: Flask, credential: tuple[str, str] | None, config: SchemathesisConfig
) -> tuple[list[str], dict[str, Counter[int]]]:
    """What schemathesis finds wrong, and what each operation answered how often."""
    schema = openapi.from_wsgi("/api/v1/openapi.json", app, config=config)
    if credential is not None:
        schema.config.headers = {"Authorization": basic(*credential)}
    faults: list[str] = []
    calls: dict[str, Counter[int]] = defaultdict(Counter)
    for event in from_schema(schema).execute():
        if isinstance(event, NonFatalError):
            faults.append(f"{event.label}: {event.value!r}")
        elif isinstance(event, FatalError):
            faults.append(repr(event.exception))
        elif isinstance(event, ScenarioFinished):
            for identity, checks in event.recorder.checks.items():
                case = event.recorder.cases[identity].value
                answered = event.recorder.interactions[identity].response
                calls[case.operation.label][answered.status_code if answered else 0] += 1
                faults += [
                    f"{case.operation.label} {case.as_curl_command()}: {check.name}: "
                    f"{check.failure_info.failure}"
                    for check in checks
                    if check.failure_info is not None
                ]
    return faults, calls


def check(app: Flask, who: str, config: SchemathesisConfig) -> dict[str, Counter[int]]:
    given = CALLERS[who]
    with app.app_context():
        credential = None if given is None else make_credential(**given) if given else DEMO
    faults, calls = faults_of_document(app, credential, config)
    assert not faults, f"{len(faults)} faults\n\n" + "\n\n".join(faults[:5])
    return calls


@pytest.mark.parametrize("engine_name", ["sqlite"])
@pytest.mark.parametrize("who", CALLERS)
def test_whoever_calls_gets_what_is_documented(app: Flask, who: str) -> None:
    is_whole = who == "all scopes"
    calls = check(app, who, configuration(4 if is_whole else 2, is_whole=is_whole))

    assert len(calls) == len(OPERATIONS)
    if who in {"another group", "nobody"}:
        # The number of its own group may be among those that are tried.
        assert not {status for each in calls.values() for status in each} & {201, 202}
    elif is_whole:
        for each in OPERATIONS:
            if each.method == "GET" and set(each.parts) <= {"groupno", "custno"}:
                answers = calls[f"GET {openapi_document.shown_path(each)}"]
                assert any(200 <= status < 300 for status in answers), (each.id, answers)


@pytest.mark.parametrize("engine_name", ["postgresql"])
def test_on_the_other_database_too(app: Flask) -> None:
    calls = check(app, "all scopes", configuration(3, is_whole=False))
    assert len(calls) == len(OPERATIONS)


@pytest.mark.parametrize("engine_name", ["sqlite"])
def test_what_follows_from_answers_is_documented_too(app: Flask) -> None:
    calls = check(app, "all scopes", chains(30))

    # Which ones chance leads to differs; test_openapi.py follows each link once.
    assert len([label for label in calls if "_id}" in label]) >= 3, calls
