"""Messages are sentences, whatever the number of what they count."""

from __future__ import annotations

import pytest

from scgenept_rt.errors import ScgeneptError
from scgenept_rt.wording import format_duration, join_limited, pluralize


def test_a_count_with_its_noun() -> None:
    assert [pluralize(number, "entry", "entries") for number in (0, 1)] == ["0 entries", "1 entry"]
    assert pluralize(1234, "cell") == "1,234 cells"


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(3, "3 s"), (59.7, "1 min"), (1500, "25 min"), (3580, "1:00 h"), (6296, "1:45 h"), (90_000, "25:00 h")],
)
def test_a_time_is_in_hours_and_minutes_unless_it_is_short(seconds: float, text: str) -> None:
    assert format_duration(seconds) == text


def test_a_long_list_is_cut_and_says_so() -> None:
    assert join_limited("abcde") == "a, b, c, d, e"
    assert join_limited("abcdefg", 3) == "a, b, c and 4 more"
    assert join_limited([]) == ""


def test_control_characters_of_files_do_not_reach_the_terminal():
    message = str(ScgeneptError("the gene \x1b[2J\u202eFOSB\0 is unknown", where="cells\r.h5ad"))
    assert message == r"cells\r.h5ad: the gene \x1b[2J\u202eFOSB\x00 is unknown."
