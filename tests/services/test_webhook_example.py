"""The receiver of docs/webhooks.md, run as it stands, and told by Foyer."""

from __future__ import annotations

import http.client
import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa
from flask import Flask

from extensions import db
from models import MessageState, WebhookMessage
from services.webhook_signatures import sign
from tests.support.webhooks import (
    SECRET,
    fresh,
    make_due,
    make_endpoint,
    make_message,
    messages,
    send_all,
)
from tests.support.work import ROOT, wait_until
from tools.ports import first_free

PAGE = (ROOT / "docs" / "webhooks.md").read_text()


@pytest.fixture
def settings_changes() -> dict[str, str]:
    return {"WEBHOOK_PRIVATE_TARGETS": "yes"}


@pytest.fixture
def engine_name() -> str:
    """The database has no part in this."""
    return "sqlite"


class Example:
    """The example in a process of its own; `told` is what it has printed."""

    def __init__(self, folder: Path) -> None:
        (source,) = re.findall(r"^```python\n(.*?)^```$", PAGE, re.DOTALL | re.MULTILINE)
        script = folder / "receiver.py"
        script.write_text(source)
        self.port = first_free(20_000 + os.getpid() % 20_000)
        self._log = folder / "receiver.log"
        with self._log.open("wb") as log:
            self.process = subprocess.Popen(
                [sys.executable, str(script)],
                env={
                    "PATH": os.environ["PATH"],
                    "PORT": str(self.port),
                    "WEBHOOK_SECRET": SECRET,
                },
                stdout=log,
                stderr=subprocess.DEVNULL,
            )
        wait_until(self._listens)

    def _listens(self) -> bool:
        assert self.process.poll() is None
        try:
            return self.post({}, b"") == 401
        except OSError:
            return False

    def post(self, headers: dict[str, str], body: bytes) -> int:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=10)
        connection.request("POST", "/", body, headers)
        status = connection.getresponse().status
        connection.close()
        return status

    @property
    def told(self) -> list[str]:
        return self._log.read_text().splitlines()


@pytest.fixture
def example(tmp_path: Path) -> Iterator[Example]:
    made = Example(tmp_path)
    yield made
    made.process.kill()
    made.process.wait()


def test_it_takes_our_messages_each_once(app_context: Flask, example: Example) -> None:
    endpoint = make_endpoint(f"http://127.0.0.1:{example.port}/")
    endpoint_id = endpoint.id
    for _ in range(3):
        make_message(endpoint)
    send_all(endpoint_id)
    assert {each.state for each in messages()} == {MessageState.DELIVERED}
    assert example.told == [f'endpoint.test {{"webhook_id": {endpoint_id}}}'] * 3


def test_it_takes_a_replay_for_what_it_is(app_context: Flask, example: Example) -> None:
    endpoint_id = make_endpoint(f"http://127.0.0.1:{example.port}/").id
    make_message(fresh(endpoint_id))
    send_all(endpoint_id)
    db.session.execute(sa.update(WebhookMessage).values(state=MessageState.WAITING, ended_at=None))
    db.session.commit()
    make_due()
    send_all(endpoint_id)
    assert messages()[0].attempts == 2
    assert len(example.told) == 1


def test_it_refuses_what_is_not_ours(example: Example) -> None:
    body = b'{"type": "endpoint.test", "data": {}}'
    now, old = str(int(time.time())), str(int(time.time()) - 400)

    def headers(timestamp: str, signature: str) -> dict[str, str]:
        return {
            "webhook-id": "msg_1",
            "webhook-timestamp": timestamp,
            "webhook-signature": signature,
        }

    good = sign(SECRET, "msg_1", now, body)
    assert example.post(headers(now, good), body + b" ") == 401
    assert example.post(headers(old, sign(SECRET, "msg_1", old, body)), body) == 401
    assert example.post(headers("soon", good), body) == 401
    assert example.post(headers(now, good.replace("v1", "v2")), body) == 401
    assert example.told == []
    assert example.post(headers(now, f"v1,AAAA {good}"), body) == 204
    assert len(example.told) == 1
