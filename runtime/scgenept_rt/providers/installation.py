"""The ONNX Runtime that is installed here, if any, and what is wrong with the installation."""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
import io
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import metadata
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType

from scgenept_rt.providers.onnx_runtime import import_onnxruntime

# Each of these distributions writes the same package directory `onnxruntime`.
_WHEELS = (
    "onnxruntime",
    "onnxruntime-gpu",
    "onnxruntime-directml",
    "onnxruntime-migraphx",
    "onnxruntime-openvino",
    "onnxruntime-qnn",
    "onnxruntime-rocm",
    "onnxruntime-training",
)


@dataclass(frozen=True)
class Installation:
    """What was found.

    Attributes
    ----------
    wheels
        Version of every installed distribution that provides `onnxruntime`; more than one means mixed files.
    module
        The imported package, None if `problem` says why there is none.
    """

    wheels: Mapping[str, str]
    module: ModuleType | None = None
    problem: str = ""

    @property
    def label(self) -> str:
        """The wheels with their versions, as in "onnxruntime-gpu 1.31.1"."""
        if self.wheels:
            return " and ".join(f"{name} {version}" for name, version in self.wheels.items())
        return f"onnxruntime {getattr(self.module, '__version__', 'of unknown version')}"

    @property
    def is_mixed(self) -> bool:
        """Whether wheels that overwrite each other's files are installed together."""
        return len(self.wheels) > 1

    @property
    def capi(self) -> Path | None:
        """The directory with the provider libraries."""
        file = getattr(self.module, "__file__", None)
        return Path(file).resolve().parent / "capi" if file else None

    @property
    def cuda_major(self) -> int | None:
        """Major version of CUDA that the installed build needs, None for a build without CUDA."""
        if self.module is None:
            return None
        try:
            build = importlib.import_module("onnxruntime.capi.build_and_package_info")
            return int(str(build.cuda_version).split(".")[0])
        except (ImportError, AttributeError, ValueError):
            return None

    def available_providers(self) -> tuple[str, ...]:
        """Return ONNX Runtime's names of the providers that are compiled in or registered."""
        if self.module is None:
            return ()
        names = list(self.module.get_available_providers())
        with contextlib.suppress(Exception):  # get_ep_devices came with 1.22; a build may fail to list devices
            names += [device.ep_name for device in self.module.get_ep_devices()]
        return tuple(dict.fromkeys(names))

    def preload_libraries(self) -> None:
        """Load CUDA and cuDNN from the `nvidia-*` wheels, where the dynamic loader would not look by itself."""
        preload = getattr(self.module, "preload_dlls", None)
        if preload is None:
            return
        # It prints what it cannot load on standard output, or warns; the caller finds that out for each library.
        with contextlib.redirect_stdout(io.StringIO()), warnings.catch_warnings(), contextlib.suppress(Exception):
            warnings.simplefilter("ignore")
            preload()


def find_package(name: str) -> ModuleSpec | None:
    """Return where a top-level package would be imported from, without importing it; None if it is not there."""
    try:
        return importlib.util.find_spec(name)
    except (ImportError, ValueError):  # something in this process blocks it
        return None


def find_installation() -> Installation:
    """Look for ONNX Runtime and import it."""
    wheels = _installed_wheels()
    recorded = Installation(wheels).label
    spec = find_package("onnxruntime")
    if spec is None or spec.origin is None:
        if not wheels:
            return Installation(wheels, problem="onnxruntime is not installed")
        # What is left after `pip uninstall` of one of two wheels that had overwritten each other.
        return Installation(wheels, problem=f"{recorded} is recorded as installed, but its files are gone")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # a GPU wheel warns here of libraries that are diagnosed later
            module = import_onnxruntime()
    except ModuleNotFoundError as error:
        if error.name == "onnxruntime":
            return Installation(wheels, problem="onnxruntime is not installed")
        return Installation(wheels, problem=f"{recorded} does not import ({error})")
    except Exception as error:
        first_line = str(error).strip().splitlines()[:1]
        return Installation(wheels, problem=f"{recorded} does not import ({''.join(first_line) or repr(error)})")
    if not hasattr(module, "get_available_providers"):
        return Installation(wheels, problem=f"{recorded} is incomplete: some of its files are gone")
    return Installation(wheels, module)


def _installed_wheels() -> dict[str, str]:
    wheels = {}
    for name in _WHEELS:
        with contextlib.suppress(metadata.PackageNotFoundError):
            wheels[name] = metadata.version(name)
    return wheels
