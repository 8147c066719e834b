from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from scgenept_export.checkpoint import Checkpoint
from scgenept_export.model import ReferenceModel, parameter_shapes
from scgenept_export.synthetic import synthetic_state_dict
from scgenept_export.variants import RELEASED, VARIANTS


@pytest.mark.parametrize("variant", VARIANTS)
def test_weights_have_the_published_names_shapes_and_types(
    variant: str, small_checkpoint: Callable[..., Checkpoint]
) -> None:
    checkpoint = small_checkpoint(variant)
    shapes = {name: tuple(tensor.shape) for name, tensor in checkpoint.state_dict.items()}
    assert shapes == parameter_shapes(checkpoint.shape)
    double = {name for name, tensor in checkpoint.state_dict.items() if tensor.dtype == torch.float64}
    assert double == {f"{encoder}.embedding.weight" for encoder in checkpoint.shape.d_text}


def test_one_seed_gives_one_set_of_weights() -> None:
    sizes = {"n_tokens": 5, "d_model": 16, "n_layers": 1, "d_ff": 16, "d_text": 6}
    first, second, other = (synthetic_state_dict("scgpt", **sizes, seed=seed) for seed in (3, 3, 4))
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert not torch.equal(first["decoder.fc.0.weight"], other["decoder.fc.0.weight"])


@pytest.mark.parametrize("variant", RELEASED)
def test_predictions_differ_between_genes_cells_and_perturbations(
    variant: str, small_checkpoint: Callable[..., Checkpoint]
) -> None:
    model = ReferenceModel.from_checkpoint(small_checkpoint(variant))
    values = torch.rand(2, 12, generator=torch.Generator().manual_seed(0)) * 3
    flags = torch.zeros(2, 12, dtype=torch.int64)
    perturbed = flags.clone()
    perturbed[:, 4] = 1
    with torch.inference_mode():
        control, response = model(torch.arange(12), values, flags), model(torch.arange(12), values, perturbed)
    assert control.std(dim=1).min() > 0.05
    assert (control[0] - control[1]).abs().max() > 0.02
    assert (response - control).abs().max() > 0.02
