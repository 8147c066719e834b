from __future__ import annotations

import re
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from scgenept_export.checkpoint import Checkpoint, load_checkpoint
from scgenept_export.errors import ExportedGraphError
from scgenept_export.graph_check import (
    FP16_OVER_AUTOCAST,
    FP32,
    FP32_ILL_CONDITIONED,
    GraphCheck,
    raise_misses,
    recorded_tolerances,
    tolerances,
)
from scgenept_export.model import ReferenceModel
from scgenept_export.reference_cells import predict_eager, reference_cells
from scgenept_rt.bundle import Bundle, Reference
from tests.conftest import Oracle
from tests.export.conftest import shift_output

SmallCheckpoint = Callable[..., Checkpoint]
GO_C = "scgenept_go_c_gpt_concat"
TOKENS = torch.arange(12)
IN_VOCAB = [True] * 11 + [False]


def test_graphs_of_another_weight_are_all_listed_with_their_difference(
    oracle: Oracle, oracle_bundle: Callable[[str], Path], tmp_path: Path
) -> None:
    bundle = Bundle.open(oracle_bundle(GO_C))
    model = ReferenceModel.from_checkpoint(load_checkpoint(oracle.checkpoint(GO_C), GO_C))
    cells = Reference.read(bundle.directory)
    check = GraphCheck(model, torch.from_numpy(cells.token_ids), bundle.manifest.in_vocab, cells)
    wrong, also_wrong, nan = (tmp_path / f"{name}.onnx" for name in ("wrong", "also_wrong", "nan"))
    right = bundle.path(bundle.graph("fp32", "ort"))
    shift_output(right, wrong, 0.125)
    shutil.copyfile(wrong, also_wrong)
    shift_output(right, nan, np.nan)

    assert check.misses(right, "fp32", "ort", FP32) == []
    raise_misses([])
    misses = [
        *check.misses(wrong, "fp32", "ort", FP32),
        *check.misses(also_wrong, "fp32", "portable", FP32),
        *check.misses(nan, "fp32", "portable", FP32),
    ]
    with pytest.raises(ExportedGraphError) as caught:
        raise_misses(misses)
    message = str(caught.value)
    assert "4 exported output(s)" in message
    assert "no bundle was written" in message
    assert re.findall(r"(\w+\.onnx), ([\w ]+): largest difference 0\.125,", message) == [
        ("wrong.onnx", "reference cells"),
        ("wrong.onnx", "one cell of all genes"),
        ("also_wrong.onnx", "reference cells"),
    ]
    assert re.search(r"nan\.onnx.*nan", message)


def test_half_precision_is_bounded_by_pytorchs_own_autocast(small_checkpoint: SmallCheckpoint) -> None:
    model = ReferenceModel.from_checkpoint(small_checkpoint(GO_C))
    cells = reference_cells(model, TOKENS, IN_VOCAB)
    bounds = tolerances(model, TOKENS, cells, GO_C, ("fp32", "fp16"))
    assert bounds["fp32"] == FP32
    assert bounds["fp16"].rtol == 0
    # No tighter than autocast on the same cells, and of the same size.
    half = predict_eager(model, TOKENS, cells.values, cells.pert_flags, autocast=torch.float16)
    error = float(np.abs(half - cells.predicted).max())
    assert FP16_OVER_AUTOCAST * error <= bounds["fp16"].atol < 4 * FP16_OVER_AUTOCAST * error
    assert FP16_OVER_AUTOCAST == 1.5
    recorded = recorded_tolerances(bounds)
    assert recorded["fp32"] == FP32
    assert recorded["fp16"].atol == pytest.approx(bounds["fp16"].atol * 4 / 3)
    assert tolerances(model, TOKENS, cells, GO_C, ("fp32",)) == {"fp32": FP32}


@pytest.mark.parametrize("variant", ["scgpt_counts", "scgpt_tokens", "go_c_scgpt_counts"])
def test_ill_conditioned_variants_are_compared_relative_to_the_largest_output(
    variant: str, small_checkpoint: SmallCheckpoint
) -> None:
    model = ReferenceModel.from_checkpoint(small_checkpoint(variant))
    cells = reference_cells(model, TOKENS, IN_VOCAB)
    assert tolerances(model, TOKENS, cells, variant, ("fp32",)) == {"fp32": FP32_ILL_CONDITIONED}
    assert FP32_ILL_CONDITIONED.relative_to_largest
