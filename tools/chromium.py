"""Find the Chromium that the browser tests drive; on Debian, as root, install a missing one.

`python -m tools.chromium` does both. Without a browser it says so and ends well: the tests that
need one are then skipped, and pytest's last lines name them.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

VARIABLE = "CHROMIUM"
# Debian's /usr/bin/chromium is a script that adds options of its own; the program itself is wanted.
_PLACES = (
    "/usr/lib/chromium/chromium",
    "/usr/lib/chromium-browser/chromium-browser",
    "/usr/lib64/chromium-browser/chromium-browser",
    "/opt/google/chrome/chrome",
    "/Applications/Google Chrome.app/Contents/MacOS/Google Chrome",
    "/Applications/Chromium.app/Contents/MacOS/Chromium",
)
_NAMES = ("chromium", "chromium-browser", "google-chrome-stable", "google-chrome")
PACKAGES = ("chromium", "fonts-liberation", "fonts-noto-color-emoji")


def find() -> Path | None:
    """Give the browser's path: CHROMIUM where that is set, else the first usual place, or None."""
    given = os.environ.get(VARIABLE, "").strip()
    if given:
        return Path(given) if os.access(given, os.X_OK) else None
    for place in _PLACES:
        if os.access(place, os.X_OK):
            return Path(place)
    found = (shutil.which(name) for name in _NAMES)
    return next((Path(path) for path in found if path), None)


def main() -> int:
    """Find or install a browser; return 0 in any case but an interrupted one."""
    if find() is None and not os.environ.get(VARIABLE, "").strip():
        _install()
    if find() is None:
        print(
            "No Chromium was found, so that the browser tests are skipped. Install it "
            f"(Debian: apt-get install {' '.join(PACKAGES)}), or set {VARIABLE} to its path."
        )
    return 0


def _install() -> None:
    if os.geteuid() != 0 or shutil.which("apt-get") is None:
        return
    print("Installing Chromium for the browser tests", flush=True)
    quiet = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    for command in (
        ["apt-get", "update", "-qq"],
        ["apt-get", "install", "-y", "-qq", "--no-install-recommends", *PACKAGES],
    ):
        done = subprocess.run(
            command,
            env=quiet,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            print(f"{' '.join(command)} failed:\n{done.stderr.strip()}")
            return


if __name__ == "__main__":
    sys.exit(main())
