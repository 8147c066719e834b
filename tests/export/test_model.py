from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from scgenept_export.checkpoint import Checkpoint
from scgenept_export.model import ReferenceModel
from scgenept_export.variants import RELEASED, VARIANTS
from tests.export.conftest import KINDS

SmallCheckpoint = Callable[..., Checkpoint]
GO_C = "scgenept_go_c_gpt_concat"
TOKENS = torch.tensor([7, 2, 2, 9, 0])
VALUES = torch.tensor([[0.0, 1.5, 1.5, 0.2, 2.0], [3.0, 0.0, 0.0, 0.0, 1.0]])
FLAGS = torch.tensor([[0, 1, 1, 0, 0], [0, 0, 0, 0, 1]])


def predict(model: ReferenceModel, tokens: torch.Tensor, values: torch.Tensor, flags: torch.Tensor) -> torch.Tensor:
    with torch.inference_mode():
        return model(tokens, values, flags)


@pytest.mark.parametrize("variant", KINDS)
def test_permuting_genes_permutes_the_prediction(variant: str, small_checkpoint: SmallCheckpoint) -> None:
    model = ReferenceModel.from_checkpoint(small_checkpoint(variant))
    order = torch.tensor([3, 0, 4, 2, 1])
    predicted = predict(model, TOKENS, VALUES, FLAGS)
    permuted = predict(model, TOKENS[order], VALUES[:, order], FLAGS[:, order])
    torch.testing.assert_close(permuted, predicted[:, order], rtol=1e-4, atol=2e-5)


@pytest.mark.parametrize("variant", RELEASED)
def test_predictions_differ_between_genes_cells_and_perturbations(
    variant: str, small_checkpoint: SmallCheckpoint
) -> None:
    model = ReferenceModel.from_checkpoint(small_checkpoint(variant))
    values = torch.rand(2, 12, generator=torch.Generator().manual_seed(0)) * 3
    flags = torch.zeros(2, 12, dtype=torch.int64)
    perturbed = flags.clone()
    perturbed[:, 4] = 1
    control, response = (predict(model, torch.arange(12), values, given) for given in (flags, perturbed))
    assert control.std(dim=1).min() > 0.05
    assert (control[0] - control[1]).abs().max() > 0.02
    assert (response - control).abs().max() > 0.02


@pytest.mark.parametrize("variant", [name for name in KINDS if "value_encoder" not in VARIANTS[name]])
def test_without_a_value_encoder_all_cells_predict_the_same(variant: str, small_checkpoint: SmallCheckpoint) -> None:
    model = ReferenceModel.from_checkpoint(small_checkpoint(variant))
    flags = FLAGS[:1].expand(2, -1)
    predicted = predict(model, TOKENS, VALUES, flags)
    torch.testing.assert_close(predicted[0], predicted[1], rtol=1e-4, atol=2e-5)


def test_a_text_table_is_cast_after_the_look_up(small_checkpoint: SmallCheckpoint) -> None:
    model = ReferenceModel.from_checkpoint(small_checkpoint("go_c_gpt_concat"))
    encoder = model.get_submodule("gopt_encoder_c")
    rows = encoder.embedding.weight[TOKENS]
    assert rows.dtype == torch.float64
    torch.testing.assert_close(encoder(TOKENS), encoder.enc_norm(encoder.fc(rows.float())), rtol=0, atol=0)


def test_the_network_is_pytorchs_own_encoder_layer(small_checkpoint: SmallCheckpoint) -> None:
    checkpoint = small_checkpoint("scgpt")
    model = ReferenceModel.from_checkpoint(checkpoint)
    theirs = torch.nn.TransformerEncoderLayer(16, 8, 24, batch_first=True).eval()
    prefix = "transformer_encoder.layers.1."
    theirs.load_state_dict(
        {key.removeprefix(prefix): t for key, t in checkpoint.state_dict.items() if key.startswith(prefix)}
    )
    hidden = torch.randn(2, 5, 16, generator=torch.Generator().manual_seed(1))
    with torch.inference_mode():
        torch.testing.assert_close(model.layers[1](hidden), theirs(hidden), rtol=1e-5, atol=1e-5)


def test_it_runs_where_its_weights_are(small_checkpoint: SmallCheckpoint) -> None:
    model = ReferenceModel.from_checkpoint(small_checkpoint(GO_C)).to("meta")  # as on a GPU
    predicted = predict(model, *(inputs.to("meta") for inputs in (TOKENS, VALUES, FLAGS)))
    assert (predicted.device.type, predicted.shape) == ("meta", FLAGS.shape)
