"""Fixtures of the API's tests."""

from __future__ import annotations

import pytest
from flask import Flask

from tests.support.api import Caller


@pytest.fixture
def api(app: Flask) -> Caller:
    """The demo credential: all scopes, group 1."""
    return Caller(app)
