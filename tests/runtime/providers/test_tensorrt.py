"""TensorRT's options and engine cache, on a machine whose ONNX Runtime is a stand-in that writes an engine file."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from scgenept_rt.session.tensorrt import engine_directory
from tests.runtime.bundle_changes import change_weight
from tests.runtime.conftest import CELLS
from tests.runtime.providers.conftest import Machine

NVINFER = "int getInferLibVersion(void) { return VERSION; }"
LOAD = """
import sys, numpy as np, scgenept_rt as sgr
bundle, provider, device, cells = sys.argv[1:]
model = sgr.load(bundle, provider=provider, device=int(device), on_notice=lambda notice: print("notice:", notice))
values = np.zeros((int(cells), 24), dtype=np.float32)
print(model.provider, model.precision, model.session.run(values, values.astype(np.int64), np.arange(24)).shape)
"""


@pytest.fixture
def tensorrt_machine(gpu_machine: Machine) -> Machine:
    """The GPU machine with TensorRT 10.13.4."""
    nvinfer = gpu_machine.libraries / "libnvinfer.so.10"
    gpu_machine.compile(nvinfer, NVINFER, defines={"VERSION": "101304"})
    return gpu_machine


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    return tmp_path / "cache"


def load(machine: Machine, bundle: Path, cache: Path, device: int = 0, cells: int = 2, **more: str) -> Any:
    return machine.run(LOAD, str(bundle), "tensorrt", str(device), str(cells), SCGENEPT_RT_CACHE=str(cache), **more)


def lines(result: Any) -> list[str]:
    assert result.returncode == 0, result.stderr
    return result.stdout.splitlines()


def engines(cache: Path) -> list[Path]:
    return sorted((cache / "engines").iterdir())


def test_an_engine_is_built_once_and_then_read_in_silence(tensorrt_machine: Machine, bundle: Path, cache: Path) -> None:
    notice, session, built, after, batch, last = lines(load(tensorrt_machine, bundle, cache))
    assert notice == (
        "notice: building a TensorRT engine for Test GPU 0: this takes minutes, and only once; "
        f"it is kept in {cache}/engines."
    )
    assert session == "session ['TensorrtExecutionProvider'] " + str(
        {
            "device_id": "0",
            "trt_fp16_enable": "1",
            "trt_layer_norm_fp32_fallback": "1",
            "trt_profile_min_shapes": "values:1x1,pert_flags:1x1,gene_index:1",
            "trt_profile_opt_shapes": "values:1024x24,pert_flags:1024x24,gene_index:24",
            "trt_profile_max_shapes": "values:1024x24,pert_flags:1024x24,gene_index:24",
            "trt_engine_cache_enable": "1",
            "trt_timing_cache_enable": "1",
        }
    )
    assert built == "built an engine"
    assert after.startswith("notice: built the engine in ")
    assert batch == "batch of 2"
    assert last == "tensorrt fp16 (2, 24)"
    (kept,) = engines(cache)
    listing = json.loads((kept / "listing.json").read_text())
    assert set(listing["files"]) == {"graph_sm90.engine", "graph.timing"}
    assert {listing["key"][name] for name in ("gpu", "compute capability", "onnxruntime", "tensorrt")} == {
        "Test GPU 0", "9.0", "1.31.1", "101304"
    }  # fmt: skip
    again = load(tensorrt_machine, bundle, cache)
    assert "read an engine" in again.stdout
    assert "notice" not in again.stdout


def test_an_engine_for_a_small_gpu_has_smaller_batches(tensorrt_machine: Machine, bundle: Path, cache: Path) -> None:
    # 24 genes, width 64 in fp16: 31 kB a cell beside the 1 GiB that is left free.
    room = 2**30 + 600 * 24 * (8 * 64 * 2 * 5 // 4 + 16)
    shown = load(tensorrt_machine, bundle, cache, cells=600, TOTAL_MEMORY=str(room)).stdout
    assert "'trt_profile_max_shapes': 'values:512x24,pert_flags:512x24,gene_index:24'" in shown
    assert "batch of 512\nbatch of 88" in shown


@pytest.mark.parametrize("damaged", ["x.engine", "listing.json"])
def test_a_damaged_engine_is_built_again(damaged: str, tmp_path: Path) -> None:
    for _ in range(2):
        with engine_directory(tmp_path / "engines", {}) as (directory, is_built):
            assert not is_built
            (directory / "x.engine").write_text("engine")
        (kept,) = engines(tmp_path)
        (kept / damaged).write_text("{}")


def test_another_gpu_bundle_or_version_has_its_own_engine(
    tensorrt_machine: Machine, bundle: Path, bundle_copy: Path, cache: Path
) -> None:
    load(tensorrt_machine, bundle, cache)
    assert "built an engine" in load(tensorrt_machine, bundle, cache, device=1).stdout
    change_weight(bundle_copy / "portable_fp16.onnx", "gene_table", np.negative)
    assert "built an engine" in load(tensorrt_machine, bundle_copy, cache).stdout
    tensorrt_machine.compile(tensorrt_machine.libraries / "libnvinfer.so.10", NVINFER, defines={"VERSION": "101400"})
    assert "built an engine" in load(tensorrt_machine, bundle, cache).stdout
    assert len(engines(cache)) == 4


def test_a_build_that_fails_leaves_nothing(tensorrt_machine: Machine, bundle: Path, cache: Path) -> None:
    failed = load(tensorrt_machine, bundle, cache, TRT_BREAKS="1")
    assert failed.returncode == 1
    assert "GraphNotLoadedError" in failed.stderr
    assert "TensorRT gave up" in failed.stderr
    assert "built the engine" not in failed.stdout
    assert engines(cache) == []


def test_a_cache_directory_that_cannot_be_written_is_one_clear_error(
    tensorrt_machine: Machine, bundle: Path, tmp_path: Path
) -> None:
    (tmp_path / "file").touch()
    command = ("predict", str(bundle), str(CELLS), "--out", str(tmp_path / "out.h5ad"), "-p", "ctrl")
    result = tensorrt_machine.run(
        "from scgenept_rt.cli import main; main()",
        *command,
        "--provider",
        "tensorrt",
        SCGENEPT_RT_CACHE=str(tmp_path / "file" / "cache"),
    )
    assert result.returncode == 1
    assert result.stderr == (
        f"error: {tmp_path}/file/cache/engines: this cache directory for compiled engines cannot be written "
        "(Not a directory). Set the environment variable SCGENEPT_RT_CACHE to a directory that can.\n"
    )


FROM_MANY_THREADS = """
import sys, threading, numpy as np, onnxruntime, scgenept_rt as sgr
used = []
run = onnxruntime.InferenceSession.run
def recording(self, outputs, feed):
    used.append(threading.get_ident())
    return run(self, outputs, feed)
