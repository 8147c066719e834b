"""From a bundle to a predictor."""

from __future__ import annotations

from pathlib import Path
from typing import Unpack

from scgenept_rt.bundle import Bundle
from scgenept_rt.options import EngineOptions
from scgenept_rt.predictor.batches import OnNotice
from scgenept_rt.predictor.predictor import Predictor
from scgenept_rt.providers import select_provider
from scgenept_rt.providers.devices import gpu_memory
from scgenept_rt.session import open_session


def load(
    bundle: str | Path | Bundle, *, on_notice: OnNotice | None = None, **options: Unpack[EngineOptions]
) -> Predictor:
    """Open a bundle for prediction.

    Parameters
    ----------
    bundle
        Directory of a bundle, or ``demo`` for the synthetic one that ships with the package. Every file is checked
        against its manifest.
    on_notice
        Called with a message about each step that takes long: TensorRT compiles an engine for minutes, once.
    **options
        `scgenept_rt.options.EngineOptions`: provider, precision, device, threads, reference_checkpoint.
        With several devices, whole batches go to whichever is free: predictions are those of one device.

    Raises
    ------
    ArgumentError
        If an option is unknown, has a wrong type or value, or belongs to another provider.
    BundleError
        If the bundle is damaged, of a newer format, or lacks the graph.
    ProviderError
        If the provider cannot be used here; one that was asked for is never replaced by another.
    """
    opened = bundle if isinstance(bundle, Bundle) else Bundle.open(bundle)
    choice = select_provider(opened, **options)
    session = open_session(opened, choice, on_notice=on_notice)
    # Measured now: ONNX Runtime keeps what later runs take, and that would count as used by others.
    memories = [memory for each in choice.per_device.values() if (memory := gpu_memory(each.device_id))]
    free = min((memory.free for memory in memories), default=None)
    gpu = choice.device["name"] if choice.device else None
    return Predictor(opened, session, choice_reason=choice.reason, free_device_bytes=free, gpu=gpu)
