#!/bin/sh
# Runs its arguments with the first Python 3.11 or newer that this machine has; PYTHON names another.
set -eu

new_enough='import sys; sys.exit(sys.version_info < (3, 11))'

for candidate in ${PYTHON:+"$PYTHON"} python3 python3.14 python3.13 python3.12 python3.11 python; do
    if command -v "$candidate" >/dev/null 2>&1 && "$candidate" -c "$new_enough" 2>/dev/null; then
        exec "$candidate" "$@"
    fi
done

echo "Foyer needs Python 3.11 or newer, and none was found." >&2
if command -v apt-get >/dev/null 2>&1; then
    echo "Install it: apt-get install python3 python3-venv" >&2
else
    echo "Install it from your system's packages, or name it: make run PYTHON=/path/to/python3" >&2
fi
exit 1
