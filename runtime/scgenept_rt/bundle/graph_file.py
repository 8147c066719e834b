"""What a graph's file may hold: read from its bytes, as the runtime has no onnx, before ONNX Runtime sees it."""

from __future__ import annotations

import mmap
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any

_INPUTS = {"values", "pert_flags", "gene_index"}
_MERGED_INPUT = "log_count"
_OUTPUTS = {"predicted"}
_MICROSOFT = {"MultiHeadAttention", "SkipLayerNormalization"}
"""Operators of ONNX Runtime in a bundle; others of it may name files. Those of ONNX never do."""

# Field numbers of onnx.proto.
_GRAPH, _FUNCTIONS = 7, 25
_NODE, _INITIALIZER, _SPARSE_INITIALIZER, _INPUT, _OUTPUT = 1, 5, 15, 11, 12
_OP_TYPE, _ATTRIBUTE, _DOMAIN = 4, 5, 7
_ATTRIBUTE_TENSOR, _ATTRIBUTE_TENSORS = 5, 10
_PLAIN_ATTRIBUTE = {1, 2, 3, 4, 7, 8, 9, 13, 20, 21, _ATTRIBUTE_TENSOR, _ATTRIBUTE_TENSORS}
_EXTERNAL_DATA = 13


def check_graph_file(path: Path, listed: Collection[str]) -> None:
    """Raise ValueError unless a graph has the inputs, outputs and operators of the bundle format.

    The only other files that it may read are those that the manifest lists, for its weights.
    """
    with path.open("rb") as file:
        model = memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))
    inputs: set[str] = set()
    outputs: set[str] = set()
    for number, value in _fields(model):
        if number == _FUNCTIONS:
            raise ValueError("it defines operators of its own")
        for part, entry in _fields(value) if number == _GRAPH else ():
            if part == _NODE:
                _check_node(entry, listed)
            elif part == _INITIALIZER:
                _check_tensor(entry, listed)
            elif part == _SPARSE_INITIALIZER:
                raise ValueError("it has sparse weights")
            elif part in (_INPUT, _OUTPUT):
                (inputs if part == _INPUT else outputs).add(_text(entry, 1))
    if inputs - {_MERGED_INPUT} != _INPUTS or outputs != _OUTPUTS:
        raise ValueError(f"it has the inputs {sorted(inputs)} and outputs {sorted(outputs)}")


def _check_node(node: memoryview, listed: Collection[str]) -> None:
    operator, domain = _text(node, _OP_TYPE), _text(node, _DOMAIN)
    if domain not in ("", "ai.onnx") and (domain != "com.microsoft" or operator not in _MICROSOFT):
        raise ValueError(f"it has the operator {domain}.{operator}, which no bundle has")
    for number, attribute in _fields(node):
        for part, value in _fields(attribute) if number == _ATTRIBUTE else ():
            if part not in _PLAIN_ATTRIBUTE:
                raise ValueError(f"its operator {operator} has a subgraph or sparse values")
            if part in (_ATTRIBUTE_TENSOR, _ATTRIBUTE_TENSORS):
                _check_tensor(value, listed)


def _check_tensor(tensor: memoryview, listed: Collection[str]) -> None:
    for number, entry in _fields(tensor):
        if number == _EXTERNAL_DATA and _text(entry, 1) == "location" and _text(entry, 2) not in listed:
            raise ValueError(f"it reads the file {_text(entry, 2)!r}, which the manifest does not list")


def _text(message: memoryview, wanted: int) -> str:
    """Return a field of text, the last one as protobuf does; "" if there is none."""
    found = [value for number, value in _fields(message) if number == wanted]
    return bytes(found[-1]).decode() if found else ""


def _fields(message: memoryview) -> Iterator[tuple[int, Any]]:
    """Yield number and value of each field of a protobuf message; numbers themselves are passed over."""
    at = 0
    while at < len(message):
        key, at = _varint(message, at)
        kind, length = key & 7, 0
        if kind == 0:
            _, at = _varint(message, at)
        elif kind == 2:
            length, at = _varint(message, at)
        elif kind in (1, 5):
            length = 8 if kind == 1 else 4
        else:
            raise ValueError("it is no ONNX graph")
        if length > len(message) - at:
            raise ValueError("it ends too early")
        yield key >> 3, message[at : at + length]
        at += length


def _varint(message: memoryview, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = message[at]
        value, shift, at = value | (byte & 0x7F) << shift, shift + 7, at + 1
        if byte < 0x80:
            return value, at
        if shift > 63:
            raise ValueError("it is no ONNX graph")
