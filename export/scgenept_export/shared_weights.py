"""Weights in the file of one graph that another graph uses, so that a second graph of a network takes no space."""

from __future__ import annotations

from pathlib import Path

import onnx

_ALIGNMENT = 16
"""Bytes: engines map weights into memory from where they lie in the file, and read several numbers at once."""
_LEAST_BYTES = 256
"""Smaller tensors are copied: a reference is hardly shorter."""


def align_weights(model: onnx.ModelProto) -> bytes:
    """Serialise a graph so that the bytes of every large tensor begin at a multiple of `_ALIGNMENT`.

    A blank description before each of them fills the gap; nothing else changes.
    """
    tensors = [tensor for tensor in model.graph.initializer if len(tensor.raw_data) >= _LEAST_BYTES]
    # What lies before the first tensor, then before each next one.
    fillers = [model, *tensors[:-1]]
    widths = [1] * len(fillers)
    while True:
        for filler, width in zip(fillers, widths, strict=True):
            filler.doc_string = " " * width
        data: bytes = model.SerializeToString(deterministic=True)
        gaps = [-offset % _ALIGNMENT for offset in _offsets(data, tensors)]
        if not any(gaps):
            return data
        # Each gap moves all that follows by as much. A length that takes another byte moves it again: hence the loop.
        moved = 0
        for i, gap in enumerate(gaps):
            needed = (gap - moved) % _ALIGNMENT
            widths[i] += needed
            moved += needed


def share_weights(model: onnx.ModelProto, owner: Path) -> None:
    """Let every large tensor of a graph refer to its bytes in the file of another, where that holds the same ones.

    `owner` is a self-contained graph in the directory where `model`, which is changed, will be saved.
    """
    data = owner.read_bytes()
    for tensor in model.graph.initializer:
        offset = data.find(tensor.raw_data) if len(tensor.raw_data) >= _LEAST_BYTES else -1
        if offset < 0:
            continue
        entries = {"location": owner.name, "offset": str(offset), "length": str(len(tensor.raw_data))}
        tensor.ClearField("raw_data")
        tensor.data_location = onnx.TensorProto.EXTERNAL
        for key, value in entries.items():
            tensor.external_data.add(key=key, value=value)


def _offsets(data: bytes, tensors: list[onnx.TensorProto]) -> list[int]:
    offsets, begin = [], 0
    for tensor in tensors:  # in the order in which they are serialised
        begin = data.index(tensor.raw_data, begin)
        offsets.append(begin)
        begin += len(tensor.raw_data)
    return offsets
