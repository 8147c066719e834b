"""What is shown of the progress of a run."""

from __future__ import annotations

import time

import pytest

from scgenept_rt.cli.messages import show_progress
from scgenept_rt.errors import Notice, UseOption


@pytest.mark.parametrize(("total", "long"), [(10_000, True), (2_000, False)])
def test_a_run_of_more_than_an_hour_is_noted_once_with_its_first_batch(
    total: int, long: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = 0.0
    told: list[Notice] = []
    monkeypatch.setattr(time, "monotonic", lambda: now)
    monkeypatch.setattr("scgenept_rt.cli.messages.note", told.append)
    with show_progress("cells", shorter=[UseOption("n_controls", "use fewer control cells")]) as progress:
        now = 1_000.0  # cells were read
        progress(500, total)  # a resumed run
        for done in range(510, 600, 10):
            now += 10
            progress(done, total)
            assert [[option.name for option in notice.options] for notice in told] == [["n_controls"]] * long


def test_lines_have_the_rate_since_the_first_call_and_the_time_left(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    now = 0.0
    monkeypatch.setattr(time, "monotonic", lambda: now)
    with show_progress("MB", scale=10) as progress:
        now = 5.0
        progress(100, 100_000)
        now = 25.0
        progress(300, 100_000, "2 workers")
    assert capsys.readouterr().err == "30 of 10,000 MB, 1.0 MB/s, 2 workers, 2:46 h left\n"
