"""The published network that everything is compared with: upstream's outputs, and upstream's call."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch

from tests.benchmarks.scripts import script

if TYPE_CHECKING:
    from types import ModuleType

    from tests.conftest import Oracle

VARIANT = "scgenept_go_c_gpt_concat"


@pytest.fixture(scope="module")
def network(oracle: Oracle) -> Any:
    module: ModuleType = script("published_network")
    return module.load_published(oracle.checkpoint(VARIANT))


@pytest.fixture(scope="module")
def inputs(oracle: Oracle) -> dict[str, torch.Tensor]:
    """Upstream's six control cells with the first perturbation, and what upstream predicted of them."""
    golden = oracle.golden(VARIANT)
    cells = golden["X"].astype(np.float32)
    arrays = {
        "ids": np.tile(golden["gene_ids"].astype(np.int64), (len(cells), 1)),
        "values": cells,
        "flags": np.tile(oracle.pert_flags(oracle.perturbations[0]), (len(cells), 1)),
        "expected": golden["fwd"][0],
    }
    return {name: torch.from_numpy(array) for name, array in arrays.items()}


def test_loads_nothing_that_upstream_does_not(oracle: Oracle, monkeypatch: pytest.MonkeyPatch) -> None:
    """The package's checks and layers would count as time and memory of the published code."""
    for ours in ("checkpoint._read_tensors", "model.EncoderLayer"):
        monkeypatch.setattr(f"scgenept_export.{ours}", None)
    script("published_network").load_published(oracle.checkpoint(VARIANT))


@pytest.mark.parametrize("empty_mask", [True, False])
@pytest.mark.parametrize("fast_path", [True, False])
def test_gives_what_the_published_code_gave(
    network: Any, inputs: dict[str, torch.Tensor], empty_mask: bool, fast_path: bool
) -> None:
    before = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(fast_path)
    try:
        with torch.no_grad():
            predicted = network(inputs["ids"], inputs["values"], inputs["flags"], empty_mask=empty_mask)
    finally:
        torch.backends.mha.set_fastpath_enabled(before)
    np.testing.assert_allclose(predicted.numpy(), inputs["expected"].numpy(), rtol=1e-4, atol=2e-5)


def test_passes_the_empty_mask_that_upstream_passes(
    network: Any, inputs: dict[str, torch.Tensor], monkeypatch: pytest.MonkeyPatch
) -> None:
    # PyTorch makes a nested tensor of masked input alone, on its fast path: this is what the mask costs.
    masks: list[torch.Tensor] = []
    nested = torch._nested_tensor_from_mask

    def recorded(tensor: torch.Tensor, mask: torch.Tensor, **options: Any) -> torch.Tensor:
        masks.append(mask)
        return nested(tensor, mask, **options)

    monkeypatch.setattr(torch, "_nested_tensor_from_mask", recorded)
    with torch.no_grad():
        network(inputs["ids"], inputs["values"], inputs["flags"], empty_mask=False)
        assert masks == []
        network(inputs["ids"], inputs["values"], inputs["flags"])
    assert [mask.all().item() for mask in masks] == [True]  # PyTorch hands on which tokens are kept
