"""What the scripts share: comma-separated options, processes, graphs, time, and results as JSON and tables."""

from __future__ import annotations

import json
import multiprocessing
import resource
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from scgenept_rt.benchmark.machine import describe_machine
from scgenept_rt.files.machine_limits import cpu_threads
from scgenept_rt.providers import import_onnxruntime, select_provider, verify_active
from tables import table

Values, Flags = NDArray[np.float32], NDArray[np.int64]


def numbers(text: str) -> list[int]:
    return [int(part) for part in text.split(",")]


def machine(device: str = "cpu") -> dict[str, Any]:
    return describe_machine(select_provider(provider=device))


def in_new_process(run: Callable[..., Any], *arguments: object) -> Any:
    """Call a function in a process of its own, whose memory and imports end with it."""
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as process:
        return process.submit(run, *arguments).result()


def open_graph(graph: Path | bytes, device: str, *, pattern: bool = True, whole: bool = False, **cuda: str) -> Any:
    """Open a graph with ONNX Runtime alone, on a CPU or a GPU; `whole`: refuse one of which a part runs elsewhere."""
    choice, onnxruntime = select_provider(provider=device), import_onnxruntime()  # the former loads CUDA and cuDNN
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    options.enable_mem_pattern = pattern
    options.intra_op_num_threads = cpu_threads()
    if whole and choice.traits.on_gpu:
        options.add_session_config_entry("session.disable_cpu_ep_fallback", "1")
    source = graph if isinstance(graph, bytes) else str(graph)
    providers = [(choice.ort_provider, {**choice.ort_options, **cuda})]
    session = onnxruntime.InferenceSession(source, options, providers=providers, enable_fallback=0)
    verify_active(session.get_providers(), choice)
    return session


class Bound:
    """A session whose inputs and output stay on the device."""

    def __init__(self, session: Any, feed: dict[str, np.ndarray], output: str, device: str) -> None:
        make = import_onnxruntime().OrtValue.ortvalue_from_numpy
        self._session, self._binding = session, session.io_binding()
        # Arrays are kept: on the CPU theirs is the memory, and not every version of ONNX Runtime keeps what is bound.
        self._kept = {name: (make(array, device, 0), array) for name, array in feed.items()}
        for name, (value, _) in self._kept.items():
            self._binding.bind_ortvalue_input(name, value)
        self._binding.bind_output(output, device, 0)

    def run(self) -> None:
        """Run, and wait for the device."""
        self._session.run_with_iobinding(self._binding)
        self._binding.synchronize_outputs()

    def output(self) -> np.ndarray:
        """Run, and return the output."""
        self.run()
        return np.array(self._binding.get_outputs()[0].numpy())


def save(result: dict[str, Any], path: Path | None, *tables: str) -> None:
    """Write a result, if it is wanted, and print its tables."""
    if path is not None:
        path.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    for name in tables:
        print(table(result, name), end="\n\n")


@contextmanager
def timed(who: int = resource.RUSAGE_SELF) -> Iterator[dict[str, float]]:
    """Measure the time and the processor time of what runs within."""
    found: dict[str, float] = {}
    begin, usage = time.perf_counter(), resource.getrusage(who)
    yield found
    ended = resource.getrusage(who)
    found["seconds"] = time.perf_counter() - begin
    found["cpu_seconds"] = ended.ru_utime - usage.ru_utime + ended.ru_stime - usage.ru_stime
