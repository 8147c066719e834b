"""What is computed in a comparison: a checkpoint of made-up weights, its bundle, control cells and the right answer.

Everything lies in one directory that every form's process opens. Speed does not depend on the weights; the values of
cells matter a little, as tokens that are equal can be merged, so they are drawn like the Norman data: about 8% of the
values are non-zero, and 498 of 5,045 genes are outside the vocabulary.
"""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from shared import in_new_process

if TYPE_CHECKING:
    from anndata import AnnData

VARIANT = "scgenept_go_c_gpt_concat"
_OUT_OF_VOCABULARY = 498 / 5045
_SETTINGS = "workload.json"


@dataclass(frozen=True)
class Workload:
    """Sizes of one comparison; `tokens` is the number of rows of the embedding tables, 60,697 as published."""

    directory: Path
    genes: int
    layers: int
    cells: int
    tokens: int
    device: str

    @property
    def checkpoint(self) -> Path:
        """The checkpoint in the published layout."""
        return self.directory / "checkpoint.pt"

    @property
    def bundle(self) -> Path:
        """The bundle exported from it."""
        return self.directory / "bundle"

    @property
    def h5ad(self) -> Path:
        """The control cells as a file."""
        return self.directory / "cells.h5ad"

    @property
    def perturbation(self) -> str:
        """Label of the perturbation of two genes that is predicted."""
        return "+".join(self.gene_names()[:2])

    def settings(self) -> dict[str, Any]:
        """Return all sizes."""
        return {name: value for name, value in asdict(self).items() if name != "directory"}

    def gene_names(self) -> tuple[str, ...]:
        """Names in model order; those of genes outside the vocabulary begin with X."""
        n_out = round(self.genes * _OUT_OF_VOCABULARY)
        return tuple(f"{'G' if i < self.genes - n_out else 'X'}{i:05d}" for i in range(self.genes))

    def array(self, name: str) -> NDArray[np.generic]:
        """Return `token_ids` [genes], `values`, `pert_flags` or `expected` [cells, genes]."""
        return np.load(self.directory / f"{name}.npy")

    @classmethod
    def open(cls, directory: Path) -> Workload:
        """Open a workload that `prepare` made."""
        settings = json.loads((directory / _SETTINGS).read_text())
        return cls(directory=directory, **settings)

    def prepare(self) -> None:
        """Make all files (about 1 GB at the published size), or leave those of an earlier run with the same sizes."""
        written = self.directory / _SETTINGS
        if written.is_file() and json.loads(written.read_text()) == self.settings():
            return
        self.directory.mkdir(parents=True, exist_ok=True)
        started = time.monotonic()
        in_new_process(self.write_files)  # the process that measures never holds PyTorch
        written.write_text(json.dumps(self.settings(), indent=1))
        print(f"prepared the workload in {time.monotonic() - started:.0f} s", flush=True)

    def write_files(self) -> None:
        """Write checkpoint, bundle, cells and what PyTorch predicts for them: eager, in fp32, cell by cell."""
        import torch

        from scgenept_export.bundle_export import export_bundle
        from scgenept_export.gene_list import GeneList
        from scgenept_export.synthetic import synthetic_state_dict
        from scgenept_export.vocabulary import SPECIAL_TOKENS, Vocabulary

        names, n_free = self.gene_names(), self.tokens - len(SPECIAL_TOKENS)
        known = [name for name in names if name.startswith("G")]
        if len(known) > n_free:
            raise SystemExit(f"{self.genes:,} genes need more than {self.tokens:,} tokens: raise --tokens")
        # Spread over the whole table, as real genes are; the special tokens have its last rows.
        ids = [*np.random.default_rng(0).permutation(n_free)[: len(known)].tolist(), *range(n_free, self.tokens)]
        vocabulary = Vocabulary("made up", dict(zip([*known, *SPECIAL_TOKENS], ids, strict=True)))
        torch.save(synthetic_state_dict(VARIANT, n_tokens=self.tokens, n_layers=self.layers), self.checkpoint)
        genes, options = GeneList(names, (None,) * len(names)), {"synthetic": True, "overwrite": True}
        export_bundle(self.checkpoint, genes, VARIANT, self.bundle, vocab=vocabulary, **options)
        adata = control_cells(names, self.cells)
        adata.write_h5ad(self.h5ad)
        flags = np.zeros(adata.shape, dtype=np.int64)
        flags[:, :2] = 1
        arrays = {"token_ids": np.array(vocabulary.encode(names)[0]), "values": adata.X.toarray(), "pert_flags": flags}
        model = self.reference_model().to(self.device)
        token_ids, *cells = (torch.from_numpy(array).to(self.device) for array in arrays.values())
        with torch.inference_mode():
            expected = [model(token_ids, *cell) for cell in zip(*(each.split(1) for each in cells), strict=True)]
        arrays["expected"] = torch.cat(expected).cpu().numpy()
        for name, array in arrays.items():
            np.save(self.directory / f"{name}.npy", array)

    def reference_model(self) -> Any:
        """Load the checkpoint into the package's eager model."""
        from scgenept_export.checkpoint import load_checkpoint
        from scgenept_export.model import ReferenceModel

        return ReferenceModel.from_checkpoint(load_checkpoint(self.checkpoint, VARIANT))


def control_cells(names: Sequence[str], n_cells: int, seed: int = 0) -> AnnData:
    """Return control cells of these genes."""
    import anndata
    import pandas as pd
    from scipy.sparse import csr_matrix

    from scgenept_rt.demo.responses import draw_expression, expression_rates

    values = draw_expression(expression_rates(names), n_cells, np.random.default_rng(seed))
    obs = pd.DataFrame({"condition": "ctrl"}, index=[f"cell{i}" for i in range(n_cells)])
    return anndata.AnnData(csr_matrix(values), obs=obs, var=pd.DataFrame(index=list(names)))
