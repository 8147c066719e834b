"""The committed bundle that the runtime's tests use is what the export gives today."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from scgenept_export.graph_check import open_on_cpu
from scgenept_rt.bundle import Bundle, Manifest
from tests.data.make_bundle import VARIANT


@pytest.fixture
def exported(oracle_bundle: Callable[[str], Path]) -> Path:
    return oracle_bundle(VARIANT)


def comparable(manifest: Manifest) -> Manifest:
    """Return a manifest without what depends on the machine, on package versions and on measurements."""
    files = tuple(replace(file, sha256="", size=0) for file in manifest.files if file.path != "reference_weights.pt")
    return replace(manifest, files=files, versions={}, tolerances={}, activation_range={})


def test_the_manifest_is_the_same(bundle: Path, exported: Path) -> None:
    old, new = Bundle.open(bundle).manifest, Bundle.open(exported).manifest
    assert comparable(old) == comparable(new)
    assert old.versions.keys() == new.versions.keys()
    assert old.tolerances["fp32"] == new.tolerances["fp32"]
    assert old.tolerances["fp16"].atol == pytest.approx(new.tolerances["fp16"].atol, rel=0.5)
    assert old.activation_range == pytest.approx(new.activation_range, rel=1e-3)


def test_the_reference_is_the_same(bundle: Path, exported: Path) -> None:
    with np.load(bundle / "reference.npz") as old, np.load(exported / "reference.npz") as new:
        assert old.keys() == new.keys()
        for name in old:
            np.testing.assert_allclose(old[name], new[name], rtol=1e-4, atol=2e-5)


@pytest.mark.parametrize("graph", ["ort_fp32", "ort_fp16", "portable_fp32", "portable_fp16"])
def test_a_graph_gives_the_same(bundle: Path, exported: Path, graph: str) -> None:
    opened = Bundle.open(bundle)
    tolerance = opened.manifest.tolerances[graph[-4:]]
    with np.load(bundle / "reference.npz") as reference:
        inputs = {name: reference[name] for name in ("values", "pert_flags", "gene_index")}
    new, old = (open_on_cpu(directory / f"{graph}.onnx")(inputs) for directory in (exported, bundle))
    np.testing.assert_allclose(new, old, rtol=tolerance.rtol, atol=tolerance.atol)
