"""Workers killed with `kill -9`, and everything around them failing: the promises hold."""

from __future__ import annotations

import json
import random
import signal
import time

import pytest
import sqlalchemy as sa
from flask import Flask
from redis import Redis

from config import Settings
from extensions import db, queues
from models import (
    Bundle,
    Customer,
    CustomerBundle,
    Delivery,
    DeliveryState,
    Mailing,
    Suppression,
    User,
    UserStatus,
)
from services import demo_data
from services.actors import Actor
from tests.support.crashing_worker import POINTS
from tests.support.factories import find_customer, find_user
from tests.support.promises import check_promises, has_ended, start_by_command, start_welcome
from tests.support.smtp_sink import SmtpSink, Stage
from tests.support.work import Process, wait_until

pytestmark = pytest.mark.timeout(180)

_QUICK = {
    "SELECTION_LIMIT": "500",
    # A worker or a server that is held up for longer than these lets mails be repeated.
    "LEASE_SECONDS": "5",
    "SWEEP_SECONDS": "0.5",
    "DELIVERY_RETRY_DELAYS": "0.2,0.2,0.2,0.2,0.2,0.2",
    "MAIL_DOWN_DELAYS": "0.3,0.5",
    "MAIL_TIMEOUT": "5",
}


@pytest.fixture
def settings_changes(request: pytest.FixtureRequest, engine_name: str) -> dict[str, str]:
    chunk = "250" if engine_name == "postgresql" else "40"
    return {**_QUICK, "DELIVERY_CHUNK": chunk, **getattr(request, "param", {})}


def prepare(count: int) -> tuple[Actor, list[User]]:
    """A customer with `count` users: one has no address, one is suspended, one suppressed."""
    demo_data.add_bulk_customer("CQ900", count)
    customer = find_customer("CQ900")
    users = list(
        db.session.scalars(
            sa.select(User)
            .where(User.customer_id == customer.id, User.bundle_id.is_not(None))
            .order_by(User.id)
        )
    )
    users[3].email = users[3].email_key = ""
    users[5].status = UserStatus.SUSPENDED
    db.session.add(Suppression(email_key=users[7].email_key, reason="550 gone"))
    db.session.commit()
    return Actor.from_user(find_user("operator@foyer.example")), users


class Crew:
    """Workers and a scheduler in processes of their own, killed at the end.

    `apart` gives each worker a folder of its own, as on machines of their own: the one that takes
    over cannot read the journal unless it replaces the dead one.
    """

    def __init__(self, settings: Settings, workers: int = 1, apart: bool = False) -> None:
        self._settings = settings
        self._apart = apart
        self._size = workers
        self.workers: list[Process] = []
        self._scheduler = Process(settings, "scheduler")

    def start(self) -> None:
        self.workers = [self._hire(number) for number in range(self._size)]

    def replace(self, number: int) -> None:
        """kill -9, and a new worker in its place."""
        self.workers[number].kill()
        self.workers[number] = self._hire(number)

    def _hire(self, number: int) -> Process:
        if not self._apart:
            return Process(self._settings, "worker")
        folder = self._settings.var_dir / f"machine-{number}"
        folder.mkdir(exist_ok=True)
        return Process(self._settings, "worker", VAR_DIR=str(folder))

    def __enter__(self) -> Crew:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        for process in [*self.workers, self._scheduler]:
            process.kill()

    def logs(self) -> str:
        return "".join(process.log.read_text() for process in [*self.workers, self._scheduler])


def bundles() -> str:
    names = db.session.scalars(
        sa.select(Bundle.name)
        .join(CustomerBundle, CustomerBundle.bundle_id == Bundle.id)
        .join(Customer, Customer.id == CustomerBundle.customer_id)
        .where(Customer.web_id == "CQ900")
        .order_by(Bundle.name)
    )
    return ";".join(names)


_RECIPIENTS = {"sqlite": 400, "postgresql": 5000}
# A slice ends before the mailing does, so that there is a job to put back: the server is slow, and
# another job waits.
_SHORT_SLICE = {"before the job is put back": "0.1"}


