"""What tests of providers need of the machine that they run on."""

from __future__ import annotations

import ctypes
import sys

import pytest

linux = pytest.mark.skipif(sys.platform != "linux", reason="builds a Linux machine out of files")


def loads(library: str) -> bool:
    try:
        ctypes.CDLL(library)
    except OSError:
        return False
    return True


def no_driver_here() -> pytest.MarkDecorator:
    return pytest.mark.skipif(loads("libcuda.so.1"), reason="this machine has an NVIDIA driver")
