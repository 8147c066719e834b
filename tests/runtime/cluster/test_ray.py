"""Prediction on a Ray cluster: the very files of one process, whoever is killed."""

from __future__ import annotations

import os
import re
import signal
import socket
import sys
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import anndata
import pytest

import scgenept_rt as sgr
from scgenept_rt import cluster
from scgenept_rt.cluster.connection import before_interrupts, connected, import_ray, reachable
from scgenept_rt.cluster.ray_session import GPU, PRECISION, PROVIDER, Worker
from scgenept_rt.errors import ArgumentError, ClusterError, MissingPackageError, ProviderUnavailableError
from tests.runtime.partial_output import n_committed
from tests.runtime.predictor.test_resume import wait_for
from tests.runtime.predictor.test_shards import content

if TYPE_CHECKING:
    from tests.commands import CommandLine, CommandServer

pytestmark = pytest.mark.skipif(find_spec("ray") is None, reason="needs Ray, of the extra ray")

MakeCells = Callable[..., anndata.AnnData]
MEGABYTE = 2**20
SECONDS_FOR_ALL = 600
"""These tests take one minute, and some on a machine that does much else."""


@pytest.fixture(scope="module", autouse=True)
def _time_limit() -> Iterator[None]:
    """Interrupt whatever waits for Ray once these tests took too long, and again each minute."""

    def interrupt(*_: object) -> None:
        raise SystemExit("the tests of Ray take too long")  # what ray.get lets through

    before = signal.signal(signal.SIGALRM, interrupt)
    signal.setitimer(signal.ITIMER_REAL, SECONDS_FOR_ALL, 60)
    yield
    signal.setitimer(signal.ITIMER_REAL, 0)
    signal.signal(signal.SIGALRM, before)


@pytest.fixture(scope="module")
def nodes() -> Iterator[Any]:
    """A cluster of one node, which says that it has a GPU."""
    ray = import_ray()
    from ray.cluster_utils import Cluster

    node = {"num_cpus": 8, "num_gpus": 1, "object_store_memory": 80 * MEGABYTE, "include_dashboard": False}
    nodes = Cluster(initialize_head=True, head_node_args=node)
    ray.init(address=nodes.address, log_to_driver=False, logging_level="ERROR")
    yield nodes
    ray.shutdown()
    nodes.shutdown()


@pytest.fixture(scope="module")
def workers(bundle: Path, nodes: Any) -> Iterator[cluster.ClusterPredictor]:
    with cluster.load(bundle, workers=2, provider="cpu") as model:
        yield model


@pytest.fixture(scope="module")
def cells(make_cells: MakeCells) -> anndata.AnnData:
    adata = make_cells(37)
    adata.obs["cell_type"] = ["B", "T", "B"] * 12 + ["T"]
    return adata


def predict(model: sgr.Predictor, cells: anndata.AnnData, out: Path, **options: Any) -> None:
    model.predict_file(cells, out, model.gene_names[:8], batch_size=3, **options)


def worker_pids(raylet: int) -> list[int]:
    """Processes of the workers of a node."""
    import psutil

    return [child.pid for child in psutil.Process(raylet).children() if child.name().startswith("ray::Worker")]


