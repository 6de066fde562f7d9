"""Write requirements/*.txt from pyproject.toml, with hashes, for every platform at once.

`python -m tools.lock` takes the newest versions that fit; with `--keep` it changes only what
pyproject.toml forces to change.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
# Each lock holds the one before it, in the same versions.
EXTRAS: dict[str, tuple[str, ...]] = {
    "base": (),
    "run": ("embedded",),
    "dev": ("embedded", "dev"),
    "bench": ("embedded", "dev", "bench"),
}


def main(arguments: list[str]) -> int:
    """Compile all locks from one resolution; return an exit code."""
    keep = arguments == ["--keep"]
    with tempfile.TemporaryDirectory() as scratch:
        everything = Path(scratch) / "everything.txt"
        newest = _target("bench")
        if keep and newest.exists():
            everything.write_bytes(newest.read_bytes())
        _compile(EXTRAS["bench"], everything)
        for name, extras in EXTRAS.items():
            _target(name).unlink(missing_ok=True)
            _compile(extras, _target(name), constraint=everything)
    return 0


def _target(name: str) -> Path:
    return ROOT / "requirements" / f"{name}.txt"


def _compile(extras: tuple[str, ...], target: Path, constraint: Path | None = None) -> None:
    """Resolve pyproject.toml with `extras` into `target`; raises CalledProcessError."""
    command: list[str | Path] = [
        *(Path(sys.executable).with_name("uv"), "pip", "compile", "pyproject.toml"),
        *("--universal", "--python-version", "3.11", "--generate-hashes", "--quiet"),
        *("--no-annotate", "--no-header", "--no-emit-index-url", "--no-emit-find-links"),
        *("--output-file", target),
    ]
    for extra in extras:
        command += ["--extra", extra]
    if constraint is not None:
        command += ["--constraint", constraint]
    subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.DEVNULL)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
