"""What each misbehaviour of a mail server becomes."""

import socket
import threading
import time
from collections.abc import Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.smtp import (
    Answer,
    Outcome,
    ServerUnavailable,
    SmtpConnection,
    SmtpServer,
    connect,
)
from tests.support.smtp_sink import SmtpSink, tls_contexts
from tests.support.smtp_sink import Stage as At

SENDER = "noreply@portal.example"
ADA = "ada@kenton.example"
MESSAGE = b"Subject: Hello\r\n\r\nHello\r\n"
SECRET = "correct-horse-battery"


@pytest.fixture
def sink() -> Iterator[SmtpSink]:
    with SmtpSink() as running:
        yield running


@pytest.fixture(params=[True, False], ids=["pipelined", "plain"])
def pipelining(request: pytest.FixtureRequest) -> bool:
    return bool(request.param)


@pytest.fixture
def connection(sink: SmtpSink, pipelining: bool) -> Iterator[SmtpConnection]:
    with connect(server_of(sink), pipelining=pipelining) as opened:
        assert opened.pipelines is pipelining
        yield opened


def server_of(sink: SmtpSink, **options: object) -> SmtpServer:
    given: dict[str, object] = {"timeout": 5.0, "connect_timeout": 5.0, **options}
    return SmtpServer(host=sink.host, port=sink.port, **given)  # type: ignore[arg-type]


def send(connection: SmtpConnection, rcpt: str = ADA, message: bytes = MESSAGE) -> Answer:
    return connection.send(SENDER, rcpt, message)


def test_a_connection_carries_many_mails_in_order(
    sink: SmtpSink, connection: SmtpConnection
) -> None:
    for number in range(20):
        answer = send(connection, f"user{number}@x.example")
        assert answer == Answer(Outcome.ACCEPTED, 250, "Accepted", False, True)

    assert [mail.recipient for mail in sink.mails] == [f"user{n}@x.example" for n in range(20)]
    assert {mail.sender for mail in sink.mails} == {SENDER}
    assert sink.sessions == 1
    assert "RSET" not in sink.commands


@pytest.mark.parametrize(
    "message",
    [b".\r\n", b"..\r\n.\r\n.a\r\n", b"a\r\n.\r\nb\r\n", b"", b"no end", b"From x\r\n",
     b"x" * 300_000 + b"\r\n.\r\n", b"\r\n.\r\nMAIL FROM:<eve@evil.example>\r\n"],
)  # fmt: skip
def test_every_byte_arrives_once(
    sink: SmtpSink, connection: SmtpConnection, message: bytes
) -> None:
    assert send(connection, message=message).outcome is Outcome.ACCEPTED
    assert send(connection).outcome is Outcome.ACCEPTED

    expected = message if message.endswith(b"\r\n") else message + b"\r\n"
    assert [mail.data for mail in sink.mails] == [expected, MESSAGE]


@pytest.mark.parametrize("message", [b"a\nb\r\n", b"a\rb\r\n", b"a\r\n\n.\r\n"])
def test_line_ends_that_servers_disagree_about_are_refused(
    connection: SmtpConnection, message: bytes
) -> None:
    with pytest.raises(ValueError, match="CRLF"):
        send(connection, message=message)


@pytest.mark.parametrize("address", ["a b@x.org", "a@x.org>\r\nRSET", "a@x.org\r\n", "", "ü@x.org"])
def test_an_address_that_is_none_never_reaches_the_server(
    sink: SmtpSink, connection: SmtpConnection, address: str
) -> None:
    answer = send(connection, address)

    assert (answer.outcome, answer.code, answer.connection_usable) == ("permanent", None, True)
    assert not any(command.startswith("MAIL") for command in sink.commands)


@pytest.mark.parametrize("without_recipients", [554, 503, 354])
@pytest.mark.parametrize("stage", [At.MAIL, At.RCPT, At.DATA, At.END])
@pytest.mark.parametrize("refusal", [(451, "transient"), (550, "permanent")])
def test_a_refusal_ends_one_mail_and_not_the_next(
    sink: SmtpSink,
    connection: SmtpConnection,
    stage: At,
    refusal: tuple[int, str],
    without_recipients: int,
) -> None:
    code, outcome = refusal
    sink.answers_data_without_recipients = without_recipients
    sink.answer(stage, code, "Not this one", times=1)

    answer = send(connection)

    assert (answer.outcome, answer.code, answer.text) == (outcome, code, "Not this one")
    assert answer.stage == ("message" if stage is At.END else stage)
    assert (answer.in_doubt, answer.connection_usable, answer.server_down) == (False, True, False)
    assert sink.mails == []
    assert send(connection, "bob@x.example").outcome is Outcome.ACCEPTED
    assert [mail.recipient for mail in sink.mails] == ["bob@x.example"]
    assert sink.sessions == 1


