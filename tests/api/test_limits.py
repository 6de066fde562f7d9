"""Rate limits: per credential, and per address for those that nobody knows."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from flask import Flask
from limits import parse

from config import Settings
from extensions import db, queues
from models import IdempotencyKey
from services import api_limits
from services.api_limits import Quota
from tests.support.api import CQ001, SECRET, Caller, make_credential

LIMITED = pytest.mark.parametrize(
    "settings_changes",
    [{"API_RATE_LIMIT": "3/minute", "API_RATE_LIMIT_UNKNOWN": "2/hour"}],
    ids=[""],
)


@pytest.fixture
def engine_name() -> str:
    """The database has no part in it."""
    return "sqlite"


@pytest.fixture(autouse=True)
def forget() -> None:
    """What a process counted by itself, and that the server did not answer."""
    api_limits._counter.cache_clear()


def figures(response) -> dict[str, int]:
    """`q`, `w`, `r` and `t` of both fields."""
    fields = response.headers["RateLimit-Policy"] + response.headers["RateLimit"]
    return {name: int(value) for name, value in re.findall(r"([qwrt])=(\d+)", fields)}


@LIMITED
def test_every_answer_to_a_credential_tells_what_is_left(api: Caller) -> None:
    answers = [
        api.get(CQ001),
        api.get("/group/2/customer/1"),
        api.get(f"{CQ001}?colour=red"),
        api.get(CQ001),
    ]

    assert [each.status_code for each in answers] == [200, 403, 422, 429]
    assert [figures(each)["r"] for each in answers] == [2, 1, 0, 0]
    assert answers[0].headers["RateLimit-Policy"] == '"default";q=3;w=60'
    assert all(0 < figures(each)["t"] <= 60 for each in answers)


@LIMITED
def test_too_many_are_told_how_long_to_wait(app: Flask, api: Caller) -> None:
    for _ in range(3):
        api.get(CQ001)
    for response in (api.get(CQ001), api.post(f"{CQ001}/send-welcome-email")):
        assert response.status_code == 429
        assert response.mimetype == "application/problem+json"
        assert response.get_json()["type"] == "/api/v1/problems/too-many-requests"
        assert 1 <= int(response.headers["Retry-After"]) <= 61


@LIMITED
def test_a_refused_post_leaves_its_key_free(app: Flask, api: Caller) -> None:
    for _ in range(3):
        api.get(CQ001)
    response = api.post(f"{CQ001}/send-welcome-email", headers={"Idempotency-Key": "one"})
    assert response.status_code == 429
    with app.app_context():
        assert not db.session.query(IdempotencyKey).count()


@LIMITED
def test_each_credential_has_its_own(app: Flask, api: Caller) -> None:
    with app.app_context():
        other = Caller(app, make_credential())
    for _ in range(4):
        api.get(CQ001)
    assert api.get(CQ001).status_code == 429
    assert other.get(CQ001).status_code == 200


@LIMITED
def test_both_bases_count_as_one(api: Caller) -> None:
    for base in ("/api/v1", "/tiab/api/v1", "/api/v1"):
        assert api.get(base + CQ001).status_code == 200
    assert api.get(f"/tiab/api/v1{CQ001}").status_code == 429


@LIMITED
@pytest.mark.parametrize(
    "credential",
    [("demo-api", "wrong"), ("nobody", "wrong"), ("", ""), None],
    ids=["wrong secret", "unknown name", "empty", "none"],
)
def test_who_is_not_known_is_counted_by_address(
    app: Flask, api: Caller, credential: tuple[str, str] | None
) -> None:
    stranger = Caller(app, credential)
    answers = [stranger.get(CQ001) for _ in range(4)]

    assert [each.status_code for each in answers] == [403, 403, 429, 429]
    assert answers[0].text == "Invalid access"
    assert "RateLimit" not in answers[0].headers
    assert 1 <= int(answers[2].headers["Retry-After"]) <= 3601
    elsewhere = stranger.get(CQ001, environ_overrides={"REMOTE_ADDR": "192.0.2.7"})
    assert elsewhere.status_code == 403
    assert api.get(CQ001).status_code == 200  # Who is known is not kept out by neighbours.


@LIMITED
def test_names_are_told_apart_by_nothing(app: Flask) -> None:
    with app.app_context():
        make_credential("exists")
    seen = []
    for position, name in enumerate(("exists", "does-not-exist")):
        stranger = Caller(app, (name, SECRET + "x"))
        where = {"REMOTE_ADDR": f"192.0.2.{position + 1}"}
        for _ in range(4):
            response = stranger.get(CQ001, environ_overrides=where)
            body = response.get_json(silent=True) or response.text
            if isinstance(body, dict):
                body.pop("request_id")
            headers = sorted(set(response.headers.keys()))
            seen.append((position, response.status_code, headers, body))
    assert [each[1:] for each in seen[:4]] == [each[1:] for each in seen[4:]]


def test_neighbours_in_ipv6_are_one() -> None:
    name = api_limits._neighbourhood
    assert name("2001:db8:1:2::5") == name("2001:db8:1:2:ffff::9") != name("2001:db8:1:3::5")
    assert name("::ffff:192.0.2.1") == name("192.0.2.1") == "192.0.2.1"
    assert name("") == name("x" * 1000) == "unknown"


@pytest.mark.parametrize("settings_changes", [{"API_RATE_LIMIT": "off"}], ids=[""])
def test_off_is_off(api: Caller) -> None:
    response = api.get(CQ001)
    assert response.status_code == 200
    assert "RateLimit" not in response.headers
    assert "RateLimit-Policy" not in response.headers


@pytest.mark.parametrize(
    "settings_changes",
    [{"API_RATE_LIMIT": "3/minute", "REDIS_URL": "unix:///nowhere/v.sock"}],
    ids=[""],
)
def test_without_the_server_each_process_counts_for_itself(
    api: Caller, caplog: pytest.LogCaptureFixture
) -> None:
    codes = [api.get(CQ001).status_code for _ in range(4)]

    assert codes == [200, 200, 200, 429]
    told = [each for each in caplog.records if "does not answer" in each.message]
    assert len(told) == 1  # It is not asked with every request.


@LIMITED
def test_the_server_is_asked_once_per_request(
    app: Flask, api: Caller, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    api.get(CQ001)
    counter = api_limits._counter(settings.redis_url)
    trips = []
    original = counter._shared._ask

    def ask(*args: Any) -> list[Any]:
        trips.append(args)
        return original(*args)

    monkeypatch.setattr(counter._shared, "_ask", ask)
    api.get(CQ001)
    assert len(trips) == 1


@LIMITED
def test_what_is_counted_expires_by_itself(app: Flask, api: Caller) -> None:
    api.get(CQ001)
    Caller(app, None).get(CQ001)
    with app.app_context():
        server = queues.connection
        found = {key: server.ttl(key) for key in server.scan_iter("foyer:api-limits:*")}
    assert len(found) == 2
    assert all(0 < ttl <= 7200 for ttl in found.values()), found


def test_a_server_that_lost_its_scripts_is_told_them_again(app: Flask, settings: Settings) -> None:
    with app.app_context():
        counter = api_limits._counter(settings.redis_url)
        limit = parse("2/minute")
        assert counter.hit(limit, "scripts")[0]
        counter._shared.storage.script_flush()
        assert counter.hit(limit, "scripts")[0]
        assert not counter.hit(limit, "scripts")[0]


@pytest.mark.parametrize(
    ("taken", "window", "expected"),
    [
        (True, (0, 0.0, 1, 119.5), Quota(10, 60, 9, 60)),
        (True, (10, 30.0, 2, 90.0), Quota(10, 60, 3, 30)),
        # Five of the earlier ten still count: the next is taken when another has faded.
        (False, (10, 30.0, 5, 90.0), Quota(10, 60, 0, 30, 1)),
        (False, (10, 54.0, 6, 114.0), Quota(10, 60, 0, 54, 30)),
        # The window itself is full: not before it ends.
        (False, (0, 0.0, 10, 100.0), Quota(10, 60, 0, 40, 40)),
    ],
)
def test_what_is_left_and_how_long_to_wait(
    taken: bool, window: tuple[int, float, int, float], expected: Quota
) -> None:
    assert api_limits._quota(parse("10/minute"), taken, window) == expected


def test_settings(tmp_path: Path) -> None:
    given = Settings.from_env({"VAR_DIR": str(tmp_path), "API_RATE_LIMIT": "5 per 2 hours"})
    assert given.api_rate_limit == parse("5/2 hours")
    assert given.api_rate_limit_unknown == parse("60/minute")
    for word in ("0", "off", "None"):
        off = Settings.from_env({"VAR_DIR": str(tmp_path), "API_RATE_LIMIT": word})
        assert off.api_rate_limit is None
