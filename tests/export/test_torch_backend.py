from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch

import scgenept_rt as sgr
from scgenept_export.checkpoint import Checkpoint, load_checkpoint
from scgenept_export.graph_check import predict_eager
from scgenept_export.model import ReferenceModel
from scgenept_export.torch_backend import write_reference_weights
from scgenept_rt.bundle import REFERENCE_WEIGHTS_NAME
from scgenept_rt.errors import ArgumentError, BundleError, InferenceError, ProviderUnavailableError

if TYPE_CHECKING:
    from tests.conftest import Oracle

GO_C = "scgenept_go_c_gpt_concat"


@pytest.fixture(scope="module")
def model(oracle_bundle: Callable[[str], Path]) -> sgr.Predictor:
    return sgr.load(oracle_bundle(GO_C), provider="torch")


def test_kept_weights_predict_as_the_whole_checkpoint(oracle: Oracle, model: sgr.Predictor) -> None:
    golden = oracle.golden(GO_C)
    whole = ReferenceModel.from_checkpoint(load_checkpoint(oracle.checkpoint(GO_C), GO_C))
    expected = predict_eager(
        whole, torch.from_numpy(golden["gene_ids"]), golden["X"], golden["pp_flags"].astype(np.int64)
    )
    predicted = model.session.run(golden["X"], golden["pp_flags"].astype(np.int64), np.arange(24))
    np.testing.assert_allclose(predicted, expected, rtol=1e-5, atol=1e-6)
    assert (model.provider, model.precision, model.session.fixed_batches) == ("torch", "fp32", False)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.float16])
def test_cutting_tables_keeps_the_embedding_of_each_gene(
    dtype: torch.dtype, small_checkpoint: Callable[..., Checkpoint], tmp_path: Path
) -> None:
    table = torch.randn(12, 10, dtype=torch.float64).to(dtype)
    checkpoint = small_checkpoint(GO_C, {"gopt_encoder_c.embedding.weight": table})
    tokens = torch.tensor([3, 0, 11, 0])
    write_reference_weights(checkpoint, tokens, tmp_path / "kept.pt")
    kept = load_checkpoint(tmp_path / "kept.pt", GO_C)
    assert kept.shape.n_tokens == 4
    assert torch.equal(kept.state_dict["gopt_encoder_c.embedding.weight"].float(), table[tokens].float())
    rows = ReferenceModel.from_checkpoint(kept).gene_embedding(torch.arange(4))
    expected = ReferenceModel.from_checkpoint(checkpoint).gene_embedding(tokens)
    torch.testing.assert_close(rows, expected, rtol=1e-5, atol=1e-6)


def test_large_batches_are_computed_in_parts(model: sgr.Predictor, monkeypatch: pytest.MonkeyPatch) -> None:
    values = np.random.default_rng(0).gamma(1, 1, (7, 24)).astype(np.float32)
    flags, genes = np.zeros((7, 24), dtype=np.int64), np.arange(24)
    together = model.session.run(values, flags, genes)
    monkeypatch.setattr("scgenept_export.torch_backend._MAX_TOKENS", {"cpu": 50})
    np.testing.assert_allclose(model.session.run(values, flags, genes), together, rtol=1e-5, atol=1e-6)


def test_the_callers_own_precision_settings_do_not_reach_it(model: sgr.Predictor) -> None:
    values, flags = np.ones((1, 24), dtype=np.float32), np.zeros((1, 24), dtype=np.int64)
    expected = model.session.run(values, flags, np.arange(24))
    torch.set_float32_matmul_precision("medium")
    try:
        with torch.autocast("cpu", dtype=torch.bfloat16):
            np.testing.assert_array_equal(model.session.run(values, flags, np.arange(24)), expected)
        assert torch.get_float32_matmul_precision() == "medium"
    finally:
        torch.set_float32_matmul_precision("highest")


def test_threads_share_one_session(model: sgr.Predictor) -> None:
    values = np.random.default_rng(1).gamma(1, 1, (4, 24)).astype(np.float32)
    expected, found = model.predict_array(values, "ctrl"), []
    threads = [threading.Thread(target=lambda: found.append(model.predict_array(values, "ctrl"))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 4
    for each in found:
        np.testing.assert_allclose(each, expected, rtol=1e-5, atol=1e-6)


def test_a_gene_outside_the_table_is_an_error_and_not_a_crash(model: sgr.Predictor) -> None:
    values, flags = np.ones((1, 2), dtype=np.float32), np.full((1, 2), 9)
    with pytest.raises(InferenceError, match="failed on a batch of 1 cell x 2 genes"):
        model.session.run(values, flags, np.arange(2))


def test_what_it_does_not_run_is_refused(bundle: Path) -> None:
    with pytest.raises(ArgumentError, match="provider torch is the fp32 reference"):
        sgr.load(bundle, provider="torch", precision="fp16")
    with pytest.raises(ProviderUnavailableError, match=r"device 99 was asked for, but PyTorch \S+ sees \d+ GPU"):
        sgr.load(bundle, provider="torch", device=99)


def test_source_checkpoint_serves_instead_of_kept_weights(oracle: Oracle, bundle: Path) -> None:
    assert not (bundle / REFERENCE_WEIGHTS_NAME).exists()
    golden, source = oracle.golden(GO_C), oracle.checkpoint(GO_C)
    model = sgr.load(bundle, provider="torch", reference_checkpoint=source)
    np.testing.assert_allclose(model.predict_array(golden["X"], "ctrl"), golden["fwd"][0], rtol=1e-4, atol=2e-5)


def test_what_is_said_without_weights_or_with_a_wrong_checkpoint(oracle: Oracle, bundle: Path, tmp_path: Path) -> None:
    source = oracle.checkpoint(GO_C)
    with pytest.raises(BundleError, match=rf"reference_checkpoint=\.\.\. to name the checkpoint .*\({source.name}\)"):
        sgr.load(bundle, provider="torch")
    with pytest.raises(BundleError, match="is not the checkpoint that it was exported from"):
        sgr.load(bundle, provider="torch", reference_checkpoint=oracle.checkpoint("scgenept_ncbi_gpt"))
    with pytest.raises(BundleError, match=r"reference checkpoint .*nowhere is missing"):
        sgr.load(bundle, provider="torch", reference_checkpoint=tmp_path / "nowhere")
    with pytest.raises(ArgumentError, match="reference_checkpoint is for the provider torch, not for cpu"):
        sgr.load(bundle, provider="cpu", reference_checkpoint=source)
