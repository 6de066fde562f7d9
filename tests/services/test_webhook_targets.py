"""Which addresses webhooks may call, and what becomes of a call."""

from __future__ import annotations

import datetime
import http.client
import ipaddress
import socket
import ssl
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from flask import Flask
from hypothesis import given
from hypothesis import strategies as st

from services import webhook_targets
from services.errors import InvalidInput
from services.webhook_targets import (
    MOST_READ,
    Caller,
    NoAnswer,
    TargetRefused,
    check_target,
    find_address,
    is_public,
    parse_target,
)
from tests.support.webhook_receiver import Receiver, Reply

PRIVATE_ALLOWED = {"WEBHOOK_PRIVATE_TARGETS": "yes"}
allowing = pytest.mark.parametrize("settings_changes", [PRIVATE_ALLOWED])


@pytest.fixture
def engine_name() -> str:
    """The database has no part in this."""
    return "sqlite"


PRIVATE = (
    "0.0.0.0",  # noqa: S104 - nothing is bound to it
    "0.1.2.3",
    "10.0.0.1",
    "100.64.0.1",
    "100.127.255.254",
    "127.0.0.1",
    "127.255.255.255",
    "169.254.169.254",
    "172.16.0.1",
    "172.31.255.255",
    "192.0.0.1",
    "192.0.2.1",
    "192.88.99.1",
    "192.168.1.1",
    "198.18.0.1",
    "198.51.100.1",
    "203.0.113.1",
    "224.0.0.1",
    "239.255.255.255",
    "240.0.0.1",
    "255.255.255.255",
    "::",
    "::1",
    "::7f00:1",
    "::ffff:127.0.0.1",
    "::ffff:10.0.0.1",
    "::ffff:93.184.216.34",
    "::ffff:0:127.0.0.1",
    "64:ff9b::7f00:1",
    "64:ff9b::10.0.0.1",
    "64:ff9b::169.254.169.254",
    "64:ff9b:1::1",
    "100::1",
    "2001::1",
    "2001:0:4136:e378:8000:63bf:3fff:fdd2",
    "2001:db8::1",
    "2002:7f00:1::",
    "2002:a00:1::1",
    "2002:5db8:d822::1",
    "3fff::1",
    "5f00::1",
    "fc00::1",
    "fd12:3456:789a::1",
    "fe80::1",
    "fe80::1%eth0",
    "fec0::1",
    "ff02::1",
    "",
    "hooks.example.com",
    "127.1",
)
PUBLIC = (
    "1.1.1.1",
    "9.9.9.9",
    "93.184.216.34",
    "100.63.255.255",
    "100.128.0.1",
    "172.32.0.1",
    "2606:4700:4700::1111",
    "2a00:1450:4013:c00::64",
    "64:ff9b::5db8:d822",
)


@pytest.mark.parametrize("address", PRIVATE)
def test_an_address_that_is_not_public(address: str) -> None:
    assert not is_public(address)


@pytest.mark.parametrize("address", PUBLIC)
def test_an_address_that_is_public(address: str) -> None:
    assert is_public(address)


@given(st.integers(0, 2**32 - 1))
def test_no_wrapped_private_address_is_public(number: int) -> None:
    inner = ipaddress.IPv4Address(number)
    for wrapped in (
        ipaddress.IPv6Address(b"\0" * 10 + b"\xff\xff" + inner.packed),
        ipaddress.IPv6Address(b"\0" * 12 + inner.packed),
        ipaddress.IPv6Address(b"\x20\x02" + inner.packed + b"\0" * 10),
        ipaddress.IPv6Address(b"\x20\x01" + b"\0" * 10 + inner.packed),
    ):
        assert not is_public(str(wrapped))
    nat64 = ipaddress.IPv6Address(b"\0\x64\xff\x9b" + b"\0" * 8 + inner.packed)
    assert is_public(str(nat64)) is is_public(str(inner))


