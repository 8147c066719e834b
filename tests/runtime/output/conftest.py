from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import anndata
import numpy as np
import pytest

from scgenept_rt.genes import GenePanel
from scgenept_rt.perturbation import Perturbation

GENES = ("FOSB", "SAMD1", "ZBTB1", "KLF1", "CEBPA")


@pytest.fixture
def panel() -> GenePanel:
    ids = ("ENSG1", "ENSG2", None, "ENSG4", "ENSG5")
    return GenePanel(GENES, ids, np.array([True, True, True, False, True]))


@pytest.fixture
def perturbations() -> list[Perturbation]:
    return [
        Perturbation("FOSB+ctrl", ("FOSB",), (0,)),
        Perturbation("ZBTB1+SAMD1", ("SAMD1", "ZBTB1"), (1, 2)),
        Perturbation("KLF1", ("KLF1",), (3,)),
    ]


@pytest.fixture
def controls() -> list[str]:
    return ["AAAC-1", "AAAG-1", "AAAT-1", "AAAG-1"]


@pytest.fixture
def read_table() -> Callable[[Path], anndata.AnnData]:
    def read(path: Path) -> anndata.AnnData:
        return anndata.read_h5ad(path) if path.suffix == ".h5ad" else anndata.io.read_zarr(path)

    return read


@pytest.fixture
def random_rows() -> Callable[[int, Sequence[str]], dict[str, np.ndarray]]:
    def rows(n_rows: int, names: Sequence[str]) -> dict[str, np.ndarray]:
        rng = np.random.default_rng(7)
        return {name: rng.normal(size=(n_rows, len(GENES))).astype(np.float32) for name in names}

    return rows
