"""Prediction on a Ray cluster: the very files of one process, whoever is killed."""

from __future__ import annotations

import os
import signal
import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import anndata
import psutil
import pytest

import scgenept_rt as sgr
from scgenept_rt import cluster
from scgenept_rt.cluster.connection import check_answer, import_ray
from scgenept_rt.errors import ArgumentError, ClusterError, ProviderUnavailableError
from tests.runtime.partial_output import n_committed
from tests.runtime.predictor.test_shards import content

if TYPE_CHECKING:
    from tests.commands import CommandServer

pytest.importorskip("ray", reason="needs Ray, of the extra ray")

MakeCells = Callable[..., anndata.AnnData]
MEGABYTE = 2**20


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    """A cluster of one node, which says that it has a GPU."""
    ray = import_ray()
    from ray.cluster_utils import Cluster

    node = {"num_cpus": 8, "num_gpus": 1, "object_store_memory": 80 * MEGABYTE, "include_dashboard": False}
    nodes = Cluster(initialize_head=True, head_node_args=node)
    ray.init(address=nodes.address, log_to_driver=False, logging_level="ERROR")
    yield nodes.address
    ray.shutdown()
    nodes.shutdown()


@pytest.fixture(scope="module")
def workers(bundle: Path, address: str) -> Iterator[cluster.ClusterPredictor]:
    with cluster.load(bundle, workers=2, provider="cpu") as model:
        yield model


@pytest.fixture(scope="module")
def cells(make_cells: MakeCells) -> anndata.AnnData:
    adata = make_cells(37)
    adata.obs["cell_type"] = ["B", "T", "B"] * 12 + ["T"]
    return adata


def predict(model: sgr.Predictor, cells: anndata.AnnData, out: Path, **options: Any) -> None:
    model.predict_file(cells, out, model.gene_names[:8], batch_size=3, **options)


def worker_pids() -> list[int]:
    """Processes of workers that run on this machine."""
    return [process.pid for process in psutil.process_iter() if process.name().startswith("ray::Worker")]


@pytest.mark.parametrize("suffix", [".h5ad", ".zarr"])
@pytest.mark.parametrize(
    "options",
    [{"aggregate": "both", "groupby": "cell_type"}, {"aggregate": "cells", "n_controls": 5}, {"max_error": 0.02}],
    ids=str,
)
def test_files_are_those_of_one_process(
    workers: cluster.ClusterPredictor,
    model: sgr.Predictor,
    cells: anndata.AnnData,
    tmp_path: Path,
    options: dict[str, Any],
    suffix: str,
) -> None:
    predict(model, cells, tmp_path / f"one{suffix}", **options)
    predict(workers, cells, tmp_path / f"ray{suffix}", **options)
    assert content(tmp_path, "ray") == content(tmp_path, "one")


def test_cells_of_a_killed_worker_are_predicted_by_others(
    bundle: Path, address: str, model: sgr.Predictor, cells: anndata.AnnData, tmp_path: Path
) -> None:
    killed: list[int] = []
    notices: list[str] = []

    def kill(done: int, total: int) -> None:
        if done > total / 4 and not killed:
            killed.extend(set(worker_pids()) - others)
            os.kill(killed[0], signal.SIGKILL)

    others = set(worker_pids())
    out = tmp_path / "ray.h5ad"
    with cluster.load(bundle, workers=1, provider="cpu", on_notice=notices.append) as on_ray:
        predict(on_ray, cells, out, progress=kill)
    predict(model, cells, tmp_path / "one.h5ad")
    assert out.read_bytes() == (tmp_path / "one.h5ad").read_bytes()
    assert "lost" in notices[-1]


def test_a_killed_driver_is_continued(
    command_line: CommandServer, bundle: Path, address: str, make_cells: MakeCells, tmp_path: Path
) -> None:
    make_cells(60).write_h5ad(tmp_path / "cells.h5ad")
    arguments = ["predict", bundle, tmp_path / "cells.h5ad", "--all-singles", "--batch-size", "1", "--threads", "1"]
    arguments += ["--provider", "cpu", "--out"]
    out = tmp_path / "ray.h5ad"
    on_ray = [*arguments, out, "--ray", address, "--workers", "1"]
    driver = command_line.start(*on_ray)
    while not n_committed(out):
        assert psutil.pid_exists(driver)
    os.kill(driver, signal.SIGKILL)
    command_line.wait()
    assert not out.exists()

    resumed = command_line(*on_ray, "--resume")
    assert resumed.returncode == 0, resumed.stderr
    assert command_line(*arguments, tmp_path / "one.h5ad").returncode == 0
    assert out.read_bytes() == (tmp_path / "one.h5ad").read_bytes()
    assert resumed.stdout == f"wrote {out}\n"
    assert len(resumed.stderr.splitlines()) < 10


def test_nothing_at_an_address_is_said_at_once(bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("scgenept_rt.cluster.connection._SECONDS_TO_ANSWER", 0.2)
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{listener.getsockname()[1]}"
        with pytest.raises(ClusterError, match=address):
            check_answer(address)
        listener.listen()
        with pytest.raises(ClusterError, match=address):
            check_answer(address)


def test_a_worker_without_the_gpu_that_it_was_given_is_refused(bundle: Path, address: str) -> None:
    with pytest.raises(ClusterError, match="runs on the cpu") as refused:
        cluster.load(bundle, workers=1)
    assert refused.value.options[0].name == "provider"
    with pytest.raises(ProviderUnavailableError, match="cuda"):
        cluster.load(bundle, workers=1, provider="cuda")


@pytest.mark.parametrize("given", [{"workers": 0}, {"device": 0}], ids=str)
def test_options_without_meaning_are_refused(bundle: Path, given: dict[str, Any]) -> None:
    with pytest.raises(ArgumentError, match=next(iter(given))):
        cluster.load(bundle, **given)
