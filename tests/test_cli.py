"""Commands for the terminal."""

from __future__ import annotations

import pytest
import sqlalchemy as sa
from cryptography.fernet import Fernet
from flask import Flask

from config import Settings
from extensions import db, queues
from models import Customer, DeliveryClaim, Mailing, User
from tests.support.factories import actor_for, find_customer, make_user
from tests.support.promises import start_welcome
from tests.support.work import Process, wait_until

ADMIN = "prpkeAdmin@kenton-electronics.com"


def run(app: Flask, *args: str) -> tuple[int, str]:
    result = app.test_cli_runner().invoke(args=args)
    return result.exit_code, result.output


@pytest.mark.empty_database
def test_demo_fills_an_empty_database_and_says_who_can_sign_in(app: Flask) -> None:
    code, output = run(app, "demo")
    assert code == 0
    for login in ("landlord@foyer.example", ADMIN, "prplaAdmin@larkspur.example"):
        assert login in output
    assert "foyer-demo-1" in output
    with app.app_context():
        before = counts()
        assert before == (4 + 4, 60 + 30 + 30 + 12 + 4 + 2 + 3 + 3)
    code, again = run(app, "demo")
    assert (code, again) == (0, output)
    with app.app_context():
        assert counts() == before


def counts() -> tuple[int, int]:
    return tuple(  # type: ignore[return-value]
        db.session.scalar(sa.select(sa.func.count()).select_from(model))
        for model in (Customer, User)
    )


def test_demo_adds_a_customer_of_any_size_once(app: Flask) -> None:
    code, output = run(app, "demo", "--customer", "CQ900", "--users", "120")
    assert code == 0
    assert "CQ900" in output
    assert "120 users" in output
    with app.app_context():
        customer = find_customer("CQ900")
        of_it = sa.select(sa.func.count()).where(User.customer_id == customer.id)
        assert (db.session.scalar(of_it) or 0) >= 120
    code, output = run(app, "demo", "--customer", "CQ900", "--users", "1")
    assert code == 1
    assert "CQ900" in output


@pytest.mark.parametrize(
    "args",
    [
        ("--customer", "CQ900", "--users", "1000001"),
        ("--customer", "CQ900", "--users", "-1"),
        ("--customer", "", "--users", "1"),
        ("--customer", "x" * 400, "--users", "1"),
        ("--customer", "CQ 9", "--users", "1"),
        ("--customer", "CQ001", "--users", "1"),
    ],
)
@pytest.mark.parametrize("engine_name", ["sqlite"])
def test_demo_refuses_what_cannot_be_with_a_sentence(app: Flask, args: tuple[str, ...]) -> None:
    code, output = run(app, "demo", *args)
    assert code == 1, output
    assert output.startswith("Error: ")
    with app.app_context():
        assert counts()[0] == 4


@pytest.mark.parametrize("engine_name", ["sqlite"])
@pytest.mark.parametrize("args", [(), ("--customer", "CQ900", "--users", "3")], ids=str)
def test_demo_is_refused_in_production(
    app: Flask, monkeypatch: pytest.MonkeyPatch, args: tuple[str, ...]
) -> None:
    from config import Settings

    monkeypatch.setattr(Settings, "is_production", property(lambda _: True))
    code, output = run(app, "demo", *args)
    assert code == 1
    assert "production" in output


@pytest.mark.parametrize("engine_name", ["sqlite"])
def test_a_new_seal_key_is_one_and_never_the_same(app: Flask) -> None:
    keys = {run(app, "new-seal-key")[1].strip() for _ in range(3)}
    assert len(keys) == 3
    for key in keys:
        Fernet(key)


def test_a_sweep_finds_what_nobody_works_on(app: Flask) -> None:
    with app.app_context():
        mailing_id = start_welcome(
            actor_for(ADMIN), "CQ001", [make_user(find_customer("CQ001"))], enqueue=False
        )
        assert queues["interactive"].count == 0
    assert run(app, "sweep")[0] == 0
    with app.app_context():
        jobs = queues["interactive"].jobs
        assert [job.func_name for job in jobs] == ["jobs.deliveries.deliver_mailing"]
        assert list(jobs[0].args) == [mailing_id]
        assert db.session.get_one(Mailing, mailing_id).is_open
        assert not db.session.scalars(sa.select(DeliveryClaim)).all()


@pytest.mark.parametrize("engine_name", ["sqlite"])
def test_the_scheduler_asks_once_per_interval_however_many_there_are(app_context: Flask) -> None:
    for _ in range(5):
        queues.enqueue_sweep(10)
    assert [job.func_name for job in queues["interactive"].jobs] == ["jobs.sweeps.sweep"]


@pytest.mark.parametrize("engine_name", ["sqlite"])
def test_the_scheduler_comes_back_when_the_next_sweep_is_due(app_context: Flask) -> None:
    assert queues.take_turn_to_sweep(10)
    assert 9.5 < queues.enqueue_sweep(10) <= 10
    queues.connection.pexpire("foyer:sweep", 2000)
    assert 2.5 < queues.enqueue_sweep(10) <= 3
    queues.connection.delete("foyer:sweep")
    assert queues.enqueue_sweep(10) == 10


@pytest.mark.parametrize("engine_name", ["sqlite"])
def test_a_turn_that_its_taker_did_not_use_delays_the_next_sweep_by_no_interval(
    app_context: Flask, settings: Settings
) -> None:
    queues.connection.set("foyer:sweep", 1, px=4000)
    with Process(settings, "scheduler", SWEEP_SECONDS="15"):
        wait_until(lambda: queues["interactive"].count == 1, 12)


@pytest.mark.parametrize("engine_name", ["sqlite"])
def test_every_command_says_what_it_does(app: Flask) -> None:
    for name, command in app.cli.commands.items():
        if name in {"demo", "new-seal-key", "reseal", "worker", "scheduler", "sweep"}:
            assert (command.help or "").strip().endswith("."), name