@pytest.mark.parametrize("point", POINTS)
def test_a_worker_killed_at_any_point_breaks_no_promise(
    app_context: Flask, settings: Settings, sink: SmtpSink, engine_name: str, point: str
) -> None:
    number = _RECIPIENTS[engine_name]
    actor, _ = prepare(number)
    mailing_id = start_by_command(actor, f"$$RESEND WELCOME EMAIL$$ {bundles()}|CQ900")
    slice_seconds = _SHORT_SLICE.get(point, str(settings.delivery_slice_seconds))
    if point in _SHORT_SLICE:
        sink.delay(Stage.END, 0.005)
        queues.enqueue("bulk", "jobs.deliveries.deliver_waiting", "bulk")
    killed = Process(
        settings,
        point,
        module="tests.support.crashing_worker",
        DELIVERY_SLICE_SECONDS=slice_seconds,
    )
    assert killed.wait(60) == -signal.SIGKILL, killed.log.read_text()
    assert not has_ended(mailing_id)
    sink.delay(Stage.END, 0)
    with Crew(settings, workers=2):
        wait_until(lambda: has_ended(mailing_id))
    assert check_promises(mailing_id, sink) <= settings.delivery_connections
    assert len({mail.recipient for mail in sink.mails}) == number - 3


@pytest.mark.parametrize("engine_name", ["postgresql"], indirect=True)
def test_three_workers_killed_at_random_send_nobody_two_different_mails(
    app_context: Flask, settings: Settings, sink: SmtpSink
) -> None:
    """Workers on several machines share one queue and one database, and nothing else."""
    actor, _ = prepare(5000)
    moments = random.Random()
    mailing_id = start_by_command(actor, f"$$RESEND WELCOME EMAIL$$ {bundles()}|CQ900")
    kills = 0
    with Crew(settings, workers=3, apart=True) as crew:
        while not has_ended(mailing_id) and kills < 12:
            time.sleep(moments.uniform(0.2, 1.0))
            crew.replace(moments.randrange(3))
            kills += 1
        wait_until(lambda: has_ended(mailing_id), 90)
    repeats = check_promises(mailing_id, sink)
    assert repeats <= kills * settings.delivery_connections
    assert len({mail.recipient for mail in sink.mails}) == 4997


def test_workers_killed_at_random_moments_break_no_promise(
    app_context: Flask, settings: Settings, sink: SmtpSink
) -> None:
    actor, users = prepare(500)
    sink.delay(Stage.END, 0.03)
    moments = random.Random()
    mailing_id = start_welcome(actor, "CQ900", users)
    with Crew(settings, workers=2) as crew:
        for _ in range(6):
            time.sleep(moments.uniform(0.8, 2.5))
            if has_ended(mailing_id):
                break
            crew.replace(moments.randrange(2))
        wait_until(lambda: has_ended(mailing_id), 90)
    check_promises(mailing_id, sink)
    assert len({mail.recipient for mail in sink.mails}) == 497


def test_an_emptied_queue_loses_nothing(
    app_context: Flask, settings: Settings, sink: SmtpSink
) -> None:
    actor, users = prepare(300)
    sink.delay(Stage.END, 0.005)
    mailing_id = start_welcome(actor, "CQ900", users)
    with Crew(settings), Redis.from_url(settings.redis_url) as queue:
        wait_until(lambda: len(sink.mails) > 30)
        queue.flushall()
        wait_until(lambda: has_ended(mailing_id))
    assert check_promises(mailing_id, sink) == 0
    assert len(sink.mails) == 297


def test_a_mailing_that_was_never_enqueued_is_found(
    app_context: Flask, settings: Settings, sink: SmtpSink
) -> None:
    actor, users = prepare(20)
    mailing_id = start_welcome(actor, "CQ900", users, enqueue=False)
    with Crew(settings):
        wait_until(lambda: has_ended(mailing_id))
    assert check_promises(mailing_id, sink) == 0


