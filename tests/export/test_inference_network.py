from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from scgenept_export.checkpoint import Checkpoint
from scgenept_export.errors import CheckpointError
from scgenept_export.inference_network import EagerOps, InferenceNetwork, fold
from scgenept_export.model import ReferenceModel
from scgenept_export.variants import is_ill_conditioned
from tests.export.conftest import KINDS

SmallCheckpoint = Callable[..., Checkpoint]
GO_C = "scgenept_go_c_gpt_concat"
TOKENS = torch.tensor([7, 2, 11, 11, 9, 0])
VALUES = torch.tensor([[0.0, 1.5, 0.3, 0.2, 2.0, 600.0], [3.0, 0.0, 0.0, 0.0, 1.0, -0.5]])
FLAGS = torch.tensor([[0, 1, 1, 0, 0, 0], [0, 0, 0, 0, 1, 0]])
ALL_GENES = torch.arange(len(TOKENS))


def folded(checkpoint: Checkpoint) -> tuple[ReferenceModel, InferenceNetwork]:
    model = ReferenceModel.from_checkpoint(checkpoint)
    return model, fold(model, TOKENS, EagerOps())


@pytest.mark.parametrize("variant", KINDS)
def test_folding_changes_no_prediction(variant: str, small_checkpoint: SmallCheckpoint) -> None:
    model, network = folded(small_checkpoint(variant))
    with torch.inference_mode():
        expected, predicted = model(TOKENS, VALUES, FLAGS), network(VALUES, FLAGS, ALL_GENES)
    assert predicted.shape == (2, 6)
    # Networks without token and text encoders amplify rounding; they have no tighter agreement upstream either.
    scale = float(expected.abs().max()) if is_ill_conditioned(variant) else 1.0
    torch.testing.assert_close(predicted, expected, rtol=1e-5, atol=1e-5 * max(scale, 1.0))


@pytest.mark.parametrize("weight", [0.3, 1e-3, 0.0, -0.7])
def test_query_biases_fold_exactly_whatever_the_norms_before_them(
    weight: float, small_checkpoint: SmallCheckpoint
) -> None:
    changed = {"transformer_encoder.layers.0.self_attn.in_proj_bias": torch.linspace(-3, 3, 48)}
    for norm in ("ln", "transformer_encoder.layers.0.norm2"):
        changed[f"{norm}.weight"] = torch.linspace(0.2, 2.0, 16)
        changed[f"{norm}.weight"][5] = weight
        changed[f"{norm}.bias"] = torch.linspace(-1.0, 0.5, 16)
    model, network = folded(small_checkpoint(GO_C, changed))
    with torch.inference_mode():
        expected, predicted = model(TOKENS, VALUES, FLAGS), network(VALUES, FLAGS, ALL_GENES)
    torch.testing.assert_close(predicted, expected, rtol=1e-5, atol=1e-5)
    if weight in (0.0, 0.3):  # where outputs of the norm cannot be divided by its weights, the bias stays
        assert [layer.query.bias is not None for layer in network.layers] == [weight == 0.0] * 2


def test_gene_index_selects_rows_in_any_order(small_checkpoint: SmallCheckpoint) -> None:
    model, network = folded(small_checkpoint(GO_C))
    index = torch.tensor([5, 0, 3])
    with torch.inference_mode():
        expected = model(TOKENS[index], VALUES[:, index], FLAGS[:, index])
        predicted = network(VALUES[:, index], FLAGS[:, index], index)
    torch.testing.assert_close(predicted, expected, rtol=1e-5, atol=1e-5)


def test_folding_leaves_the_model_as_it_was(small_checkpoint: SmallCheckpoint) -> None:
    model, network = folded(small_checkpoint(GO_C))
    with torch.inference_mode():
        before = model(TOKENS, VALUES, FLAGS)
        for parameter in network.parameters():
            parameter.zero_()
        assert torch.equal(model(TOKENS, VALUES, FLAGS), before)


@pytest.mark.parametrize("table", ["encoder.embedding.weight", "gopt_encoder_c.embedding.weight"])
def test_a_gene_whose_embedding_is_not_finite_is_named(table: str, small_checkpoint: SmallCheckpoint) -> None:
    checkpoint = small_checkpoint(GO_C)
    checkpoint.state_dict[table][9, 4] = torch.nan  # as in a table too large to be checked when it is loaded
    with pytest.raises(CheckpointError, match=r"embeddings of 1 model gene .*vocabulary id 9"):
        folded(checkpoint)


def test_an_unused_row_may_hold_anything(small_checkpoint: SmallCheckpoint) -> None:
    checkpoint = small_checkpoint(GO_C)
    checkpoint.state_dict["encoder.embedding.weight"][10] = torch.nan
    _, network = folded(checkpoint)
    assert torch.isfinite(network.gene_table).all()
