"""What sets the execution providers apart, one row each."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Literal, get_args

from scgenept_rt.bundle import Target

ProviderName = Literal["cpu", "cuda", "tensorrt", "tensorrt-rtx", "torch"]
PROVIDER_NAMES: Final[tuple[ProviderName, ...]] = get_args(ProviderName)


@dataclass(frozen=True)
class ProviderTraits:
    """What the rest of the package needs to know of a provider."""

    ort_name: str | None
    """Name in ONNX Runtime; None for PyTorch. A plugin may be registered under another one."""
    target: Target | None
    """Which graphs of a bundle it runs; None if it runs none."""
    on_gpu: bool
    """Whether it runs on NVIDIA GPUs only: fp16 is the default, and each batch size costs a new plan."""
    keeps_engines: bool = False
    """Whether it compiles engines for minutes, which are kept between runs."""
    is_plugin: bool = False
    """Whether its library must be registered first."""

    @property
    def runs_graphs(self) -> bool:
        """Whether it runs graphs of the bundle in ONNX Runtime."""
        return self.target is not None

    @property
    def is_cuda(self) -> bool:
        """Whether it is ONNX Runtime's CUDA provider, which can print its attention kernels."""
        return self.ort_name == "CUDAExecutionProvider"


TRAITS: Final[Mapping[str, ProviderTraits]] = {
    "cpu": ProviderTraits("CPUExecutionProvider", "ort", on_gpu=False),
    "cuda": ProviderTraits("CUDAExecutionProvider", "ort", on_gpu=True),
    "tensorrt": ProviderTraits("TensorrtExecutionProvider", "portable", on_gpu=True, keeps_engines=True),
    "tensorrt-rtx": ProviderTraits("NvTensorRTRTXExecutionProvider", "portable", on_gpu=True, is_plugin=True),
    "torch": ProviderTraits(None, None, on_gpu=False),
}
