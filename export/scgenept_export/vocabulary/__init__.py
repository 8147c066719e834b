"""The scGPT vocabulary: which token id a gene name has.

Ships the published census vocabulary (MIT, see LICENSE.scGPT beside this file); another one is read from a vocab.json.
"""

from __future__ import annotations

import json
import lzma
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

from scgenept_export.errors import VocabularyError

SPECIAL_TOKENS = ("<pad>", "<cls>", "<eoc>")
"""Appended in this order when missing, as upstream's `match_genes_to_scgpt_vocab` does."""

PADDING = SPECIAL_TOKENS[0]
_CENSUS_FILE = "census_genes.txt.xz"


@dataclass(frozen=True)
class Vocabulary:
    """Token id by gene name, special tokens included."""

    source: str
    token_ids: Mapping[str, int]

    @property
    def n_tokens(self) -> int:
        """Number of rows that the embedding tables of a fitting checkpoint have."""
        return max(self.token_ids.values()) + 1

    def encode(self, gene_names: Sequence[str]) -> tuple[list[int], list[bool]]:
        """Return token id and in-vocabulary flag of each gene; genes outside the vocabulary get `<pad>`'s id."""
        padding = self.token_ids[PADDING]
        genes = {name: token for name, token in self.token_ids.items() if name not in SPECIAL_TOKENS}
        return [genes.get(name, padding) for name in gene_names], [name in genes for name in gene_names]

    def check_fits(self, n_tokens: int) -> None:
        """Raise `VocabularyError` unless the checkpoint's tables have one row a token."""
        if n_tokens != self.n_tokens:
            raise VocabularyError(
                self.source,
                f"it has {self.n_tokens:,} tokens (with the special ones), the checkpoint's embedding tables have "
                f"{n_tokens:,} rows",
                "Give the --vocab that the checkpoint was trained with.",
            )


def census_vocabulary() -> Vocabulary:
    """Return the published census vocabulary (60,697 tokens with the special ones)."""
    packed = resources.files(__package__).joinpath(_CENSUS_FILE).read_bytes()
    names = lzma.decompress(packed).decode("utf-8").splitlines()
    return _with_special_tokens("shipped census vocabulary", {name: i for i, name in enumerate(names)})


def read_vocabulary(path: str | Path) -> Vocabulary:
    """Read a vocab.json: one object of gene name to token id.

    Raises
    ------
    VocabularyError
        If the file is missing, is not such an object, or gives one id to two names.
    """
    path = Path(path)
    try:
        loaded = json.loads(path.read_text("utf-8"))
    except OSError as error:
        raise VocabularyError(path, f"it cannot be read ({error.strerror})", "Check the path of --vocab.") from error
    except ValueError as error:
        raise VocabularyError(path, f"it is not JSON ({error})", "Give scGPT's vocab.json.") from error
    if (
        not isinstance(loaded, dict)
        or not loaded
        or not all(isinstance(token, int) and not isinstance(token, bool) and token >= 0 for token in loaded.values())
    ):
        raise VocabularyError(path, "it is not an object of gene name to token id", "Give scGPT's vocab.json.")
    if len(set(loaded.values())) != len(loaded):
        raise VocabularyError(path, "two names have the same token id", "Give scGPT's vocab.json.")
    return _with_special_tokens(str(path), loaded)


def _with_special_tokens(source: str, token_ids: Mapping[str, int]) -> Vocabulary:
    complete = dict(token_ids)
    for token in SPECIAL_TOKENS:
        complete.setdefault(token, max(complete.values()) + 1)
    return Vocabulary(source, complete)
