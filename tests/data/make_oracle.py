"""Make `oracle/` from a folder that holds small checkpoints, their data, and the published code's outputs for them.

    python make_oracle.py SOURCE

SOURCE has `models/manifest.json`, `models/pretrained/scgpt/vocab.json`, `models/finetuned/*/*/*.pt`,
`data/{data.h5ad,genes.txt,perts.json}` and `goldens/<variant>.npz`. README.md beside this file says what they are.

Checkpoints are made smaller at the level of bytes, so that everything else of the files stays as it was saved: bytes
that cannot reach a golden output become zero, which compresses to nothing. These are the rows of embedding tables that
belong to no gene of the data (nor to `<pad>`), all of `cls_decoder`, and, in the float64 text tables, the digits that
the network's own cast to float32 after the look-up drops.
"""

from __future__ import annotations

import io
import json
import pickle
import shutil
import struct
import sys
import tarfile
import zipfile
import zlib
from collections import OrderedDict
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

ITEM_SIZES = {"FloatStorage": 4, "HalfStorage": 2, "DoubleStorage": 8, "LongStorage": 8}
CENTRAL_ENTRY, LOCAL_ENTRY, DESCRIPTOR = b"PK\x01\x02", b"PK\x03\x04", b"PK\x07\x08"


@dataclass(frozen=True)
class StoredTensor:
    """Where the elements of a tensor lie: a whole storage, which is one member of the archive."""

    member: str
    item_size: int
    size: tuple[int, ...]


class _LayoutUnpickler(pickle.Unpickler):
    """Reads the layout of a state dict from data.pkl without PyTorch, and refuses everything else."""

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) == ("collections", "OrderedDict"):
            return OrderedDict
        if (module, name) == ("torch._utils", "_rebuild_tensor_v2"):
            return lambda storage, offset, size, *_rest: (storage, offset, tuple(size))
        if module == "torch" and name in ITEM_SIZES:
            return name
        raise pickle.UnpicklingError(f"{module}.{name} is not part of a state dict")

    def persistent_load(self, pid: Any) -> tuple[str, str]:
        _, storage_type, key, _device, _n_items = pid
        return storage_type, key


def stored_tensors(checkpoint: bytes) -> dict[str, StoredTensor]:
    """Return where each tensor of a checkpoint is stored."""
    with zipfile.ZipFile(io.BytesIO(checkpoint)) as archive:
        pickled = next(name for name in archive.namelist() if name.endswith("/data.pkl"))
        layout = _LayoutUnpickler(io.BytesIO(archive.read(pickled))).load()
    tensors = {}
    for name, ((storage_type, key), offset, size) in layout.items():
        assert offset == 0, f"{name} is a view"
        member = pickled.replace("data.pkl", f"data/{key}")
        tensors[name] = StoredTensor(member, ITEM_SIZES[storage_type], size)
    return tensors


def shrunk(checkpoint: bytes, used_rows: set[int]) -> bytes:
    """Return the checkpoint with every byte zeroed that reaches no output; lengths and dtypes stay."""
    data = bytearray(checkpoint)
    with zipfile.ZipFile(io.BytesIO(checkpoint)) as archive:
        members = {member.filename: member for member in archive.infolist()}
    for name, tensor in stored_tensors(checkpoint).items():
        member = members[tensor.member]
        assert member.compress_type == zipfile.ZIP_STORED
        header = member.header_offset
        assert data[header : header + 4] == LOCAL_ENTRY
        name_length, extra_length = struct.unpack_from("<HH", data, header + 26)
        start = header + 30 + name_length + extra_length
        end = start + member.file_size
        if name.startswith("cls_decoder."):
            data[start:end] = bytes(end - start)
        elif name.endswith(".embedding.weight"):
            row_bytes = tensor.size[1] * tensor.item_size
            for row in set(range(tensor.size[0])) - used_rows:
                data[start + row * row_bytes : start + (row + 1) * row_bytes] = bytes(row_bytes)
            if tensor.item_size == ITEM_SIZES["DoubleStorage"]:
                rounded = np.frombuffer(data[start:end], "<f8").astype("<f4").astype("<f8")
                data[start:end] = rounded.tobytes()
        else:
            continue
        _restate_checksum(data, member, start, end)
    return bytes(data)


def _restate_checksum(data: bytearray, member: zipfile.ZipInfo, start: int, end: int) -> None:
    """Put the CRC of a changed member where the archive states it: after its bytes, and in the central directory."""
    checksum = struct.pack("<I", zlib.crc32(data[start:end]))
    if member.flag_bits & 0x08:
        assert data[end : end + 4] == DESCRIPTOR
        data[end + 4 : end + 8] = checksum
    else:
        data[member.header_offset + 14 : member.header_offset + 18] = checksum
    filename = member.filename.encode()
    place = data.rindex(CENTRAL_ENTRY)
    while data[place + 46 : place + 46 + len(filename)] != filename:
        place = data.rindex(CENTRAL_ENTRY, 0, place)
    data[place + 16 : place + 20] = checksum


def make_oracle(source: Path, target: Path) -> None:
    """Write the files of `oracle/`."""
    shutil.rmtree(target, ignore_errors=True)
    (target / "goldens").mkdir(parents=True)
    checkpoints = json.loads((source / "models/manifest.json").read_text())["checkpoints"]
    (target / "checkpoints.json").write_text(json.dumps(checkpoints, indent=1) + "\n")
    shutil.copyfile(source / "models/pretrained/scgpt/vocab.json", target / "vocab.json")
    for name in ("data.h5ad", "genes.txt", "perts.json"):
        shutil.copyfile(source / "data" / name, target / name)
    for variant in checkpoints:
        shutil.copyfile(source / "goldens" / f"{variant}.npz", target / "goldens" / f"{variant}.npz")

    vocabulary = json.loads((target / "vocab.json").read_text())
    genes = (target / "genes.txt").read_text().split()
    used_rows = {vocabulary.get(gene, vocabulary["<pad>"]) for gene in genes} | {vocabulary["<pad>"]}
    for variant in checkpoints:
        used_rows |= set(np.load(target / "goldens" / f"{variant}.npz")["gene_ids"].tolist())
    with tarfile.open(target / "checkpoints.tar.xz", "w:xz", preset=9) as archive:
        for checkpoint in checkpoints.values():
            contents = shrunk((source / "models" / checkpoint["path"]).read_bytes(), used_rows)
            with zipfile.ZipFile(io.BytesIO(contents)) as written:
                assert written.testzip() is None
            entry = tarfile.TarInfo(checkpoint["path"])
            entry.size = len(contents)
            archive.addfile(entry, io.BytesIO(contents))


if __name__ == "__main__":
    if len(sys.argv) != 2:
        raise SystemExit(__doc__)
    make_oracle(Path(sys.argv[1]), Path(__file__).parent / "oracle")
