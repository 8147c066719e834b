"""Changes to the files of a bundle, without the onnx package."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray


def keep_graphs(bundle: Path, keep: Callable[[dict[str, Any]], bool]) -> None:
    """Delete the graphs whose entry in the manifest is not to be kept."""
    manifest = json.loads((bundle / "manifest.json").read_text())
    kept = [file for file in manifest["files"] if file["target"] is None or keep(file)]
    for file in manifest["files"]:
        if file not in kept:
            (bundle / file["path"]).unlink()
    manifest["files"] = kept
    (bundle / "manifest.json").write_text(json.dumps(manifest))


def keep_genes(bundle: Path, n_genes: int) -> None:
    """Shorten the model's gene list to its first genes."""
    path = bundle / "manifest.json"
    manifest = json.loads(path.read_text())
    for name in ("gene_names", "gene_ids", "in_vocab"):
        manifest[name] = manifest[name][:n_genes]
    manifest["dimensions"]["n_genes"] = n_genes
    path.write_text(json.dumps(manifest))


def change_weight(graph: Path, name: str, change: Callable[[NDArray[Any]], NDArray[Any]]) -> None:
    """Replace the values of an initializer, found by its name, in a graph's file and enter the file in the manifest."""
    content = bytearray(graph.read_bytes())
    # The fields of a TensorProto: name (8), then raw_data (9) with its length as a varint.
    name_field = b"\x42" + bytes([len(name)]) + name.encode() + b"\x4a"
    assert content.count(name_field) == 1
    at = content.index(name_field) + len(name_field)
    n_bytes = shift = 0
    while True:
        byte, at = content[at], at + 1
        n_bytes |= (byte & 0x7F) << shift
        shift += 7
        if byte < 0x80:
            break
    values = np.frombuffer(bytes(content[at : at + n_bytes]), np.float16 if "fp16" in graph.name else np.float32)
    content[at : at + n_bytes] = change(values).astype(values.dtype).tobytes()
    with graph.open("r+b") as file:  # not cut first: a session that has mapped it into memory would die
        file.write(content)
    update_manifest(graph)


def update_manifest(changed: Path) -> None:
    """Enter the checksum and size of a changed file in its bundle's manifest."""
    path = changed.with_name("manifest.json")
    manifest = json.loads(path.read_text())
    content = changed.read_bytes()
    (entry,) = (entry for entry in manifest["files"] if entry["path"] == changed.name)
    entry.update(sha256=hashlib.sha256(content).hexdigest(), size=len(content))
    path.write_text(json.dumps(manifest))
