"""The attention kernel that ran: attention is three quarters of the work, and a slow kernel shows only in the time."""

from __future__ import annotations

import os
import re
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

DEBUG_VARIABLE: Final = "ORT_ENABLE_ATTENTION_KERNEL_DEBUG_INFO"
"""With it, ONNX Runtime's CUDA provider prints the kernel of every attention node to standard output."""

_KERNEL = re.compile(r"SdpaKernel=(\w+)")
_DEBUG_LINE = re.compile(
    r"SdpaKernel=|Operator=\w*Attention|AttentionKernelOptions:|Flash Attention is|MATH=0 is|flash=\d, .*workspace="
)


@contextmanager
def attention_kernels(*, printed: bool) -> Iterator[list[str]]:
    """Yield a list of the attention kernels that run in sessions opened within the context, complete on leaving.

    They are names such as ``CUDNN_FLASH_ATTENTION``; none if `printed` is False, for providers that do not print them
    (`ProviderTraits.is_cuda`). Standard output is redirected meanwhile; anything else written to it goes to standard
    error on leaving, since the output of a command may have to be JSON.
    """
    kernels: list[str] = []
    if not printed:
        yield kernels
        return
    sys.stdout.flush()
    stdout = 1  # ONNX Runtime writes to the descriptor, which Python's own redirection does not affect
    kept = os.dup(stdout)
    with tempfile.TemporaryFile() as captured:
        os.dup2(captured.fileno(), stdout)
        os.environ[DEBUG_VARIABLE] = "1"
        try:
            yield kernels
        finally:
            sys.stdout.flush()
            os.dup2(kept, stdout)
            os.close(kept)
            del os.environ[DEBUG_VARIABLE]
            captured.seek(0)
            text = captured.read().decode(errors="replace")
            kernels += dict.fromkeys(_KERNEL.findall(text))
            sys.stderr.write("".join(line for line in text.splitlines(keepends=True) if not _DEBUG_LINE.search(line)))
