from __future__ import annotations

import subprocess
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from scgenept_export.activation_range import (
    FP16_MAX,
    WARN_ABOVE,
    activation_range,
    range_problem,
)
from scgenept_export.bundle_export import export_bundle
from scgenept_export.checkpoint import Checkpoint
from scgenept_export.errors import ExportedGraphError, ExportWarning
from scgenept_export.graph_check import GraphCheck
from scgenept_export.model import ReferenceModel
from scgenept_export.reference_cells import reference_cells
from scgenept_rt.bundle import Bundle

GO_C = "scgenept_go_c_gpt_concat"
TOKENS = torch.tensor([0, 1, 2, 3, 9])
# The feed-forward sum of layer 1 is normalised again right away: the outputs stay as they were.
SCALED = "transformer_encoder.layers.1.linear2.weight"

StateDict = OrderedDict[str, torch.Tensor]


def range_of(checkpoint: Checkpoint) -> dict[str, float]:
    model = ReferenceModel.from_checkpoint(checkpoint)
    return activation_range(model, TOKENS, reference_cells(model, TOKENS, [True] * 4 + [False]))


def scaled_to(small_state_dict: Callable[[str], StateDict], small_checkpoint: Callable[..., Checkpoint], size: float):
    """Return weights whose largest activation, in layer 1, is about `size`."""
    weights = small_state_dict(GO_C)
    once = range_of(small_checkpoint(GO_C, {SCALED: weights[SCALED] * 1e4}))["layers.1"]
    weights[SCALED] = weights[SCALED] * (1e4 * size / once)
    return weights


@pytest.mark.parametrize(
    ("name", "part"),
    [
        ("transformer_encoder.layers.0.self_attn.in_proj_weight", "layers.0"),
        ("transformer_encoder.layers.1.linear1.weight", "layers.1"),
        ("decoder.fc.2.weight", "decoder"),
        ("value_encoder.linear2.weight", "embedding"),
    ],
)
def test_the_part_with_larger_weights_is_found(
    name: str, part: str, small_state_dict: Callable[[str], StateDict], small_checkpoint: Callable[..., Checkpoint]
) -> None:
    largest = range_of(small_checkpoint(GO_C, {name: small_state_dict(GO_C)[name] * 1e6}))
    assert max(largest, key=lambda key: largest[key]) == part
    assert largest[part] > FP16_MAX


def test_only_values_near_the_end_of_the_range_are_a_problem() -> None:
    assert range_problem({}) is None
    assert range_problem({"embedding": 3.0, "layers.0": WARN_ABOVE}) is None
    near = range_problem({"embedding": 3.0, "layers.0": WARN_ABOVE * 1.01})
    assert near is not None
    assert "in layers.0: near the end" in near
    beyond = range_problem({"embedding": float("inf"), "layers.0": 1.0})
    assert beyond is not None
    assert "inf, in embedding: beyond the end" in beyond


def test_export_records_the_range_and_is_silent_when_it_is_small(
    oracle_bundle: Callable[[str], Path],
) -> None:
    largest = Bundle.open(oracle_bundle(GO_C)).manifest.activation_range
    assert list(largest) == ["embedding", "layers.0", "layers.1", "layers.2", "decoder"]
    assert max(largest.values()) < WARN_ABOVE


def test_a_network_beyond_the_range_is_never_a_fp16_bundle(
    small_state_dict: Callable[[str], StateDict],
    small_checkpoint: Callable[..., Checkpoint],
    save: Callable[[object], Path],
    small_genes: Path,
    small_vocab: Path,
    tmp_path: Path,
) -> None:
    path = save(scaled_to(small_state_dict, small_checkpoint, 1e6))
    with pytest.warns(ExportWarning, match="beyond the end"), pytest.raises(ExportedGraphError, match="fp16"):
        export_bundle(path, small_genes, GO_C, tmp_path / "bundle", vocab=small_vocab, precisions=("fp16",))
    assert not (tmp_path / "bundle").exists()


def test_the_command_prints_the_range_and_the_warning(
    small_state_dict: Callable[[str], StateDict],
    small_checkpoint: Callable[..., Checkpoint],
    save: Callable[[object], Path],
    small_genes: Path,
    small_vocab: Path,
    tmp_path: Path,
    export_cli: Callable[..., subprocess.CompletedProcess[str]],
    copy_graphs: None,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(GraphCheck, "misses", lambda *_: [])  # the graph is another network's
    path = save(scaled_to(small_state_dict, small_checkpoint, 30_000))
    arguments = ("--checkpoint", path, "--genes", small_genes, "--vocab", small_vocab, "--variant", GO_C)
    done = export_cli("bundle", *arguments, "--precision", "fp16", "--out", tmp_path / "bundle")
    assert done.returncode == 0, done.stderr
    assert "largest activations on the reference cells" in done.stdout
    (warning,) = [line for line in done.stderr.splitlines() if line.startswith("note: ")]
    assert "in layers.1: near the end of fp16's range" in warning
    made = Bundle.open(tmp_path / "bundle")
    assert made.manifest.activation_range["layers.1"] == pytest.approx(30_000, rel=0.05)
