from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

import scgenept_rt as sgr
from scgenept_rt.errors import BundleFileError, ReferenceMismatchError
from scgenept_rt.verification import check_reference

Change = Callable[[dict[str, np.ndarray]], None]


def opened(bundle: Path) -> sgr.Bundle:
    """Open a bundle without comparing sha256, as if it had been exported as it is."""
    return sgr.Bundle.open(bundle, check_files=False)


def change_reference(bundle: Path, change: Change) -> None:
    path = bundle / "reference.npz"
    with np.load(path) as arrays:
        changed = dict(arrays)
    change(changed)
    np.savez(path, **changed)


@pytest.mark.parametrize("wrong", [1e-3, np.nan])
def test_one_wrong_number_is_found_and_stated(model: sgr.Predictor, bundle_copy: Path, wrong: float) -> None:
    def change(arrays: dict[str, np.ndarray]) -> None:
        arrays["predicted"][-1, -1] += wrong

    change_reference(bundle_copy, change)
    result = check_reference(opened(bundle_copy), model.session)
    assert not result.comparison.passed
    with pytest.raises(
        ReferenceMismatchError, match=r"provider cpu \(fp32\).* predictions would be wrong\. Run `scgenept-rt verify`"
    ):
        result.raise_if_missed()


def without_cells(arrays: dict[str, np.ndarray]) -> None:
    arrays |= {name: arrays[name][:0] for name in ("values", "pert_flags", "predicted")}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (without_cells, r"reference\.npz cannot be read"),
        (lambda arrays: arrays.pop("pert_flags"), r"reference\.npz cannot be read"),
        (lambda arrays: arrays.update(gene_checksums=np.int64(1)), "gene_checksums"),
        (lambda arrays: arrays.update(token_ids=np.int64(1)), "token_ids"),
    ],
)
def test_arrays_that_are_not_cells_are_no_pass(
    model: sgr.Predictor, bundle_copy: Path, change: Change, message: str
) -> None:
    change_reference(bundle_copy, change)
    with pytest.raises(BundleFileError, match=message):
        check_reference(opened(bundle_copy), model.session)


def test_file_is_missing_truncated_or_no_archive(model: sgr.Predictor, bundle_copy: Path) -> None:
    path = bundle_copy / "reference.npz"
    for text in (path.read_bytes()[:600], b"", b"no archive"):
        path.write_bytes(text)
        with pytest.raises(BundleFileError, match=r"reference\.npz cannot be read"):
            check_reference(opened(bundle_copy), model.session)
    path.unlink()
    with pytest.raises(BundleFileError, match=r"reference\.npz is missing"):
        check_reference(opened(bundle_copy), model.session)
