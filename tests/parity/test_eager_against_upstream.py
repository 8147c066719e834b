from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch

from scgenept_export.checkpoint import load_checkpoint
from scgenept_export.graph_check import FP32, predict_eager
from scgenept_export.model import ReferenceModel
from scgenept_export.vocabulary import read_vocabulary

if TYPE_CHECKING:
    from tests.conftest import Oracle


@pytest.fixture(scope="module")
def model(oracle: Oracle, oracle_variant: str) -> ReferenceModel:
    return ReferenceModel.from_checkpoint(load_checkpoint(oracle.checkpoint(oracle_variant), oracle_variant))


def test_tolerance_is_the_designs() -> None:
    assert (FP32.atol, FP32.rtol, FP32.relative_to_largest) == (2e-5, 1e-4, False)


def test_eager_model_predicts_every_cell_as_upstream(
    oracle: Oracle, oracle_variant: str, oracle_perturbation: str, model: ReferenceModel
) -> None:
    golden = oracle.golden(oracle_variant)
    cells = golden["X"]
    flags = np.broadcast_to(oracle.pert_flags(oracle_perturbation), cells.shape).copy()
    predicted = predict_eager(model, torch.from_numpy(golden["gene_ids"]), cells, flags)
    expected = golden["fwd"][golden["perts"].tolist().index(oracle_perturbation)]
    comparison = FP32.compare(predicted, expected)
    assert predicted.shape == expected.shape == (6, 24)
    assert comparison.passed, comparison


def test_eager_model_mirrors_pred_perturb_with_a_perturbation_of_its_own_a_cell(
    oracle: Oracle, oracle_variant: str, model: ReferenceModel
) -> None:
    golden = oracle.golden(oracle_variant)
    flags = golden["pp_flags"].astype(np.int64)
    predicted = predict_eager(model, torch.from_numpy(golden["gene_ids"]), golden["X"], flags)
    comparison = FP32.compare(predicted, golden["pp_all"])
    assert len({tuple(row) for row in flags}) > 1
    assert comparison.passed, comparison


def test_eager_model_in_float64_is_upstreams_in_float64(
    oracle: Oracle, oracle_variant: str, model: ReferenceModel
) -> None:
    # Far below the fp32 noise of either side: what remains is that both compute the same function.
    golden = oracle.golden(oracle_variant)
    doubled = ReferenceModel.from_checkpoint(
        load_checkpoint(oracle.checkpoint(oracle_variant), oracle_variant)
    ).double()
    values = torch.from_numpy(golden["X"]).double()
    flags = torch.from_numpy(oracle.pert_flags("YFU19+EKKN10")).expand(len(values), -1)
    with torch.inference_mode():
        predicted = doubled(torch.from_numpy(golden["gene_ids"]), values, flags).numpy()
    expected = golden["fwd64"][golden["perts"].tolist().index("YFU19+EKKN10")]
    np.testing.assert_allclose(predicted, expected, rtol=0, atol=5e-7)


def test_goldens_tell_perturbations_cells_and_genes_apart(oracle: Oracle, oracle_variant: str) -> None:
    # A network that ignored an input could not pass the tests above.
    forward = oracle.golden(oracle_variant)["fwd"]
    assert np.abs(forward[1] - forward[0]).max() > 1e-2, "perturbation"
    assert forward.std(axis=1).max() > 1e-2, "cell"
    assert forward.std(axis=2).max() > 1e-2, "gene"


def test_token_ids_are_upstreams(oracle: Oracle, oracle_variant: str) -> None:
    golden = oracle.golden(oracle_variant)
    token_ids, in_vocab = read_vocabulary(oracle.vocab).encode(golden["gene_names"].tolist())
    assert token_ids == golden["gene_ids"].tolist()
    assert in_vocab == (golden["in_vocab"] == 1).tolist()
    assert in_vocab.count(False) == 3
