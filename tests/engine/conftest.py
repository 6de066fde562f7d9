"""Fixtures of the engines' tests."""

from __future__ import annotations

import pytest
from flask import Flask

from config import Settings
from tests.support.provisioning import make_due, make_version


@pytest.fixture
def faulty(app_context: Flask, settings: Settings) -> int:
    """A request for a tenant on the platform that fails as told."""
    return make_due(make_version("faulty"), settings=settings)
