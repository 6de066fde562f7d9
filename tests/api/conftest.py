"""Fixtures of the API's tests."""

from __future__ import annotations

import pytest
from flask import Flask

from services import webhook_targets
from tests.support.api import Caller


@pytest.fixture(autouse=True)
def names(monkeypatch: pytest.MonkeyPatch) -> dict[str, list[str]]:
    """The addresses of names, in which a test can put others; no name server is asked."""
    known = {"hooks.example.com": ["93.184.216.34"], "inside.example.com": ["10.0.0.7"]}
    monkeypatch.setattr(webhook_targets, "look_up", lambda host, _port: known.get(host, [host]))
    return known


@pytest.fixture
def api(app: Flask) -> Caller:
    """The demo credential: all scopes, group 1."""
    return Caller(app)
