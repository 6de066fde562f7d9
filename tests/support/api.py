"""A caller of the REST API, for tests."""

from __future__ import annotations

import base64
from typing import Any

from flask import Flask
from werkzeug.test import TestResponse

from extensions import db
from models import ApiCredential, ApiCredentialGroup, ApiScope, Group
from services import passwords
from services.demo_data import API_CREDENTIAL
from tests.support.factories import save

BASE = "/api/v1"
DEMO = API_CREDENTIAL
CQ001 = "/group/1/customer/1001"
SECRET = "a-secret-that-is-made-by-a-test"


def basic(name: str, secret: str) -> str:
    return "Basic " + base64.b64encode(f"{name}:{secret}".encode()).decode()


class Caller:
    """Calls the API as one credential; `caller.get("/group/1/customer")`."""

    def __init__(self, app: Flask, credential: tuple[str, str] | None = DEMO) -> None:
        self._client = app.test_client(use_cookies=False)
        self._credential = credential

    def call(
        self, method: str, path: str, *, headers: dict[str, str] | None = None, **options: Any
    ) -> TestResponse:
        given = dict(headers or {})
        if self._credential is not None:
            given.setdefault("Authorization", basic(*self._credential))
        address = path if path.startswith(("/api/", "/tiab/")) else BASE + path
        return self._client.open(address, method=method, headers=given, **options)

    def get(self, path: str, **options: Any) -> TestResponse:
        return self.call("GET", path, **options)

    def post(self, path: str, **options: Any) -> TestResponse:
        return self.call("POST", path, **options)

    def patch(self, path: str, **options: Any) -> TestResponse:
        return self.call("PATCH", path, **options)

    def delete(self, path: str, **options: Any) -> TestResponse:
        return self.call("DELETE", path, **options)


def make_credential(
    name: str = "test-api",
    *,
    scopes: tuple[ApiScope, ...] = tuple(ApiScope),
    groups: tuple[int, ...] = (1,),
    **values: Any,
) -> tuple[str, str]:
    """A credential for groups by number; returns its name and secret."""
    credential = save(
        ApiCredential(
            name=name,
            may_read=ApiScope.READ in scopes,
            may_write=ApiScope.WRITE in scopes,
            may_send=ApiScope.SEND in scopes,
            **{"secret_hash": passwords.hash_generated(SECRET), **values},
        )
    )
    for number in groups:
        group = db.session.query(Group).filter_by(groupno=number).one()
        save(ApiCredentialGroup(credential_id=credential.id, group_id=group.id))
    return name, SECRET


def faults_of(response: TestResponse) -> dict[str, str]:
    """The field faults of a 422, by field."""
    body = response.get_json(force=True)
    return {each["field"]: each["detail"] for each in body.get("errors", [])}
