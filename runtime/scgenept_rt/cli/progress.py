"""Progress on standard error: a bar on a terminal, a line now and then elsewhere."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from scgenept_rt.cli.messages import say
from scgenept_rt.errors import format_duration

_SECONDS_BETWEEN_LINES = 15.0


@contextmanager
def show_progress(unit: str, *, scale: float = 1.0) -> Iterator[Callable[..., None]]:
    """Yield a function that takes how many of how many are done, and shows them with the rate and the time left.

    Counts are shown in `unit`, divided by `scale`. A third argument is shown after the rate.
    """
    rate = Rate()
    if not sys.stderr.isatty():
        printed = time.monotonic()

        def print_line(done: int, total: int | None, also: str = "") -> None:
            nonlocal printed
            per_second, now = rate.at(done), time.monotonic()
            if now - printed >= _SECONDS_BETWEEN_LINES:
                printed = now
                of_total = f" of {total / scale:,.0f}" if total else ""
                left = f", {format_duration((total - done) / per_second)} left" if total and per_second else ""
                last = f", {also}" if also else ""
                say(f"{done / scale:,.0f}{of_total} {unit}, {per_second / scale:,.1f} {unit}/s{left}{last}")

        yield print_line
        return
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (BarColumn(), TextColumn("{task.fields[text]}"), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("", total=None, text="")

        def update(done: int, total: int | None, also: str = "") -> None:
            of_total = f"/{total / scale:,.0f}" if total else ""
            text = f"{done / scale:,.0f}{of_total} {unit}  {rate.at(done) / scale:,.1f} {unit}/s  {also}"
            bar.update(task, completed=done, total=total, text=text)

        yield update


class Rate:
    """Work done per second since the first call: what a resumed run found done does not count."""

    def __init__(self) -> None:
        self._started = time.monotonic()
        self._first: int | None = None

    def at(self, done: int) -> float:
        """Return the rate at the moment; 0 at first."""
        now = time.monotonic()
        if self._first is None:
            self._first = done
        return (done - self._first) / (now - self._started) if now > self._started else 0.0
