"""Choose the provider of a session, its options, and the graph of the bundle that it runs."""

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

_AUTO_VARIABLE: Final = "SCGENEPT_RT_AUTO_PROVIDERS"
_AUTO_PROVIDERS: Final[tuple[ProviderName, ...]] = ("cuda", "cpu")


@dataclass(frozen=True)
class ProviderChoice:
    """A provider to open a session on; from `select_provider`.

    `target` says which of the bundle's graphs it runs (None for torch), `device_ids` the numbers of the GPUs, all of
    one model (none on the CPU), `reason` why this provider, in one line; `engine` holds all options.
    """

    name: ProviderName
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
        return {f"device {number}": replace(self, device_ids=(number,)) for number in self.device_ids}

    @property
    def device(self) -> Mapping[str, Any] | None:
        """Facts about the GPU: name, compute_capability, memory_bytes; None on the CPU and for torch."""
        return self.status.details["devices"][self.device_id] if self.traits.on_gpu else None

    @property
    def ort_provider(self) -> str | None:
        """ONNX Runtime's name of the provider; None for torch, which opens no ONNX Runtime session."""
        name: str | None = self.status.details.get("execution_provider", self.traits.ort_name)
        return name

    @property
    def ort_options(self) -> dict[str, str]:
        """ONNX Runtime's provider options."""
        options = {"device_id": str(self.device_id)} if self.traits.on_gpu else {}
        if self.traits.is_cuda and self.precision == "fp32":
            options["use_tf32"] = "0"  # on by default, and then fp32 products have 10 bits of mantissa
        return options


def select_provider(bundle: Bundle | None = None, **options: Unpack[EngineOptions]) -> ProviderChoice:
    """Choose the provider for a session.

    The provider "auto" is the first usable one of the environment variable SCGENEPT_RT_AUTO_PROVIDERS (a
    comma-separated list, default "cuda,cpu") for which the bundle has a graph; without a bundle, the first usable one.
    One asked for by name is chosen even if its graph is missing: `Bundle.graph` then raises. The precision "auto" is
    fp16 on GPUs if the bundle has such a graph, else fp32. Raises `ArgumentError` for wrong options, and
    `ProviderError` if the provider asked for, or every one that auto may choose, or the GPU cannot be used.
    """
    engine = resolve(EngineOptions, options)
    if engine["provider"] == "auto":
        choice = _select_automatically(bundle, engine)
    else:
        name = _known(engine["provider"], ("auto", *PROVIDER_NAMES))
        status = diagnose_provider(name)
        if not status.usable:
            raise ProviderUnavailableError(status.reason, status.remedy, where=f"provider {name}")
        choice = _choice(status, bundle, engine, f"{name}, as asked for")
    if engine["reference_checkpoint"] is not None and choice.traits.runs_graphs:
        raise ArgumentError(
            f"reference_checkpoint is for the provider torch, not for {choice.name}",
            options=(UseOption("provider", "run PyTorch", "torch"),),
        )
    return choice


def verify_active(session_providers: Sequence[str], choice: ProviderChoice) -> None:
    """Raise ProviderUnavailableError unless a session runs on the provider that was chosen.

    ONNX Runtime opens a session on the CPU when a provider fails to start, with no more than a line in its log.
    """
    if not {choice.ort_provider, choice.traits.ort_name} & set(session_providers):
        active = join_limited(session_providers) or "nothing"
        raise ProviderUnavailableError(
            f"it did not become active: ONNX Runtime opened the session on {active} instead of {choice.ort_provider}",
            "Run `scgenept-rt providers`",
            (UseOption("provider", "run on the CPU", "cpu"),),
            where=f"provider {choice.name}",
        )