@pytest.mark.parametrize(
    ("url", "wanted"),
    [
        (
            "https://hooks.example.com",
            ("https", "hooks.example.com", 443, "/", "hooks.example.com"),
        ),
        (
            "http://Hooks.Example.com:8080/a?b=c%20d",
            ("http", "hooks.example.com", 8080, "/a?b=c%20d", "hooks.example.com:8080"),
        ),
        ("https://h.example:443/", ("https", "h.example", 443, "/", "h.example")),
        ("https://h.example:80/", ("https", "h.example", 80, "/", "h.example:80")),
        ("https://bücher.example/", ("https", "xn--bcher-kva.example", 443, "/", None)),
        ("https://[2606:4700::1]:8443/x", ("https", "2606:4700::1", 8443, "/x", None)),
        ("http://[::1]/", ("http", "::1", 80, "/", "[::1]")),
        ("https://my_host.example/", ("https", "my_host.example", 443, "/", None)),
        ("https://h.example./", ("https", "h.example.", 443, "/", None)),
        ("HTTPS://h.example/?", ("https", "h.example", 443, "/", None)),
    ],
)
def test_an_address_is_read(url: str, wanted: tuple[str, str, int, str, str | None]) -> None:
    target = parse_target(url)
    assert (target.scheme, target.host, target.port, target.path) == wanted[:4]
    assert wanted[4] in {None, target.host_header}


