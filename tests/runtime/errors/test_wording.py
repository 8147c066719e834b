"""Messages are sentences, whatever the number of what they count."""

from __future__ import annotations

import pytest

from scgenept_rt.errors import (
    InferenceFailedError,
    MissingGenesError,
    PartialOutputError,
    join_limited,
    pluralize,
)
from scgenept_rt.evaluation.errors import NoTestPerturbationsError


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


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (InferenceFailedError("cpu", 1, 1, "failed"), "failed on a batch of 1 cell x 1 gene: "),
        (InferenceFailedError("cpu", 2, 3, "failed"), "failed on a batch of 2 cells x 3 genes: "),
        (MissingGenesError("x.h5ad", "AB", 3, "var_names", "ab", None, "a"), "1 of them is there in other case (a)"),
        (
            MissingGenesError("x.h5ad", "AB", 3, "var_names", "ab", None, "ab"),
            "2 of them are there in other case (a, b)",
        ),
        (PartialOutputError("x.h5ad", 0, 1, ""), "left 0 of 1 row."),
        (
            NoTestPerturbationsError("x.h5ad", "s", ["A+B"], ["C"]),
            "no cells of the one test perturbation of the split s (A+B)",
        ),
    ],
)
def test_messages_of_one_and_of_several(error: Exception, words: str) -> None:
    assert words in str(error)
