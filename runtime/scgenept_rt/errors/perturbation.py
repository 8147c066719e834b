"""Errors about genes and perturbations."""

from __future__ import annotations

import reprlib
from collections.abc import Mapping, Sequence
from pathlib import Path

from scgenept_rt.errors.base import ScgeneptError
from scgenept_rt.errors.wording import join_limited


class UnknownGeneError(ScgeneptError, LookupError):
    """Gene names that the model does not have; `unknown` maps each to the near spellings that it does have.

    `places` are file and line of those that were read from a file.
    """

    def __init__(
        self,
        unknown: Mapping[str, Sequence[str]],
        n_genes: int,
        places: Mapping[str, tuple[Path, int]] | None = None,
    ) -> None:
        self.unknown = {name: tuple(near) for name, near in unknown.items()}
        self.places = dict(places or {})
        names = list(self.unknown)
        # One file that all are from is named once, in front.
        files = {self.places[name][0] if name in self.places else None for name in names}
        file = next(iter(files)) if len(files) == 1 else None
        where = ""
        if file is not None:
            where = f"{_at(file, self.places[names[0]][1] if len(names) == 1 else None)}: "

        def describe(name: str) -> str:
            facts = []
            if name in self.places and file is None:
                facts.append(_at(*self.places[name]))
            elif name in self.places and len(names) > 1:
                facts.append(f"line {self.places[name][1]}")
            if self.unknown[name]:
                facts.append(f"did you mean {' or '.join(self.unknown[name])}?")
            return f"{name} ({'; '.join(facts)})" if facts else name

        subject = "gene is" if len(names) == 1 else f"{len(names):,} genes are"
        super().__init__(
            f"{where}{subject} not among the model's {n_genes:,} genes: "
            f"{join_limited([describe(name) for name in names], 20)}. "
            f"List the genes with `scgenept-rt genes BUNDLE{_search(names)}`."
        )


def _search(names: Sequence[str]) -> str:
    """Return the option that lists genes like an unknown one, where that narrows the list."""
    start = names[0][:3]
    if len(names) > 1 or not start.isalnum():
        return " --search STR"
    # The search looks at Ensembl ids too, all of which begin so.
    return "" if start.upper() == "ENS" else f" --search {start}"


def _at(file: Path | str, line: int | None, column: str | None = None) -> str:
    where = "standard input" if str(file) == "-" else str(file)
    if line is not None:
        where += f", line {line}"
    return where if column is None else f"{where}, column {column!r}"


class GeneKeyError(ScgeneptError, LookupError):
    """The asked-for source of gene names is not a column of var."""

    def __init__(self, gene_key: str, available: Sequence[str]) -> None:
        super().__init__(
            f"var has no column {gene_key!r} to take gene names from (it has: {join_limited(available, 12) or 'none'}). "
            "Choose one of these with --gene-key, or leave it out."
        )


class DuplicateGeneNamesError(ScgeneptError, ValueError):
    """Several columns of the input carry the name of one gene of the model."""

    def __init__(
        self, source: str, columns_by_gene: Mapping[str, Sequence[int]], model_counts: Mapping[str, int]
    ) -> None:
        self.genes = tuple(columns_by_gene)
        stated = [
            f"{name} ({len(columns):,} of the input"
            + (f", {model_counts[name]} of the model" if model_counts.get(name, 1) > 1 else "")
            + ")"
            for name, columns in columns_by_gene.items()
        ]
        super().__init__(
            f"gene names of the input ({source}) that the model needs do not name one column each: {join_limited(stated)}. "
            "Which column is meant cannot be known. `adata.var_names_make_unique()` is NOT right for this: it renames "
            "all but the first column, which is then used whatever it holds. Keep the right column of each gene in the "
            "input (or sum them before normalising), or use a column with unique Ensembl ids: --gene-key COLUMN."
        )


class PerturbationError(ScgeneptError, ValueError):
    """A perturbation that cannot be predicted as it is written."""


class EmptyPerturbationError(PerturbationError):
    """A perturbation, or one part of it, is an empty string; or there is no perturbation at all."""

    def __init__(self, label: str | None = None, place: tuple[Path, int] | None = None) -> None:
        if label is None:
            problem = "no perturbation was given"
        elif label.strip():
            problem = f"perturbation {label!r} has an empty part"
        else:
            problem = f"a perturbation is empty ({label!r})"
        where = "" if place is None else f"{_at(*place)}: "
        super().__init__(
            f"{where}{problem}. Expected gene names such as FOSB, FOSB+ctrl or SAMD1+ZBTB1, or ctrl for none."
        )


class PerturbationTypeError(PerturbationError, TypeError):
    """Something else was given where a label, or a list of labels, was expected; `argument` says where it stood."""

    def __init__(self, argument: str, value: object, *, several: bool = False) -> None:
        self.value = value
        if "[" in argument:
            expected = "a label such as FOSB+ctrl. Leave out entries that are none (of a pandas column: .dropna())."
        elif several:
            expected = "a label such as FOSB+ctrl, or a list of labels."
        else:
            expected = "one label such as FOSB+ctrl. For several, call it once for each, or use `Predictor.predict`."
        super().__init__(f"{argument} is {reprlib.repr(value)} ({type(value).__name__}), expected {expected}")


class RepeatedGeneError(PerturbationError):
    """A perturbation names one gene twice, possibly in two spellings."""

    def __init__(self, label: str, gene: str, spellings: Sequence[str], place: tuple[Path, int] | None = None) -> None:
        self.gene = gene
        as_written = " and ".join(dict.fromkeys(spellings))
        detail = f" (written {as_written})" if as_written != gene else ""
        where = "" if place is None else f"{_at(*place)}: "
        super().__init__(
            f"{where}perturbation {label!r} names the gene {gene} twice{detail}. "
            f"Name each gene once: {gene} or {gene}+ctrl."
        )


class PerturbationFileError(PerturbationError):
    """A file of perturbations or genes that cannot be used as it is; the message names file, line and column."""

    def __init__(
        self, path: Path | str, problem: str, remedy: str, *, line: int | None = None, column: str | None = None
    ) -> None:
        self.path, self.line, self.column = Path(path), line, column
        super().__init__(f"{_at(path, line, column)}: {problem}. {remedy}")
