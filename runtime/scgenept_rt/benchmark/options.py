"""What a benchmark is to measure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from scgenept_rt.errors import ScgeneptError

_BATCH_SIZES: dict[str, tuple[int, ...]] = {"cpu": (1, 4)}
_GPU_BATCH_SIZES: tuple[int, ...] = (1, 8, 32)
_REPEATS = {"cpu": 5}
_GPU_REPEATS = 20


class BenchmarkOptionError(ScgeneptError, ValueError):
    """An option of a benchmark that has no sense."""


@dataclass(frozen=True)
class BenchmarkOptions:
    """What a benchmark is to measure.

    Attributes
    ----------
    provider, device_id, threads, cuda_graphs
        As for `scgenept_rt.load`.
    precisions
        Precisions to measure, one after the other; "auto" is the provider's default.
    batch_sizes
        Cells a batch; None for 1, 8 and 32 on GPUs, 1 and 4 on the CPU.
    n_genes
        Genes a cell, at most the model's; None for all of them.
    repeats
        Timed runs of each batch size; None for 20 on GPUs, 5 on the CPU.
    end_to_end
        Also time a prediction from an .h5ad file to an .h5ad file.
    """

    provider: str = "auto"
    precisions: tuple[Literal["auto", "fp32", "fp16"], ...] = ("auto",)
    batch_sizes: tuple[int, ...] | None = None
    n_genes: int | None = None
    repeats: int | None = None
    end_to_end: bool = False
    device_id: int | None = None
    threads: int | None = None
    cuda_graphs: bool = False

    def __post_init__(self) -> None:
        for name, numbers in (
            ("batch size", self.batch_sizes if self.batch_sizes is not None else (1,)),
            ("number of genes", (1 if self.n_genes is None else self.n_genes,)),
            ("number of repeats", (1 if self.repeats is None else self.repeats,)),
        ):
            bad = [number for number in numbers if number < 1]
            if bad or not numbers:
                found = f"is {bad[0]}" if bad else "is missing"
                raise BenchmarkOptionError(f"a {name} {found}. Expected whole numbers from 1 on.")
        if not self.precisions:
            raise BenchmarkOptionError("no precision was given. Expected auto, fp32, fp16 or several of them.")

    def batch_sizes_on(self, provider: str) -> tuple[int, ...]:
        """Return the batch sizes to measure on a provider, ascending and without repetition."""
        chosen: tuple[int, ...] = self.batch_sizes or _BATCH_SIZES.get(provider, _GPU_BATCH_SIZES)
        return tuple(sorted(set(chosen)))

    def repeats_on(self, provider: str) -> int:
        """Return how many timed runs to make on a provider."""
        return self.repeats or _REPEATS.get(provider, _GPU_REPEATS)
