"""Errors about execution providers and devices."""

from __future__ import annotations

from collections.abc import Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import ClassVar

from scgenept_rt.errors.base import ScgeneptError
from scgenept_rt.errors.wording import join_limited


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
            f"provider {provider} did not become active: ONNX Runtime made the session on {join_limited(active) or 'nothing'}"
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
        numbered = join_limited([f"{index}: {name}" for index, name in enumerate(devices)])
        have = f"the visible GPUs are {numbered}" if devices else f"the provider {provider} runs on no GPU"
        super().__init__(
            f"there is no device {device_id} for the provider {provider}: {have}. "
            "Choose one of these; CUDA_VISIBLE_DEVICES limits and renumbers them."
            if devices
            else f"device {device_id} was asked for, but {have}. Ask for --provider cuda, or for no device."
        )
