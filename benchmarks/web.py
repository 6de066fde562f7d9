"""Pages as a browser without scripts gets them: cookies, forms, redirects, and how long it took."""

from __future__ import annotations

import http.client
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from html.parser import HTMLParser
from urllib.parse import urlencode, urljoin, urlsplit

from benchmarks.installations import Installation
from benchmarks.processes import BenchmarkError, Program, python, wait_until
from benchmarks.sinks import HOST, Sink, free_port
from services.demo_data import PASSWORD

_REDIRECTS = 5

Values = Mapping[str, str | Sequence[str]]
_Body = tuple[bytes, str]
"""A body as it is, and its content type."""


@dataclass
class PageForm:
    """A form of a page with what a browser would send of it untouched, buttons excepted."""

    action: str
    method: str
    fields: dict[str, list[str]] = field(default_factory=dict)
    options: dict[str, str] = field(default_factory=dict)
    """Values of the choices in its menus, by their labels."""
    boxes: list[str] = field(default_factory=list)
    """Values of the boxes that are not ticked."""


@dataclass(frozen=True, slots=True)
class Answer:
    """A page; `seconds` from asking for it until its last byte."""

    path: str
    status: int
    text: str
    seconds: float

    def form(self, action: str) -> PageForm:
        """The POST form whose address begins with `action`. Raises BenchmarkError."""
        reader = _FormReader()
        reader.feed(self.text)
        for each in reader.forms:
            if each.method == "post" and each.action.startswith(action):
                return each
        raise BenchmarkError(f"{self.path} (status {self.status}) has no form for {action}.")


class _FormReader(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.forms: list[PageForm] = []
        self._open: PageForm | None = None
        self._option = ""
        self._area = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = {name: value or "" for name, value in attrs}
        if tag == "form":
            self._open = PageForm(given.get("action", ""), given.get("method", "get"))
            self.forms.append(self._open)
        if self._open is None:
            return
        name, value = given.get("name", ""), given.get("value", "")
        match tag:
            case "input" if given.get("type") == "checkbox" and "checked" not in given:
                self._open.boxes.append(value)
            case "input" if name and given.get("type") not in {"submit", "button", "radio"}:
                self._open.fields.setdefault(name, []).append(value)
            case "textarea":
                self._area = name
            case "option":
                self._option = value

    def handle_data(self, data: str) -> None:
        if self._open is not None and self._option and data.strip():
            self._open.options[data.strip()] = self._option
        if self._open is not None and self._area:
            self._open.fields.setdefault(self._area, []).append(data)

    def handle_endtag(self, tag: str) -> None:
        match tag:
            case "form":
                self._open = None
            case "option":
                self._option = ""
            case "textarea":
                self._area = ""


class Browser:
    """One person's browser, over one connection that is kept open."""

    def __init__(self, port: int) -> None:
        self._connection = http.client.HTTPConnection(HOST, port, timeout=60)
        self.cookies: dict[str, str] = {}

    def sign_in(self, login: str) -> None:
        page = self.get("/login")
        done = self.submit(page.form("/login"), login=login, password=PASSWORD)
        if done.path.startswith("/login"):
            raise BenchmarkError(f"{login} could not sign in.")

    def get(self, path: str, *, fragment: bool = False) -> Answer:
        """A page, or with `fragment` the part of it that its script would ask for."""
        return self._ask("GET", path, fragment=fragment)

    def submit(self, form: PageForm, **values: str | Sequence[str]) -> Answer:
        """Send a form with these values changed, and follow where it leads."""
        return self._ask("POST", form.action, {**form.fields, **values})

    def upload(self, form: PageForm, name: str, file_name: str, content: bytes) -> Answer:
        """Send a form with a file, and follow where it leads."""
        boundary = "foyer-benchmark"
        values = [(each, value) for each, found in form.fields.items() for value in found]
        head = "".join(
            f'--{boundary}\r\nContent-Disposition: form-data; name="{each}"\r\n\r\n{value}\r\n'
            for each, value in values
            if each != name
        )
        head += (
            f'--{boundary}\r\nContent-Disposition: form-data; name="{name}"; '
            f'filename="{file_name}"\r\nContent-Type: text/csv\r\n\r\n'
        )
        body = head.encode() + content + f"\r\n--{boundary}--\r\n".encode()
        sent = (body, f"multipart/form-data; boundary={boundary}")
        return self._ask("POST", form.action, sent)

    def _ask(
        self,
        method: str,
        path: str,
        values: Values | _Body | None = None,
        *,
        fragment: bool = False,
    ) -> Answer:
        started = time.perf_counter()
        for _ in range(_REDIRECTS):
            status, location, text = self._exchange(method, path, values, fragment)
            if status not in {301, 302, 303} or not location:
                return Answer(path, status, text, time.perf_counter() - started)
            split = urlsplit(urljoin(path, location))
            path = f"{split.path}?{split.query}" if split.query else split.path
            method, values = "GET", None
        raise BenchmarkError(f"{path} leads in a circle.")

    def _exchange(
        self, method: str, path: str, values: Values | _Body | None, fragment: bool
    ) -> tuple[int, str, str]:
        headers = {"Cookie": "; ".join(f"{name}={value}" for name, value in self.cookies.items())}
        if fragment:
            headers["HX-Request"] = "true"
        body: str | bytes | None = None
        if isinstance(values, tuple):
            body, headers["Content-Type"] = values
        elif values is not None:
            body = urlencode(values, doseq=True)
            headers["Content-Type"] = "application/x-www-form-urlencoded"
        try:
            self._connection.request(method, path, body, headers)
            response = self._connection.getresponse()
            text = response.read().decode()
        except (OSError, http.client.HTTPException) as error:
            self._connection.close()
            raise BenchmarkError(f"{method} {path}: {type(error).__name__}: {error}") from error
        for cookie in response.headers.get_all("Set-Cookie", []):
            name, _, value = cookie.partition(";")[0].partition("=")
            self.cookies[name] = value
        return response.status, response.headers.get("Location", ""), text


@dataclass(frozen=True, slots=True)
class WebServer:
    """gunicorn, as `make run` starts it."""

    port: int
    program: Program

    def browser(self, login: str) -> Browser:
        """A browser with this person of the demo data signed in."""
        browser = Browser(self.port)
        browser.sign_in(login)
        return browser

    def workers(self) -> list[int]:
        """Process ids of those that answer requests."""
        return [pid for pid in self.program.members() if pid != self.program.pid]


@contextmanager
def serving(installation: Installation, sink: Sink, **settings: str) -> Iterator[WebServer]:
    """The web server of an installation."""
    port = free_port()
    command = python("-m", "gunicorn", "--config", "gunicorn.conf.py")
    changes = {"PORT": str(port), "MAIL_PORT": str(sink.port), **settings}
    with installation.start("web", command, **changes) as program:
        server = WebServer(port, program)
        wait_until(lambda: is_ready(program, port, "/readyz", 200), "Starting the web server", 30)
        yield server


def is_ready(program: Program, port: int, path: str, status: int) -> bool:
    """Whether a server answers; raises BenchmarkError once it has ended."""
    program.require_alive()
    try:
        return Browser(port).get(path).status == status
    except BenchmarkError:
        return False
