"""Jobs are named to the queue as strings: each name exists, and each queue has a worker."""

from __future__ import annotations

import ast
import importlib
import inspect
import re

import pytest
from flask import Flask

from extensions import Queues
from jobs.worker import make_worker
from models import Lane
from tests.architecture.sources import MODULES, PACKAGES, sources, strings, tree_of

_JOB = re.compile(r"jobs\.[a-z_]+\.[a-z_]+")


def job_names() -> set[str]:
    return {
        text
        for part in (*PACKAGES, *MODULES)
        for path in sources(part)
        for text in strings(path)
        if _JOB.fullmatch(text)
    }


def test_every_job_that_is_named_exists_and_says_what_it_does() -> None:
    names = job_names()
    assert len(names) >= 3
    for name in names:
        module, _, function = name.rpartition(".")
        job = getattr(importlib.import_module(module), function)
        documented = inspect.getdoc(job) or ""
        assert "Triggered" in documented, f"{name} does not say what triggers it"
        assert "dempotent" in documented or "harmless" in documented, name


def test_every_job_is_named_somewhere() -> None:
    functions = {
        f"jobs.{path.stem}.{node.name}"
        for path in sources("jobs")
        if path.stem not in {"__init__", "priorities", "sweeping", "worker"}
        for node in tree_of(path).body
        if isinstance(node, ast.FunctionDef) and not node.name.startswith("_")
    }
    assert functions == job_names()


@pytest.mark.parametrize("engine_name", ["sqlite"])
def test_every_queue_is_worked_the_interactive_one_first(app_context: Flask) -> None:
    worker = make_worker(app_context)
    assert [queue.name for queue in worker.queues] == list(Queues.NAMES)
    assert Queues.NAMES[0] == Lane.INTERACTIVE.value
    assert Queues.NAMES[-1] == Lane.BULK.value
    assert {lane.value for lane in Lane} <= set(Queues.NAMES)


def test_every_queue_that_is_named_exists() -> None:
    """`queues.enqueue(name, job, ...)` and `queues[name]`, wherever they stand."""
    named = set()
    for part in (*PACKAGES, *MODULES):
        for path in sources(part):
            for node in ast.walk(tree_of(path)):
                if isinstance(node, ast.Call) and ast.unparse(node.func) == "queues.enqueue":
                    named.add(node.args[0])
                elif isinstance(node, ast.Subscript) and ast.unparse(node.value) == "queues":
                    named.add(node.slice)
    words = {node.value for node in named if isinstance(node, ast.Constant)}
    assert words
    assert words <= set(Queues.NAMES)
