"""What is installed, and commands that install more, worded so that they work for this installation."""

from __future__ import annotations

import json
import shlex
import shutil
import sys
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path
from urllib.parse import unquote, urlsplit

RUNTIME_PACKAGES = ("onnxruntime", "onnxruntime-gpu")
"""Packages that hold ONNX Runtime."""

_NAME = "scgenept-rt"


def installed_versions(*packages: str) -> dict[str, str]:
    """Return the versions of those packages that are installed."""
    from importlib import metadata  # here, as every command imports this module and few need it

    found = {}
    for package in packages:
        with suppress(metadata.PackageNotFoundError):
            found[package] = metadata.version(package)
    return found


def pip_command(arguments: str) -> str:
    """Return a command of pip for the environment that runs this, such as ``pip install hdf5plugin``."""
    if find_spec("pip") is None:  # an environment of uv
        return f"uv pip {arguments.replace(' -y', '')} --python {shlex.quote(sys.executable)}"
    found = shutil.which("pip")
    if found is not None and Path(found).parent.resolve() == Path(sys.executable).parent.resolve():
        return f"pip {arguments}"
    return f"{shlex.quote(sys.executable)} -m pip {arguments}"


def install_command(extra: str, options: str = "") -> str:
    """Return the command that adds an extra to this package, from where that came: a clone, a wheel or an index."""
    return pip_command(f"install {options}{_requirement(extra)}")


def _requirement(extra: str) -> str:
    """Return what pip recorded (PEP 610) as an argument of ``pip install``."""
    from importlib import metadata  # as above

    named = f"{_NAME}[{extra}]"
    try:
        recorded = metadata.distribution(_NAME).read_text("direct_url.json")
    except metadata.PackageNotFoundError:
        recorded = None
    if recorded is None:
        return shlex.quote(named)
    origin = json.loads(recorded)
    if "vcs_info" in origin:
        vcs = origin["vcs_info"]
        return shlex.quote(f"{named} @ {vcs['vcs']}+{origin['url']}@{vcs['commit_id']}")
    path = Path(unquote(urlsplit(origin["url"]).path))
    if urlsplit(origin["url"]).scheme != "file":
        return shlex.quote(f"{named} @ {origin['url']}")
    if not path.exists():  # the build of an image removes what it installed from
        return shlex.quote(named)
    editable = "-e " if origin.get("dir_info", {}).get("editable") else ""
    return editable + shlex.quote(f"{path}[{extra}]")
