"""The genes of a model, looked up by symbol or Ensembl id, and whether they are those of its training data."""

from __future__ import annotations

import difflib
import hashlib
import lzma
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from importlib import resources
from pathlib import Path
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from scgenept_rt.bundle import Manifest
from scgenept_rt.errors import UnknownGeneError
from scgenept_rt.wording import join_limited

# GENCODE's `_PAR_Y` copies do not match: they are other genes than those that they copy.
_ENSEMBL_ID = re.compile(r"(ENS[A-Z]*G\d{11})(?:\.\d+)?")
_N_SHOWN = 20
_MIN_IN_VOCAB = 0.75
"""Of Norman's genes 90% are in the census vocabulary, of Adamson's 87%."""

# Number of genes, and sha256 of their names in order, one per line with a trailing newline.
_PUBLISHED = {
    "norman": (5045, "03ca7b42bb5dbbce7c8e8445fa83db72faa5a9ba681bc23c1c3989bf54456f2d"),
    "adamson": (5060, "3cc30a2a25a514406cc5625c16b1f4a5d0328d890b391b4bca39f216cbfe3331"),
}

_Key = TypeVar("_Key")
_Value = TypeVar("_Value")


def ensembl_id(name: str) -> str | None:
    """Return `name` without its version if it is an Ensembl gene id, else None."""
    if not name.startswith("ENS"):
        return None
    match = _ENSEMBL_ID.fullmatch(name)
    return match.group(1) if match else None


@dataclass(frozen=True, eq=False)
class GenePanel:
    """The genes that a model reads and predicts, in model order.

    A name may occur twice: look-ups return its first position, as the published code does.
    """

    names: tuple[str, ...]  # gene symbols
    ids: tuple[str | None, ...]  # Ensembl ids, None where unknown
    in_vocab: NDArray[np.bool_]  # False for genes without a token of their own, which the network cannot tell apart
    training_total: float | None = None  # per cell, to which the training data were normalised; None if not known

    @classmethod
    def from_manifest(cls, manifest: Manifest) -> GenePanel:
        """Return the panel that a bundle's manifest lists."""
        in_vocab = np.array(manifest.in_vocab, dtype=np.bool_)
        in_vocab.flags.writeable = False
        return cls(manifest.gene_names, manifest.gene_ids, in_vocab, manifest.training_total)

    def __len__(self) -> int:
        return len(self.names)

    def __contains__(self, name: object) -> bool:
        return isinstance(name, str) and self._lookup(name) is not None

    @cached_property
    def positions_by_name(self) -> Mapping[str, Sequence[int]]:
        """Every position of each name."""
        return grouped(zip(self.names, range(len(self)), strict=True))

    @cached_property
    def position_by_id(self) -> Mapping[str, int]:
        """The position of each Ensembl id, without version; where the panel has no id, a name that is one counts."""
        ids = [ensembl_id(gene_id or name) for gene_id, name in zip(self.ids, self.names, strict=True)]
        return {gene_id: position for position, gene_id in reversed([*enumerate(ids)]) if gene_id is not None}

    @cached_property
    def positions_by_other_name(self) -> Mapping[str, Sequence[int]]:
        """The positions of the genes that HGNC names or named otherwise than the panel, by these names.

        The Ensembl id tells which gene it is; where the panel has no ids, a name that no other gene had does.
        """
        by_id, by_name = _other_names()
        return grouped(
            (other, position)
            for position, (gene_id, name) in enumerate(zip(self.ids, self.names, strict=True))
            for other in (by_id.get(ensembl_id(gene_id) or "", ()) if gene_id else by_name.get(name, ()))
            if other not in self.positions_by_name
        )

    def position(self, name: str) -> int:
        """Return the column of a gene by its symbol, its Ensembl id (with or without version), or a former symbol.

        Of a symbol that occurs twice, the first column is returned, as by upstream's `create_pert_flags`. Raises
        `UnknownGeneError` with near spellings if the model has no such gene.
        """
        position = self._lookup(name)
        if position is None:
            raise self.unknown_genes_error([name])
        return position

    def find(self, search: str) -> list[int]:
        """Return the positions of the genes whose name or Ensembl id contains `search`, in any case."""
        wanted = search.casefold()
        return [
            position
            for position, (name, gene_id) in enumerate(zip(self.names, self.ids, strict=True))
            if wanted in name.casefold() or (gene_id is not None and wanted in gene_id.casefold())
        ]

    def suggestions(self, name: str, limit: int = 3) -> list[str]:
        """Return names of the model near to `name`: first those that differ only in case or separators."""
        same_letters = self._names_by_letters.get(_letters(name), [])
        if same_letters:
            return same_letters[:limit]
        near = difflib.get_close_matches(_letters(name), self._names_by_letters, n=limit, cutoff=0.7)
        return [self._names_by_letters[letters][0] for letters in near]

    def unknown_genes_error(
        self,
        names: Iterable[str],
        hints: Mapping[str, Sequence[str]] | None = None,
        places: Mapping[str, tuple[Path, int]] | None = None,
    ) -> UnknownGeneError:
        """Return the error that reports all of `names`.

        `hints` are what may have been meant, by name (near spellings for the others), `places` file and line of names
        that were read from a file.
        """
        names, hints, places = list(dict.fromkeys(names)), hints or {}, places or {}
        files = {places[name][0] if name in places else None for name in names}
        file = files.pop() if len(files) == 1 else None  # all names come from it
        described = []
        for name in names[:_N_SHOWN]:  # near spellings take milliseconds
            near = hints.get(name) or self.suggestions(name)
            facts = [f"did you mean {' or '.join(near)}?"] if near else []
            if name in places and not (file and len(names) == 1):
                facts.insert(0, f"line {places[name][1]}" if file else at_line(*places[name]))
            described.append(f"{name} ({'; '.join(facts)})" if facts else name)
        are = "gene is" if len(names) == 1 else f"{len(names):,} genes are"
        listed = join_limited([*described, *names[_N_SHOWN:]], _N_SHOWN)
        return UnknownGeneError(
            f"{are} not among the model's {len(self):,} genes: {listed}",
            "List the genes with `scgenept-rt genes BUNDLE`",
            where="" if file is None else at_line(file, places[names[0]][1] if len(names) == 1 else None),
        )

    def _lookup(self, name: str) -> int | None:
        unversioned = ensembl_id(name)
        if unversioned is not None and name not in self.positions_by_name:
            return self.position_by_id.get(unversioned)
        positions = self.positions_by_name.get(name) or self.positions_by_other_name.get(name)
        return positions[0] if positions else None

    @cached_property
    def _names_by_letters(self) -> Mapping[str, list[str]]:
        return grouped((_letters(name), name) for name in self.positions_by_name)