onnxruntime.InferenceSession.run = recording
model = sgr.load(sys.argv[1], provider="cuda", precision="fp32")
label = model.gene_names[0]
def predict(n_cells):
    assert model.predict_array(np.ones((n_cells, 24)), label, batch_size=12).shape == (n_cells, 24)
threads = [threading.Thread(target=predict, args=(n_cells,)) for n_cells in (1, 3, 5)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
predict(29)
print(len(used), "runs in", len(set(used)), "thread, the caller's:", threading.get_ident() in used)
"""


def test_a_gpu_is_run_from_one_thread_in_batches_of_few_sizes(gpu_machine: Machine, bundle: Path) -> None:
    *batches, threads = lines(gpu_machine.run(FROM_MANY_THREADS, str(bundle)))
    assert threads == "6 runs in 1 thread, the caller's: False"
    sizes = [line.removeprefix("batch of ") for line in batches if line.startswith("batch of ")]
    # Powers of two below the batch size that was asked for; 29 cells are 12 + 12 + 5, the last padded.
    assert sorted(sizes[:3], key=int) == ["1", "4", "8"]
    assert sizes[3:] == ["12", "12", "12"]


def test_tensorrt_rtx_makes_its_session_by_device(gpu_machine: Machine, bundle: Path, cache: Path) -> None:
    gpu_machine.add_plugin()
    result = gpu_machine.run(LOAD, str(bundle), "tensorrt-rtx", "1", "2", SCGENEPT_RT_CACHE=str(cache))
    assert lines(result) == ["session ['nv_tensorrt_rtx'] {}", "batch of 2", "tensorrt-rtx fp16 (2, 24)"]
    assert not cache.exists()


def test_a_cache_that_another_process_filled_meanwhile(tmp_path: Path) -> None:
    root, key = tmp_path / "engines", {"gpu": "a"}
    with engine_directory(root, key) as (first, first_built), engine_directory(root, key) as (second, second_built):
        assert not first_built
        assert not second_built
        assert first != second
        for directory in (first, second):
            (directory / "x.engine").write_text("engine")
    with engine_directory(root, key) as (third, built):
        assert built
        assert (third / "x.engine").read_text() == "engine"
    assert engines(tmp_path) == [third]


def test_what_killed_builds_left_goes_when_it_is_old(tmp_path: Path) -> None:
    for name in ("old", "new"):
        (tmp_path / "engines" / f"abc.building-{name}").mkdir(parents=True)
    two_days_ago = time.time() - 2 * 24 * 3600
    os.utime(tmp_path / "engines" / "abc.building-old", (two_days_ago, two_days_ago))
    with engine_directory(tmp_path / "engines", {}) as (directory, _):
        (directory / "x.engine").touch()
    assert [path.name for path in engines(tmp_path) if "building" in path.name] == ["abc.building-new"]
