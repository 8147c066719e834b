"""Which provider a session uses, with which options, on which graph of the bundle."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final, Literal, Unpack, cast

from scgenept_rt.bundle import Bundle, Precision, Target
from scgenept_rt.errors import ArgumentError, ProviderError, ProviderUnavailableError, UseOption
from scgenept_rt.options import EngineOptions, resolve
from scgenept_rt.providers.diagnosis import ProviderStatus, diagnose_provider
from scgenept_rt.providers.traits import PROVIDER_NAMES, TRAITS, ProviderName, ProviderTraits
from scgenept_rt.wording import join_limited, pluralize

AUTO_PROVIDERS_VARIABLE: Final = "SCGENEPT_RT_AUTO_PROVIDERS"
_AUTO_PROVIDERS: Final[tuple[ProviderName, ...]] = ("cuda", "cpu")

# The name in ONNX Runtime's C API; the plugin registers under a name of its own.
_TENSORRT_RTX_ORT_NAME = "NvTensorRTRTXExecutionProvider"


@dataclass(frozen=True)
class ProviderChoice:
    """A provider to open a session on; from `select_provider`.

    Attributes
    ----------
    ort_provider
        ONNX Runtime's name of it; None for torch, which opens no ONNX Runtime session.
    ort_options
        ONNX Runtime's provider options.
    precision
        The precision asked for, else fp16 on GPUs if the bundle has such a graph, else fp32.
    target
        Which of the bundle's graphs it runs; None for torch.
    device_ids
        Numbers of the GPUs, all of one model; empty on the CPU.
    reason
        One line: why this provider.
    engine
        The options that it was chosen by, complete.
    """

    name: ProviderName
    ort_provider: str | None
    ort_options: Mapping[str, str]
    precision: Precision
    target: Target | None
    device_ids: tuple[int, ...]
    reason: str
    engine: EngineOptions = field(repr=False)
    status: ProviderStatus = field(repr=False)

    @property
    def traits(self) -> ProviderTraits:
        """What sets the provider apart."""
        return TRAITS[self.name]

    @property
    def device_id(self) -> int | None:
        """Number of the GPU, the first of several; None on the CPU."""
        return self.device_ids[0] if self.device_ids else None

    @property
    def per_device(self) -> Mapping[str, ProviderChoice]:
        """The choice for each of several devices, by the name of the device; itself without a name if not several."""
        if len(self.device_ids) < 2:
            return {"": self}
        return {
            f"device {number}": replace(
                self, device_ids=(number,), ort_options={**self.ort_options, "device_id": str(number)}
            )
            for number in self.device_ids
        }

    @property
    def device(self) -> Mapping[str, Any] | None:
        """Facts about the GPU: name, compute_capability, memory_bytes; None on the CPU and for torch."""
        return self.status.details["devices"][self.device_id] if self.traits.on_gpu else None

    @property
    def ort_providers(self) -> list[tuple[str, dict[str, str]]]:
        """The `providers` argument of `onnxruntime.InferenceSession`, except for a plugin, which goes by device."""
        return [(self.ort_provider, dict(self.ort_options))] if self.ort_provider else []


def select_provider(bundle: Bundle | None = None, **options: Unpack[EngineOptions]) -> ProviderChoice:
    """Choose the provider for a session.

    Parameters
    ----------
    bundle
        The bundle to run; None if that is not known yet. A provider asked for by name is chosen even if its graph is
        missing: `Bundle.graph` then raises.
    **options
        See `EngineOptions`. The provider "auto" is the first usable one of the environment variable
        SCGENEPT_RT_AUTO_PROVIDERS (a comma-separated list, default "cuda,cpu") for which the bundle has a graph.

    Raises
    ------
    ArgumentError
        If an option has the wrong type or value, there is no such provider, or an option belongs to another provider.
    ProviderUnavailableError
        If the provider asked for, or every one that auto may choose, cannot be used.
    ProviderError
        If there is no GPU of that number.
    GraphNotInBundleError
        If all graphs of the bundle need a later version of this package.
    """
    engine = resolve(EngineOptions, options)
    requested = engine["provider"]
    if requested == "auto":
        choice = _select_automatically(bundle, engine)
    else:
        name = _known(requested, ("auto", *PROVIDER_NAMES))
        if bundle is not None and TRAITS[name].runs_graphs:
            bundle.graphs()  # raises if it knows none
        status = diagnose_provider(name)
        if not status.usable:
            raise ProviderUnavailableError(status.reason, status.remedy, where=f"provider {name}")
        choice = _choice(status, bundle, engine, f"{name}, as asked for: {_runs_on(status, engine)}")
    _check_options(choice)
    return choice


def verify_active(session_providers: Sequence[str], choice: ProviderChoice) -> None:
    """Check that a session runs on the provider that was chosen.

    ONNX Runtime opens a session on the CPU when a provider fails to start, with no more than a line in its log.

    Raises `ProviderUnavailableError` unless it is among what `InferenceSession.get_providers()` returned.
    """
    expected = {choice.ort_provider}
    if choice.traits.ort_name is None:
        expected.add(_TENSORRT_RTX_ORT_NAME)
    if not expected & set(session_providers):
        active = join_limited(session_providers) or "nothing"
        raise ProviderUnavailableError(
            f"it did not become active: ONNX Runtime opened the session on {active} instead of {choice.ort_provider}",
            "Run `scgenept-rt providers`",
            (UseOption("provider", "run on the CPU", "cpu"),),
            where=f"provider {choice.name}",
        )


def _select_automatically(bundle: Bundle | None, engine: EngineOptions) -> ProviderChoice:
    candidates = _auto_candidates()
    passed: list[str] = []
    why_not: list[str] = []
    without_graph = 0
    for name in candidates:
        problem = _missing_graph(name, bundle, engine)
        without_graph += bool(problem)
        if not problem and engine["device"] is not None and not TRAITS[name].on_gpu:
            problem = f"device {_listed(engine['device'])} was asked for"
        if not problem:
            status = diagnose_provider(name)
            if status.usable:
                why = f"auto chose {name}: {_runs_on(status, engine)}" + "".join(why_not)
                return _choice(status, bundle, engine, why)
        why_not.append(f" (not {name}: {problem or '`scgenept-rt providers` says why'})")
        passed.append(f"{name}: {problem or status.reason}")
    problem = f"none of {', '.join(candidates)} can be used ({'; '.join(passed)})"
    if without_graph < len(candidates) or bundle is None:
        raise ProviderUnavailableError(problem, "Run `scgenept-rt providers`", where="provider auto")
    held = sorted({str(graph.precision) for graph in bundle.graphs()})
    use = (
        ()
        if engine["precision"] in ("auto", *held)
        else (UseOption("precision", "use a precision that it has", held[0]),)
    )
    raise ProviderUnavailableError(problem, "Export the bundle again with a graph for it", use, where="provider auto")


def _runs_on(status: ProviderStatus, engine: EngineOptions) -> str:
    if "threads" not in status.details:
        return status.reason
    return f"{status.reason}, {pluralize(engine['threads'] or status.details['threads'], 'thread')}"


def _auto_candidates() -> tuple[ProviderName, ...]:
    entries = [entry.strip() for entry in os.environ.get(AUTO_PROVIDERS_VARIABLE, "").split(",")]
    where = f"environment variable {AUTO_PROVIDERS_VARIABLE}"
    return tuple(_known(entry, PROVIDER_NAMES, where) for entry in entries if entry) or _AUTO_PROVIDERS


def _known(name: str, names: Sequence[str], where: str = "") -> ProviderName:
    if name in TRAITS:
        return cast("ProviderName", name)
    raise ArgumentError(
        f"unknown provider {name!r}, expected one of {', '.join(names)}",
        "Run `scgenept-rt providers` to see which of them work here",
        where=where,
    )


def _missing_graph(name: ProviderName, bundle: Bundle | None, engine: EngineOptions) -> str:
    traits, precision = TRAITS[name], engine["precision"]
    if bundle is None or not traits.runs_graphs:
        return ""
    held = {graph.precision for graph in bundle.graphs() if graph.target == traits.target}
    if not held or (precision != "auto" and precision not in held):
        return f"the bundle has no {'' if precision == 'auto' else f'{precision} '}graph for it"
    return ""


def _choice(status: ProviderStatus, bundle: Bundle | None, engine: EngineOptions, reason: str) -> ProviderChoice:
    name, traits = status.name, TRAITS[status.name]
    graphs = {(graph.precision, graph.target) for graph in bundle.graphs()} if bundle else set()
    precision = engine["precision"]
    if precision == "auto":
        # With neither graph in the bundle, fp16 is the one to export for a GPU.
        only_fp32 = ("fp32", traits.target) in graphs and ("fp16", traits.target) not in graphs
        precision = "fp16" if traits.on_gpu and not only_fp32 else "fp32"
    target = "merged" if name == "cpu" and (precision, "merged") in graphs else traits.target
    ort_name = status.details.get("execution_provider") or traits.ort_name
    wanted = engine["device"]
    if isinstance(wanted, list) and len(wanted) == 1:
        wanted = wanted[0]
    if traits.on_gpu:
        device_ids = _devices(status, wanted)
    else:
        # PyTorch looks for its device itself.
        if wanted is not None and (traits.runs_graphs or not isinstance(wanted, int)):
            runs_on = "no GPU" if traits.runs_graphs else "one device"
            raise ArgumentError(
                f"device {_listed(wanted)} was asked for, but the provider {name} runs on {runs_on}",
                options=(UseOption("provider", "run on GPUs", "cuda"),),
            )
        device_ids = () if wanted is None else (wanted,)
    if len(device_ids) > 1:
        reason += f", on devices {_listed(device_ids)}"
    ort_options = {"device_id": str(device_ids[0])} if traits.on_gpu else {}
    if traits.is_cuda and precision == "fp32":
        ort_options["use_tf32"] = "0"  # on by default, and then fp32 products have 10 bits of mantissa
    return ProviderChoice(name, ort_name, ort_options, precision, target, device_ids, reason, engine, status)


def _listed(devices: int | str | Sequence[int]) -> str:
    return str(devices) if isinstance(devices, (int, str)) else ",".join(map(str, devices))


def _devices(status: ProviderStatus, wanted: int | Sequence[int] | Literal["all"] | None) -> tuple[int, ...]:
    """Return the numbers of the GPUs to use."""
    usable: list[int] = status.details["usable_devices"]
    if wanted is None:
        return (usable[0],)
    numbers = usable if wanted == "all" else [wanted] if isinstance(wanted, int) else wanted
    by_model: dict[str, list[int]] = {}
    for number in numbers:
        by_model.setdefault(_model(status, number), []).append(number)
    if len(by_model) > 1:
        models = join_limited([f"{model} ({_listed(devices)})" for model, devices in by_model.items()])
        raise ArgumentError(
            f"device {_listed(wanted)} names GPUs of different models, which differ in their last digits: {models}",
            options=(UseOption("device", "use those of one model", _listed(max(by_model.values(), key=len))),),
        )
    return tuple(numbers)


def _model(status: ProviderStatus, index: int) -> str:
    """Return the model name of a GPU that can be used."""
    devices = [str(device["name"]) for device in status.details["devices"]]
    usable: list[int] = status.details["usable_devices"]
    if index >= len(devices):
        numbered = join_limited([f"{number}: {device}" for number, device in enumerate(devices)])
        raise ProviderError(
            f"there is no device {index} for the provider {status.name}: the visible GPUs are {numbered}",
            "Choose one of these; CUDA_VISIBLE_DEVICES limits and renumbers them",
        )
    if index not in usable:
        raise ProviderUnavailableError(
            f"it does not support device {index}, {devices[index]}",
            options=(UseOption("device", "use a device that it supports", usable[0]),),
            where=f"provider {status.name}",
        )
    return devices[index]


def _check_options(choice: ProviderChoice) -> None:
    """Raise ArgumentError for options that belong to another provider."""
    if choice.engine["reference_checkpoint"] is not None and choice.traits.runs_graphs:
        raise ArgumentError(
            f"reference_checkpoint is for the provider torch, not for {choice.name}",
            options=(UseOption("provider", "run PyTorch", "torch"),),
        )
