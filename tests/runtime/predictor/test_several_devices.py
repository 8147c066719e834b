"""Several devices give the very file of one, whichever is faster; what one of them raises names it."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import anndata
import numpy as np
import pytest

import scgenept_rt as sgr
from scgenept_rt.errors import DeviceMemoryError, InferenceError, ReferenceMismatchError
from scgenept_rt.session import SeveralDevices
from scgenept_rt.verification import check_reference
from tests.runtime.predictor.test_batches import StandIn, network_threads, wait

MakeCells = Callable[..., anndata.AnnData]

BATCH = 4
FORMS: dict[str, dict[str, Any]] = {
    "both": {"aggregate": "both", "groupby": "cell_type"},
    "max_error": {"max_error": 0.4, "groupby": "cell_type"},
}


class Device(StandIn):
    """A device that takes its time; its rows depend on their batch, so that other batches give another file."""

    def __init__(self, seed: int = 0, during: Callable[[int], None] | None = None, *, slowest: float = 0.0) -> None:
        super().__init__(during, fixed_batches=True)
        self._random, self._slowest = random.Random(seed), slowest

    def network(self, values: np.ndarray, pert_flags: np.ndarray) -> np.ndarray:
        time.sleep(self._random.random() * self._slowest)
        of_batch = np.linspace(0, len(values) / 8, len(values), dtype=np.float32)[:, None]
        return np.tanh(values + pert_flags * values.std(axis=1, keepdims=True) + of_batch).astype(np.float32)


@pytest.fixture(autouse=True)
def _no_thread_is_left() -> Any:
    yield
    assert network_threads() == []


@pytest.fixture(scope="module")
def cells(make_cells: MakeCells) -> anndata.AnnData:
    adata = make_cells(31)
    adata.obs["cell_type"] = ["B", "T", "B"] * 10 + ["T"]
    return adata


@pytest.fixture
def predictor(bundle: Path) -> Callable[..., sgr.Predictor]:
    opened = sgr.Bundle.open(bundle)

    def of(*devices: Any) -> sgr.Predictor:
        several = SeveralDevices({f"device {number}": device for number, device in enumerate(devices)})
        return sgr.Predictor(opened, several if len(devices) > 1 else devices[0])

    return of


def write(model: sgr.Predictor, cells: anndata.AnnData, out: Path, **options: Any) -> list[bytes]:
    paths = model.predict_file(cells, out, model.gene_names[:12], batch_size=BATCH, **options)
    return [path.read_bytes() for path in paths]


@pytest.mark.parametrize("form", FORMS)
def test_the_file_is_that_of_one_device(
    predictor: Callable[..., sgr.Predictor], cells: anndata.AnnData, tmp_path: Path, form: str
) -> None:
    options = FORMS[form]
    one = write(predictor(Device()), cells, tmp_path / "one.h5ad", **options)
    assert one != write(predictor(StandIn(fixed_batches=True)), cells, tmp_path / "other.h5ad", **options)
    devices = [Device(seed, slowest=0.002 * (1 + seed)) for seed in range(4)]
    progress: list[int] = []
    out = tmp_path / "several.h5ad"
    assert one == write(predictor(*devices), cells, out, progress=lambda *counts: progress.extend(counts), **options)
    assert all(device.batches for device in devices)
    assert progress[::2] == sorted(progress[::2])
    assert progress[-2] == progress[-1]


@pytest.mark.parametrize("form", FORMS)
def test_parts_and_a_resumed_run_on_other_devices_make_the_same_file(
    predictor: Callable[..., sgr.Predictor], cells: anndata.AnnData, tmp_path: Path, form: str
) -> None:
    def leave(done: int, _: int) -> None:
        if done > 60:
            raise KeyboardInterrupt

    one, out = write(predictor(Device()), cells, tmp_path / "one.h5ad", **FORMS[form]), tmp_path / "resumed.h5ad"
    several = predictor(*(Device(seed, slowest=0.002) for seed in range(3)))
    with pytest.raises(KeyboardInterrupt):
        write(several, cells, out, progress=leave, **FORMS[form])
    assert one == write(predictor(Device(), Device()), cells, out, resume=True, **FORMS[form])
    write(several, cells, tmp_path / "parts.h5ad", shard="1/2", **FORMS[form])
    write(predictor(Device()), cells, tmp_path / "parts.h5ad", shard="2/2", **FORMS[form])
    assert one == [path.read_bytes() for path in sgr.merge_shards(tmp_path / "parts.h5ad")]


@pytest.mark.parametrize("form", FORMS)
def test_all_devices_run_at_once(
    predictor: Callable[..., sgr.Predictor], cells: anndata.AnnData, tmp_path: Path, form: str
) -> None:
    together = threading.Barrier(4)
    devices = [Device(during=lambda number: number == 1 and together.wait(timeout=60)) for _ in range(4)]
    write(predictor(*devices), cells, tmp_path / "out.h5ad", **FORMS[form])
    assert not together.broken


def test_an_array_is_predicted_on_all_devices_and_each_is_warmed_up(predictor: Callable[..., sgr.Predictor]) -> None:
    devices = [Device(seed, slowest=0.002) for seed in range(3)]
    model = predictor(*devices)
    model.warm_up((1, 3))
    assert [device.sizes for device in devices] == [[1, 4]] * 3
    values = np.random.default_rng(0).random((50, len(model.gene_names)), dtype=np.float32)
    one = predictor(Device()).predict_array(values, "ctrl", batch_size=BATCH)
    np.testing.assert_array_equal(model.predict_array(values, "ctrl", batch_size=BATCH), one)
    assert all(len(device.batches) > 2 for device in devices)


# --- errors -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("form", FORMS)
def test_an_error_on_one_device_names_it(
    predictor: Callable[..., sgr.Predictor], cells: anndata.AnnData, tmp_path: Path, form: str
) -> None:
    def fail(number: int) -> None:
        if number > 8:
            raise InferenceError("the machine is on fire", "Call the fire brigade")

    options, out = FORMS[form], tmp_path / "out.h5ad"
    devices = [Device(0, slowest=0.002), Device(1, fail), Device(2, slowest=0.002)]
    with pytest.raises(InferenceError, match=r"^device 1: the machine is on fire\. Call the fire brigade"):
        write(predictor(*devices), cells, out, **options)
    assert not out.exists()
    one = write(predictor(Device()), cells, tmp_path / "one.h5ad", **options)
    assert one == write(predictor(Device(), Device()), cells, out, resume=True, **options)


def test_once_memory_runs_out_on_one_device_all_run_smaller_parts(
    predictor: Callable[..., sgr.Predictor], cells: anndata.AnnData
) -> None:
    learned = threading.Event()

    def full(_: int) -> None:
        if devices[0].sizes[-1] > 2:
            learned.set()
            raise DeviceMemoryError("failed to allocate memory")

    devices = [Device(0, full), Device(1, lambda number: number == 1 and wait(learned))]
    predictor(*devices).predict(cells, ["YFU19", "EKKN10"], batch_size=BATCH)
    assert set(devices[1].sizes[3:]) == {2}


def test_the_reference_is_compared_on_every_device(model: sgr.Predictor) -> None:
    check_reference(
        model.bundle, SeveralDevices({"device 0": model.session, "device 2": model.session})
    ).raise_if_missed()
    several = SeveralDevices({"device 0": model.session, "device 2": Device()})
    with pytest.raises(ReferenceMismatchError, match=r"cpu \(device 2\)"):
        check_reference(model.bundle, several).raise_if_missed()
