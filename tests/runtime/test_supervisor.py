"""The supervisor over small programs of its own: however it ends, nothing stays behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.runtime.processes import all_gone, wait_until

ROOT = Path(__file__).parents[2]


@contextmanager
def supervised(folder: Path, *kinds: str) -> Iterator[subprocess.Popen[str]]:
    """Start the supervisor over `kinds` and wait until each has noted its id."""
    run = subprocess.Popen(
        [sys.executable, str(Path(__file__).with_name("parts.py")), "supervise", folder, *kinds],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        text=True,
        process_group=0,
    )
    try:
        names = [] if "missing" in kinds else [kind.rstrip("+") for kind in kinds]
        wait_until(lambda: all(_has_text(folder / f"{name}.pid") for name in names))
        yield run
    finally:
        if run.poll() is None:
            run.kill()
        run.wait()
        if run.stdout is not None:
            run.stdout.close()


def _has_text(path: Path) -> bool:
    return path.exists() and path.stat().st_size > 0


def pids(folder: Path) -> list[int]:
    """List the ids that the parts have noted."""
    return [int(path.read_text()) for path in folder.glob("*.pid") if path.read_text()]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_stops_everything_and_is_a_success(tmp_path: Path, number: signal.Signals) -> None:
    with supervised(tmp_path, "plain", "server+") as run:
        run.send_signal(number)
        output, _ = run.communicate(timeout=20)
        assert run.returncode == 0
        assert f"Stopping ({number.name})" in output
        wait_until(lambda: all_gone(pids(tmp_path)))


def test_ctrl_c_in_a_terminal_reaches_the_whole_group_and_still_stops_cleanly(
    tmp_path: Path,
) -> None:
    with supervised(tmp_path, "plain", "server+") as run:
        os.killpg(run.pid, signal.SIGINT)
        output, _ = run.communicate(timeout=20)
        assert run.returncode == 0
        assert "Traceback" not in output
        wait_until(lambda: all_gone(pids(tmp_path)))


def test_a_wish_to_stop_is_met_although_the_starter_ignored_the_signal(tmp_path: Path) -> None:
    """As shells do with SIGINT for what they start in the background."""
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with supervised(tmp_path, "plain", "server+") as run:
            run.send_signal(signal.SIGINT)
            run.communicate(timeout=20)
            assert run.returncode == 0
            wait_until(lambda: all_gone(pids(tmp_path)))
    finally:
        signal.signal(signal.SIGINT, before)


def test_a_part_that_ends_by_itself_ends_the_run_and_is_named(tmp_path: Path) -> None:
    with supervised(tmp_path, "plain", "failing") as run:
        output, _ = run.communicate(timeout=20)
        assert run.returncode == 1
        assert "failing ended by itself (exit code 7)" in output
        assert all_gone(pids(tmp_path))


def test_a_part_that_is_killed_is_named_with_the_signal(tmp_path: Path) -> None:
    with supervised(tmp_path, "plain", "server+") as run:
        os.kill(int((tmp_path / "plain.pid").read_text()), signal.SIGKILL)
        output, _ = run.communicate(timeout=20)
        assert run.returncode == 1
        assert "plain was killed by SIGKILL" in output


def test_a_program_that_cannot_start_is_named(tmp_path: Path) -> None:
    with supervised(tmp_path, "plain", "missing") as run:
        output, _ = run.communicate(timeout=20)
        assert run.returncode == 1
        assert "/nowhere/program: [Errno 2] No such file or directory" in output


def test_servers_stop_after_those_that_need_them(tmp_path: Path) -> None:
    with supervised(tmp_path, "server+", "late") as run:
        run.send_signal(signal.SIGTERM)
        run.communicate(timeout=20)
        assert (tmp_path / "ends").read_text().split() == ["late", "server"]


def test_what_does_not_stop_is_killed_with_all_it_started(tmp_path: Path) -> None:
    with supervised(tmp_path, "stubborn", "forking") as run:
        run.send_signal(signal.SIGINT)
        run.communicate(timeout=30)
        assert len(pids(tmp_path)) == 3
        assert all_gone(pids(tmp_path))


def test_a_second_signal_kills_at_once(tmp_path: Path) -> None:
    with supervised(tmp_path, "stubborn") as run:
        run.send_signal(signal.SIGINT)
        time.sleep(1.5)
        second = time.monotonic()
        run.send_signal(signal.SIGINT)
        run.communicate(timeout=20)
        assert time.monotonic() - second < 4
        assert all_gone(pids(tmp_path))


def test_a_killed_supervisor_leaves_nothing_behind(tmp_path: Path) -> None:
    with supervised(tmp_path, "plain", "server+", "forking", "stubborn") as run:
        run.kill()
        run.wait(timeout=20)
        wait_until(lambda: all_gone(pids(tmp_path)), seconds=25)


def test_killing_supervisor_and_relays_together_stops_the_parts(tmp_path: Path) -> None:
    if not sys.platform.startswith("linux"):
        pytest.skip("only Linux tells a process that its parent is gone")
    with supervised(tmp_path, "plain", "server+") as run:
        os.killpg(run.pid, signal.SIGKILL)
        run.wait(timeout=20)
        wait_until(lambda: all_gone(pids(tmp_path)), seconds=25)


def test_losing_the_output_stops_everything(tmp_path: Path) -> None:
    with supervised(tmp_path, "plain", "server+") as run:
        assert run.stdout is not None
        run.stdout.close()
        os.kill(int((tmp_path / "plain.pid").read_text()), signal.SIGTERM)
        run.wait(timeout=20)
        wait_until(lambda: all_gone(pids(tmp_path)))


def test_output_is_prefixed_with_the_part_s_name(tmp_path: Path) -> None:
    with supervised(tmp_path, "plain") as run:
        run.send_signal(signal.SIGINT)
        output, _ = run.communicate(timeout=20)
        line = next(line for line in output.splitlines() if line.endswith("plain is running"))
        assert " plain  | " in line
