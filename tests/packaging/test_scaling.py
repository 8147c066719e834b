"""The recipes of docs/scaling.md, as they stand on the page."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from concurrent import futures
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest

import scgenept_rt as sgr
from scgenept_export.triton import write_triton_model
from scgenept_rt.bundle import Bundle
from tests.packaging.test_documentation import ROOT, blocks

PAGE = ROOT / "docs" / "scaling.md"


def recipe(containing: str) -> str:
    """Return the code block of the page that contains a text."""
    (found,) = (block.code for block in blocks(PAGE) if containing in block.code)
    return found


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
