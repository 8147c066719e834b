"""Bundles made by strangers: what their graphs and manifests may not do."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from scgenept_rt.bundle import Bundle
from scgenept_rt.bundle.graph_file import check_graph_file
from scgenept_rt.errors import BundleFileError
from tests.runtime.bundle_changes import keep_graphs, seal


def field(number: int, content: bytes) -> bytes:
    """Return a protobuf field of bytes."""
    length, n = b"", len(content)
    while n > 127:
        length, n = length + bytes([n & 127 | 128]), n >> 7
    return bytes([number << 3 | 2]) + length + bytes([n]) + content


def node(operator: bytes, domain: bytes = b"", attribute: bytes = b"") -> bytes:
    return field(1, field(4, operator) + field(7, domain) + (field(5, attribute) if attribute else b""))


def stored_in(location: bytes) -> bytes:
    return field(8, b"weights") + field(13, field(1, b"location") + field(2, location))


ENDS = b"".join(field(11, field(1, name)) for name in (b"values", b"pert_flags", b"gene_index"))
ENDS += field(12, field(1, b"predicted"))
GRAPHS = {
    "endless loop": field(7, ENDS + node(b"Loop", attribute=field(1, b"body") + field(6, b""))),
    "operator of a library": field(7, ENDS + node(b"Add", b"stranger.ops")),
    "precompiled engine in another file": field(7, ENDS + node(b"EPContext", b"com.microsoft")),
    "operator of its own": field(7, ENDS) + field(25, b""),
    "weights in a file that is not listed": field(7, ENDS + field(5, stored_in(b"weights.bin"))),
    "weights out of the directory": field(7, ENDS + field(5, stored_in(b"../../.ssh/id_rsa"))),
    "constant out of the directory": field(7, ENDS + node(b"Constant", attribute=field(5, stored_in(b"/etc/passwd")))),
    "other inputs": field(7, field(11, field(1, b"x")) + field(12, field(1, b"predicted"))),
    "cut": field(7, ENDS + node(b"Add"))[:-3],
    "noise": bytes(range(255, 0, -1)),
    "a group of old": field(7, ENDS) + b"\x0c",
}


@pytest.mark.parametrize("name", GRAPHS)
def test_graphs_that_do_more_than_the_format_says_are_refused(tmp_path: Path, name: str) -> None:
    (tmp_path / "graph.onnx").write_bytes(GRAPHS[name])
    with pytest.raises((ValueError, IndexError)):
        check_graph_file(tmp_path / "graph.onnx", {"graph.onnx", "ort_fp32.onnx"})


def test_every_graph_of_a_bundle_is_of_the_format(bundle_copy: Path) -> None:
    opened = Bundle.open(bundle_copy)
    for graph in opened.graphs():
        opened.check_graph(graph)
    (bundle_copy / "merged_fp32.onnx").write_bytes(GRAPHS["endless loop"])
    (merged,) = (graph for graph in opened.graphs() if graph.target == "merged")
    with pytest.raises(BundleFileError, match=r"merged_fp32\.onnx .*Loop"):
        opened.check_graph(merged)


def test_a_graph_takes_no_more_memory_than_there_is(bundle_copy: Path) -> None:
    keep_graphs(bundle_copy, lambda file: (file["precision"], file["target"]) == ("fp32", "ort"))
    along_cells = field(5, field(1, b"axis") + b"\x18\x00\xa0\x01\x02")
    doubled = b"".join(
        field(1, field(1, before) * 2 + field(2, b"doubled%d" % number) + field(4, b"Concat") + along_cells)
        for number, before in enumerate([b"values", *(b"doubled%d" % number for number in range(29))])
    )
    added = field(1, field(1, b"doubled29") + field(1, b"predictex") + field(2, b"predicted") + field(4, b"Add"))
    graph = bundle_copy / "ort_fp32.onnx"
    data = graph.read_bytes()
    assert data.count(field(2, b"predicted")) == 1
    renamed = data.replace(field(2, b"predicted"), field(2, b"predictex"))
    graph.write_bytes(renamed + field(7, doubled + added))  # protobuf merges both
    seal(bundle_copy)
    script = (
        "import sys, numpy as np, scgenept_rt as sgr, scgenept_rt.session.ort_session as ort_session\n"
        "ort_session.memory_limit = lambda: 1 << 26\n"
        "model = sgr.load(sys.argv[1], provider='cpu', threads=1)\n"
        "model.predict_array(np.zeros((1, len(model.gene_names)), np.float32), model.gene_names[0])\n"
    )
    done = subprocess.run([sys.executable, "-c", script, str(bundle_copy)], capture_output=True, text=True)
    assert "DeviceMemoryError: the provider cpu ran out of memory" in done.stderr