@pytest.mark.parametrize(
    "url",
    [
        "",
        "hooks.example.com",
        "//hooks.example.com/",
        "ftp://hooks.example.com/",
        "file:///etc/passwd",
        "gopher://h.example/",
        "javascript:alert(1)",
        "http://",
        "http:///x",
        "http://:80/",
        "http://[::1/",
        "http://[fe80::1%25eth0]/",
        "http://h.example:0/",
        "http://h.example:65536/",
        "http://h.example:x/",
        "http://user@h.example/",
        "http://user:secret@h.example/",
        "http://@h.example/",
        "http://h.example/#part",
        "http://h.example/#",
        "http://h.example\\@127.0.0.1/",
        "http://h.example/\r\nHost: other",
        "http://h.example/\tx",
        "http://h exa.example/",
        "http://h.example/é",
        "http://h.example/?é",
        "http://h%2eexample/",
        "http://-/",
        "http://a..b/",
        "http://.example/",
        f"http://{'a' * 64}.{'b' * 250}/",
        "http://h.example/" + "x" * 2000,
        "http://h.example/\ud800",
        "http://\ud800.example/",
        "http://h.example/\0",
        "http://①②⑦.①/\u202e",
    ],
)
def test_what_is_no_address_of_a_webhook(url: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        parse_target(url)
    assert caught.value.field == "url"
    assert "secret" not in caught.value.message


@given(st.text())
def test_any_text_is_read_or_refused(text: str) -> None:
    for url in (text, f"http://{text}", f"https://h.example/{text}"):
        try:
            target = parse_target(url)
        except InvalidInput:
            continue
        else:
            (target.host + target.path).encode("ascii")
            assert not set(target.host + target.path) & set(" \r\n\t")


def test_letters_that_become_a_private_address_are_found_out(app_context: Flask) -> None:
    with pytest.raises(InvalidInput):
        check_target("http://①②⑦.⓪.⓪.①/")


# --- Where a name leads -----------------------------------------------------------------------


@pytest.fixture
def names(monkeypatch: pytest.MonkeyPatch) -> dict[str, list[str]]:
    """The addresses of names; whoever is not in it has none."""
    known: dict[str, list[str]] = {}
    monkeypatch.setattr(webhook_targets, "look_up", lambda host, _port: known.get(host, []))
    return known


def test_a_public_name_may_be_called(app_context: Flask, names: dict[str, list[str]]) -> None:
    names["h.example"] = ["93.184.216.34", "2606:4700::1"]
    assert find_address(parse_target("https://h.example/")) == "93.184.216.34"


@pytest.mark.parametrize(
    "addresses",
    [["127.0.0.1"], ["93.184.216.34", "10.0.0.1"], ["10.0.0.1", "93.184.216.34"], ["::1"]],
)
def test_all_addresses_of_a_name_have_to_be_public(
    app_context: Flask, names: dict[str, list[str]], addresses: list[str]
) -> None:
    names["h.example"] = addresses
    with pytest.raises(TargetRefused, match="no public address"):
        find_address(parse_target("https://h.example/"))
    with pytest.raises(InvalidInput, match=r"h\.example leads to") as caught:
        check_target("https://h.example/")
    assert caught.value.field == "url"


def test_a_name_without_an_address(app_context: Flask, names: dict[str, list[str]]) -> None:
    with pytest.raises(InvalidInput, match=r"h\.example has no address"):
        check_target("https://h.example/")


def test_a_resolver_that_hangs_is_not_waited_for(
    app_context: Flask, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(webhook_targets, "_LOOK_UP_SECONDS", 0.05)

    def hanging(*_: object) -> list[str]:
        time.sleep(2)
        return ["1.1.1.1"]

    monkeypatch.setattr(webhook_targets, "look_up", hanging)
    with pytest.raises(TargetRefused, match="not found in time"):
        find_address(parse_target("https://h.example/"))


@pytest.mark.parametrize(
    "url",
    [
        "http://127.0.0.1/",
        "http://127.1/",
        "http://2130706433/",
        "http://0x7f.0.0.1/",
        "http://0177.0.0.1/",
        "http://localhost/",
        "http://[::1]/",
        "http://[::ffff:127.0.0.1]/",
        "http://169.254.169.254/latest/meta-data/",
        "http://0.0.0.0/",
        "http://0/",
    ],
)
def test_this_machine_is_not_called_however_it_is_written(app_context: Flask, url: str) -> None:
    with pytest.raises(InvalidInput):
        check_target(url)


@allowing
def test_a_setting_lets_them_be_called(app_context: Flask) -> None:
    assert check_target("http://127.0.0.1:9/").host == "127.0.0.1"


# --- Calling ----------------------------------------------------------------------------------


def call(url: str, seconds: float = 5.0, body: bytes = b"{}") -> webhook_targets.Answer:
    caller = Caller(parse_target(url), seconds)
    try:
        return caller.post(body, {"X-Test": "yes"})
    finally:
        caller.close()


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with Receiver() as made:
        yield made


@allowing
def test_what_is_posted_and_answered(app_context: Flask, receiver: Receiver) -> None:
    receiver.reply(Reply(201, "grüße\0\n\n  line".encode(), {"Retry-After": "7"}))
    answer = call(f"{receiver.url}/x?token=abc", body="é".encode())
    assert (answer.status, answer.text, answer.retry_after) == (201, "grüße line", "7")
    (request,) = receiver.requests
    assert request.path == "/hooks/x?token=abc"
    assert request.body == "é".encode()
    assert request.headers["host"] == f"127.0.0.1:{receiver.port}"
    assert request.headers["x-test"] == "yes"


@allowing
def test_one_connection_serves_many_calls(app_context: Flask, receiver: Receiver) -> None:
    caller = Caller(parse_target(receiver.url), 5)
    for _ in range(5):
        assert caller.post(b"{}", {}).status == 200
    caller.close()
    assert receiver.connections == 1


@allowing
def test_a_connection_that_was_closed_meanwhile_is_made_anew(
    app_context: Flask, receiver: Receiver
) -> None:
    caller = Caller(parse_target(receiver.url), 5)
    for _ in range(3):
        receiver.reply(Reply(200), Reply(raw=b""))  # The second is dropped without an answer.
        assert caller.post(b"{}", {}).status == 200
        assert caller.post(b"{}", {}).status == 200
        caller.close()
    assert len(receiver.requests) == 9


@allowing
def test_a_connection_that_is_to_be_closed_is(app_context: Flask, receiver: Receiver) -> None:
    caller = Caller(parse_target(receiver.url), 5)
    receiver.reply(*[Reply(200, headers={"Connection": "close"})] * 3)
    for _ in range(3):
        assert caller.post(b"{}", {}).status == 200
    caller.close()
    assert receiver.connections == 3
    assert len(receiver.requests) == 3


@allowing
@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_redirects_are_not_followed(app_context: Flask, receiver: Receiver, status: int) -> None:
    receiver.reply(Reply(status, headers={"Location": f"{receiver.url}/elsewhere"}))
    assert call(receiver.url).status == status
    assert len(receiver.requests) == 1


@allowing
def test_proxies_of_the_environment_are_not_asked(
    app_context: Flask, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("http_proxy", "https_proxy", "all_proxy", "HTTP_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    assert call(receiver.url).status == 200


SLOW = {
    "hangs": Reply(hang=5),
    "drips its head": Reply(drip=0.05),
    "drips headers without end": Reply(raw=b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 90, drip=0.05),
}


@allowing
@pytest.mark.parametrize("reply", SLOW.values(), ids=SLOW)
def test_a_slow_answer_ends_in_all(app_context: Flask, receiver: Receiver, reply: Reply) -> None:
    receiver.reply(reply)
    started = time.monotonic()
    with pytest.raises(NoAnswer, match=r"No answer within 0.4 seconds"):
        call(receiver.url, seconds=0.4)
    assert time.monotonic() - started < 4


@allowing
def test_the_status_counts_when_the_rest_drips(app_context: Flask, receiver: Receiver) -> None:
    head = b"HTTP/1.1 200 OK\r\nContent-Length: 400\r\n\r\n"
    receiver.then = Reply(raw=head + b"x" * 400, drip=0.001)
    receiver.reply(Reply(raw=head + b"y" * 400, drip=0.02))
    started = time.monotonic()
    answer = call(receiver.url, seconds=2)
    assert time.monotonic() - started < 5
    assert answer.status == 200
    assert set(answer.text) == {"y"}


@allowing
def test_no_more_is_read_than_is_needed(
    app_context: Flask, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes: list[int] = []
    read = http.client.HTTPResponse.read1

    def counting(response: http.client.HTTPResponse, most: int = -1) -> bytes:
        part = read(response, most)
        sizes.append(len(part))
        return part

    monkeypatch.setattr(http.client.HTTPResponse, "read1", counting)
    receiver.reply(Reply(500, b"z" * (MOST_READ * 20)))
    answer = call(receiver.url)
    assert (answer.status, answer.text) == (500, "z" * 500)
    assert sum(sizes) < MOST_READ * 1.1
    caller = Caller(parse_target(receiver.url), 5)
    receiver.reply(Reply(200, b"z" * (MOST_READ * 2)))
    caller.post(b"{}", {})
    assert caller.post(b"{}", {}).text == "thanks"  # Over another connection.
    caller.close()


@allowing
@pytest.mark.parametrize(
    ("raw", "words"),
    [
        (b"", "closed without an answer"),
        (b"SSH-2.0-OpenSSH_9.9\r\n", "not HTTP"),
        (b"HTTP/1.1 abc Said\r\n\r\n", "not HTTP"),
        (b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 200 + b"\r\n", "not HTTP"),
        (b"HTTP/1.1 200 " + b"x" * 70_000, "not HTTP"),
    ],
)
def test_what_is_no_answer(app_context: Flask, receiver: Receiver, raw: bytes, words: str) -> None:
    receiver.reply(Reply(raw=raw))
    with pytest.raises(NoAnswer, match=words):
        call(receiver.url)


@allowing
def test_broken_bodies_do_no_harm(app_context: Flask, receiver: Receiver) -> None:
    for raw in (
        b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nshort",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\nshort",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nshort\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: nonsense\r\n\r\nshort",
        b"HTTP/1.0 200 OK\r\n\r\nshort",
    ):
        receiver.reply(Reply(raw=raw))
        assert call(receiver.url).status == 200


@allowing
def test_nobody_listens(app_context: Flask) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        with pytest.raises(NoAnswer, match="refused"):
            call(f"http://127.0.0.1:{free.getsockname()[1]}/")


@allowing
def test_a_listener_that_accepts_nothing_is_waited_for_no_longer(app_context: Flask) -> None:
    """The connection is there, by the kernel's grace; TLS never begins."""
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        started = time.monotonic()
        with pytest.raises(NoAnswer, match="within"):
            call(f"https://127.0.0.1:{silent.getsockname()[1]}/", seconds=0.4)
        assert time.monotonic() - started < 4


# --- Names and TLS ----------------------------------------------------------------------------


def make_certificate(folder: Path, name: str) -> Path:
    """A certificate that signs itself, with its key, in one file."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    now = datetime.datetime.now(datetime.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(name)]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    path = folder / f"{name}.pem"
    path.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
        + certificate.public_bytes(serialization.Encoding.PEM)
    )
    return path


Serve = Callable[[str], Receiver]


@pytest.fixture
def serve(tmp_path: Path) -> Iterator[Serve]:
    """`serve(name)`: a receiver over TLS with a certificate for that name."""
    running: list[Receiver] = []

    def start(name: str) -> Receiver:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(make_certificate(tmp_path, name))
        running.append(Receiver(context=context).__enter__())
        return running[-1]

    yield start
    for each in running:
        each.__exit__()


@allowing
def test_tls_is_verified_against_the_name_not_the_address(
    app_context: Flask,
    serve: Serve,
    names: dict[str, list[str]],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    receiver = serve("h.example")
    names |= {"h.example": ["127.0.0.1"], "other.example": ["127.0.0.1"]}
    with pytest.raises(NoAnswer, match="certificate is not accepted"):  # By nobody known.
        call(f"https://h.example:{receiver.port}/")
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "h.example.pem"))
    assert call(f"https://h.example:{receiver.port}/").status == 200
    assert receiver.requests[-1].headers["host"] == f"h.example:{receiver.port}"
    with pytest.raises(NoAnswer, match="certificate is not accepted"):
        call(f"https://other.example:{receiver.port}/")
    assert len(receiver.requests) == 1


@allowing
def test_http_where_tls_is_expected(app_context: Flask, receiver: Receiver) -> None:
    with pytest.raises(NoAnswer, match=r"TLS failed|closed|within"):
        call(f"https://127.0.0.1:{receiver.port}/", seconds=1)


def test_the_address_that_was_checked_is_the_one_that_is_called(
    app_context: Flask, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A name that leads elsewhere when it is asked again finds nobody: it is asked once."""
    asked: list[str] = []

    def rebinding(host: str, _port: int) -> list[str]:
        asked.append(host)
        return ["93.184.216.34"] if len(asked) == 1 else ["127.0.0.1"]

    connected: list[str] = []

    def create_connection(address: tuple[str, int], *_: object) -> socket.socket:
        connected.append(address[0])
        raise ConnectionRefusedError

    monkeypatch.setattr(webhook_targets, "look_up", rebinding)
    monkeypatch.setattr(socket, "create_connection", create_connection)
    caller = Caller(parse_target(f"http://h.example:{receiver.port}/"), 1)
    for _ in range(3):
        with pytest.raises(NoAnswer):
            caller.post(b"{}", {})
    assert asked == ["h.example"]
    assert set(connected) == {"93.184.216.34"}
    assert receiver.requests == []


def test_a_private_target_is_refused_before_anything_is_sent(
    app_context: Flask, receiver: Receiver
) -> None:
    with pytest.raises(TargetRefused):
        call(receiver.url)
    assert receiver.connections == 0
