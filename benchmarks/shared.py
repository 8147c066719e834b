"""What the scripts share: comma-separated options, processes, time, and results as JSON and tables."""

from __future__ import annotations

import json
import multiprocessing
import resource
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from scgenept_rt.benchmark.machine import describe_machine
from scgenept_rt.providers import select_provider
from tables import table


def numbers(text: str) -> list[int]:
    return [int(part) for part in text.split(",")]


def machine(device: str = "cpu") -> dict[str, Any]:
    return describe_machine(select_provider(provider=device))


def in_new_process(run: Callable[..., Any], *arguments: object) -> Any:
    """Call a function in a process of its own, whose memory and imports end with it."""
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as process:
        return process.submit(run, *arguments).result()


def save(result: dict[str, Any], path: Path | None, *tables: str) -> None:
    """Write a result, if it is wanted, and print its tables."""
    if path is not None:
        path.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    for name in tables:
        print(table(result, name), end="\n\n")


@contextmanager
def timed(who: int = resource.RUSAGE_SELF) -> Iterator[dict[str, float]]:
    """Measure the time and the processor time of what runs within."""
    found: dict[str, float] = {}
    begin, usage = time.perf_counter(), resource.getrusage(who)
    yield found
    ended = resource.getrusage(who)
    found["seconds"] = time.perf_counter() - begin
    found["cpu_seconds"] = ended.ru_utime - usage.ru_utime + ended.ru_stime - usage.ru_stime
