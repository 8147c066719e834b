"""Progress on standard error: a bar on a terminal, a line now and then elsewhere."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from scgenept_rt.cli.messages import note, say
from scgenept_rt.errors import Notice, UseOption
from scgenept_rt.wording import format_duration

_SECONDS_BETWEEN_LINES = 15.0
_LONG_SECONDS, _SECONDS_TO_JUDGE = 3600.0, 5.0

Show = Callable[[str, int, int | None], None]
"""Called with a line of text, and how many of how many are done."""


@contextmanager
def show_progress(unit: str, *, scale: float = 1.0, shorter: Sequence[UseOption] = ()) -> Iterator[Callable[..., None]]:
    """Yield a function that takes how many of how many are done, and shows them with the rate and the time left.

    The rate is that since its first call: what a resumed run found done does not count. Counts are shown in `unit`,
    divided by `scale`; a third argument is shown after the rate. `shorter` are options to suggest if more than an hour
    is left.
    """
    begun: tuple[float, int] | None = None
    is_long = False
    with _bar() if sys.stderr.isatty() else _lines() as show:

        def update(done: int, total: int | None, also: str = "") -> None:
            nonlocal begun, is_long
            now = time.monotonic()
            started, first = begun = begun or (now, done)
            seconds = now - started
            per_second = (done - first) / seconds if seconds else 0.0
            left = (total - done) / per_second if total and per_second else 0.0
            if shorter and not is_long and left > _LONG_SECONDS and seconds > _SECONDS_TO_JUDGE:
                is_long = True
                note(Notice(f"this run will take about {format_duration(left)}", options=shorter))
            of_total = f" of {total / scale:,.0f}" if total else ""
            texts = [f"{done / scale:,.0f}{of_total} {unit}", f"{per_second / scale:,.1f} {unit}/s", also]
            if left:
                texts.append(f"{format_duration(left)} left")
            show(", ".join(filter(None, texts)), done, total)

        yield update


@contextmanager
def _lines() -> Iterator[Show]:
    printed = time.monotonic()

    def show(text: str, *_: int | None) -> None:
        nonlocal printed
        now = time.monotonic()
        if now - printed >= _SECONDS_BETWEEN_LINES:
            printed = now
            say(text)

    yield show


@contextmanager
def _bar() -> Iterator[Show]:
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn

    with Progress(BarColumn(), TextColumn("{task.description}"), console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("", total=None)
        yield lambda text, done, total: bar.update(task, completed=done, total=total, description=text)
