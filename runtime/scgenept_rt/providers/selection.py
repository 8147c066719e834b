"""Which provider a session uses, with which options, on which graph of the bundle."""

from __future__ import annotations

import os
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, Literal

from scgenept_rt.bundle import Precision, Target
from scgenept_rt.errors import (
    DeviceNotFoundError,
    ProviderNotActiveError,
    ProviderUnavailableError,
    UnknownProviderError,
)
from scgenept_rt.providers.diagnosis import (
    ORT_NAMES,
    PROVIDER_NAMES,
    ProviderName,
    ProviderStatus,
    diagnose_provider,
)

AUTO_PROVIDERS_VARIABLE: Final = "SCGENEPT_RT_AUTO_PROVIDERS"
_AUTO_PROVIDERS: Final[tuple[ProviderName, ...]] = ("cuda", "cpu")

TARGETS: Final[Mapping[ProviderName, Target | None]] = {
    "cpu": "ort",
    "cuda": "ort",
    "tensorrt": "portable",
    "tensorrt-rtx": "portable",
    "torch": None,
}
# The name in ONNX Runtime's own C API; the plugin registers under a name that it chooses itself.
_TENSORRT_RTX_ORT_NAME = "NvTensorRTRTXExecutionProvider"


@dataclass(frozen=True)
class ProviderChoice:
    """A provider to make a session on.

    Attributes
    ----------
    name
        One of `PROVIDER_NAMES`.
    ort_provider
        ONNX Runtime's name of it; None for torch, which makes no ONNX Runtime session.
    options
        ONNX Runtime's provider options.
    precision
        The precision asked for, else fp16 on a GPU and fp32 on the CPU, as far as the bundle's graphs allow.
    target
        Which of the bundle's graphs it runs; None for torch.
    device_id
        Number of the GPU; None on the CPU.
    reason
        One line: why this provider.
    """

    name: ProviderName
    ort_provider: str | None
    options: Mapping[str, str]
    precision: Precision
    target: Target | None
    device_id: int | None
    reason: str
    status: ProviderStatus = field(repr=False)

    @property
    def ort_providers(self) -> list[tuple[str, dict[str, str]]]:
        """The `providers` argument of `onnxruntime.InferenceSession` (not for tensorrt-rtx, which goes by device)."""
        return [(self.ort_provider, dict(self.options))] if self.ort_provider else []


def select_provider(
    requested: str = "auto",
    *,
    precision: Precision | Literal["auto"] = "auto",
    graphs: Collection[tuple[Precision, Target]] | None = None,
    device_id: int | None = None,
) -> ProviderChoice:
    """Choose the provider for a session.

    Parameters
    ----------
    requested
        A provider's name, or "auto": the first usable one of the environment variable SCGENEPT_RT_AUTO_PROVIDERS
        (a comma-separated list, default "cuda,cpu") for which the bundle has a graph.
    precision
        The precision wanted, "auto" for the provider's default.
    graphs
        Precision and target of the bundle's graphs; None if that is not known yet. A provider asked for by name is
        chosen even if its graph is missing: `Bundle.graph` then says how to export it.
    device_id
        Number of the GPU among the visible ones; None for the first. Excludes the CPU.

    Raises
    ------
    UnknownProviderError
        If there is no such provider, here or in the environment variable.
    ProviderUnavailableError
        If the provider asked for, or every one that auto may choose, cannot be used.
    DeviceNotFoundError
        If there is no GPU of that number, or the provider does not run on one.
    """
    if requested == "auto":
        return _select_automatically(precision, graphs, device_id)
    name = _known(requested, ("auto", *PROVIDER_NAMES))
    status = diagnose_provider(name)
    if not status.usable:
        raise ProviderUnavailableError(name, status.reason, status.remedy)
    return _choice(status, precision, graphs, device_id, f"{name}, as asked for: {status.reason}")


def verify_active(session_providers: Sequence[str], choice: ProviderChoice) -> None:
    """Check that a session runs on the provider that was chosen.

    ONNX Runtime makes a session on the CPU when a provider fails to start, with no more than a line in its log.

    Parameters
    ----------
    session_providers
        What `InferenceSession.get_providers()` returned.

    Raises
    ------
    ProviderNotActiveError
        If the provider is not among them.
    """
    expected = {choice.ort_provider, _TENSORRT_RTX_ORT_NAME if choice.name == "tensorrt-rtx" else None} - {None}
    if expected and not expected & set(session_providers):
        raise ProviderNotActiveError(choice.name, str(choice.ort_provider), session_providers)


