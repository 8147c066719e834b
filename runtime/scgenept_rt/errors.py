"""Errors that a user can put right.

Each class takes the facts and writes its own sentence: what was wrong with its value, where it stood, what was
expected, and one next step. All derive from `ScgeneptError`, which the command line prints without a traceback
(exit code 1), and from the builtin that fits, so that callers may catch either.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path


def listed(items: Sequence[object], limit: int = 5) -> str:
    """Join the first `limit` items for a message and say how many more there are."""
    head = ", ".join(str(item) for item in items[:limit])
    rest = len(items) - limit
    return f"{head} and {rest:,} more" if rest > 0 else head


class ScgeneptError(Exception):
    """Base class of every error that this package raises on purpose."""


# --- bundle -----------------------------------------------------------------------------------------------------------


class BundleError(ScgeneptError, ValueError):
    """A directory that is not a bundle that this version can use."""

    def __init__(self, directory: Path | str, problem: str, remedy: str) -> None:
        self.directory = Path(directory)
        super().__init__(f"bundle {self.directory}: {problem}. {remedy}")


class BundleNotFoundError(BundleError, FileNotFoundError):
    """The directory or its manifest does not exist (an interrupted export leaves no manifest)."""

    def __init__(self, directory: Path | str) -> None:
        directory = Path(directory)
        if not directory.exists():
            problem, remedy = "there is no such directory", "Check the path, or make one with `scgenept-export bundle`"
        elif not directory.is_dir():
            problem, remedy = (
                "this is a file, but a bundle is a directory",
                "Give the directory that holds manifest.json",
            )
        else:
            problem = "it holds no manifest.json, so it is not a bundle or its export did not finish"
            remedy = "Run the export again with --overwrite"
        super().__init__(directory, problem, f"{remedy}.")


class BundleFormatError(BundleError):
    """The manifest was written by a newer release, or is not readable as a manifest."""

    def __init__(self, directory: Path | str, found: object, supported: int) -> None:
        super().__init__(
            directory,
            f"its format_version is {found!r}, this release reads up to {supported}",
            "Upgrade scgenept-rt, or export the bundle again with this release.",
        )


class BundleFileError(BundleError):
    """A file named in the manifest is missing or its bytes are not those that were exported."""

    def __init__(self, directory: Path | str, file: str, problem: str) -> None:
        super().__init__(directory, f"{file} {problem}", "Copy or export the bundle again.")


class GraphNotInBundleError(BundleError, LookupError):
    """The bundle holds no graph of the wanted precision and target."""

    def __init__(self, directory: Path | str, precision: str, target: str, available: Sequence[str]) -> None:
        flag = " --portable" if target == "portable" else ""
        super().__init__(
            directory,
            f"it holds no {precision} graph for the target {target!r} (it holds: {listed(available) or 'none'})",
            f"Export it with `scgenept-export bundle ... --precision {precision}{flag}`, or choose one that it holds.",
        )


# --- output -----------------------------------------------------------------------------------------------------------


class OutputError(ScgeneptError):
    """An output path that cannot be used, or a partial output that cannot be continued."""

    def __init__(self, path: Path | str, message: str) -> None:
        self.path = Path(path)
        super().__init__(message)


class OutputFormatError(OutputError, ValueError):
    """The ending of the output path names no format that can be written."""

    def __init__(self, path: Path | str) -> None:
        ending = Path(path).suffix
        super().__init__(
            path,
            f"output {path}: the ending {ending!r} is unknown; outputs end in .h5ad or .zarr. "
            "Give a path with one of these endings.",
        )


class OutputExistsError(OutputError, FileExistsError):
    """The output exists and was not to be replaced."""

    def __init__(self, path: Path | str) -> None:
        super().__init__(path, f"output {path} exists already. Choose another path, or replace it with --overwrite.")


class OutputKindError(OutputError, OSError):
    """Something at the output path must not be replaced: a directory, a file, or a directory that is no store."""

    def __init__(self, path: Path | str, found: str, expected: str) -> None:
        super().__init__(path, f"output {path}: there is {found}, expected {expected}. Choose another path.")


class OutputDirectoryError(OutputError, OSError):
    """The directory of the output does not exist or cannot be written."""

    def __init__(self, path: Path | str, problem: str) -> None:
        super().__init__(
            path, f"output {path}: the directory {Path(path).parent} {problem}. Create it, or choose another path."
        )


class OutputIsInputError(OutputError, ValueError):
    """The output would replace the input that it is computed from."""

    def __init__(self, path: Path | str) -> None:
        super().__init__(path, f"output {path} is the input file itself, which is never replaced. Choose another path.")


class OutputSpaceError(OutputError, OSError):
    """The disk has too little room for the output."""

    def __init__(self, path: Path | str, needed: int, free: int) -> None:
        super().__init__(
            path,
            f"output {path}: it needs about {needed / 1e9:,.2f} GB, but its disk has {free / 1e9:,.2f} GB free. "
            "Free some space, choose a path on another disk, or write fewer rows (--aggregate mean).",
        )


class OutputWriteError(OutputError, OSError):
    """Writing failed midway (a full disk, a lost mount); the rows committed so far are kept."""

    def __init__(self, path: Path | str, problem: str, n_committed: int, n_rows: int, command: str) -> None:
        super().__init__(
            path,
            f"output {path}: writing failed ({problem}); {n_committed:,} of {n_rows:,} rows are kept. "
            f"Put that right, then continue with: {command or 'the same command and --resume'}",
        )


class PartialOutputError(OutputError, FileExistsError):
    """An interrupted run left part of this output, and nothing says whether to continue or to discard it."""

    def __init__(self, path: Path | str, n_committed: int, n_rows: int, command: str) -> None:
        self.n_committed = n_committed
        self.n_rows = n_rows
        super().__init__(
            path,
            f"output {path}: an interrupted run left {n_committed:,} of {n_rows:,} rows. "
            f"Continue it with: {command or 'the same command and --resume'}\nor discard it with --overwrite.",
        )


class PartialDamagedError(OutputError, ValueError):
    """What an interrupted run left cannot be continued."""

    def __init__(self, path: Path | str, partial: Path | str, problem: str) -> None:
        super().__init__(
            path,
            f"output {path}: the partial output in {partial} cannot be continued: {problem}. "
            "Discard it and start again with --overwrite (without --resume).",
        )


class ResumeMismatchError(OutputError, ValueError):
    """The interrupted run had other settings than the one that is to continue it."""

    def __init__(self, path: Path | str, differences: Sequence[tuple[str, str, str]]) -> None:
        self.differences = tuple(differences)
        lines = "".join(f"\n  {name}: {before} before, {now} now" for name, before, now in differences)
        super().__init__(
            path,
            f"output {path}: the interrupted run had other settings:{lines}\n"
            "Resume with the settings of before, or discard it with --overwrite (without --resume).",
        )


class OutputBusyError(OutputError, BlockingIOError):
    """Another process is writing this output."""

    def __init__(self, path: Path | str) -> None:
        super().__init__(
            path, f"output {path}: another process is writing it now. Wait for that one, or choose another path."
        )


class ZarrMissingError(OutputError, ImportError):
    """A .zarr path was given, but the zarr package is not installed."""

    def __init__(self, path: Path | str) -> None:
        super().__init__(
            path,
            f"{path}: reading or writing .zarr needs the zarr package. "
            "Install it with `pip install 'scgenept-rt[zarr]'`, or use .h5ad.",
        )


# --- genes and perturbations ------------------------------------------------------------------------------------------


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
