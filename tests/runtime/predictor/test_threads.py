"""One predictor in a service: many threads, closing, other processes, and nothing done on import."""

from __future__ import annotations

import pickle
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import anndata
import numpy as np
import pytest

import scgenept_rt as sgr
from scgenept_rt.errors import ArgumentError

MakeCells = Callable[..., anndata.AnnData]

LABELS = ("YFU19", "EKKN10+ctrl", "YFU19+EKKN10", "ctrl")


def test_eight_threads_on_one_predictor_give_what_one_gives(bundle: Path, make_cells: MakeCells) -> None:
    jobs = [(np.asarray(make_cells(5 + number, seed=number).X), LABELS[number % 4]) for number in range(24)]
    with sgr.load(bundle, provider="cpu", threads=1) as model:
        serial = [model.predict_array(values, label, batch_size=4) for values, label in jobs]
        with ThreadPoolExecutor(8) as pool:
            together = list(pool.map(lambda job: model.predict_array(*job, batch_size=4), jobs))
    for ours, expected in zip(together, serial, strict=True):
        np.testing.assert_allclose(ours, expected, rtol=1e-4, atol=2e-5)


def test_closing_beside_predictions_lets_them_end_or_fails_clearly(bundle: Path, make_cells: MakeCells) -> None:
    values = np.asarray(make_cells(50).X)
    for _ in range(3):
        model = sgr.load(bundle, provider="cpu", threads=1)
        expected = model.predict_array(values, "YFU19", batch_size=1)
        started = threading.Barrier(5)

        def predict(model: sgr.Predictor = model, started: threading.Barrier = started) -> np.ndarray | str:
            started.wait()
            try:
                return model.predict_array(values, "YFU19", batch_size=1)
            except RuntimeError as error:
                return str(error)

        with ThreadPoolExecutor(4) as pool:
            running = [pool.submit(predict) for _ in range(4)]
            started.wait()
            model.close()
        for result in (future.result() for future in running):
            if isinstance(result, str):
                assert result == "this predictor is closed; load the bundle again"
            else:
                np.testing.assert_allclose(result, expected, rtol=1e-4, atol=2e-5)


def test_context_manager_closes_and_closing_twice_is_harmless(bundle: Path, make_cells: MakeCells) -> None:
    with sgr.load(bundle, provider="cpu") as model:
        assert repr(model) == "<Predictor of scgenept_go_c_gpt_concat: 24 genes, 3 layers, cpu, fp32>"
    model.close()
    assert repr(model).endswith("closed>")
    assert model.variant == "scgenept_go_c_gpt_concat"
    cells = make_cells(3)
    for use in (
        lambda: model.predict_array(cells.X, "YFU19"),
        lambda: model.predict(cells, "YFU19"),
        lambda: next(model.iter_predict(cells, "YFU19")),
        lambda: model.provider,
    ):
        with pytest.raises(RuntimeError, match="closed; load the bundle again"):
            use()


def test_a_predictor_cannot_be_pickled(model: sgr.Predictor) -> None:
    with pytest.raises(TypeError, match="pickle"):
        pickle.dumps(model)


def test_iter_predict_checks_at_once(model: sgr.Predictor, make_cells: MakeCells) -> None:
    cells = make_cells(3)
    with pytest.raises(sgr.ScgeneptError, match="NOSUCHGENE"):
        model.iter_predict(cells, "NOSUCHGENE")
    with pytest.raises(ArgumentError, match="aggregate is 'both'"):
        model.iter_predict(cells, "YFU19", aggregate="both")  # type: ignore[arg-type]


def test_iter_predict_hands_out_what_predict_returns(model: sgr.Predictor, make_cells: MakeCells) -> None:
    cells = make_cells(11)
    whole = model.predict(cells, list(LABELS), aggregate="both", batch_size=4)
    blocks = list(model.iter_predict(cells, list(LABELS), aggregate="cells", batch_size=4))
    np.testing.assert_array_equal(np.concatenate([block.X for block in blocks]), whole.cells.X)
    assert [block.perturbation.label for block in blocks for _ in block.X] == whole.cells.obs["condition"].tolist()
    means = list(model.iter_predict(cells, list(LABELS), aggregate="mean", batch_size=4))
    np.testing.assert_array_equal(np.concatenate([row.X for row in means]), whole.mean.X)
    for layer in ("delta", "sem"):
        np.testing.assert_array_equal(np.concatenate([row.layers[layer] for row in means]), whole.mean.layers[layer])


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="open files are counted in /proc")
def test_closing_iter_predict_early_drops_the_cells_and_their_temporary_file(
    model: sgr.Predictor, make_cells: MakeCells, monkeypatch: pytest.MonkeyPatch
) -> None:
    # More than is held in memory.
    monkeypatch.setattr("scgenept_rt.expression.stored_rows.SPILL_BYTES", 100)

    def temporary_files() -> int:
        links = (link for link in Path("/proc/self/fd").iterdir() if link.is_symlink())
        return sum(str(link.readlink()).startswith(tempfile.gettempdir()) for link in links)

    before = temporary_files()
    rows = model.iter_predict(make_cells(1000), "YFU19", aggregate="cells", batch_size=2)
    assert next(rows).X.shape == (2, 24)
    assert temporary_files() == before + 1
    rows.close()
    assert temporary_files() == before


def test_importing_prints_configures_and_writes_nothing(tmp_path: Path) -> None:
    code = """
import logging, sys, warnings
filters = list(warnings.filters)
import scgenept_rt
from scgenept_rt import Predictor, ReadOptions, load
assert logging.root.handlers == [] and logging.root.level == logging.WARNING, logging.root
assert not any(name.startswith("scgenept") for name in logging.root.manager.loggerDict)
ours = [entry for entry in warnings.filters if entry not in filters and "scgenept" in str(entry)]
assert ours == [], ours
assert not {"torch", "onnx", "onnxscript", "scgpt"} & set(sys.modules)
"""
    command = [sys.executable, "-B", "-W", "error::DeprecationWarning:scgenept_rt", "-c", code]
    result = subprocess.run(command, capture_output=True, text=True, check=False, cwd=tmp_path)
    assert (result.returncode, result.stdout, result.stderr) == (0, "", "")
    assert list(tmp_path.iterdir()) == []