def _select_automatically(
    precision: Precision | Literal["auto"],
    graphs: Collection[tuple[Precision, Target]] | None,
    device_id: int | None,
) -> ProviderChoice:
    candidates = _auto_candidates()
    passed: list[str] = []
    lacks_graphs = True
    for name in candidates:
        problem = _without_graph(name, precision, graphs)
        lacks_graphs = lacks_graphs and bool(problem)
        if not problem and name == "cpu" and device_id is not None:
            problem = f"device {device_id} was asked for"
        if not problem:
            status = diagnose_provider(name)
            if status.usable:
                why = f"auto chose {name}: {status.reason}" + "".join(f" (not {other})" for other in passed)
                return _choice(status, precision, graphs, device_id, why)
            problem = status.reason
        passed.append(f"{name}: {problem}")
    remedy = "Run `scgenept-rt providers`"
    if lacks_graphs and graphs:
        held = " or ".join(sorted({each for each, _ in graphs}))
        remedy = "export the bundle again" if precision == "auto" else f"choose {held}, or export it with {precision}"
    raise ProviderUnavailableError("auto", f"none of {', '.join(candidates)} can be used ({'; '.join(passed)})", remedy)


def _auto_candidates() -> tuple[ProviderName, ...]:
    entries = [entry.strip() for entry in os.environ.get(AUTO_PROVIDERS_VARIABLE, "").split(",")]
    where = f"in the environment variable {AUTO_PROVIDERS_VARIABLE}"
    return tuple(_known(entry, PROVIDER_NAMES, where) for entry in entries if entry) or _AUTO_PROVIDERS


def _known(name: str, names: Sequence[str], where: str = "") -> ProviderName:
    for known in PROVIDER_NAMES:
        if name == known:
            return known
    raise UnknownProviderError(name, names, where)


def _without_graph(
    name: ProviderName,
    precision: Precision | Literal["auto"],
    graphs: Collection[tuple[Precision, Target]] | None,
) -> str:
    target = TARGETS[name]
    if graphs is None or target is None:
        return ""
    held = {held_precision for held_precision, held_target in graphs if held_target == target}
    if not held or (precision != "auto" and precision not in held):
        wanted = "" if precision == "auto" else f"{precision} "
        return f"the bundle has no {wanted}graph for it"
    return ""


def _choice(
    status: ProviderStatus,
    precision: Precision | Literal["auto"],
    graphs: Collection[tuple[Precision, Target]] | None,
    device_id: int | None,
    reason: str,
) -> ProviderChoice:
    name = status.name
    target = TARGETS[name]
    resolved = _default_precision(name, target, graphs) if precision == "auto" else precision
    ort_provider = status.details.get("execution_provider") or ORT_NAMES.get(name)
    if name == "cpu" and graphs is not None and (resolved, "merged") in graphs:
        target = "merged"
    if name in ("cpu", "torch"):
        if device_id is not None and name == "cpu":
            raise DeviceNotFoundError(name, device_id, ())
        return ProviderChoice(name, ort_provider, {}, resolved, target, device_id, reason, status)
    devices = [str(device["name"]) for device in status.details["devices"]]
    usable: list[int] = status.details["usable_devices"]
    index = usable[0] if device_id is None else device_id
    if not 0 <= index < len(devices):
        raise DeviceNotFoundError(name, index, devices)
    if index not in usable:
        other = ", ".join(map(str, usable))
        raise ProviderUnavailableError(
            name, f"it does not support device {index}, {devices[index]}", f"use device {other}"
        )
    options = {"device_id": str(index)}
    if name == "cuda" and resolved == "fp32":
        options["use_tf32"] = "0"  # on by default, and then fp32 products have 10 bits of mantissa
    return ProviderChoice(name, ort_provider, options, resolved, target, index, reason, status)


def _default_precision(
    name: ProviderName, target: Target | None, graphs: Collection[tuple[Precision, Target]] | None
) -> Precision:
    if name in ("cpu", "torch") or target is None:
        return "fp32"
    # With neither graph in the bundle, fp16 is the one to export for a GPU.
    only_fp32 = graphs is not None and ("fp32", target) in graphs and ("fp16", target) not in graphs
    return "fp32" if only_fp32 else "fp16"
