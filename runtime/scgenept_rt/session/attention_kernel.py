"""Which attention kernel ran: attention is three quarters of the work, and a slow kernel shows in nothing but time."""

from __future__ import annotations

import os
import re
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager

from scgenept_rt.bundle import Precision, Target

DEBUG_VARIABLE = "ORT_ENABLE_ATTENTION_KERNEL_DEBUG_INFO"
"""With it, ONNX Runtime's CUDA provider prints the kernel of every attention node to standard output."""

_NO_FLASH_VARIABLE = "ORT_DISABLE_FLASH_ATTENTION"
_REPORT = re.compile(r"Operator=(\w*Attention)\b.*?\bSdpaKernel=(\w+)")
_STDOUT = 1


@contextmanager
def cuda_attention_kernels() -> Iterator[list[str]]:
    """Collect the names of the attention kernels that the CUDA provider runs, in sessions made within the context.

    Yields a list that is filled on leaving: distinct names such as ``CUDNN_FLASH_ATTENTION``, empty if nothing was
    reported. Standard output is redirected meanwhile; what else is written to it comes out on leaving.
    """
    kernels: list[str] = []
    sys.stdout.flush()
    before = os.environ.get(DEBUG_VARIABLE)
    kept = os.dup(_STDOUT)
    with tempfile.TemporaryFile() as captured:
        # ONNX Runtime writes to the descriptor itself, which Python's own redirection does not reach.
        os.dup2(captured.fileno(), _STDOUT)
        os.environ[DEBUG_VARIABLE] = "1"
        try:
            yield kernels
        finally:
            sys.stdout.flush()
            os.dup2(kept, _STDOUT)
            os.close(kept)
            if before is None:
                del os.environ[DEBUG_VARIABLE]
            else:
                os.environ[DEBUG_VARIABLE] = before
            captured.seek(0)
            text = captured.read().decode(errors="replace")
            kernels += dict.fromkeys(kernel for _, kernel in _REPORT.findall(text))
            sys.stdout.write("".join(line for line in text.splitlines(keepends=True) if not _REPORT.search(line)))


def cpu_attention_kernel(precision: Precision, target: Target) -> str:
    """Return what is known of the CPU provider's kernel: it depends on the graph alone; empty if not known.

    Its fp32 MultiHeadAttention without mask and bias, the form of the `ort` and `merged` graphs, runs in tiles (flash
    attention) unless that is switched off in the environment.
    """
    if precision != "fp32" or target == "portable":
        return ""
    if os.environ.get(_NO_FLASH_VARIABLE, "0") == "1":
        return f"unfused, as {_NO_FLASH_VARIABLE} is set"
    return "flash (tiled)"
