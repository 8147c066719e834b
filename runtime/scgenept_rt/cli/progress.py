"""Progress of a prediction on standard error: a bar on a terminal, a line now and then elsewhere."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

_SECONDS_BETWEEN_LINES = 15.0


@contextmanager
def prediction_progress(unit: str = "cells") -> Iterator[Callable[[int, int], None]]:
    """Yield a function to be told how many of how many are done; shows the rate and the time left."""
    if not sys.stderr.isatty():
        yield _PlainLines(unit).update
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    rate = _Rate()
    columns = (
        TextColumn("predicting"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[rate]}"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("", total=None, rate="")

        def update(done: int, total: int) -> None:
            bar.update(task, completed=done, total=total, rate=f"{rate.at(done):,.1f} {unit}/s")

        yield update


class _Rate:
    """Work done a second since the first report: what a resumed run found done does not count."""

    def __init__(self) -> None:
        self._started = time.monotonic()
        self._first: int | None = None

    def at(self, done: int) -> float:
        elapsed = time.monotonic() - self._started
        if self._first is None:
            self._first, self._started = done, time.monotonic()
            return done / elapsed if elapsed > 0 else 0.0
        return (done - self._first) / elapsed if elapsed > 0 else 0.0


class _PlainLines:
    def __init__(self, unit: str) -> None:
        self._unit = unit
        self._rate = _Rate()
        self._printed = time.monotonic()

    def update(self, done: int, total: int) -> None:
        rate, now = self._rate.at(done), time.monotonic()
        if now - self._printed < _SECONDS_BETWEEN_LINES:
            return
        self._printed = now
        left = f", {(total - done) / rate:,.0f} s left" if rate else ""
        print(f"{done:,} of {total:,} {self._unit}, {rate:,.1f} {self._unit}/s{left}", file=sys.stderr, flush=True)