def test_one_recipient_is_refused_a_few_times_and_then_accepted(
    sink: SmtpSink, connection: SmtpConnection
) -> None:
    sink.refuse(ADA, 450, "Greylisted", times=2)

    outcomes = [send(connection).outcome for _ in range(3)]

    assert outcomes == ["transient", "transient", "accepted"]


@pytest.mark.parametrize("stage", [At.MAIL, At.RCPT, At.DATA, At.END])
def test_421_means_that_the_server_is_going_away(
    sink: SmtpSink, connection: SmtpConnection, stage: At
) -> None:
    sink.answer(stage, 421, "Going down", times=1)

    answer = send(connection)

    assert (answer.outcome, answer.code, answer.server_down) == ("transient", 421, True)
    assert (answer.in_doubt, answer.connection_usable) == (False, False)
    assert send(connection).server_down


def test_sign_in_wanted_at_mail_is_the_servers_fault_and_not_the_mails(
    sink: SmtpSink, connection: SmtpConnection
) -> None:
    sink.answer(At.MAIL, 530, "Authentication required")

    answer = send(connection)

    assert (answer.outcome, answer.code, answer.server_down) == ("transient", 530, True)


@pytest.mark.parametrize("stage", [At.MAIL, At.RCPT, At.DATA])
def test_a_cut_before_the_message_is_not_in_doubt(
    sink: SmtpSink, connection: SmtpConnection, stage: At
) -> None:
    sink.close(stage)

    answer = send(connection)

    assert (answer.outcome, answer.code, str(answer.stage)) == ("transient", None, str(stage))
    assert (answer.in_doubt, answer.connection_usable, answer.server_down) == (False, False, True)


def test_a_refusal_heard_before_the_cut_still_counts(sink: SmtpSink) -> None:
    sink.answers_data_without_recipients = 354
    sink.refuse(ADA, 550, "No such user")
    sink.close(At.DATA)
    with connect(server_of(sink)) as connection:
        answer = send(connection)

    assert (answer.outcome, answer.code, answer.connection_usable) == ("permanent", 550, False)


def test_a_cut_while_a_large_message_is_on_its_way_is_not_in_doubt(
    sink: SmtpSink, connection: SmtpConnection
) -> None:
    sink.close(At.BODY)

    answer = send(connection, message=b"x" * 70 + b"\r\n" + (b"y" * 70 + b"\r\n") * 400_000)

    assert (answer.outcome, answer.in_doubt, answer.server_down) == ("transient", False, True)
    assert sink.mails == []


@pytest.mark.parametrize("accept", [True, False])
def test_a_cut_after_the_dot_is_in_doubt(
    sink: SmtpSink, connection: SmtpConnection, accept: bool
) -> None:
    sink.close(At.END, accept=accept)

    answer = send(connection)

    assert (answer.outcome, answer.in_doubt, answer.server_down) == ("transient", True, True)
    assert len(sink.mails) == accept


@pytest.mark.parametrize(
    ("stage", "in_doubt"), [(At.MAIL, False), (At.RCPT, False), (At.DATA, False), (At.END, True)]
)
def test_a_server_that_hangs_is_given_up_in_time(
    sink: SmtpSink, pipelining: bool, stage: At, in_doubt: bool
) -> None:
    sink.hang(stage)
    with connect(server_of(sink, timeout=0.2), pipelining=pipelining) as connection:
        started = time.monotonic()
        answer = send(connection)

        assert time.monotonic() - started < 2
        assert (answer.outcome, answer.in_doubt, answer.server_down) == (
            "transient", in_doubt, True,
        )  # fmt: skip
        assert answer.text == "The mail server did not answer in time."
        assert not connection.usable


def test_a_server_that_stops_reading_is_given_up_in_time(sink: SmtpSink) -> None:
    sink.hang(At.BODY)
    with connect(server_of(sink, timeout=0.3)) as connection:
        answer = send(connection, message=b"x\r\n" * 12_000_000)

    assert (answer.outcome, answer.in_doubt, answer.server_down) == ("transient", False, True)


