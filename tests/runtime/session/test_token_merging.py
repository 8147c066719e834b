from __future__ import annotations

import dataclasses
import shutil
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from scgenept_rt.bundle import Bundle, Target
from scgenept_rt.errors import BundleFileError, InferenceError
from scgenept_rt.predictor import load
from scgenept_rt.providers import select_provider
from scgenept_rt.session import open_session
from scgenept_rt.session.token_merging import merge_tokens

GENE = st.tuples(st.sampled_from([0.0, -0.0, 0.5, 1.0]), st.integers(0, 1), st.booleans())


@pytest.fixture
def opened(bundle: Path) -> Bundle:
    return Bundle.open(bundle)


@settings(deadline=None)
@given(st.lists(GENE, min_size=1, max_size=40))
def test_every_column_is_stood_for_by_one_that_equals_it(genes: list[tuple[float, int, bool]]) -> None:
    values = np.array([value for value, _, _ in genes], dtype=np.float32)
    flags = np.array([flag for _, flag, _ in genes], dtype=np.int64)
    shared = np.array([share for _, _, share in genes])
    columns, log_count, position = merge_tokens(values, flags, shared)
    stands_for = columns[position]
    np.testing.assert_array_equal(values[stands_for], values)
    np.testing.assert_array_equal(flags[stands_for], flags)
    own = np.arange(len(genes))
    np.testing.assert_array_equal(stands_for[~shared], own[~shared])
    assert shared[stands_for[shared]].all()
    # As few as there can be, and each counted once.
    assert len(columns) == (~shared).sum() + len({(v, f) for v, f, share in genes if share})
    np.testing.assert_allclose(np.exp(log_count), np.bincount(position), rtol=1e-6)
    assert log_count.dtype == np.float32


def test_load_on_the_cpu_merges_where_the_bundle_can(opened: Bundle, tmp_path: Path) -> None:
    choice = select_provider(opened, provider="cpu")
    assert choice.target == "merged"
    assert select_provider(opened, provider="cpu", precision="fp16").target == "ort"
    files = tuple(file for file in opened.manifest.files if file.target != "merged")
    without = Bundle(opened.directory, dataclasses.replace(opened.manifest, files=files), opened.digest)
    assert select_provider(without, provider="cpu").target == "ort"

    inputs = cells_without_expression(opened)
    merging = open_session(opened, choice).run(*inputs)
    plain = open_session(opened, dataclasses.replace(choice, target="ort")).run(*inputs)
    np.testing.assert_allclose(merging, plain, rtol=0, atol=1e-5)

    # A bundle is moved and copied as a directory; what the merged graph refers to goes with it.
    shutil.copytree(opened.directory, tmp_path / "moved")
    moved = load(tmp_path / "moved", provider="cpu").session.run(*inputs)
    np.testing.assert_allclose(moved, merging, rtol=1e-5, atol=1e-6)


def test_a_bundle_of_links_into_a_store_of_files_loads(opened: Bundle, tmp_path: Path) -> None:
    linked = tmp_path / "linked"
    linked.mkdir()
    for number, path in enumerate(sorted(opened.directory.iterdir())):
        stored = tmp_path / "store" / str(number) / "content"
        stored.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, stored)
        (linked / path.name).symlink_to(stored)
    inputs = cells_without_expression(opened)
    expected = load(opened.directory, provider="cpu").session.run(*inputs)
    found = load(linked, provider="cpu").session.run(*inputs)
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)


def test_the_file_of_the_weights_is_named_where_it_is_at_fault(bundle_copy: Path) -> None:
    weights = bundle_copy / "ort_fp32.onnx"
    weights.write_bytes(weights.read_bytes()[:1000])
    with pytest.raises(BundleFileError, match=r"ort_fp32\.onnx has 1,000 bytes"):
        load(Bundle.open(bundle_copy, check_files=False), provider="cpu")
    weights.unlink()
    with pytest.raises(BundleFileError, match=r"ort_fp32\.onnx is missing"):
        load(Bundle.open(bundle_copy, check_files=False), provider="cpu")


@pytest.mark.parametrize("target", ["merged", "ort"])
def test_inputs_of_different_lengths_are_an_error(target: Target, opened: Bundle) -> None:
    values, flags, index = cells_without_expression(opened)
    index = np.concatenate([index, np.flatnonzero(opened.manifest.in_vocab)[:3]])
    session = open_session(opened, dataclasses.replace(select_provider(provider="cpu"), target=target))
    with pytest.raises(InferenceError):
        session.run(values, flags, index)


def cells_without_expression(bundle: Bundle) -> tuple[NDArray[np.float32], NDArray[np.int64], NDArray[np.int64]]:
    """Return cells in which all genes outside the vocabulary are alike, but for one in one cell."""
    n_genes = bundle.manifest.dimensions.n_genes
    outside = np.flatnonzero(~np.asarray(bundle.manifest.in_vocab))
    assert len(outside) > 1
    values = np.zeros((3, n_genes), dtype=np.float32)
    values[:, : n_genes // 2] = 1.0
    values[:, outside] = 0.0
    flags = np.zeros((3, n_genes), dtype=np.int64)
    flags[1, outside[0]] = 1
    return values, flags, np.arange(n_genes)
