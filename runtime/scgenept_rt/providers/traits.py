"""What sets the execution providers apart, one row each."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final, Literal, get_args

from scgenept_rt.bundle import Target

ProviderName = Literal["cpu", "cuda", "tensorrt", "tensorrt-rtx", "torch"]
PROVIDER_NAMES: Final[tuple[ProviderName, ...]] = get_args(ProviderName)

_CPU_BATCH_TOKENS: Final = 16_384
_GPU_BATCH_TOKENS: Final = 32 * 5_120


@dataclass(frozen=True)
class ProviderTraits:
    """What the rest of the package needs to know of a provider.

    Attributes
    ----------
    title
        Name in messages.
    extra
        Extra of this distribution that installs it.
    ort_name
        Name in ONNX Runtime; None for PyTorch, and for a plugin, which chooses its own name when it is registered.
    target
        Which graphs of a bundle it runs; None if it runs none.
    on_gpu
        Whether it runs on NVIDIA GPUs only.
    default_fp16
        Whether fp16 is its default precision.
    fixed_batches
        Whether each batch size costs a new plan, kept by the thread that runs it: batches then have few sizes, and one
        thread runs them all.
    merges_tokens
        Whether it prefers a merged graph, which computes identical tokens once.
    records_cuda_graphs
        Whether small batches can be recorded as CUDA graphs.
    prints_attention_kernels
        Whether ONNX Runtime can be made to print which attention kernels it runs.
    builds_engines
        Whether it compiles the graph for minutes, for batches up to a size fixed in advance.
    fp32_options
        ONNX Runtime's provider options for graphs in fp32.
    batch_tokens
        Most tokens (cells x genes) of an automatic batch. On the CPU more gain nothing and cost memory; on GPUs this
        was the fastest size where memory allowed it.
    """

    title: str
    extra: str
    ort_name: str | None
    target: Target | None
    on_gpu: bool
    default_fp16: bool = False
    fixed_batches: bool = False
    merges_tokens: bool = False
    records_cuda_graphs: bool = False
    prints_attention_kernels: bool = False
    builds_engines: bool = False
    fp32_options: Mapping[str, str] = field(default_factory=dict)
    batch_tokens: int = _GPU_BATCH_TOKENS

    @property
    def runs_graphs(self) -> bool:
        """Whether it runs graphs of the bundle in ONNX Runtime."""
        return self.target is not None


TRAITS: Final[Mapping[str, ProviderTraits]] = {
    "cpu": ProviderTraits(
        title="CPU",
        extra="cpu",
        ort_name="CPUExecutionProvider",
        target="ort",
        on_gpu=False,
        merges_tokens=True,
        batch_tokens=_CPU_BATCH_TOKENS,
    ),
    "cuda": ProviderTraits(
        title="CUDA",
        extra="gpu",
        ort_name="CUDAExecutionProvider",
        target="ort",
        on_gpu=True,
        default_fp16=True,
        fixed_batches=True,
        records_cuda_graphs=True,
        prints_attention_kernels=True,
        fp32_options={"use_tf32": "0"},  # on by default, and then fp32 products have 10 bits of mantissa
    ),
    "tensorrt": ProviderTraits(
        title="TensorRT",
        extra="gpu",
        ort_name="TensorrtExecutionProvider",
        target="portable",
        on_gpu=True,
        default_fp16=True,
        fixed_batches=True,
        builds_engines=True,
    ),
    "tensorrt-rtx": ProviderTraits(
        title="TensorRT-RTX",
        extra="tensorrt-rtx",
        ort_name=None,
        target="portable",
        on_gpu=True,
        default_fp16=True,
        fixed_batches=True,
    ),
    "torch": ProviderTraits(
        title="PyTorch",
        extra="export",
        ort_name=None,
        target=None,
        on_gpu=False,
        batch_tokens=_CPU_BATCH_TOKENS,
    ),
}