@pytest.mark.parametrize(
    ("options", "suffix"),
    [
        ({"aggregate": "both", "groupby": "cell_type"}, ".zarr"),
        ({"max_error": 0.02}, ".h5ad"),
    ],
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


def raylet(node: Any) -> int:
    return int(node.all_processes["raylet"][0].process.pid)


def test_cells_of_a_killed_worker_are_predicted_by_others(
    bundle: Path,
    nodes: Any,
    model: sgr.Predictor,
    cells: anndata.AnnData,
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
) -> None:
    others, killed, notices = set(worker_pids(raylet(nodes.head_node))), [], []

    def kill(done: int, total: int) -> None:
        if done > total / 4 and not killed:
            killed.extend(set(worker_pids(raylet(nodes.head_node))) - others)
            os.kill(killed[0], signal.SIGKILL)

    cluster.predict_file(
        bundle,
        cells,
        tmp_path / "ray.h5ad",
        model.gene_names[:8],
        workers=1,
        engine={"provider": "cpu"},
        progress=kill,
        on_notice=notices.append,
        batch_size=3,
    )
    predict(model, cells, tmp_path / "one.h5ad")
    assert content(tmp_path, "ray") == content(tmp_path, "one")
    assert any("lost" in notice for notice in notices)
    assert capfd.readouterr().out == ""


@pytest.mark.slow
def test_a_worker_of_a_new_node_joins_and_is_replaced_when_the_node_is_killed(
    bundle: Path,
    nodes: Any,
    workers: cluster.ClusterPredictor,
    model: sgr.Predictor,
    cells: anndata.AnnData,
    tmp_path: Path,
) -> None:
    from ray.util import placement_group, remove_placement_group

    others = placement_group([{"CPU": 7 - workers.n_workers}])  # leave room for one worker
    assert others.wait(60)
    added: list[Any] = []
    alive: list[int] = []

    with cluster.load(bundle, workers=2, provider="cpu") as on_ray:

        def change_nodes(done: int, total: int) -> None:
            if done > total / 4 and not added:
                alive.append(on_ray.n_workers)
                added.append(nodes.add_node(num_cpus=1, object_store_memory=80 * MEGABYTE))
                wait_for(lambda: on_ray.n_workers == 2)
                assert worker_pids(raylet(added[0]))
            elif done > total / 2 and len(alive) == 1:
                alive.append(on_ray.n_workers)
                os.kill(raylet(added[0]), signal.SIGKILL)
                remove_placement_group(others)

        predict(on_ray, cells, tmp_path / "ray.h5ad", progress=change_nodes, aggregate="both")
        wait_for(lambda: on_ray.n_workers == 2)
    assert alive == [1, 2]
    predict(model, cells, tmp_path / "one.h5ad", aggregate="both")
    assert content(tmp_path, "ray") == content(tmp_path, "one")


def test_progress_shows_the_workers_that_predict(
    command_line: CommandLine,
    bundle: Path,
    nodes: Any,
    cells: anndata.AnnData,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("scgenept_rt.cli.messages._SECONDS_BETWEEN_LINES", 0)
    cells.write_h5ad(tmp_path / "cells.h5ad")
    arguments = [bundle, tmp_path / "cells.h5ad", "--out", tmp_path / "out.h5ad", "-p", "YFU19"]
    done = command_line("predict", *arguments, "--ray", nodes.address, "--workers", "1", "--provider", "cpu")
    assert re.search(r"37 of 37 cells, .* cells/s, 1 worker$", done.stderr, re.MULTILINE), done.stderr


@pytest.mark.slow
def test_a_killed_driver_is_continued(
    processes: CommandServer,
    bundle: Path,
    nodes: Any,
    model: sgr.Predictor,
    make_cells: MakeCells,
    tmp_path: Path,
) -> None:
    path, out = tmp_path / "cells.h5ad", tmp_path / "ray.h5ad"
    make_cells(40).write_h5ad(path)
    labels = [argument for gene in model.gene_names for argument in ("-p", gene)]
    on_ray = ["predict", bundle, path, "--out", out, *labels, "--batch-size", "1", "--provider", "cpu"]
    on_ray += ["--ray", nodes.address, "--workers", "1"]
    driver = processes.start(*on_ray)
    wait_for(lambda: n_committed(out) > 0)
    os.kill(driver, signal.SIGKILL)
    processes.wait()
    assert not out.exists()

    resumed = processes(*on_ray, "--resume")
    assert resumed.returncode == 0, resumed.stderr
    assert resumed.stdout == f"wrote {out}\n"
    assert len(resumed.stderr.splitlines()) < 10
    model.predict_file(path, tmp_path / "one.h5ad", model.gene_names, batch_size=1)
    assert out.read_bytes() == (tmp_path / "one.h5ad").read_bytes()


def test_a_worker_that_would_predict_other_numbers_is_refused(
    bundle: Path, nodes: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = tmp_path / "first"

    class SecondDiffers(Worker):
        def start(self, *arguments: Any) -> dict[str, Any]:
            facts = super().start(*arguments)
            try:
                first.mkdir()
            except FileExistsError:
                facts["identity"] |= {PROVIDER: "cuda", PRECISION: "fp16", GPU: "NVIDIA A100", "onnxruntime": "9.9"}
            return facts

    monkeypatch.setattr("scgenept_rt.cluster.ray_session.Worker", SecondDiffers)
    notices: list[str] = []
    with cluster.load(bundle, workers=2, provider="cpu", on_notice=notices.append) as model:
        wait_for(lambda: bool(notices))
        assert model.n_workers == 1
    assert {"cuda", "cpu", "fp16", "fp32", "A100", "None", "9"} <= set(re.findall(r"\w+", notices[0]))


def test_nothing_at_an_address_is_said_at_once(bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("scgenept_rt.cluster.connection._SECONDS_TO_ANSWER", 0.2)
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{listener.getsockname()[1]}"
        with pytest.raises(ClusterError, match=address):
            reachable(address)
        listener.listen()
        with pytest.raises(ClusterError, match=address):
            reachable(address)


def test_what_a_killed_cluster_left_is_passed_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_TMPDIR", str(tmp_path))
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    assert reachable(None) is None
    (tmp_path / "ray").mkdir()
    (tmp_path / "ray" / "ray_current_cluster").write_text("127.0.0.1:1")
    assert reachable(None) == "local"
    with pytest.raises(ClusterError, match="127"):
        reachable("auto")


def test_a_worker_without_the_gpu_that_it_was_given_is_refused(bundle: Path, nodes: Any) -> None:
    with pytest.raises(ClusterError, match="runs on the cpu") as refused:
        cluster.load(bundle, workers=1)
    assert refused.value.options[0].name == "provider"
    with pytest.raises(ProviderUnavailableError, match="cuda"):
        cluster.load(bundle, workers=1, provider="cuda")


def test_what_ray_refuses_on_connecting_is_an_error_of_the_cluster(monkeypatch: pytest.MonkeyPatch) -> None:
    ray = import_ray()

    def refuse(**_: Any) -> None:
        raise ray.exceptions.RayError("no token was found\nhttps://docs.ray.io")

    monkeypatch.setattr(ray, "is_initialized", lambda: False)
    monkeypatch.setattr(ray, "init", refuse)
    with pytest.raises(ClusterError, match=r"\(no token was found\).*RAY_AUTH_MODE"), connected("local"):
        pass


def test_a_cluster_of_this_machine_without_room_is_said_at_once(bundle: Path, nodes: Any) -> None:
    with pytest.raises(ClusterError, match="room for 0 of 1"):
        cluster.load(bundle, provider="cpu", threads=100)  # a killed node counts for a while


def test_an_interrupt_stops_waiting_for_workers_first() -> None:
    called: list[str] = []
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # in the background it may be ignored
    try:
        with pytest.raises(KeyboardInterrupt), before_interrupts(lambda: called.append("stop")):
            signal.raise_signal(signal.SIGINT)
        assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    finally:
        signal.signal(signal.SIGINT, before)
    assert called == ["stop"]


def test_options_without_meaning_are_refused(bundle: Path) -> None:
    for given in ({"workers": 0}, {"device": 0}):
        with pytest.raises(ArgumentError, match=next(iter(given))):
            cluster.load(bundle, **given)


def test_without_ray_the_extra_is_named(bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(MissingPackageError, match=r"\[ray\]"):
        cluster.load(bundle)
