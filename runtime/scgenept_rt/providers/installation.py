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
from pathlib import Path
from typing import Any, NamedTuple

from scgenept_rt.installing import install_command, pip_command
from scgenept_rt.providers.onnx_runtime import import_onnxruntime
from scgenept_rt.wording import reason

# Each of these distributions writes the same package directory `onnxruntime`.
_WHEELS = ("onnxruntime", "onnxruntime-gpu", "onnxruntime-migraphx", "onnxruntime-openvino", "onnxruntime-rocm")


class Fault(NamedTuple):
    """What keeps a provider from being used, in one line, and one next step."""

    reason: str
    remedy: str


@dataclass(frozen=True)
class Installation:
    """What was found.

    Attributes
    ----------
    wheels
        Version of every distribution that provides the package `onnxruntime` that would be imported; more than one
        means that they overwrote each other's files.
    module
        The imported package; None if `problem` says why there is none.
    """

    wheels: Mapping[str, str]
    module: Any = None
    problem: str = ""

    @property
    def label(self) -> str:
        """The wheels with their versions, such as "onnxruntime-gpu 1.31.1"."""
        if self.wheels:
            return " and ".join(f"{name} {version}" for name, version in self.wheels.items())
        return f"onnxruntime {getattr(self.module, '__version__', 'of unknown version')}"

    @property
    def cuda_major(self) -> int | None:
        """Major version of CUDA that the installed build needs; None for a build without CUDA."""
        with contextlib.suppress(Exception):
            build = importlib.import_module("onnxruntime.capi.build_and_package_info")
            return int(str(build.cuda_version).split(".")[0])
        return None

    def fault(self, extra: str) -> Fault | None:
        """Return what is wrong with the installation as a whole; installing `extra` anew resolves it."""
        problem = self.problem
        if len(self.wheels) > 1:
            problem = problem or f"{self.label} are installed together and overwrite each other's files"
        remove = pip_command(f"uninstall -y {' '.join(self.wheels)}") + " && " if self.wheels else ""
        return Fault(problem, f"Run `{remove}{install_command(extra)}`") if problem else None

    def preload_libraries(self) -> None:
        """Load CUDA and cuDNN from the `nvidia-*` wheels, where the dynamic loader would not look by itself."""
        # It prints or warns about what it cannot load; the caller examines each library.
        with contextlib.redirect_stdout(io.StringIO()), warnings.catch_warnings(), contextlib.suppress(Exception):
            warnings.simplefilter("ignore")
            self.module.preload_dlls()


def find_installation() -> Installation:
    """Look for ONNX Runtime and import it."""
    spec = importlib.util.find_spec("onnxruntime")
    origin = None if spec is None or spec.origin is None else Path(spec.origin)
    wheels = _installed_wheels(origin and origin.resolve().parent.parent)
    recorded = Installation(wheels).label
    if origin is None:
        # Files are gone after `pip uninstall` of one of two wheels that had overwritten each other.
        gone = f"{recorded} is recorded as installed, but its files are gone"
        return Installation(wheels, problem=gone if wheels else "onnxruntime is not installed")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # a GPU wheel warns of libraries that are examined later
            module = import_onnxruntime()
    except Exception as error:
        return Installation(wheels, problem=f"{recorded} does not import ({reason(error)})")
    if not hasattr(module, "get_available_providers"):
        return Installation(wheels, problem=f"{recorded} is incomplete: some of its files are gone")
    return Installation(wheels, module)


def _installed_wheels(directory: Path | None) -> dict[str, str]:
    """Return the wheels by name; of several, those in the directory that the package is imported from."""
    found = {}
    for name in _WHEELS:
        with contextlib.suppress(metadata.PackageNotFoundError):
            found[name] = metadata.distribution(name)
    here = {name: wheel for name, wheel in found.items() if Path(str(wheel.locate_file(""))).resolve() == directory}
    return {name: wheel.version for name, wheel in (here or found).items()}
