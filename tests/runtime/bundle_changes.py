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


def change_weight(graph: Path, name: str, change: Callable[[NDArray[Any]], NDArray[Any]]) -> None:
    """Replace the values of an initializer, found by its name, in a graph's file, and seal the bundle."""
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
    seal(graph.parent)


def seal(bundle: Path) -> None:
    """Enter sizes and checksums in the manifest as they are, as whoever makes a bundle would."""
    path = bundle / "manifest.json"
    manifest = json.loads(path.read_text())
    for file in manifest["files"]:
        data = (bundle / file["path"]).read_bytes()
        file["size"], file["sha256"] = len(data), hashlib.sha256(data).hexdigest()
    path.write_text(json.dumps(manifest))
