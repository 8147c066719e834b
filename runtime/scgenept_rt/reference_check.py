"""Checking a session against the eager model's outputs that travel in the bundle: milliseconds, without PyTorch."""

from __future__ import annotations

import zipfile
from dataclasses import dataclass, fields

import numpy as np
from numpy.typing import NDArray

from scgenept_rt.bundle import REFERENCE_NAME, Bundle, Comparison, Tolerance
from scgenept_rt.errors import BundleFileError, ReferenceMissedError
from scgenept_rt.session import Session


@dataclass(frozen=True)
class ReferenceResult:
    """How a session's outputs compare with the reference: `n_cells` cells over `n_genes` genes."""

    provider: str
    precision: str
    tolerance: Tolerance
    comparison: Comparison
    n_cells: int
    n_genes: int

    def raise_if_missed(self) -> None:
        """Raise `ReferenceMissedError` if a difference is larger than its tolerance."""
        if not self.comparison.passed:
            raise ReferenceMissedError(
                self.provider, self.precision, self.comparison.max_difference, self.comparison.worst
            )


@dataclass(frozen=True)
class Reference:
    """The bundle's reference cells, inputs as of `Session.run`, and what the eager model predicted of them."""

    values: NDArray[np.float32]
    pert_flags: NDArray[np.int64]
    gene_index: NDArray[np.int64]
    predicted: NDArray[np.float32]


def read_reference(bundle: Bundle) -> Reference:
    """Read the bundle's reference cells.

    Raises
    ------
    BundleFileError
        If `reference.npz` is missing or not readable.
    """
    path = bundle.directory / REFERENCE_NAME
    try:
        with np.load(path, allow_pickle=False) as arrays:
            return Reference(*(arrays[field.name] for field in fields(Reference)))
    except FileNotFoundError:
        raise BundleFileError(bundle.directory, REFERENCE_NAME, "is missing") from None
    except (OSError, EOFError, KeyError, ValueError, zipfile.BadZipFile) as error:
        raise BundleFileError(bundle.directory, REFERENCE_NAME, f"cannot be read ({error})") from error


def check_reference(bundle: Bundle, session: Session, *, one_by_one: bool = False) -> ReferenceResult:
    """Run the bundle's reference cells through a session, in one batch or each in a batch of its own.

    Raises
    ------
    BundleFileError
        As `read_reference`.
    """
    reference = read_reference(bundle)
    tolerance = bundle.tolerance(session.precision)
    n_cells, n_genes = reference.predicted.shape
    size = 1 if one_by_one else max(n_cells, 1)
    parts = [slice(begin, begin + size) for begin in range(0, max(n_cells, 1), size)]
    predicted = np.concatenate(
        [session.run(reference.values[part], reference.pert_flags[part], reference.gene_index) for part in parts]
    )
    comparison = tolerance.compare(predicted, reference.predicted)
    return ReferenceResult(session.provider, session.precision, tolerance, comparison, n_cells, n_genes)
