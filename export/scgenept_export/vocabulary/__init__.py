"""The scGPT vocabulary: the token id of each gene name.

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
from scgenept_rt.errors import UseOption
from scgenept_rt.files.failures import failed_reads
from scgenept_rt.files.text import read_text

SPECIAL_TOKENS = ("<pad>", "<cls>", "<eoc>")
"""Appended in this order when missing, as upstream's `match_genes_to_scgpt_vocab` does."""

PADDING = SPECIAL_TOKENS[0]


@dataclass(frozen=True)
class Vocabulary:
    """Token id by gene name, special tokens included."""

    source: str
    token_ids: Mapping[str, int]

    @property
    def n_tokens(self) -> int:
        """Number of rows of the embedding tables of a fitting checkpoint."""
        return max(self.token_ids.values()) + 1

    def encode(self, gene_names: Sequence[str]) -> tuple[list[int], list[bool]]:
        """Return token id and in-vocabulary flag of each gene; genes outside the vocabulary get `<pad>`'s id."""
        padding = self.token_ids[PADDING]
        genes = {name: token for name, token in self.token_ids.items() if name not in SPECIAL_TOKENS}
        return [genes.get(name, padding) for name in gene_names], [name in genes for name in gene_names]

    def check_fits(self, n_tokens: int) -> None:
        """Raise `VocabularyError` unless the checkpoint's embedding tables have one row per token."""
        if n_tokens != self.n_tokens:
            raise VocabularyError(
                f"it has {self.n_tokens:,} tokens (with the special ones), but the checkpoint's embedding tables have "
                f"{n_tokens:,} rows",
                options=[UseOption("vocab", "name the vocabulary that the checkpoint was trained with")],
                where=f"vocabulary {self.source}",
            )


def census_vocabulary() -> Vocabulary:
    """Return the published census vocabulary (60,697 tokens with the special ones)."""
    packed = resources.files(__package__).joinpath("census_genes.txt.xz").read_bytes()
    names = lzma.decompress(packed).decode("utf-8").splitlines()
    return _with_special_tokens("census (shipped)", {name: i for i, name in enumerate(names)})


def read_vocabulary(path: str | Path) -> Vocabulary:
    """Read a vocab.json: one object that maps gene names to token ids.

    Raises `VocabularyError` if the file cannot be read, is not such an object, or gives one id to two names.
    """
    with failed_reads(VocabularyError, f"vocabulary {path}", remedy="Use scGPT's vocab.json"):
        loaded = json.loads(read_text(Path(path)))
        if not isinstance(loaded, dict) or not loaded or not all(type(i) is int and i >= 0 for i in loaded.values()):
            raise ValueError("it is not an object of gene names and token ids")
        if len(set(loaded.values())) != len(loaded):
            raise ValueError("it gives two names the same token id")
    return _with_special_tokens(str(path), loaded)


def _with_special_tokens(source: str, token_ids: Mapping[str, int]) -> Vocabulary:
    complete = dict(token_ids)
    for token in SPECIAL_TOKENS:
        complete.setdefault(token, max(complete.values()) + 1)
    return Vocabulary(source, complete)
