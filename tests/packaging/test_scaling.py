"""The recipes of docs/scaling.md, as they stand on the page."""

from __future__ import annotations

import os
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent import futures
from contextlib import ExitStack
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
import yaml

import scgenept_rt as sgr
from scgenept_export.triton import write_triton_model
from scgenept_rt.bundle import Bundle
from tests.conftest import DATA
from tests.packaging.test_documentation import ROOT, blocks

PAGE = ROOT / "docs" / "scaling.md"


def recipe(containing: str) -> str:
    """Return the code block of the page that contains a text."""
    (found,) = (block.code for block in blocks(PAGE) if containing in block.code)
    return found


@pytest.fixture
def screen(bundle: Path, tmp_path: Path, forked_commands: None) -> Path:
    """A directory with what the recipes name: a bundle, control cells and a list of perturbations."""
    (tmp_path / "bundles").mkdir()
    (tmp_path / "bundles" / "scgenept_go_c").symlink_to(bundle)
    shutil.copy(DATA / "oracle" / "data.h5ad", tmp_path / "control.h5ad")
    genes = Bundle.open(bundle).manifest.gene_names
    (tmp_path / "pairs.txt").write_text("".join(f"{one}+{other}\n" for one, other in pairwise(genes[:6])))
    return tmp_path


@pytest.fixture
def expected(screen: Path) -> bytes:
    """The file of a run in one process."""
    with sgr.load(screen / "bundles" / "scgenept_go_c") as model:
        pairs = (screen / "pairs.txt").read_text().split()
        (whole,) = model.predict_file(screen / "control.h5ad", screen / "whole.h5ad", pairs)
    return Path(whole).read_bytes()


def run(*command: str | Path, cwd: Path, **environment: str) -> None:
    done = subprocess.run(command, cwd=cwd, env=os.environ | environment, capture_output=True, text=True)
    assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"


def test_a_killed_job_of_slurm_is_submitted_again(screen: Path, expected: bytes) -> None:
    (screen / "screen.sbatch").write_text(recipe("#SBATCH"))
    environment = os.environ | {"SLURM_ARRAY_TASK_COUNT": "2", "SLURM_ARRAY_TASK_ID": "1"}
    job = subprocess.Popen(["bash", "screen.sbatch"], cwd=screen, env=environment, stderr=subprocess.DEVNULL)
    while job.poll() is None and not list(screen.glob("screen.shard-1-of-2.h5ad*")):
        time.sleep(0.01)
    job.kill()
    job.wait()
    for part in ("1", "2"):
        run("bash", "screen.sbatch", cwd=screen, SLURM_ARRAY_TASK_COUNT="2", SLURM_ARRAY_TASK_ID=part)
    run(*re.findall('--wrap "(.*)"', recipe("--parsable"))[0].split(), cwd=screen)
    assert (screen / "screen.h5ad").read_bytes() == expected


SLURM_CONF = """\
ClusterName=test
SlurmctldHost=localhost(127.0.0.1)
SlurmctldPort=26817
SlurmdPort=26818
CommunicationParameters=NoCtldInAddrAny,NoInAddrAny
SlurmUser=root
AuthInfo=socket={0}/munge.socket,cred_expire=5
StateSaveLocation={0}/state
SlurmdSpoolDir={0}/spool
SlurmctldPidFile={0}/slurmctld.pid
SlurmdPidFile={0}/slurmd.pid
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SchedulerType=sched/builtin
SchedulerParameters=sched_interval=1
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
GresTypes=gpu
NodeName=localhost NodeAddr=127.0.0.1 NodeHostname={1} CPUs=2 Gres=gpu:2
PartitionName=all Nodes=localhost Default=YES
"""


