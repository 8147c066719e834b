from __future__ import annotations

import json
from pathlib import Path

import pytest

from scgenept_export.errors import VocabularyError
from scgenept_export.vocabulary import SPECIAL_TOKENS, Vocabulary, census_vocabulary, read_vocabulary


def written(tmp_path: Path, contents: object) -> Path:
    path = tmp_path / "vocab.json"
    path.write_text(contents if isinstance(contents, str) else json.dumps(contents))
    return path


def test_special_tokens_are_appended_in_upstreams_order_and_are_no_genes(tmp_path: Path) -> None:
    vocabulary = read_vocabulary(written(tmp_path, {"B": 1, "A": 0}))
    assert vocabulary.token_ids == {"B": 1, "A": 0, "<pad>": 2, "<cls>": 3, "<eoc>": 4}
    assert vocabulary.n_tokens == 5
    names = ["B", "ZZ", "A", "b", *SPECIAL_TOKENS]
    assert vocabulary.encode(names) == ([1, 2, 0, 2, 2, 2, 2], [True, False, True, *[False] * 4])


def test_the_census_vocabulary_fits_published_checkpoints() -> None:
    vocabulary = census_vocabulary()
    vocabulary.check_fits(60_697)
    assert [vocabulary.token_ids[token] for token in SPECIAL_TOKENS] == [60_694, 60_695, 60_696]
    assert sorted(vocabulary.token_ids.values()) == list(range(60_697))


def test_a_vocabulary_of_another_size_is_refused_with_both_sizes() -> None:
    with pytest.raises(VocabularyError, match=r"vocabulary mine: it has 2 tokens.*have 60,697 rows.*vocab="):
        Vocabulary("mine", {"A": 0, "<pad>": 1}).check_fits(60_697)


@pytest.mark.parametrize(
    ("contents", "problem"),
    [
        ("{not json", "cannot be read"),
        (["A", "B"], "is not an object of gene names and token ids"),
        ({"A": True}, "is not an object of gene names and token ids"),
        ({"A": -1}, "is not an object of gene names and token ids"),
        ({"A": 0, "B": 0}, "gives two names the same token id"),
    ],
)
def test_unusable_files_are_refused(contents: object, problem: str, tmp_path: Path) -> None:
    path = written(tmp_path, contents)
    with pytest.raises(VocabularyError, match=problem) as caught:
        read_vocabulary(path)
    assert str(path) in str(caught.value)