def test_a_hang_that_is_released_goes_on(sink: SmtpSink, connection: SmtpConnection) -> None:
    sink.hang(At.END, times=1)
    answers: list[Answer] = []
    thread = threading.Thread(target=lambda: answers.append(send(connection)))
    thread.start()
    sink.wait_until_hanging()
    sink.release()
    thread.join(5)

    assert [answer.outcome for answer in answers] == ["accepted"]
    assert len(sink.wait_for(1)) == 1


def test_a_delay_is_waited_for(sink: SmtpSink, connection: SmtpConnection) -> None:
    sink.delay(At.END, 0.1)
    started = time.monotonic()

    assert send(connection).outcome is Outcome.ACCEPTED
    assert time.monotonic() - started >= 0.1


def test_a_server_that_was_down_for_a_while(sink: SmtpSink, connection: SmtpConnection) -> None:
    assert send(connection).outcome is Outcome.ACCEPTED
    sink.stop()

    answer = send(connection)
    assert (answer.outcome, answer.in_doubt, answer.server_down) == ("transient", False, True)
    with pytest.raises(ServerUnavailable, match="refuses connections"):
        connect(server_of(sink))

    sink.start()
    with connect(server_of(sink)) as again:
        assert send(again).outcome is Outcome.ACCEPTED
    assert len(sink.mails) == 2


def test_a_connection_closed_while_idle_is_opened_anew(
    sink: SmtpSink, connection: SmtpConnection
) -> None:
    send(connection)
    sink.stop()
    sink.start()

    assert send(connection).outcome is Outcome.ACCEPTED
    assert len(sink.mails) == 2


def test_without_pipelining_on_offer_commands_go_one_by_one() -> None:
    with SmtpSink(pipelining=False) as sink, connect(server_of(sink)) as connection:
        assert not connection.pipelines
        assert send(connection).outcome is Outcome.ACCEPTED


def test_smtputf8_where_offered(sink: SmtpSink, connection: SmtpConnection) -> None:
    message = "To: <jürgen@x.example>\r\n\r\nHi\r\n".encode()

    answer = connection.send(SENDER, "jürgen@x.example", message, smtputf8=True)

    assert answer.outcome is Outcome.ACCEPTED
    assert sink.mails[0].recipient == "jürgen@x.example"
    assert sink.mails[0].data == message


def test_smtputf8_where_not_offered_is_a_clear_and_final_answer() -> None:
    with SmtpSink(smtputf8=False) as sink, connect(server_of(sink)) as connection:
        answer = connection.send(SENDER, "jürgen@x.example", MESSAGE, smtputf8=True)

        assert (answer.outcome, answer.code, answer.connection_usable) == ("permanent", None, True)
        assert "SMTPUTF8" in answer.text
        assert send(connection).outcome is Outcome.ACCEPTED


def test_what_the_server_says_is_cut_and_has_no_control_characters(
    sink: SmtpSink, connection: SmtpConnection
) -> None:
    sink.answer(At.END, 550, "a\x1b[31m\x00b\x85c " + "é" * 900)

    text = send(connection).text

    assert text.startswith("a [31m b c é")
    assert len(text) == 500


def test_starttls_and_sign_in_with_a_certificate_that_is_verified() -> None:
    with (
        tls_contexts() as (server_side, client_side),
        SmtpSink(starttls=server_side, auth=("foyer", SECRET)) as sink,
    ):
        server = server_of(sink, use_tls=True, username="foyer", password=SECRET)
        with connect(server, tls_context=client_side) as connection:
            big = b"x" * 70 + b"\r\n" + b"y\r\n" * 100_000
            for message in (MESSAGE, big, MESSAGE):
                assert send(connection, message=message).outcome is Outcome.ACCEPTED
        assert [mail.data for mail in sink.mails] == [MESSAGE, big, MESSAGE]
        with pytest.raises(ServerUnavailable, match="certificate is not valid"):
            connect(server)


def test_tls_from_the_first_byte() -> None:
    with (
        tls_contexts() as (server_side, client_side),
        SmtpSink(implicit_tls=server_side) as sink,
    ):
        with connect(server_of(sink, use_ssl=True), tls_context=client_side) as connection:
            assert [send(connection).outcome for _ in range(3)] == ["accepted"] * 3
        assert sink.sessions == 1
        with pytest.raises(ServerUnavailable, match="certificate is not valid"):
            connect(server_of(sink, use_ssl=True))


