"""Messages are sentences, whatever the number of what they count."""

from __future__ import annotations

import pytest

from scgenept_rt.errors import join_limited, pluralize


@pytest.mark.parametrize(
    ("number", "words", "text"),
    [
        (0, ("cell",), "0 cells"),
        (1, ("cell",), "1 cell"),
        (1234, ("cell",), "1,234 cells"),
        (1, ("entry", "entries"), "1 entry"),
        (2, ("entry", "entries"), "2 entries"),
    ],
)
def test_a_count_with_its_noun(number: int, words: tuple[str, ...], text: str) -> None:
    assert pluralize(number, *words) == text


def test_a_long_list_is_cut_and_says_so() -> None:
    assert join_limited("abcde") == "a, b, c, d, e"
    assert join_limited("abcdefg", 3) == "a, b, c and 4 more"
    assert join_limited([]) == ""
