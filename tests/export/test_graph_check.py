"""What an export compares with the eager model: reference cells, the range of activations, and every graph."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from scgenept_export import bundle_export
from scgenept_export.bundle_export import export_bundle
from scgenept_export.checkpoint import Checkpoint
from scgenept_export.errors import ExportedGraphError, ExportWarning
from scgenept_export.graph_check import (
    FP16_MAX,
    FP16_OVER_AUTOCAST,
    FP32,
    FP32_ILL_CONDITIONED,
    MAX_GENES,
    N_CELLS,
    WARN_ABOVE,
    GraphCheck,
    activation_range,
    predict_eager,
    range_problem,
    recorded_tolerances,
    reference_cells,
    tolerances,
)
from scgenept_export.model import ReferenceModel
from scgenept_rt.bundle import Bundle, Reference
from tests.conftest import Oracle
from tests.export.conftest import StateDict, shift_output

SmallCheckpoint = Callable[..., Checkpoint]
GO_C = "scgenept_go_c_gpt_concat"
TOKENS = torch.arange(12)
IN_VOCAB = [True] * 11 + [False]
# The feed-forward sum of layer 1 is normalised again right away: the outputs stay as they were.
SCALED = "transformer_encoder.layers.1.linear2.weight"


# --- reference cells --------------------------------------------------------------------------------------------------


@pytest.fixture
def model(small_checkpoint: SmallCheckpoint) -> ReferenceModel:
    return ReferenceModel.from_checkpoint(small_checkpoint(GO_C))


def test_cells_cover_each_kind_of_perturbation(model: ReferenceModel) -> None:
    in_vocab = np.arange(300) % 50 != 7
    cells = reference_cells(model, torch.arange(300) % 12, in_vocab.tolist())
    assert cells.values.shape == cells.pert_flags.shape == cells.predicted.shape == (N_CELLS, MAX_GENES)
    assert cells.pert_flags.sum(axis=1)[:4].tolist() == [0, 1, 2, 3]
    last = cells.gene_index[cells.pert_flags[-1] == 1]
    assert len(last) == 1
    assert not in_vocab[last[0]]
    assert set(np.unique(cells.pert_flags)) == {0, 1}


@pytest.mark.parametrize("n_genes", [1, 3])
def test_small_gene_lists_have_reference_cells_too(n_genes: int, model: ReferenceModel) -> None:
    cells = reference_cells(model, TOKENS[:n_genes], [True] * n_genes)
    assert cells.gene_index.tolist() == list(range(n_genes))
    assert np.isfinite(cells.predicted).all()


def test_cells_are_the_same_each_time_and_predicted_by_the_eager_model(model: ReferenceModel, tmp_path: Path) -> None:
    first, second = (reference_cells(model, TOKENS, IN_VOCAB) for _ in range(2))
    first.write(tmp_path)
    read = Reference.read(tmp_path)
    for name in ("values", "pert_flags", "gene_index", "predicted", "token_ids"):
        np.testing.assert_array_equal(getattr(first, name), getattr(second, name))
        np.testing.assert_array_equal(getattr(first, name), getattr(read, name))
    expected = predict_eager(model, TOKENS[torch.from_numpy(read.gene_index)], read.values, read.pert_flags)
    np.testing.assert_allclose(read.predicted, expected, rtol=1e-5, atol=1e-6)


# --- activations ------------------------------------------------------------------------------------------------------


def range_of(checkpoint: Checkpoint) -> dict[str, float]:
    model = ReferenceModel.from_checkpoint(checkpoint)
    return activation_range(model, TOKENS, reference_cells(model, TOKENS, IN_VOCAB))


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
    name: str, part: str, small_state_dict: Callable[[str], StateDict], small_checkpoint: SmallCheckpoint
) -> None:
    largest = range_of(small_checkpoint(GO_C, {name: small_state_dict(GO_C)[name] * 1e6}))
    assert max(largest, key=lambda key: largest[key]) == part
    assert largest[part] > FP16_MAX


def test_only_values_near_the_end_of_the_range_are_a_problem() -> None:
    assert range_problem({"embedding": 3.0, "layers.0": WARN_ABOVE}) is None
    assert "in layers.0: near the end" in str(range_problem({"embedding": 3.0, "layers.0": WARN_ABOVE * 1.01}))
    assert "inf, in embedding: beyond the end" in str(range_problem({"embedding": float("inf"), "layers.0": 1.0}))


@pytest.fixture
def scaled_to(
    small_state_dict: Callable[[str], StateDict], small_checkpoint: SmallCheckpoint, save: Callable[[object], Path]
) -> Callable[[float], Path]:
    """Save weights whose largest activation, in layer 1, is about a size."""

    def save_scaled(size: float) -> Path:
        weights = small_state_dict(GO_C)
        once = range_of(small_checkpoint(GO_C, {SCALED: weights[SCALED] * 1e4}))["layers.1"]
        return save({**weights, SCALED: weights[SCALED] * (1e4 * size / once)})

    return save_scaled


def test_a_network_beyond_the_range_is_never_a_fp16_bundle(
    scaled_to: Callable[[float], Path],
    small_genes: Path,
    small_vocab: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    path, write_graph = scaled_to(1e6), bundle_export.write_graph
    # The second attempt, with biases apart, takes as long and finds the same.
    monkeypatch.setattr(bundle_export, "write_graph", lambda *args, **apart: None if apart else write_graph(*args))
    with pytest.warns(ExportWarning, match="beyond the end"), pytest.raises(ExportedGraphError, match="fp16"):
        export_bundle(path, small_genes, GO_C, tmp_path / "bundle", vocab=small_vocab, precisions=("fp16",))
    assert not (tmp_path / "bundle").exists()


def test_the_command_prints_the_range_and_the_warning(
    scaled_to: Callable[[float], Path],
    small_genes: Path,
    small_vocab: Path,
    tmp_path: Path,
    export_cli: Callable[..., subprocess.CompletedProcess[str]],
    copy_graphs: None,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(GraphCheck, "misses", lambda *_: [])  # the graph is another network's
    arguments = ("--checkpoint", scaled_to(30_000), "--genes", small_genes, "--vocab", small_vocab, "--variant", GO_C)
    done = export_cli("bundle", *arguments, "--precision", "fp16", "--out", tmp_path / "bundle")
    assert done.returncode == 0, done.stderr
    assert "largest activations on the reference cells" in done.stdout
    (warning,) = [line for line in done.stderr.splitlines() if line.startswith("note: ")]
    assert "in layers.1: near the end of fp16's range" in warning
    recorded = Bundle.open(tmp_path / "bundle").manifest.activation_range
    assert list(recorded) == ["embedding", "layers.0", "layers.1", "decoder"]
    assert recorded["layers.1"] == pytest.approx(30_000, rel=0.05)


# --- graphs -----------------------------------------------------------------------------------------------------------


def test_graphs_of_another_weight_are_all_listed_and_nothing_is_written(
    oracle: Oracle, oracle_bundle: Callable[[str], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    existing = Path(shutil.copytree(oracle_bundle(GO_C), tmp_path / "bundles" / "existing"))
    before = (existing / "manifest.json").read_bytes()

    def write_graph(_model: object, _tokens: object, path: Path, *_: object) -> None:
        by = {"ort_fp32.onnx": 0.125, "merged_fp32.onnx": 0.0, "portable_fp32.onnx": np.nan}[path.name]
        shift_output(existing / path.name, path, by)

    monkeypatch.setattr(bundle_export, "write_graph", write_graph)
    inputs = (oracle.checkpoint(GO_C), oracle.genes, GO_C, existing)
    with pytest.raises(ExportedGraphError, match=r"3 exported output.*no bundle was written") as caught:
        export_bundle(*inputs, vocab=oracle.vocab, precisions=("fp32",), portable=True, overwrite=True)
    assert re.findall(r"(\w+\.onnx), ([\w ,]+): largest difference ([\w.]+),", str(caught.value)) == [
        ("ort_fp32.onnx", "reference cells", "0.125"),
        ("ort_fp32.onnx", "one cell of all genes", "0.125"),
        ("portable_fp32.onnx", "reference cells", "nan"),
    ]
    assert (existing / "manifest.json").read_bytes() == before
    assert [entry.name for entry in existing.parent.iterdir()] == ["existing"]


def test_half_precision_is_bounded_by_pytorchs_own_autocast(model: ReferenceModel) -> None:
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
