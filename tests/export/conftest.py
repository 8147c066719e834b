"""Fixtures of the export tests: small made-up checkpoints."""

from __future__ import annotations

import itertools
from collections import OrderedDict
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch

from scgenept_export.checkpoint import Checkpoint, load_checkpoint
from scgenept_export.synthetic import synthetic_state_dict
from scgenept_export.variants import VARIANTS

StateDict = OrderedDict[str, torch.Tensor]

SIZES = {"n_tokens": 12, "d_model": 16, "n_layers": 2, "n_heads": 8, "d_ff": 24, "d_text": 10}
"""Every size differs from the others, so that no two can be mistaken for each other."""


KINDS = tuple({encoders: name for name, encoders in VARIANTS.items()}.values())
"""One variant with each set of encoders."""


@pytest.fixture(scope="session", autouse=True)
def _quick_traces(quick_traces: None) -> None:
    """All exports of these tests trace quickly."""


def share_of_weights(owner: Path, merged: Path) -> float:
    """Return the share of a graph's weights that another refers to, which must be aligned and of the same name."""
    data = owner.read_bytes()
    weights = {tensor.name: tensor.raw_data for tensor in onnx.load_model_from_string(data).graph.initializer}
    n_shared = 0
    for tensor in onnx.load(merged, load_external_data=False).graph.initializer:
        if tensor.data_location == onnx.TensorProto.EXTERNAL:
            where = {entry.key: entry.value for entry in tensor.external_data}
            begin, length = int(where["offset"]), int(where["length"])
            assert where["location"] == owner.name
            assert begin % 16 == 0
            assert data[begin : begin + length] == weights[tensor.name]
            n_shared += length
    return n_shared / sum(map(len, weights.values()))


def shift_output(graph: Path, out: Path, by: float) -> None:
    """Write a graph whose network has another bias of its output."""
    model = onnx.load(graph)
    (bias,) = (tensor for tensor in model.graph.initializer if tensor.name == "decoder.2.bias")
    bias.CopyFrom(onnx.numpy_helper.from_array(onnx.numpy_helper.to_array(bias) + np.float32(by), bias.name))
    onnx.save(model, out)


@pytest.fixture
def small_state_dict() -> Callable[[str], StateDict]:
    return lambda variant: synthetic_state_dict(variant, **SIZES)


@pytest.fixture
def save(tmp_path: Path) -> Callable[..., Path]:
    """Save anything with torch.save, and return the file."""

    def save_as_checkpoint(state_dict: object, name: str = "model.pt", **options: Any) -> Path:
        path = tmp_path / name
        torch.save(state_dict, path, **options)
        return path

    return save_as_checkpoint


@pytest.fixture
def small_checkpoint(
    small_state_dict: Callable[[str], StateDict], save: Callable[..., Path]
) -> Callable[..., Checkpoint]:
    """Save and load a small checkpoint, with some of its tensors replaced."""

    numbers = itertools.count()

    def load(variant: str, replaced: Mapping[str, torch.Tensor] | None = None) -> Checkpoint:
        # A file of its own each time: loaded tensors are mapped, and writing the file again would change them.
        path = save({**small_state_dict(variant), **(replaced or {})}, f"small_{next(numbers)}.pt")
        return load_checkpoint(path, variant)

    return load


@pytest.fixture
def small_genes(tmp_path: Path) -> Path:
    """Five genes, the last of which is not in the vocabulary of `small_vocab`."""
    path = tmp_path / "genes.txt"
    path.write_text("A1\nB2\nC3\nD4\nZZ9\n")
    return path


@pytest.fixture
def small_vocab(tmp_path: Path) -> Path:
    """Twelve tokens with the special ones, as many as the small checkpoints have rows."""
    path = tmp_path / "vocab.json"
    names = ["A1", "B2", "C3", "D4", "E5", "F6", "G7", "H8", "I9"]
    path.write_text("{" + ", ".join(f'"{name}": {i}' for i, name in enumerate(names)) + "}")
    return path
