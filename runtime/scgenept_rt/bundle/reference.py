"""reference.npz: a few cells with the eager model's outputs, so that any provider can be checked without PyTorch."""

from __future__ import annotations

import json
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from scgenept_rt.bundle.manifest import COPY_OR_EXPORT
from scgenept_rt.errors import BundleFileError
from scgenept_rt.files.failures import failed_reads

REFERENCE_NAME: Final = "reference.npz"


@dataclass(frozen=True)
class Reference:
    """Reference cells: a graph's inputs (see `scgenept_rt.session.Session.run`) and the eager fp32 model's output."""

    values: NDArray[np.float32]
    pert_flags: NDArray[np.int64]
    gene_index: NDArray[np.int64]
    predicted: NDArray[np.float32]
    # Of all genes of the model; None in bundles that were exported before they were kept.
    token_ids: NDArray[np.int64] | None = None
    """Vocabulary ids in the source checkpoint."""
    gene_checksums: NDArray[np.uint32] | None = None
    """`checksums_of_genes`, which tie the manifest to this file."""

    @classmethod
    def read(cls, directory: Path) -> Reference:
        """Read the reference cells of a bundle; raise `BundleFileError` if they are missing or damaged."""
        with (
            failed_reads(BundleFileError, directory, REFERENCE_NAME, COPY_OR_EXPORT),
            np.load(directory / REFERENCE_NAME, allow_pickle=False) as arrays,
        ):
            values, flags, index, predicted = (arrays[name].astype(dtype) for name, dtype in _REQUIRED.items())
            expected = (len(values), len(index))
            if not values.shape == flags.shape == predicted.shape == expected or not values.size:
                shapes = [array.shape for array in (values, flags, index, predicted)]
                raise ValueError(f"{', '.join(_REQUIRED)} have the shapes {shapes}")
            of_genes = {name: arrays[name].astype(dtype) for name, dtype in _OPTIONAL.items() if name in arrays}
            if any(array.ndim != 1 for array in of_genes.values()):
                raise ValueError(f"{' or '.join(of_genes)} is no list")
            return cls(values, flags, index, predicted, **of_genes)

    def write(self, directory: Path) -> None:
        """Write `reference.npz` into the directory of a bundle."""
        arrays = {name: array for name, array in vars(self).items() if array is not None}
        np.savez_compressed(directory / REFERENCE_NAME, **arrays)

    def inputs(self) -> dict[str, NDArray[Any]]:
        """Return the graph's inputs by name."""
        return {"values": self.values, "pert_flags": self.pert_flags, "gene_index": self.gene_index}


_REQUIRED: Final = {"values": np.float32, "pert_flags": np.int64, "gene_index": np.int64, "predicted": np.float32}
_OPTIONAL: Final = {"token_ids": np.int64, "gene_checksums": np.uint32}


def checksums_of_genes(names: Sequence[str], ids: Sequence[str | None], in_vocab: Sequence[bool]) -> NDArray[np.uint32]:
    """Return the CRC-32 of each gene of a model: of its name, id and vocabulary flag."""
    genes = zip(names, ids, map(bool, in_vocab), strict=True)
    return np.array([zlib.crc32(json.dumps(gene).encode()) for gene in genes], np.uint32)
