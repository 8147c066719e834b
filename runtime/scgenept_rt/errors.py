"""Errors that a user can put right.

Each class takes the facts and writes its own sentence: what was wrong with its value, where it stood, what was
expected, and one next step. All derive from `ScgeneptError`, which the command line prints without a traceback
(exit code 1), and from the builtin that fits, so that callers may catch either.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import ClassVar


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


class ZarrMissingError(ScgeneptError, ImportError):
    """A .zarr path was given, but the zarr package is not installed."""

    def __init__(self, path: Path | str) -> None:
        super().__init__(
            f"{path}: reading or writing .zarr needs the zarr package. "
            "Install it with `pip install 'scgenept-rt[zarr]'`, or use .h5ad."
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


# --- providers --------------------------------------------------------------------------------------------------------


class UnknownProviderError(ScgeneptError, ValueError):
    """A name that is no execution provider of this package."""

    # What people write who know the provider under another name.
    _ALIASES: ClassVar[dict[str, str]] = {"gpu": "cuda", "trt": "tensorrt", "pytorch": "torch", "rtx": "tensorrt-rtx"}

    def __init__(self, name: str, known: Sequence[str], where: str = "") -> None:
        self.name = name
        plain = name.lower().replace("_", "-").removesuffix("executionprovider")
        near = [self._ALIASES[plain]] if plain in self._ALIASES else get_close_matches(plain, known, n=1)
        suggestion = f" Did you mean {near[0]!r}?" if near else ""
        super().__init__(
            f"unknown provider {name!r}{' ' + where if where else ''}: expected one of {', '.join(known)}.{suggestion} "
            "`scgenept-rt providers` shows which of them work here."
        )


class ProviderUnavailableError(ScgeneptError, RuntimeError):
    """A provider that was asked for cannot be used on this machine."""

    def __init__(self, provider: str, reason: str, remedy: str) -> None:
        self.provider, self.reason, self.remedy = provider, reason, remedy
        next_step = f" Next: {remedy}." if remedy else ""
        super().__init__(f"provider {provider} is not usable here: {reason}.{next_step}")


class ProviderNotActiveError(ScgeneptError, RuntimeError):
    """ONNX Runtime made a session without the provider that was asked for."""

    def __init__(self, provider: str, ort_provider: str, active: Sequence[str]) -> None:
        self.provider, self.active = provider, tuple(active)
        super().__init__(
            f"provider {provider} did not become active: ONNX Runtime made the session on {listed(active) or 'nothing'}"
            f" instead of {ort_provider}. Run `scgenept-rt providers`, or ask for --provider cpu."
        )


class CacheDirectoryError(ScgeneptError, OSError):
    """The directory in which compiled engines are kept cannot be written."""

    def __init__(self, directory: Path | str, variable: str, cause: OSError) -> None:
        self.directory = Path(directory)
        super().__init__(
            f"the cache directory {directory} for compiled engines cannot be written ({cause.strerror or cause}). "
            f"Set the environment variable {variable} to a directory that can."
        )


class DeviceNotFoundError(ScgeneptError, ValueError):
    """A number of a GPU that does not exist or is not visible."""

    def __init__(self, provider: str, device_id: int, devices: Sequence[str]) -> None:
        self.provider, self.device_id = provider, device_id
        numbered = listed([f"{index}: {name}" for index, name in enumerate(devices)])
        have = f"the visible GPUs are {numbered}" if devices else f"the provider {provider} runs on no GPU"
        super().__init__(
            f"there is no device {device_id} for the provider {provider}: {have}. "
            "Choose one of these; CUDA_VISIBLE_DEVICES limits and renumbers them."
            if devices
            else f"device {device_id} was asked for, but {have}. Ask for --provider cuda, or for no device."
        )


# --- control cells ----------------------------------------------------------------------------------------------------


class CellsError(ScgeneptError, ValueError):
    """An input of cells that cannot be used as it is; `where` is its path, or says that it is an object in memory."""

    def __init__(self, where: str, problem: str, remedy: str) -> None:
        self.where = where
        super().__init__(f"{where}: {problem}. {remedy}")


class CellsNotFoundError(CellsError, FileNotFoundError):
    """The input does not exist."""

    def __init__(self, where: str) -> None:
        super().__init__(where, "there is no such file or directory", "Check the path.")


class CellsFormatError(CellsError):
    """The input is not a readable .h5ad file or .zarr directory."""


class ReadOptionError(CellsError, LookupError):
    """An option names a layer, column or matrix that the input does not have."""


class EmptyCellsError(CellsError):
    """The input has no cells or no genes."""

    def __init__(self, where: str, n_obs: int, n_vars: int) -> None:
        super().__init__(
            where, f"it holds {n_obs:,} cells x {n_vars:,} genes", "Expected one control cell and one gene at least."
        )


class AmbiguousControlLabelError(CellsError):
    """A column holds several labels that may be the control."""

    def __init__(self, where: str, column: str, counts: Mapping[str, int]) -> None:
        found = " and ".join(f"{label!r} ({count:,} cells)" for label, count in counts.items())
        super().__init__(
            where,
            f"obs column {column!r} holds more than one label that may be the control: {found}",
            f"Say which one with --control-label, for example --control-label {next(iter(counts))}.",
        )


class NoControlCellsError(CellsError):
    """No cell carries a control label."""

    def __init__(self, where: str, column: str, wanted: Sequence[str], counts: Sequence[tuple[str, int]]) -> None:
        self.column = column
        expected = " or ".join(repr(label) for label in wanted)
        labels = ", ".join(f"{label!r} ({count:,})" for label, count in counts) or "none"
        super().__init__(
            where,
            f"obs column {column!r} has no control cells, expected {expected}; its most frequent labels are {labels}",
            "Name the control with --control-label, or another column with --condition-key.",
        )


class MissingGenesError(CellsError):
    """The input lacks genes that the model reads."""

    def __init__(
        self,
        where: str,
        missing: Sequence[str],
        n_genes: int,
        source: str,
        examples: Sequence[str],
        raw_n_vars: int | None,
    ) -> None:
        self.missing = tuple(missing)
        n_missing = len(self.missing)
        raw = "" if raw_n_vars is None else f" Its raw holds {raw_n_vars:,} genes: --use-raw reads that."
        if n_missing == n_genes:
            problem = f"none of the model's {n_genes:,} genes was found; {source} holds {listed(examples, 3)}"
            remedy = "Gene symbols or Ensembl ids were expected: name the var column that holds them with --gene-key."
        else:
            problem = f"{n_missing:,} of the model's {n_genes:,} genes are missing from {source}: {listed(missing)}"
            remedy = "Give an input with these genes, or --missing-genes zero to take them as not expressed."
        super().__init__(where, problem, remedy + raw)


class ExpressionValueError(CellsError):
    """A value that is not log-normalised expression; the message names its cell and gene."""


class NonFiniteValueError(ExpressionValueError):
    """Expression is NaN or infinite."""

    def __init__(self, where: str, cell: str, gene: str, value: float) -> None:
        super().__init__(
            where,
            f"the value of cell {cell!r}, gene {gene!r} is {value}",
            "Expected finite log-normalised expression: remove or fill such values, or read another layer (--layer).",
        )


class NegativeValueError(ExpressionValueError):
    """Expression is negative, as after scaling."""

    def __init__(self, where: str, cell: str, gene: str, value: float) -> None:
        super().__init__(
            where,
            f"the value of cell {cell!r}, gene {gene!r} is negative ({value:g})",
            "Expected log-normalised expression, not scaled or centred values: read another matrix with --layer NAME "
            "or --use-raw, or go on with --allow-unnormalized.",
        )


class RawCountsError(ExpressionValueError):
    """All values are whole numbers, as raw counts are."""

    def __init__(self, where: str, cell: str, gene: str, maximum: float) -> None:
        super().__init__(
            where,
            f"all values are whole numbers up to {maximum:,g} (cell {cell!r}, gene {gene!r}), so these are raw counts",
            "Normalise them: `sc.pp.normalize_total(adata); sc.pp.log1p(adata)`; or read a layer that is "
            "(--layer NAME), or go on with --allow-unnormalized.",
        )


class NotLogTransformedError(ExpressionValueError):
    """Values are too large to be log1p."""

    def __init__(self, where: str, cell: str, gene: str, maximum: float, limit: float) -> None:
        super().__init__(
            where,
            f"the largest value is {maximum:,g} (cell {cell!r}, gene {gene!r}), log1p values stay below {limit:g}",
            "Transform them: `sc.pp.log1p(adata)`, after `sc.pp.normalize_total(adata)` if that was not done; or go on "
            "with --allow-unnormalized.",
        )


class SamplingError(ScgeneptError, ValueError):
    """Control cells cannot be drawn as asked."""


class TooFewControlCellsError(SamplingError):
    """More control cells were asked for than there are."""

    def __init__(self, n_controls: int, n_available: int) -> None:
        super().__init__(
            f"{n_controls:,} control cells were asked for, the input has {n_available:,}. "
            f"Ask for {n_available:,} or fewer, or draw with replacement: --sampling upstream."
        )


class ValuesShapeError(ScgeneptError, ValueError):
    """An array of expression does not have the shape (n_cells, n_genes), or does not hold real numbers."""

    def __init__(self, found: str, n_genes: int, remedy: str) -> None:
        super().__init__(
            f"values are {found}, expected real numbers of shape (n_cells, {n_genes}) in model gene order. {remedy}"
        )


# --- inference --------------------------------------------------------------------------------------------------------


class GraphNotLoadedError(ScgeneptError, RuntimeError):
    """ONNX Runtime cannot load a graph, or the provider cannot run all of it."""

    def __init__(self, directory: Path | str, graph: str, provider: str, detail: str) -> None:
        lines = detail.strip().splitlines() or ["no reason given"]
        super().__init__(
            f"bundle {directory}: {graph} cannot be loaded on the provider {provider}: {lines[0][:300]} "
            "`scgenept-rt providers` says what works here."
        )


class InferenceFailedError(ScgeneptError, RuntimeError):
    """A batch failed while it ran."""

    def __init__(self, provider: str, n_cells: int, n_genes: int, detail: str) -> None:
        lines = detail.strip().splitlines() or ["no reason given"]
        batch = f"a batch of {n_cells} cells x {n_genes:,} genes"
        self.out_of_memory = any(
            word in detail.lower() for word in ("failed to allocate", "out of memory", "bad_alloc", "bad allocation")
        )
        if self.out_of_memory:
            problem = f"the provider {provider} ran out of memory on {batch}. Free memory, or use another machine."
        else:
            problem = f"the provider {provider} failed on {batch}: {lines[0][:300]} Try another --provider."
        super().__init__(problem)


class NonFinitePredictionError(ScgeneptError, ArithmeticError):
    """The network gave NaN or infinity; names the first cell and gene."""

    def __init__(self, perturbation: str, cell: str, gene: str, value: float, provider: str, precision: str) -> None:
        remedy = (
            "An activation left the range of half precision: use --precision fp32."
            if precision == "fp16"
            else "Check the cell's values (`scgenept-rt check`) and the bundle (`scgenept-rt verify`)."
        )
        super().__init__(
            f"the prediction of gene {gene} for cell {cell} under {perturbation} is {value} "
            f"({provider}, {precision}). {remedy}"
        )


class PredictOptionError(ScgeneptError, ValueError):
    """Options of a prediction that do not go together, or have no sense."""


class ReferenceMissedError(ScgeneptError, ArithmeticError):
    """A provider's outputs for the bundle's reference cells differ from PyTorch's by more than the tolerance."""

    def __init__(self, provider: str, precision: str, max_difference: float, worst: float) -> None:
        super().__init__(
            f"on the provider {provider} ({precision}) this bundle's reference cells differ from PyTorch's outputs by "
            f"{max_difference:.3g}, {worst:.3g} times the tolerance. Predictions would be wrong: try another "
            "--provider or --precision; `scgenept-rt verify` shows all figures, --no-check goes on all the same."
        )