def _select_automatically(bundle: Bundle | None, engine: EngineOptions) -> ProviderChoice:
    names = [entry.strip() for entry in os.environ.get(_AUTO_VARIABLE, "").split(",") if entry.strip()]
    where = f"environment variable {_AUTO_VARIABLE}"
    candidates = tuple(_known(name, PROVIDER_NAMES, where) for name in names) or _AUTO_PROVIDERS
    without_graph = {name: problem for name in candidates if (problem := _missing_graph(name, bundle, engine))}
    passed, why_not = [], ""
    for name in candidates:
        problem = without_graph.get(name, "")
        if not problem and engine["device"] is not None and not TRAITS[name].on_gpu:
            problem = f"device {_listed(engine['device'])} was asked for"
        if not problem:
            status = diagnose_provider(name)
            if status.usable:
                return _choice(status, bundle, engine, f"auto chose {name}", why_not)
        why_not += f" (not {name}: {problem or '`scgenept-rt providers` says why'})"
        passed.append(f"{name}: {problem or status.reason}")
    export, look = "Export the bundle again with a graph for it", "Run `scgenept-rt providers`"
    raise ProviderUnavailableError(
        f"none of {', '.join(candidates)} can be used ({'; '.join(passed)})",
        export if len(without_graph) == len(candidates) else look,
        where="provider auto",
    )


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


def _choice(
    status: ProviderStatus, bundle: Bundle | None, engine: EngineOptions, why: str, why_not: str = ""
) -> ProviderChoice:
    name, traits, precision = status.name, TRAITS[status.name], engine["precision"]
    graphs = {(graph.precision, graph.target) for graph in bundle.graphs()} if bundle else set()
    if precision == "auto":
        # With neither graph in the bundle, fp16 is the one to export for a GPU.
        only_fp32 = ("fp32", traits.target) in graphs and ("fp16", traits.target) not in graphs
        precision = "fp16" if traits.on_gpu and not only_fp32 else "fp32"
    merges = traits.target == "ort" and not traits.on_gpu and (precision, "merged") in graphs
    device_ids = _devices(status, engine["device"])
    runs_on = status.reason
    if "threads" in status.details:
        runs_on += f", {pluralize(engine['threads'] or status.details['threads'], 'thread')}"
    on_devices = f", on devices {_listed(device_ids)}" if len(device_ids) > 1 else ""
    reason = f"{why}: {runs_on}{why_not}{on_devices}"
    return ProviderChoice(name, precision, "merged" if merges else traits.target, device_ids, reason, engine, status)


def _listed(devices: int | str | Sequence[int]) -> str:
    return str(devices) if isinstance(devices, (int, str)) else ",".join(map(str, devices))


def _devices(status: ProviderStatus, asked: int | list[int] | Literal["all"] | None) -> tuple[int, ...]:
    """Return the numbers of the GPUs to use; none on the CPU. PyTorch looks for its device itself."""
    traits = TRAITS[status.name]
    wanted: Sequence[int] = [asked] if isinstance(asked, int) else asked if isinstance(asked, list) else ()
    if not traits.on_gpu:
        if asked is None or (len(wanted) == 1 and not traits.runs_graphs):
            return tuple(wanted)
        runs_on = "no GPU" if traits.runs_graphs else "one device"
        raise ArgumentError(
            f"device {_listed(asked)} was asked for, but the provider {status.name} runs on {runs_on}",
            options=(UseOption("provider", "run on GPUs", "cuda"),),
        )
    names = [str(device["name"]) for device in status.details["devices"]]
    usable: list[int] = status.details["usable_devices"]
    by_model: dict[str, list[int]] = {}
    for number in wanted or (usable if asked == "all" else usable[:1]):
        if number >= len(names):
            numbered = join_limited([f"{index}: {name}" for index, name in enumerate(names)])
            raise ProviderError(
                f"there is no device {number} for the provider {status.name}: the visible GPUs are {numbered}",
                "Choose one of these; CUDA_VISIBLE_DEVICES limits and renumbers them",
            )
        if number not in usable:
            raise ProviderUnavailableError(
                f"it does not support device {number}, {names[number]}",
                options=(UseOption("device", "use a device that it supports", usable[0]),),
                where=f"provider {status.name}",
            )
        by_model.setdefault(names[number], []).append(number)
    if len(by_model) > 1:
        models = join_limited([f"{model} ({_listed(numbers)})" for model, numbers in by_model.items()])
        raise ArgumentError(
            f"device {_listed(asked or 0)} names GPUs of different models, which differ in their last digits: {models}",
            options=(UseOption("device", "use those of one model", _listed(max(by_model.values(), key=len))),),
        )
    return tuple(number for numbers in by_model.values() for number in numbers)