@pytest.fixture
def slurm(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A cluster of this machine, which says that it has two GPUs; it talks over loopback alone."""
    with tempfile.TemporaryDirectory() as directory:  # of a short name, as that of a socket may not be long
        here = Path(directory)
        (here / "spool").mkdir()
        (here / "key").write_bytes(os.urandom(128))
        (here / "key").chmod(0o400)
        (here / "slurm.conf").write_text(SLURM_CONF.format(here, socket.gethostname().split(".")[0]))
        (here / "gres.conf").write_text("Name=gpu File=/dev/null\nName=gpu File=/dev/zero\n")
        monkeypatch.setenv("SLURM_CONF", str(here / "slurm.conf"))
        files = [f"--{name}={here / name}" for name in ("pid-file", "log-file", "seed-file")]
        daemons = [
            ["munged", "-F", "-f", f"--key-file={here}/key", f"--socket={here}/munge.socket", *files],
            ["slurmctld", "-D", "-i"],
            ["slurmd", "-D", "-N", "localhost"],
        ]
        with ExitStack() as stack:
            for command in daemons:
                log = stack.enter_context((here / f"{command[0]}.log").open("w"))
                process = stack.enter_context(subprocess.Popen(command, stdout=log, stderr=log))
                stack.callback(process.terminate)
            yield


@pytest.mark.skipif(shutil.which("slurmctld") is None, reason="SLURM is not installed (Debian: slurmctld slurmd munge)")
def test_slurm_requeues_a_job_and_merges_after_the_last(screen: Path, expected: bytes, slurm: None) -> None:
    (screen / "screen.sbatch").write_text(recipe("#SBATCH").replace("1-8", "1-2"))
    submit, merge = recipe("--parsable").splitlines()
    begun = "until ls screen.shard-1-of-2.h5ad*; do sleep 0.1; done"
    ended = 'until [ -z "$(squeue --noheader)" ]; do sleep 0.1; done'
    script = f"{submit} && {begun} && scontrol requeue ${{job}}_1 && {merge} && {ended}"
    run("timeout", "300", "bash", "-c", script, cwd=screen)
    assert (screen / "screen.h5ad").read_bytes() == expected


def test_pods_of_kubernetes_predict_the_parts(screen: Path, expected: bytes) -> None:
    job = yaml.safe_load(recipe("kind: Job"))
    assert job["spec"]["completions"] == 8
    (container,) = job["spec"]["template"]["spec"]["containers"]
    for pod in ("0", "1"):
        command = [part.replace("/8", "/2") for part in (*container["command"], *container["args"])]
        run(*command, cwd=screen, JOB_COMPLETION_INDEX=pod)
    assert Path(sgr.merge_shards(screen / "screen.h5ad")[0]).read_bytes() == expected


def test_the_job_of_ray_is_a_command_that_the_package_has() -> None:
    job = yaml.safe_load(recipe("kind: RayJob"))
    program, command, *arguments = job["spec"]["entrypoint"].split()
    assert (program, command) == ("scgenept-rt", "predict")
    flags = {argument for argument in arguments if argument.startswith("--")}
    shown = subprocess.run([sys.executable, "-m", "scgenept_rt", "predict", "--help"], capture_output=True, text=True)
    assert flags <= set(re.findall(r"--[a-z-]+", shown.stdout))


@pytest.mark.skipif(
    shutil.which("kubernetes-validate") is None, reason="`make test-recipes` installs kubernetes-validate"
)
def test_kubernetes_knows_every_field_of_the_jobs(tmp_path: Path) -> None:
    cluster = yaml.safe_load(recipe("kind: RayJob"))["spec"]["rayClusterSpec"]
    pods = [group["template"] for group in (cluster["headGroupSpec"], *cluster["workerGroupSpecs"])]
    jobs = [
        yaml.safe_load(recipe("kind: Job")),
        *({"kind": "Pod", "apiVersion": "v1", "metadata": {"name": "pod"}} | pod for pod in pods),
    ]
    (tmp_path / "jobs.yaml").write_text(yaml.safe_dump_all(jobs))
    run("kubernetes-validate", "--strict", "jobs.yaml", cwd=tmp_path)


def test_processes_of_nextflow_predict_and_merge(screen: Path, expected: bytes) -> None:
    part, merge = re.findall('script: "(.*)"', recipe("process PART"))
    names = {"bundle": "bundles/scgenept_go_c", "cells": "control.h5ad", "pairs": "pairs.txt"}
    for name, path in names.items():
        part = part.replace(f"$params.{name}", str(screen / path))
    (merging := screen / "merging").mkdir()
    for number in ("1", "2"):
        (directory := screen / f"work{number}").mkdir()
        run("bash", "-c", part.replace("$part/8", f"{number}/2"), cwd=directory)
        (made,) = directory.glob("screen.shard-*.h5ad")
        (merging / made.name).symlink_to(made)
    run("bash", "-c", merge, cwd=merging)
    assert (merging / "screen.h5ad").read_bytes() == expected


def test_submitit_predicts_the_parts_and_merges(screen: Path, expected: bytes) -> None:
    pytest.importorskip("submitit", reason="submitit is one of the extra dev")
    (screen / "screen.py").write_text(recipe("import submitit").replace("PARTS = 8", "PARTS = 2"))
    run(sys.executable, "screen.py", cwd=screen)
    assert (screen / "screen.h5ad").read_bytes() == expected


@pytest.mark.skipif(shutil.which("snakemake") is None, reason="Snakemake is not installed: `make test-recipes` does it")
def test_snakemake_predicts_the_parts_and_merges(screen: Path, expected: bytes) -> None:
    (screen / "Snakefile").write_text(recipe("rule screen").replace("PARTS = 8", "PARTS = 2"))
    run("snakemake", "--cores", "2", "--resources", "gpu=1", cwd=screen)
    assert (screen / "screen.h5ad").read_bytes() == expected


@pytest.fixture
def triton_server(tmp_path: Path) -> Iterator[str]:
    """A server of Triton's gRPC protocol in front of a model repository of the demo bundle in ``repository``."""
    pytest.importorskip("tritonclient.grpc", reason="the extra dev has Triton's client")
    import grpc
    from tritonclient.grpc import service_pb2, service_pb2_grpc

    model = write_triton_model(Bundle.open("demo"), tmp_path / "repository", max_batch=1)
    session = onnxruntime.InferenceSession(str(model / "1" / "model.onnx"))
    kinds = {"FP32": np.float32, "INT64": np.int64}

    class Server(service_pb2_grpc.GRPCInferenceServiceServicer):
        def ModelInfer(self, request: Any, _context: Any) -> Any:  # noqa: N802  # the protocol's name
            given = {
                tensor.name: np.frombuffer(raw, kinds[tensor.datatype]).reshape(tensor.shape)
                for tensor, raw in zip(request.inputs, request.raw_input_contents, strict=True)
            }
            (predicted,) = session.run(["predicted"], given)
            answer = service_pb2.ModelInferResponse(raw_output_contents=[predicted.tobytes()])
            answer.outputs.add(name="predicted", datatype="FP32", shape=predicted.shape)
            return answer

    server = grpc.server(futures.ThreadPoolExecutor(1))
    service_pb2_grpc.add_GRPCInferenceServiceServicer_to_server(Server(), server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    yield f"127.0.0.1:{port}"
    server.stop(None).wait()


def test_the_client_of_triton_predicts_as_predict_array(triton_server: str, tmp_path: Path) -> None:
    client = recipe("tritonclient").replace("localhost:8001", triton_server)
    keep = "\nnp.save('predicted.npy', predict(np.ones((2, len(genes)), np.float32), ['FOSB+ctrl', 'SAMD1+ZBTB1']))"
    subprocess.run([sys.executable, "-c", client + keep], cwd=tmp_path, check=True)
    with sgr.load("demo", provider="cpu") as model:
        values = np.ones((2, len(model.gene_names)), np.float32)
        expected = model.predict_array(values, ["FOSB+ctrl", "SAMD1+ZBTB1"])
    assert Bundle.open("demo").tolerance("fp32").compare(np.load(tmp_path / "predicted.npy"), expected).passed
