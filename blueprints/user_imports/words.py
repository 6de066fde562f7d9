"""What became of an import and its rows, in words."""

from __future__ import annotations

from dataclasses import dataclass

from blueprints.formats import format_number
from models import ImportRowState, ImportState, UserImport

STATES = {
    ImportState.UPLOADED: ("neutral", "Waits for its columns"),
    ImportState.CHECKING: ("neutral", "Being checked"),
    ImportState.CHECKED: ("attention", "Checked, not imported"),
    ImportState.FAILED: ("bad", "Cannot be read"),
    ImportState.IMPORTING: ("neutral", "Being imported"),
    ImportState.FINISHED: ("good", "Imported"),
    ImportState.CANCELLED: ("neutral", "Cancelled"),
    ImportState.UNDOING: ("neutral", "Being undone"),
    ImportState.UNDONE: ("neutral", "Undone"),
}

ROW_STATES = {
    ImportRowState.ADDED: ("good", "Added"),
    ImportRowState.UPDATED: ("good", "Updated"),
    ImportRowState.UNCHANGED: ("neutral", "Unchanged"),
    ImportRowState.UNDONE: ("neutral", "Deleted again"),
    ImportRowState.KEPT: ("attention", "Kept, being used"),
    ImportRowState.TO_ADD: ("neutral", "To add"),
    ImportRowState.TO_UPDATE: ("neutral", "To update"),
    ImportRowState.SAME: ("neutral", "Nothing to change"),
    ImportRowState.FAULTY: ("bad", "With faults"),
    ImportRowState.FAILED: ("bad", "Failed"),
}


@dataclass(frozen=True, slots=True)
class Progress:
    """The bar and the line under it."""

    done: int
    total: int
    line: str


def progress_of(imported: UserImport) -> Progress:
    """How far the work on an import is, from the counters beside its row."""
    number = format_number
    if imported.state is ImportState.CHECKING:
        line = f"{number(imported.rows)} rows read"
        if imported.faulty:
            line += f", {number(imported.faulty)} with faults"
        return Progress(round(imported.share * 1000), 1000, line)
    if imported.state is ImportState.UNDOING:
        done = imported.undone + imported.kept
        total = done + imported.added
        return Progress(done, total, f"{number(done)} of {number(total)} users looked at")
    done = imported.added + imported.updated + imported.unchanged + imported.failed
    total = done + imported.waiting
    line = f"{number(done)} of {number(total)} rows, {number(imported.added)} users added"
    if imported.updated:
        line += f", {number(imported.updated)} updated"
    if imported.failed:
        line += f", {number(imported.failed)} failed"
    return Progress(done, total, line)


def start_label(imported: UserImport) -> str:
    """What the button that begins the import will do."""
    parts = []
    if imported.to_add:
        parts.append(f"Add {_users(imported.to_add)}")
    if imported.to_update:
        parts.append(f"{'update' if parts else 'Update'} {_users(imported.to_update)}")
    if not parts:
        return "Finish: nothing is to change"
    return " and ".join(parts)


def _users(count: int) -> str:
    return "1 user" if count == 1 else f"{format_number(count)} users"
