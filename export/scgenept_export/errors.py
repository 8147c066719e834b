"""Errors of the export stage that a user can put right; see `scgenept_rt.errors` for their form."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from scgenept_rt.errors import ScgeneptError, join_limited


class ExportExtraMissingError(ScgeneptError, ImportError):
    """The packages of the export stage are not installed."""

    def __init__(self, packages: Sequence[str]) -> None:
        super().__init__(
            f"exporting needs {', '.join(packages)}, which this environment does not have. "
            "Install them with: pip install 'scgenept-rt[export,cpu]'."
        )


class CheckpointError(ScgeneptError, ValueError):
    """A checkpoint file that cannot be used."""

    def __init__(self, path: Path | str, problem: str, remedy: str) -> None:
        self.path = Path(path)
        super().__init__(f"checkpoint {self.path}: {problem}. {remedy}")


class StateDictError(CheckpointError):
    """A checkpoint whose tensors are not those of the variant; lists every difference."""

    def __init__(
        self,
        path: Path | str,
        variant: str,
        *,
        missing: Sequence[str] = (),
        unexpected: Sequence[str] = (),
        missized: Sequence[str] = (),
    ) -> None:
        self.missing, self.unexpected, self.missized = tuple(missing), tuple(unexpected), tuple(missized)
        found = [
            f"{len(keys)} {kind}: {join_limited(keys, 12)}"
            for kind, keys in (("missing", missing), ("unexpected", unexpected), ("of another shape", missized))
            if keys
        ]
        super().__init__(
            path,
            f"its tensors are not those of the variant {variant!r} ({'; '.join(found)})",
            "Give the --variant that it was trained as, or another checkpoint.",
        )


class UnknownVariantError(ScgeneptError, ValueError):
    """A variant name that is not in upstream's table of model types."""

    def __init__(self, variant: str, near: Sequence[str], remark: str = "") -> None:
        hint = f" Did you mean {' or '.join(near)}?" if near else ""
        super().__init__(
            f"--variant {variant!r} is not one of the published model types.{remark}{hint} "
            "`scgenept-export variants` lists them all."
        )


class VariantMismatchError(CheckpointError):
    """A checkpoint that holds other encoders than its variant's name says."""

    def __init__(
        self, path: Path | str, variant: str, expected: Sequence[str], found: Sequence[str], fitting: Sequence[str]
    ) -> None:
        remedy = f"It fits --variant {' or '.join(fitting)}." if fitting else "No published variant has these encoders."
        super().__init__(
            path,
            f"the variant {variant!r} has the encoders {join_limited(expected, 9) or 'none'}, "
            f"but the checkpoint holds {join_limited(found, 9) or 'none'}",
            remedy,
        )


class GeneListError(ScgeneptError, ValueError):
    """A gene list that cannot be read or is not usable as a model's genes."""

    def __init__(self, path: Path | str, problem: str, remedy: str) -> None:
        self.path = Path(path)
        super().__init__(f"gene list {self.path}: {problem}. {remedy}")


class VocabularyError(ScgeneptError, ValueError):
    """A vocabulary file that cannot be read or does not fit the checkpoint."""

    def __init__(self, source: Path | str, problem: str, remedy: str) -> None:
        super().__init__(f"vocabulary {source}: {problem}. {remedy}")


class ExportOptionError(ScgeneptError, ValueError):
    """An option of an export that cannot be met."""


class BundleWriteError(ScgeneptError, OSError):
    """A bundle that cannot be written; one that lies there already stays as it is."""

    def __init__(self, out: Path | str, error: OSError) -> None:
        self.out = Path(out)
        super().__init__(
            f"--out {self.out}: the bundle cannot be written ({error.strerror or error}). "
            "Free some space, or choose another path."
        )


class ExportedGraphError(ScgeneptError):
    """Graphs that differ from the eager model by more than their tolerance; lists each with its largest difference."""

    def __init__(self, misses: Sequence[str]) -> None:
        self.misses = tuple(misses)
        lines = "\n  ".join(misses)
        super().__init__(
            f"{len(misses)} exported output(s) differ from the eager model by more than the tolerance; "
            f"no bundle was written:\n  {lines}"
        )


class ReferenceWeightsError(ScgeneptError, ValueError):
    """A bundle whose eager model cannot be loaded: no weights kept, or a checkpoint that is not its source."""

    def __init__(self, directory: Path | str, problem: str, remedy: str) -> None:
        self.directory = Path(directory)
        super().__init__(f"bundle {self.directory}: {problem}. {remedy}")


class PrecisionNotSupportedError(ScgeneptError, ValueError):
    """A precision that a backend does not compute in."""

    def __init__(self, provider: str, precision: str) -> None:
        super().__init__(
            f"the provider {provider} is the fp32 reference, it does not run in {precision}. "
            "Leave --precision out, or choose another --provider."
        )


class EngineOptionError(ScgeneptError, ValueError):
    """An engine that cannot be built as asked: TensorRT-RTX is missing, or an option is not one of its own."""


class EngineBuildError(ScgeneptError, RuntimeError):
    """TensorRT-RTX cannot read a graph, or cannot build an engine of it."""

    def __init__(self, graph: str, compute_capability: str | None, reasons: Sequence[str]) -> None:
        self.graph, self.compute_capability = graph, compute_capability
        what = "read every node of" if compute_capability is None else f"build an engine for {compute_capability} of"
        reason = reasons[0].split("\n")[0][:300] if reasons else "it gives no reason"
        if "not supported by a dedicated kernel" in reason:
            reason = (
                "it has no attention kernel for this precision and head width. It wants fp16 and heads of 64, as the "
                "published models have"
            )
        elif "FP32 GEMM is not supported" in reason:
            reason = "it has no fp32 matrix products for this GPU. Use --precision fp16"
        super().__init__(f"TensorRT-RTX cannot {what} {graph}: {reason}.")
