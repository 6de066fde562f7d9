"""The smaller tools: ports, Chromium, the search for Python, the locks, the skipped tests' list."""

from __future__ import annotations

import re
import socket
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from tools import chromium, ports, valkey

ROOT = Path(__file__).parents[2]


def test_a_taken_port_is_passed_over() -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        assert not ports.is_free(port)
        assert ports.first_free(port) > port


def test_the_first_free_port_is_not_one_that_is_spoken_for() -> None:
    first = ports.first_free(20_000)
    assert ports.first_free(first, taken=frozenset({first})) > first


def test_a_named_chromium_wins_and_a_wrong_name_is_none(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    browser = tmp_path / "browser"
    browser.write_text("#!/bin/sh\n")
    monkeypatch.setenv("CHROMIUM", str(browser))
    assert chromium.find() is None
    browser.chmod(0o755)
    assert chromium.find() == browser


def test_the_queue_listens_on_its_socket_alone_and_keeps_everything(tmp_path: Path) -> None:
    command = " ".join(valkey.command(Path("/tmp/v.sock"), tmp_path))  # noqa: S108
    for option in ("--port 0", "--appendonly yes", "--maxmemory-policy noeviction"):
        assert option in command


def test_no_python_is_a_sentence(tmp_path: Path) -> None:
    done = subprocess.run(
        ["/bin/sh", ROOT / "tools" / "python.sh", "-c", "pass"],
        env={"PATH": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert done.stderr.startswith("Foyer needs Python 3.11 or newer, and none was found.\n")


def test_an_old_python_is_passed_over(tmp_path: Path) -> None:
    (tmp_path / "python3").write_text("#!/bin/sh\nexit 1\n")
    (tmp_path / "python3").chmod(0o755)
    (tmp_path / "python3.11").symlink_to(sys.executable)
    done = subprocess.run(
        ["/bin/sh", ROOT / "tools" / "python.sh", "-c", "print('new enough')"],
        env={"PATH": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout == "new enough\n"


def test_locks_have_hashes_no_hosts_and_one_version_of_everything() -> None:
    pins: dict[str, set[str]] = {}
    for name in ("base", "run", "dev", "bench"):
        lock = (ROOT / "requirements" / f"{name}.txt").read_text()
        assert "://" not in lock
        assert "index-url" not in lock
        for requirement in re.split(r"\n(?! )", lock.strip()):
            assert "--hash=sha256:" in requirement
            package, _, version = requirement.split()[0].partition("==")
            pins.setdefault(package, set()).add(version)
    assert all(len(versions) == 1 for versions in pins.values())


def test_every_dependency_is_in_its_lock() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    wanted = {
        "base": project["dependencies"],
        "run": [*project["dependencies"], *extras["embedded"]],
        "dev": [*project["dependencies"], *extras["embedded"], *extras["dev"]],
        "bench": [*project["dependencies"], *(each for every in extras.values() for each in every)],
    }
    for name, requirements in wanted.items():
        lock = (ROOT / "requirements" / f"{name}.txt").read_text()
        locked = set(re.findall(r"^([a-z0-9-]+)==", lock, re.MULTILINE))
        needed = {re.split(r"[\[><=~!; ]", each)[0].lower() for each in requirements}
        assert needed <= locked


@pytest.mark.parametrize(("ci", "code"), [("", 0), ("true", 1)])
def test_skips_are_named_in_the_last_lines_and_fail_in_ci(
    tmp_path: Path, ci: str, code: int
) -> None:
    (tmp_path / "test_it.py").write_text(
        "import pytest\n"
        "def test_runs(): pass\n"
        "@pytest.mark.skip(reason='no browser here')\n"
        "def test_waits(): pass\n"
    )
    command = [sys.executable, "-m", "pytest", "-p", "tools.pytest_skips", "-n", "2", "-q", "."]
    done = subprocess.run(
        command,
        cwd=tmp_path,
        env={"PATH": "", "PYTHONPATH": str(ROOT), "CI": ci},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == code, done.stdout
    assert "1 skipped: no browser here\n    test_it.py::test_waits" in done.stdout
