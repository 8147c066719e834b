from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from scgenept_export.checkpoint import Checkpoint
from scgenept_export.model import ReferenceModel
from scgenept_export.variants import RELEASED


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
