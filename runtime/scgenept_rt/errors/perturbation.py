"""Errors about genes and perturbations."""

from __future__ import annotations

import reprlib
from collections.abc import Mapping, Sequence
from pathlib import Path

from scgenept_rt.errors.base import ScgeneptError
from scgenept_rt.errors.wording import listed


class UnknownGeneError(ScgeneptError, LookupError):
    """Gene names that the model does not have; `unknown` maps each to the near spellings that it does have."""

    def __init__(self, unknown: Mapping[str, Sequence[str]], n_genes: int) -> None:
        self.unknown = {name: tuple(near) for name, near in unknown.items()}

        def with_hint(name: str) -> str:
            near = self.unknown[name]
            return f"{name} (did you mean {' or '.join(near)}?)" if near else name

        names = list(self.unknown)
        subject = "gene is" if len(names) == 1 else f"{len(names):,} genes are"
        search = names[0][:3] if len(names) == 1 and names[0][:3].isalnum() else "STR"
        super().__init__(
            f"{subject} not among the model's {n_genes:,} genes: {listed([with_hint(name) for name in names], 20)}. "
            f"List the genes with `scgenept-rt genes BUNDLE --search {search}`."
        )


class GeneKeyError(ScgeneptError, LookupError):
    """The asked-for source of gene names is not a column of var."""

    def __init__(self, gene_key: str, available: Sequence[str]) -> None:
        super().__init__(
            f"var has no column {gene_key!r} to take gene names from (it has: {listed(available, 12) or 'none'}). "
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
            f"gene names of the input ({source}) that the model needs do not name one column each: {listed(stated)}. "
            "Which column is meant cannot be known. `adata.var_names_make_unique()` is NOT right for this: it renames "
            "all but the first column, which is then used whatever it holds. Keep the right column of each gene in the "
            "input (or sum them before normalising), or use a column with unique Ensembl ids: --gene-key COLUMN."
        )


class PerturbationError(ScgeneptError, ValueError):
    """A perturbation that cannot be predicted as it is written."""


class EmptyPerturbationError(PerturbationError):
    """A perturbation, or one part of it, is an empty string; or there is no perturbation at all."""

    def __init__(self, label: str | None = None) -> None:
        if label is None:
            problem = "no perturbation was given"
        elif label.strip():
            problem = f"perturbation {label!r} has an empty part"
        else:
            problem = f"a perturbation is empty ({label!r})"
        super().__init__(f"{problem}. Expected gene names such as FOSB, FOSB+ctrl or SAMD1+ZBTB1, or ctrl for none.")


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

    def __init__(self, label: str, gene: str, spellings: Sequence[str]) -> None:
        self.gene = gene
        as_written = " and ".join(dict.fromkeys(spellings))
        detail = f" (written {as_written})" if as_written != gene else ""
        super().__init__(
            f"perturbation {label!r} names the gene {gene} twice{detail}. Name each gene once: {gene} or {gene}+ctrl."
        )


class PerturbationFileError(PerturbationError):
    """A file of perturbations or genes that cannot be used as it is; the message names file, line and column."""

    def __init__(
        self, path: Path | str, problem: str, remedy: str, *, line: int | None = None, column: str | None = None
    ) -> None:
        self.path, self.line, self.column = Path(path), line, column
        where = str(path)
        if line is not None:
            where += f", line {line}"
        if column is not None:
            where += f", column {column!r}"
        super().__init__(f"{where}: {problem}. {remedy}")
