"""`make run`'s program with every real part: it starts, says where it is, leaves nothing behind."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from tests.runtime.processes import all_gone, wait_until
from tools.supervisor import session_members

ROOT = Path(__file__).parents[2]
READY_SECONDS = 60
_SETTINGS = re.compile(r"^(MAIL|REDIS|DATABASE|FOYER|SECRET|SEAL|PUBLIC|VAR_DIR|PORT)")

pytestmark = pytest.mark.timeout(180)


def free_ports(count: int) -> list[int]:
    """Find ports that were free a moment ago, all different."""
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [int(each.getsockname()[1]) for each in sockets]


@pytest.fixture
def var_dir() -> Iterator[Path]:
    """A folder with a short name, for the path of a socket has a limit."""
    with tempfile.TemporaryDirectory(prefix="foyer-") as folder:
        yield Path(folder)


def environment(var_dir: Path, **settings: str) -> dict[str, str]:
    """Give this environment without settings of its own, but with free ports."""
    web, smtp, mailbox = free_ports(3)
    inherited = {key: value for key, value in os.environ.items() if not _SETTINGS.match(key)}
    return {
        **inherited,
        "VAR_DIR": str(var_dir),
        "PORT": str(web),
        "MAIL_PORT": str(smtp),
        "MAILBOX_PORT": str(mailbox),
        **settings,
    }


class Run:
    """A running Foyer, its output in a file."""

    def __init__(self, env: dict[str, str], output: Path) -> None:
        self.env = env
        self._output = output
        with output.open("w") as target:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "tools.run"],
                cwd=ROOT,
                env=env,
                stdin=subprocess.DEVNULL,
                stdout=target,
                stderr=subprocess.STDOUT,
                process_group=0,
            )

    @property
    def output(self) -> str:
        """What it has printed so far."""
        return self._output.read_text()

    def wait_until_ready(self) -> None:
        """Wait for the banner; fails with the output when it does not come."""
        try:
            wait_until(
                lambda: (
                    "Ctrl-C stops everything." in self.output or self.process.poll() is not None
                ),
                seconds=READY_SECONDS,
            )
        finally:
            assert "Ctrl-C stops everything." in self.output, self.output
        assert "did not get ready" not in self.output, self.output

    def processes(self) -> list[int]:
        """List all processes of its parts."""
        leaders = [int(pid) for pid in re.findall(r"started \(pid=(\d+)\)", self.output)]
        return session_members(leaders)

    def get(self, path: str, port: str = "PORT") -> str:
        """Fetch a page of the web application, or of the mailbox."""
        address = f"http://127.0.0.1:{self.env[port]}{path}"
        with urllib.request.urlopen(address, timeout=20) as answer:
            return str(answer.read().decode())


@contextmanager
def running(env: dict[str, str]) -> Iterator[Run]:
    with tempfile.TemporaryDirectory() as folder:
        run = Run(env, Path(folder) / "output")
        try:
            yield run
        finally:
            if run.process.poll() is None:
                run.process.send_signal(signal.SIGTERM)
                try:
                    run.process.wait(timeout=30)
                except subprocess.TimeoutExpired:
                    run.process.kill()
                    run.process.wait()


def test_it_starts_says_where_it_is_and_stops_whole_twice_in_a_row(var_dir: Path) -> None:
    env = environment(var_dir)
    for number in (signal.SIGINT, signal.SIGTERM):
        with running(env) as run:
            run.wait_until_ready()
            for text in (
                f"http://127.0.0.1:{env['PORT']}",
                f"http://127.0.0.1:{env['MAILBOX_PORT']}/",
                "landlord@foyer.example",
                "operator@foyer.example",
                "auditor@foyer.example",
                "prpkeAdmin@kenton-electronics.com",
                "foyer-demo-1",
            ):
                assert text in run.output
            assert "Foyer" in run.get("/login")
            assert "Mailbox" in run.get("/", "MAILBOX_PORT")
            processes = run.processes()
            assert len(processes) >= 8  # queue, mail, web and its two, two workers, scheduler
            run.process.send_signal(number)
            assert run.process.wait(timeout=30) == 0, run.output
            assert all_gone(processes)
            assert "Traceback" not in run.output, run.output


def test_a_killed_run_leaves_nothing_and_the_next_one_starts(var_dir: Path) -> None:
    env = environment(var_dir)
    with running(env) as run:
        run.wait_until_ready()
        processes = run.processes()
        run.process.kill()
        run.process.wait()
        with running(env) as following:
            following.wait_until_ready()
            assert all_gone(processes)


def test_a_part_that_dies_ends_the_run_and_is_named(var_dir: Path) -> None:
    with running(environment(var_dir)) as run:
        run.wait_until_ready()
        processes = run.processes()
        found = re.search(r"worker 2 started \(pid=(\d+)\)", run.output)
        assert found is not None
        os.kill(int(found.group(1)), signal.SIGKILL)
        assert run.process.wait(timeout=30) == 1
        assert "worker 2 was killed by SIGKILL, so that everything was stopped." in run.output
        assert all_gone(processes)


def test_a_second_run_in_the_same_folder_is_refused(var_dir: Path) -> None:
    env = environment(var_dir)
    with running(env) as first:
        first.wait_until_ready()
        with running({**environment(var_dir)}) as second:
            assert second.process.wait(timeout=30) == 1
            assert f"already running here, at http://127.0.0.1:{env['PORT']}" in second.output
        assert first.process.poll() is None


def test_wrong_settings_are_listed_together(var_dir: Path) -> None:
    faults = environment(var_dir, FOYER_ENV="production", REDIS_URL="nonsense", MAIL_TIMEOUT="x")
    with running(faults) as run:
        assert run.process.wait(timeout=30) == 2
        for name in ("SECRET_KEY", "DATABASE_URL", "REDIS_URL", "MAIL_TIMEOUT"):
            assert f"- {name}" in run.output
        assert "Traceback" not in run.output


def test_a_given_port_that_is_taken_is_refused(var_dir: Path) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = str(other.getsockname()[1])
        with running(environment(var_dir, PORT=port)) as run:
            assert run.process.wait(timeout=30) == 2
            assert f"PORT is {port}, and that port is taken." in run.output


def test_a_folder_too_deep_for_a_socket_is_explained(var_dir: Path) -> None:
    deep = var_dir / ("d" * 100)
    deep.mkdir()
    with running(environment(deep)) as run:
        assert run.process.wait(timeout=60) == 1
        assert "is too long for a socket's path" in run.output


def test_a_run_is_found_by_others_while_it_lasts(var_dir: Path) -> None:
    env = environment(var_dir)
    with running(env) as run:
        run.wait_until_ready()
        described = json.loads((var_dir / "run.json").read_text())
        assert described["pid"] == run.process.pid
        # A bare command in a second terminal meets the same database.
        done = subprocess.run(
            [sys.executable, "-m", "flask", "--app", "app", "demo"],
            cwd=ROOT,
            env={key: env[key] for key in env if key not in {"PORT", "MAIL_PORT"}},
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        started = time.monotonic()
        run.process.send_signal(signal.SIGHUP)
        assert run.process.wait(timeout=30) == 0
        assert time.monotonic() - started < 15
