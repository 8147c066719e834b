from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from scgenept_rt.bundle import Bundle, Manifest, Tolerance
from scgenept_rt.errors import BundleError, BundleFileError, BundleNotFoundError, GraphNotInBundleError

FILES = ("ort_fp32.onnx", "reference.npz")


@pytest.fixture(scope="module")
def manifest_text(bundle: Path) -> bytes:
    return (bundle / "manifest.json").read_bytes()


def test_manifest_written_again_is_the_same(bundle: Path, manifest_text: bytes) -> None:
    assert Manifest.from_json(manifest_text, bundle).to_json().encode() == manifest_text


@pytest.mark.parametrize("name", FILES)
def test_a_file_that_is_changed_truncated_missing_or_unreadable_is_found(bundle_copy: Path, name: str) -> None:
    path = bundle_copy / name
    sound = path.read_bytes()
    for position in (0, len(sound) // 2, len(sound) - 1):
        changed = bytearray(sound)
        changed[position] ^= 0x10
        path.write_bytes(changed)
        with pytest.raises(BundleFileError, match=rf"{name} has changed: sha256 \w{{12}}, expected"):
            Bundle.open(bundle_copy)
    path.write_bytes(sound[:-1])
    with pytest.raises(BundleFileError, match=rf"{name} has [\d,]+ bytes, the manifest states"):
        Bundle.open(bundle_copy)
    path.unlink()
    with pytest.raises(BundleFileError, match=f"{name} is missing"):
        Bundle.open(bundle_copy)
    path.mkdir()
    with pytest.raises(BundleFileError, match=name):
        Bundle.open(bundle_copy)


@pytest.mark.parametrize("field", ["gene_names", "in_vocab"])
def test_two_genes_swapped_in_the_manifest_are_found(bundle_copy: Path, field: str) -> None:
    path = bundle_copy / "manifest.json"
    fields = json.loads(path.read_text())
    values = fields[field]
    other = next(i for i in range(len(values)) if values[i] != values[0])
    values[0], values[other] = values[other], values[0]
    path.write_text(json.dumps(fields))
    with pytest.raises(BundleFileError, match=r"genes in manifest\.json have changed"):
        Bundle.open(bundle_copy)


def test_a_manifest_may_list_the_first_genes_but_not_leave_one_out(bundle_copy: Path) -> None:
    path = bundle_copy / "manifest.json"
    fields = json.loads(path.read_text())

    def keep(genes: list[int]) -> None:
        for name in ("gene_names", "gene_ids", "in_vocab"):
            fields[name] = [fields[name][gene] for gene in genes]
        fields["dimensions"]["n_genes"] = len(genes)
        path.write_text(json.dumps(fields))

    keep([*range(20)])
    assert Bundle.open(bundle_copy).manifest.dimensions.n_genes == 20
    keep([*range(7), *range(8, 20)])
    with pytest.raises(BundleFileError, match=r"genes in manifest\.json have changed"):
        Bundle.open(bundle_copy)


def test_what_is_no_bundle(bundle: Path, tmp_path: Path) -> None:
    with pytest.raises(BundleNotFoundError, match="no such directory"):
        Bundle.open(tmp_path / "nowhere")
    with pytest.raises(BundleNotFoundError, match="this is a file"):
        Bundle.open(bundle / "manifest.json")
    (tmp_path / "cells.h5ad").touch()
    (tmp_path / "cells.zarr").mkdir()
    for cells in ("cells.h5ad", "cells.zarr"):
        with pytest.raises(BundleNotFoundError, match=r"Give the bundle first, .* and then the cells"):
            Bundle.open(tmp_path / cells)
    with pytest.raises(
        BundleNotFoundError,
        match=r"not a bundle, or its export did not finish\. Give the directory that holds manifest\.json, or mak",
    ):
        Bundle.open(tmp_path)
    with pytest.raises(FileNotFoundError):
        Bundle.open(tmp_path / "nowhere")


@pytest.mark.parametrize("version", [2, 0, "1", None, True])
def test_another_format(bundle: Path, manifest_text: bytes, version: object) -> None:
    fields = json.loads(manifest_text) | {"format_version": version}
    with pytest.raises(BundleFileError, match=rf"format_version is {version!r}, this release reads up to 1"):
        Manifest.from_json(json.dumps(fields), bundle)


def test_a_missing_field_or_end_is_named(bundle: Path, manifest_text: bytes) -> None:
    sound = json.loads(manifest_text)
    for name in sound.keys() - {"format_version", "activation_range", "training_total"}:  # the last two are optional
        lacking = {key: entry for key, entry in sound.items() if key != name}
        with pytest.raises(BundleError, match=name):
            Manifest.from_json(json.dumps(lacking), bundle)
    for length in (0, 1, len(manifest_text) // 2, len(manifest_text) - 2):
        with pytest.raises(BundleError, match=r"manifest\.json cannot be read"):
            Manifest.from_json(manifest_text[:length], bundle)


def changed(sound: bytes, place: str, value: object) -> str:
    """The manifest with another value at a place such as `files.0.path`."""
    fields = json.loads(sound)
    *parents, last = (int(step) if step.isdecimal() else step for step in place.split("."))
    entry = fields
    for step in parents:
        entry = entry[step]
    entry[last] = value
    return json.dumps(fields)


@pytest.mark.parametrize(
    ("place", "value", "said"),
    [
        ("files.0.path", "", r"files\[0\]\.path is ''"),
        ("files.0.path", "../passwd", r"files\[0\]\.path is '\.\./passwd', expected the name of a f"),
        ("files.0.path", "..\\graph.onnx", r"files\[0\]\.path"),
        ("files.0.path", "C:graph.onnx", r"files\[0\]\.path"),
        ("files.0.path", "a\0b", r"files\[0\]\.path"),
        ("files.0.sha256", None, r"files\[0\]\.sha256 is None, expected text"),
        ("files.0.precision", None, r"has the precision None and the target 'ort'"),
        ("files.0", {"path": "a"}, r"files\[0\]\.sha256 is missing"),
        ("dimensions.n_genes", "24", r"dimensions\.n_genes is '24', expected a whole number from 0"),
        ("dimensions.n_table_genes", 1, r"dimensions\.n_table_genes is 1, expected n_genes = 24 or more"),
        ("dimensions.n_table_genes", 10**15, r"dimensions\.n_table_genes is"),
        ("dimensions.n_layers", 0, r"dimensions\.n_layers is 0"),
        ("tolerances", None, "tolerances is None, expected an object"),
        ("tolerances", {}, r"tolerances has none for fp32, the precision of ort_fp32\.onnx"),
        ("tolerances.fp32.atol", True, r"tolerances\.fp32\.atol is True, expected a finite number from 0"),
        ("tolerances.fp32.rtol", float("nan"), r"tolerances\.fp32\.rtol is nan"),
        ("tolerances.fp32.rtol", 10**400, r"tolerances\.fp32\.rtol is 1000"),
        ("dimensions", [3], r"dimensions is \[3\], expected an object"),
        ("files", {"a": 3}, "files is .*, expected a list"),
        ("gene_names", "A" * 24, "gene_names is 'AAA.*, expected a list"),
        ("gene_names", ["FOSB"] * 24, "gene_names gives all 24 genes the name 'FOSB'"),
        ("gene_ids", [None] * 23, r"\[24, 23, 24\] entries for n_genes = 24"),
        ("in_vocab.3", 1, r"in_vocab\[3\] is 1, expected true or false"),
    ],
)
def test_a_misstated_field_is_named_with_what_was_expected(
    bundle: Path, manifest_text: bytes, place: str, value: object, said: str
) -> None:
    with pytest.raises(BundleError, match=rf"manifest\.json cannot be read \(.*{said}.*\)\. Copy or export"):
        Manifest.from_json(changed(manifest_text, place, value), bundle)


def test_what_is_unusual_but_right_in_a_manifest(bundle: Path, manifest_text: bytes) -> None:
    names = json.loads(manifest_text)["gene_names"]
    for place, value in (
        ("gene_names", [names[1], *names[1:]]),  # some panels have a name twice
        ("gene_ids", [None] * 24),
        ("dimensions.n_table_genes", 30),
        ("dataset", ""),
        ("encoders", []),
        ("files.0.path", "graphs/ort_fp32.onnx"),
        ("tolerances.fp32", {"atol": 0, "rtol": 1e-4}),
        ("activation_range", {}),
        ("a_field_of_tomorrow", 3),
    ):
        Manifest.from_json(changed(manifest_text, place, value), bundle)
    fields = json.loads(manifest_text)
    for file in fields["files"]:
        if file["precision"] is None:
            del file["precision"], file["target"]
    del fields["activation_range"], fields["training_total"]
    assert Manifest.from_json(json.dumps(fields), bundle).training_total is None
    assert Manifest.from_json(json.dumps(fields), bundle).files == Manifest.from_json(manifest_text, bundle).files


def test_graph_that_the_bundle_lacks(bundle: Path, manifest_text: bytes, bundle_copy: Path) -> None:
    fields = json.loads(manifest_text)
    fields["files"] = [file for file in fields["files"] if file["precision"] != "fp16"]
    (bundle_copy / "manifest.json").write_text(json.dumps(fields))
    opened = Bundle.open(bundle_copy)
    assert opened.graph("fp32", "ort").path == "ort_fp32.onnx"
    with pytest.raises(GraphNotInBundleError, match=r"no fp16 graph for the target 'ort' \(it holds: fp32 ort"):
        opened.graph("fp16", "ort")
    with pytest.raises(GraphNotInBundleError, match="the precision fp16 and portable graphs"):
        opened.graph("fp16", "portable")


def test_tolerance_is_a_bound_on_each_element() -> None:
    reference = np.array([[0.0, 10.0]])
    tolerance = Tolerance(atol=1e-3, rtol=1e-2)
    assert tolerance.compare(reference + np.array([[0.9e-3, 0.1]]), reference).passed
    missed = tolerance.compare(reference + np.array([[1.1e-3, 0.0]]), reference)
    assert missed.worst == pytest.approx(1.1)
    assert not missed.passed
    assert not tolerance.compare(np.array([[0.0, np.nan]]), reference).passed
    assert not tolerance.compare(np.array([[0.0, np.inf]]), reference).passed
    assert Tolerance(1e-3, 1e-2, relative_to_largest=True).compare(np.array([[0.1, 10.0]]), reference).passed