def test_a_certificate_for_another_name_is_refused() -> None:
    with (
        tls_contexts() as (server_side, client_side),
        SmtpSink(starttls=server_side) as sink,
    ):
        server = SmtpServer(host="localhost", port=sink.port, use_tls=True, timeout=5)
        with pytest.raises(ServerUnavailable, match="certificate is not valid"):
            connect(server, tls_context=client_side)


def test_starttls_that_is_not_offered_is_never_done_without(sink: SmtpSink) -> None:
    with pytest.raises(ServerUnavailable, match="does not offer STARTTLS"):
        connect(server_of(sink, use_tls=True))


@pytest.mark.parametrize("password", [SECRET, "pässword-\u2603"])
def test_a_refused_password_is_never_repeated(
    password: str, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    with SmtpSink(auth=("foyer", "other")) as sink:
        server = server_of(sink, username="foyer", password=password)
        with pytest.raises(ServerUnavailable) as caught:
            connect(server)

    trace: BaseException | None = caught.value
    while trace is not None:
        assert password not in f"{trace!s} {trace!r}"
        trace = trace.__cause__ or trace.__context__
    assert password not in repr(server) + caplog.text + "".join(capfd.readouterr())


def test_sign_in_that_is_not_offered(sink: SmtpSink) -> None:
    with pytest.raises(ServerUnavailable, match="does not offer a way to sign in"):
        connect(server_of(sink, username="foyer", password=SECRET))


@pytest.mark.parametrize(
    ("stage", "code", "words"),
    [(At.CONNECT, 554, "not ready: 554 No"), (At.CONNECT, 421, "not ready: 421 No")],
)
def test_a_greeting_that_is_none(sink: SmtpSink, stage: At, code: int, words: str) -> None:
    sink.answer(stage, code, "No")

    with pytest.raises(ServerUnavailable, match=words):
        connect(server_of(sink))


def test_connecting_is_given_up_in_time(sink: SmtpSink) -> None:
    sink.hang(At.CONNECT)

    with pytest.raises(ServerUnavailable, match="did not answer in time"):
        connect(server_of(sink, connect_timeout=0.2))


@pytest.mark.parametrize(
    "garbage", [b"hello\r\n", b"", b"\xff\xfe\r\n", b"9" * 20_000, b"220-\r\n"]
)
def test_what_is_no_mail_server_is_unavailable(garbage: bytes) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            accepted, _ = listener.accept()
            with accepted:
                accepted.sendall(garbage)

        thread = threading.Thread(target=serve)
        thread.start()
        with pytest.raises(ServerUnavailable):
            connect(SmtpServer(host="127.0.0.1", port=listener.getsockname()[1], timeout=2))
        thread.join(5)


def test_a_closed_connection_says_so_and_closes_again(sink: SmtpSink) -> None:
    connection = connect(server_of(sink))
    connection.close()
    connection.close()

    assert send(connection).text == "The connection is closed."


refusals = st.tuples(
    st.sampled_from([At.MAIL, At.RCPT, At.DATA, At.END]),
    st.sampled_from([421, 450, 451, 452, 503, 530, 550, 552, 554, 250, 354]),
    st.integers(0, 5),
)


@settings(max_examples=60, deadline=None)
@given(
    script=st.lists(refusals, max_size=6),
    without_recipients=st.sampled_from([354, 503, 554]),
)
def test_pipelined_and_plain_come_to_the_same_answers_and_mails(
    script: list[tuple[At, int, int]], without_recipients: int
) -> None:
    results = []
    for pipelining in (True, False):
        with SmtpSink(answers_data_without_recipients=without_recipients) as sink:
            connection = connect(server_of(sink), pipelining=pipelining)
            answers = []
            for number in range(6):
                # Each mail has rules of its own: a plain client stops at the first refusal and
                # would leave the rest of its rules to the next mail.
                sink.behave()
                for stage, code, victim in script:
                    if victim == number:
                        sink.answer(stage, code, "Scripted")
                if not connection.usable:
                    connection.close()
                    connection = connect(server_of(sink), pipelining=pipelining)
                answer = send(connection, f"user{number}@x.example")
                answers.append((answer.outcome, answer.code, answer.text, answer.in_doubt,
                                answer.stage, answer.server_down))  # fmt: skip
            connection.close()
            results.append((answers, [mail.recipient for mail in sink.mails]))

    assert results[0] == results[1]
    assert [a[0] for a in results[0][0]].count(Outcome.ACCEPTED) == len(results[0][1])
