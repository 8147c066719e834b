"""Random damage to files, for `test_mutated_inputs.py`: bytes, JSON trees, and the objects of an HDF5 file.

`make fuzz` chooses `SEED`, and `SCALE`, how much more is tried than in the tests; of kills as well.
"""

from __future__ import annotations

import json
import os
import random
from pathlib import Path
from typing import Any

import h5py
import numpy as np

SEED, SCALE = int(os.environ.get("FUZZ_SEED", "1")), float(os.environ.get("FUZZ_SCALE", "1"))
ODD = (None, True, -1, 0, 2**70, 1e308, float("nan"), "", "x", "\0", "\x1b[31m", "../../x", "x" * 9999, [], {}, [None])
ARRAYS = (
    np.float32(1),
    np.zeros(0),
    np.arange(7.0),
    np.full(3, np.nan),
    np.array([2**62, -1, 0]),
    np.zeros((2, 3, 2), "i1"),
    np.zeros((9, 24), "c8"),
    np.array([b"a", b"ctrl"]),
    h5py.Empty("f4"),
    np.dtype("f4"),
    h5py.SoftLink("/nowhere"),
    h5py.SoftLink("/obs"),
    h5py.ExternalLink("elsewhere.h5", "/X"),
)


def damage_bytes(path: Path, rng: random.Random) -> str:
    """Flip, cut, zero, overwrite, insert or repeat bytes; return which."""
    data = bytearray(path.read_bytes())
    at, length = rng.randrange(len(data) + 1), rng.choice((1, 16, 256, 4096))
    kind = rng.choice(("flip", "flip the head", "cut", "zero", "noise", "insert", "repeat"))
    if kind.startswith("flip"):
        for _ in range(rng.choice((1, 8, 64))):
            if data:
                data[rng.randrange(min(len(data), 2000) if "head" in kind else len(data))] ^= 1 << rng.randrange(8)
    elif kind == "cut":
        del data[at:]
    elif kind == "insert":
        data[at:at] = rng.randbytes(7)
    elif kind == "repeat":
        data[at:at] = data[at : at + length]
    else:
        n = len(data[at : at + length])
        data[at : at + n] = bytes(n) if kind == "zero" else rng.randbytes(n)
    path.write_bytes(data)
    return f"{kind} at {at}"


def damage_json(path: Path, rng: random.Random) -> str:
    """Replace or delete a random entry of a JSON file."""
    tree = [json.loads(path.read_text())]
    places: list[tuple[Any, Any]] = []

    def walk(node: Any) -> None:
        for key in list(node) if isinstance(node, dict) else range(min(len(node), 2)) if isinstance(node, list) else ():
            places.append((node, key))
            walk(node[key])

    walk(tree)
    node, key = rng.choice(places[1:] or places)
    if rng.random() < 0.2 and node is not tree:
        del node[key]
        change = f"{key!r} deleted"
    else:
        node[key] = rng.choice(ODD)
        change = f"{key!r} = {str(node[key])[:20]!r}"
    path.write_text(json.dumps(tree[0]))
    return change


def damage_arrays(path: Path, rng: random.Random) -> str:
    """Give an array of an .npz file another shape or type."""
    with np.load(path) as file:
        arrays = dict(file)
    name = rng.choice(sorted(arrays))
    array = arrays[name]
    odd = (np.float32(1), array.ravel(), array[None], array[:-1], array[:0], array.astype(str), np.array([{}], object))
    arrays[name] = rng.choice(odd)
    np.savez(path, **arrays)
    return f"{name}: {arrays[name].dtype}{arrays[name].shape}"


def damage_objects(path: Path, rng: random.Random) -> str:
    """Delete or replace a random group, array or attribute of an HDF5 file."""
    with h5py.File(path, "r+") as file:
        names: list[str] = []
        file.visit(names.append)
        name = rng.choice(names)
        attributes = list(file[name].attrs)
        if attributes and rng.random() < 0.4:
            attribute, value = rng.choice(attributes), rng.choice(("", "x", 7, np.zeros(3), "dict", b"\xff"))
            file[name].attrs[attribute] = value
            return f"{name}.{attribute} = {value!r}"
        kept = dict(file[name].attrs)
        value = rng.choice((None, *ARRAYS))
        del file[name]
        if value is None:
            return f"{name} deleted"
        file[name] = value
        if rng.random() < 0.7 and name in file and isinstance(value, (np.ndarray, np.generic, h5py.Empty)):
            file[name].attrs.update(kept)
        return f"{name} = {value!r}"
