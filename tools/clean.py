"""Remove what make has made: the virtual environment, caches, and everything under var/."""

from __future__ import annotations

import shutil
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


def main() -> None:
    """Remove generated files; those that are not there are no fault."""
    for name in (".venv", "var", "build", "dist", "foyer.egg-info", "test-results"):
        shutil.rmtree(ROOT / name, ignore_errors=True)
    for cache in sorted(ROOT.rglob("__pycache__")):
        shutil.rmtree(cache, ignore_errors=True)


if __name__ == "__main__":
    main()
