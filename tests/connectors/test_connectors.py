"""The connectors that come with Foyer, the documented example, and how others are found."""

from __future__ import annotations

import json
import re
import sys
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pytest
from flask import Flask

from config import Settings
from connectors import (
    Account,
    AccountPassword,
    Connector,
    ConnectorRefused,
    ConnectorUnavailable,
    PlatformTenant,
    get_connector,
    list_connectors,
)
from connectors.faulty import FaultyConnector
from connectors.local import LocalConnector
from extensions import db
from models import LocalPlatformAccount, LocalPlatformTenant
from services import passwords
from tests.connectors.contract import (
    PASSWORD,
    SETTINGS,
    ConnectorContract,
    make_account,
    make_tenant,
)
from tests.support.provisioning import count, order_platform
from tests.support.work import ROOT


class TestLocal(ConnectorContract):
    @pytest.fixture
    def connector(self, app_context: Flask) -> Connector:
        return LocalConnector()


@pytest.mark.parametrize("engine_name", ["sqlite"])
class TestFaultyWithoutFaults(ConnectorContract):
    @pytest.fixture
    def connector(self, app_context: Flask) -> Connector:
        return FaultyConnector()


@pytest.mark.parametrize("engine_name", ["sqlite"])
class TestTheExampleOfTheDocuments(ConnectorContract):
    @pytest.fixture
    def connector(self, app_context: Flask, acme: str) -> Connector:
        return documented_connector(acme)


# --- The example's platform ----------------------------------------------------------------------