def test_refusals_end_or_delay_single_rows(
    app_context: Flask, settings: Settings, sink: SmtpSink
) -> None:
    actor, users = prepare(60)
    gone, later, never = users[20:23], users[30:33], users[40]
    for user in gone:
        sink.refuse(user.email, 550, "No such user here")
    for user in later:
        sink.refuse(user.email, 451, "Try again later", times=2)
    sink.refuse(never.email, 452, "Mailbox is full")
    mailing_id = start_welcome(actor, "CQ900", users)
    with Crew(settings):
        wait_until(lambda: has_ended(mailing_id))
    check_promises(mailing_id, sink)
    rows = {
        row.user_id: row
        for row in db.session.scalars(sa.select(Delivery).where(Delivery.mailing_id == mailing_id))
    }
    assert {rows[user.id].answer_code for user in gone} == {550}
    assert {rows[user.id].state for user in gone} == {DeliveryState.FAILED}
    assert {rows[user.id].state for user in later} == {DeliveryState.SENT}
    assert {rows[user.id].attempts for user in later} == {3}
    assert rows[never.id].state is DeliveryState.FAILED
    assert "Gave up after 7 tries" in rows[never.id].answer
    assert "Mailbox is full" in rows[never.id].answer


def test_a_server_that_closes_in_the_middle_is_met_with_the_same_message(
    app_context: Flask, settings: Settings, sink: SmtpSink
) -> None:
    actor, users = prepare(40)
    for user in users[10:13]:
        sink.close(Stage.END, address=user.email, accept=True, times=1)
    for user in users[20:23]:
        sink.close(Stage.END, address=user.email, accept=False, times=1)
    for user in users[25:28]:
        sink.close(Stage.BODY, address=user.email, times=1)
    mailing_id = start_welcome(actor, "CQ900", users)
    with Crew(settings):
        wait_until(lambda: has_ended(mailing_id))
    assert check_promises(mailing_id, sink) == 3
    assert db.session.get_one(Mailing, mailing_id).sent == 37


def test_a_server_that_hangs_is_left_and_asked_again(
    app_context: Flask, settings: Settings, sink: SmtpSink
) -> None:
    actor, users = prepare(20)
    sink.hang(Stage.END, address=users[10].email, times=1)
    mailing_id = start_welcome(actor, "CQ900", users)
    with Crew(settings):
        wait_until(lambda: has_ended(mailing_id))
    sink.release()
    check_promises(mailing_id, sink)
    assert db.session.get_one(Mailing, mailing_id).sent == 17


def test_a_server_that_is_down_pauses_the_line_and_no_row_pays(
    app_context: Flask, settings: Settings, sink: SmtpSink
) -> None:
    actor, users = prepare(300)
    sink.delay(Stage.END, 0.005)
    mailing_id = start_welcome(actor, "CQ900", users)
    with Crew(settings):
        wait_until(lambda: len(sink.mails) > 50)
        sink.stop()
        time.sleep(3)
        assert not has_ended(mailing_id)
        sink.start()
        wait_until(lambda: has_ended(mailing_id))
    check_promises(mailing_id, sink)
    assert db.session.get_one(Mailing, mailing_id).sent == 297
    most = db.session.scalar(
        sa.select(sa.func.max(Delivery.attempts)).where(Delivery.mailing_id == mailing_id)
    )
    assert most is not None
    assert most <= 2, "the outage was charged to rows"


def test_a_failing_platform_delays_or_ends_rows_before_any_mail(
    app_context: Flask, settings: Settings, sink: SmtpSink
) -> None:
    actor, users = prepare(30)
    db.session.execute(
        sa.update(Customer).where(Customer.web_id == "CQ900").values(connector="faulty")
    )
    db.session.commit()
    orders = settings.var_dir / "faulty-connector.json"
    orders.write_text(json.dumps({"down": True, "refuse": {users[12].login: "permanent"}}))
    mailing_id = start_welcome(actor, "CQ900", users)
    with Crew(settings):
        time.sleep(1.5)
        assert not sink.mails
        replacement = orders.with_suffix(".new")
        replacement.write_text(json.dumps({"refuse": {users[12].login: "permanent"}}))
        replacement.replace(orders)
        wait_until(lambda: has_ended(mailing_id))
    check_promises(mailing_id, sink)
    mailing = db.session.get_one(Mailing, mailing_id)
    assert (mailing.sent, mailing.failed) == (26, 1)
    assert not sink.mails_to(users[12].email)