def panel_warnings(dataset: str, gene_names: Sequence[str], in_vocab: Sequence[bool]) -> list[str]:
    """Return warnings where a model would predict other genes than those that it was trained on."""
    warnings = []
    if dataset in _PUBLISHED:
        n_genes, digest = _PUBLISHED[dataset]
        if hashlib.sha256("".join(f"{name}\n" for name in gene_names).encode()).hexdigest() != digest:
            warnings.append(
                f"The model's {len(gene_names):,} genes are not the {n_genes:,} of the {dataset.capitalize()} data in "
                f"their order: a model trained on these data is only right with their genes. Export with the gene list "
                f"{dataset}, which ships with the package; the cells to predict from may have other genes."
            )
    n_in_vocab = sum(in_vocab)
    if n_in_vocab < _MIN_IN_VOCAB * len(gene_names):
        warnings.append(
            f"Only {n_in_vocab:,} of the model's {len(gene_names):,} genes are in the vocabulary; the others share one "
            "token, and the model cannot tell them apart by name. Gene lists hold the symbols of the training data."
        )
    return warnings


def grouped(pairs: Iterable[tuple[_Key, _Value]]) -> dict[_Key, list[_Value]]:
    """Return the values of each key, in their order."""
    groups: dict[_Key, list[_Value]] = {}
    for key, value in pairs:
        groups.setdefault(key, []).append(value)
    return groups


def at_line(file: Path, line: int | None = None) -> str:
    """Return a file and line for messages; the path "-" is standard input."""
    name = "standard input" if str(file) == "-" else str(file)
    return name if line is None else f"{name}, line {line}"


def _letters(name: str) -> str:
    return re.sub(r"[-_. ]", "", name).casefold()


@cache
def _other_names() -> tuple[Mapping[str, tuple[str, ...]], Mapping[str, tuple[str, ...]]]:
    """Return all symbols of a gene (HGNC, see README.md), by its Ensembl id and by each; none stands for two genes."""
    packed = resources.files(__package__).joinpath("other_names.tsv.xz").read_bytes()
    rows = (line.split("\t") for line in lzma.decompress(packed).decode("utf-8").splitlines())
    by_id = {gene_id: tuple(names) for gene_id, *names in rows}
    return by_id, {name: names for names in by_id.values() for name in names}
