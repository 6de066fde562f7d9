"""What was measured, round by round, and what it says about the targets."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any


@dataclass(frozen=True, slots=True)
class Sample:
    """One measurement. One with `faults` is no measurement: what it did was wrong."""

    value: float
    faults: tuple[str, ...] = ()
    details: dict[str, Any] = field(default_factory=dict)


class Records:
    """The samples of each series in the order of the rounds, and the parts that broke off."""

    def __init__(self) -> None:
        self.samples: dict[str, list[Sample]] = {}
        self.broken: dict[str, str] = {}

    def add(
        self, series: str, value: float, *, faults: Sequence[str] = (), **details: Any
    ) -> Sample:
        sample = Sample(value, tuple(faults), details)
        self.samples.setdefault(series, []).append(sample)
        return sample

    def values(self, series: str) -> list[float]:
        """Raises LookupError when there are none."""
        if not (found := self.samples.get(series)):
            raise LookupError(series)
        return [each.value for each in found]

    def median(self, series: str) -> float:
        return statistics.median(self.values(series))

    def ratio(self, series: str, unit: str) -> float:
        """The median of the rounds' ratios: both of a ratio saw the same machine."""
        pairs = zip(self.values(series), self.values(unit), strict=False)
        return statistics.median(mine / other for mine, other in pairs)

    def detail(self, series: str, name: str) -> float:
        """The median of a detail of the samples."""
        self.values(series)
        return float(statistics.median(each.details[name] for each in self.samples[series]))

    def faults_of(self, series: Sequence[str]) -> list[str]:
        found = [
            f"{name}: {fault}"
            for name in series
            for sample in self.samples.get(name, ())
            for fault in sample.faults
        ]
        return found + [f"{name} has no result" for name in series if name not in self.samples]


class Verdict(StrEnum):
    MET = "met"
    MISSED = "missed"
    FAILED = "FAILED"
    SHOWN = ""
    """For what has no target."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One line of the result."""

    name: str
    title: str
    value: str
    target: str
    verdict: Verdict
    note: str = ""
    number: float | None = None
    limit: float | None = None


@dataclass(frozen=True, slots=True)
class Row:
    """One line of the table: from which `series` it is worked out, and how it is judged.

    `limit` is reached from below when `at_least`, otherwise kept from above; None has no target.
    `shown` writes a figure. `note` says what else a reader must know, from the records.
    `part` is what has to run for it.
    """

    name: str
    title: str
    part: str
    series: tuple[str, ...]
    evaluate: Callable[[Records], float]
    shown: Callable[[float], str]
    target: str = ""
    limit: float | None = None
    at_least: bool = True
    note: Callable[[Records], str] = lambda _: ""

    def judge(self, records: Records) -> Finding:
        """A wrong or missing measurement fails the row, whatever the figure says."""
        faults = records.faults_of(self.series)
        if self.part in records.broken:
            faults = [records.broken[self.part]]
        if faults:
            more = f" (and {len(faults) - 1} more)" if len(faults) > 1 else ""
            return Finding(
                self.name, self.title, "none", self.target, Verdict.FAILED, faults[0] + more
            )
        number = self.evaluate(records)
        return Finding(
            self.name,
            self.title,
            self.shown(number),
            self.target,
            self._verdict(number),
            self.note(records),
            number,
            self.limit,
        )

    def _verdict(self, number: float) -> Verdict:
        if self.limit is None:
            return Verdict.SHOWN
        reached = number >= self.limit if self.at_least else number <= self.limit
        return Verdict.MET if reached else Verdict.MISSED