class AcmePlatform(BaseHTTPRequestHandler):
    """As much of a platform as the example speaks of."""

    tenants: dict[str, dict[str, Any]]
    broken: int = 0

    def do_PUT(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        match self._path():
            case ["tenants", key]:
                if any(k != key and t["domain"] == body["domain"] for k, t in self.tenants.items()):
                    return self._answer(409)
                made = {"id": f"acme-{key}", "suspended": False, "accounts": []}
                self._answer(200, self.tenants.setdefault(key, made | body))
            case ["tenants", key, *_] if key not in self.tenants:
                self._answer(404)
            case ["tenants", key, "suspended"]:
                self.tenants[key] |= body
                self._answer(200)
            case ["tenants", key, "accounts", login]:
                if login not in self.tenants[key]["accounts"]:
                    self.tenants[key]["accounts"].append(login)
                self._answer(200)
            case ["passwords", login]:
                known = any(login in each["accounts"] for each in self.tenants.values())
                self._answer(200 if known else 404)
        return None

    def do_GET(self) -> None:
        _, key = self._path()
        self._answer(200 if key in self.tenants else 404, self.tenants.get(key))

    def do_DELETE(self) -> None:
        match self._path():
            case ["tenants", key]:
                self._answer(200 if self.tenants.pop(key, None) else 404)
            case ["tenants", key, "accounts", login]:
                accounts = self.tenants.get(key, {}).get("accounts", [])
                self._answer(200 if login in accounts else 404)
                if login in accounts:
                    accounts.remove(login)

    def _path(self) -> list[str]:
        return [unquote(part) for part in self.path.split("/")[1:]]

    def _answer(self, status: int, body: Any = None) -> None:
        self.send_response(self.broken or status)
        self.end_headers()
        self.wfile.write(json.dumps(body).encode())

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def acme() -> Iterator[str]:
    """The address of a platform of the example's kind."""
    AcmePlatform.tenants, AcmePlatform.broken = {}, 0
    with ThreadingHTTPServer(("127.0.0.1", 0), AcmePlatform) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()
        thread.join()


def documented_connector(address: str) -> Connector:
    """The first listing of docs/connectors.md, run as it stands."""
    text = (ROOT / "docs" / "connectors.md").read_text()
    code = re.findall(r"```python\n(.*?)```", text, re.DOTALL)[0]
    names: dict[str, Any] = {}
    exec(code, names)  # noqa: S102 - our own documentation
    names["ADDRESS"] = address
    made: Connector = names["AcmeConnector"]()
    return made


@pytest.mark.parametrize("engine_name", ["sqlite"])
def test_the_example_tells_passing_faults_from_refusals(app_context: Flask, acme: str) -> None:
    connector, tenant = documented_connector(acme), make_tenant()
    AcmePlatform.broken = 503
    with pytest.raises(ConnectorUnavailable, match="503"):
        connector.create_tenant(tenant, SETTINGS)
    AcmePlatform.broken = 0
    wanted = AccountPassword(7, "nobody@kenton.example", PASSWORD)
    assert not connector.set_passwords([wanted])[7].transient
    with pytest.raises(ConnectorUnavailable, match="does not answer"):
        documented_connector("http://127.0.0.1:1").create_tenant(tenant, SETTINGS)


# --- Local and faulty ----------------------------------------------------------------------------


def test_the_local_platform_keeps_hashes_alone(app_context: Flask) -> None:
    connector, tenant = LocalConnector(), make_tenant()
    account = make_account(tenant)
    connector.create_tenant(tenant, SETTINGS)
    connector.create_account(tenant, account, PASSWORD)
    row = db.session.get_one(LocalPlatformAccount, account.user_id)
    assert passwords.verify(row.password_hash, PASSWORD)
    assert PASSWORD not in row.password_hash
    connector.set_passwords([AccountPassword(account.user_id, account.login, "x" * 20)])
    db.session.refresh(row)
    assert passwords.verify(row.password_hash, "x" * 20)
    assert row.tenant_reference == tenant.key


NOBODY = Account(7, "nobody@kenton.example")
CALLS: dict[str, Callable[[FaultyConnector, PlatformTenant], Any]] = {
    "create_tenant": lambda connector, tenant: connector.create_tenant(tenant, SETTINGS),
    "create_account": lambda connector, tenant: connector.create_account(tenant, NOBODY, PASSWORD),
    "set_passwords": lambda connector, tenant: connector.set_passwords([]),
    "suspend_tenant": lambda connector, tenant: connector.suspend_tenant(tenant),
    "resume_tenant": lambda connector, tenant: connector.resume_tenant(tenant),
    "remove_account": lambda connector, tenant: connector.remove_account(tenant, NOBODY),
    "remove_tenant": lambda connector, tenant: connector.remove_tenant(tenant),
    "health": lambda connector, tenant: connector.health(tenant, []),
}


@pytest.mark.parametrize("engine_name", ["sqlite"])
@pytest.mark.parametrize("operation", CALLS)
def test_every_call_fails_as_told(app_context: Flask, settings: Settings, operation: str) -> None:
    connector, tenant, do = FaultyConnector(), make_tenant(), CALLS[operation]
    order_platform(settings, {"operation": operation, "do": "fail", "reason": "Busy."})
    with pytest.raises(ConnectorUnavailable, match=r"Busy\."):
        do(connector, tenant)
    order_platform(settings, {"operation": operation, "do": "refuse"})
    with pytest.raises(ConnectorRefused):
        do(connector, tenant)
    order_platform(settings, down=True)
    with pytest.raises(ConnectorUnavailable):
        do(connector, tenant)
    other = next(name for name in CALLS if name != operation)
    order_platform(settings, {"operation": other, "do": "refuse"})
    if operation in {"create_tenant", "health", "set_passwords"}:
        do(connector, tenant)


@pytest.mark.parametrize("engine_name", ["sqlite"])
@pytest.mark.parametrize("by", ["key", "name", "upn_suffix"])
def test_a_rule_can_be_about_one_tenant(app_context: Flask, settings: Settings, by: str) -> None:
    connector, tenant = FaultyConnector(), make_tenant()
    order_platform(settings, {"tenant": getattr(tenant, by), "do": "refuse"})
    with pytest.raises(ConnectorRefused):
        connector.create_tenant(tenant, SETTINGS)
    connector.create_tenant(make_tenant(), SETTINGS)


@pytest.mark.parametrize("engine_name", ["sqlite"])
def test_an_answer_can_get_lost(app_context: Flask, settings: Settings) -> None:
    connector, tenant = FaultyConnector(), make_tenant()
    order_platform(settings, {"do": "fail", "when": "after"})
    with pytest.raises(ConnectorUnavailable):
        connector.create_tenant(tenant, SETTINGS)
    assert count(LocalPlatformTenant, LocalPlatformTenant.reference == tenant.key) == 1


# --- Finding connectors --------------------------------------------------------------------------


@pytest.mark.parametrize("engine_name", ["sqlite"])
def test_packages_bring_connectors_of_their_own(
    app_context: Flask, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert list_connectors() == ["faulty", "local"]
    with pytest.raises(KeyError):
        get_connector("acme")
    installed = tmp_path / "acme_foyer-1.0.dist-info"
    installed.mkdir()
    (installed / "METADATA").write_text("Metadata-Version: 2.1\nName: acme-foyer\nVersion: 1.0\n")
    (installed / "entry_points.txt").write_text(
        "[foyer.connectors]\nacme = acme_foyer:AcmeConnector\n"
    )
    (tmp_path / "acme_foyer.py").write_text("class AcmeConnector:\n    brand = 'acme'\n")
    monkeypatch.syspath_prepend(tmp_path)
    try:
        assert list_connectors() == ["acme", "faulty", "local"]
        assert getattr(get_connector("acme"), "brand", "") == "acme"
    finally:
        sys.modules.pop("acme_foyer", None)
