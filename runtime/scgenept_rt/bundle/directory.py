"""A bundle's directory: its files, opened and checked against the manifest."""

from __future__ import annotations

import hashlib
import shlex
from collections.abc import Hashable
from pathlib import Path

import numpy as np

from scgenept_rt.bundle.graph_file import check_graph_file
from scgenept_rt.bundle.manifest import (
    COPY_OR_EXPORT,
    MANIFEST_NAME,
    TRAINING_PERTURBATIONS,
    BundleFile,
    Manifest,
    Precision,
    Target,
    Tolerance,
)
from scgenept_rt.bundle.reference import Reference, checksums_of_genes
from scgenept_rt.errors import BundleError, BundleFileError, BundleNotFoundError, GraphNotInBundleError
from scgenept_rt.files.failures import failed_reads
from scgenept_rt.files.hashing import sha256_of, state_of
from scgenept_rt.wording import join_limited, pluralize

REFERENCE_WEIGHTS_NAME = "reference_weights.pt"
"""The eager model's weights, for the provider torch; only in bundles exported with `--keep-reference-weights`."""
DEMO_NAME = "demo"
"""Name of the bundle that ships with the package, where no directory of this name exists."""


class Bundle:
    """An opened bundle: its directory, its manifest, and the digest that outputs record."""

    def __init__(self, directory: Path, manifest: Manifest, digest: str) -> None:
        self.directory = directory
        self.manifest = manifest
        self.digest = digest
        self._checked: dict[Path, Hashable] = {}

    @classmethod
    def open(cls, directory: str | Path, *, check_files: bool = True) -> Bundle:
        """Open a bundle and check every file that its manifest names.

        Parameters
        ----------
        directory
            The bundle's directory, or ``demo`` for the synthetic one that ships with the package.
        check_files
            Compare the size and sha256 of every file with the manifest (about 1 GB per second), and the manifest's
            genes with their checksums in ``reference.npz``.

        Raises
        ------
        BundleNotFoundError
            If the directory or its manifest does not exist.
        BundleFileError
            If the manifest is damaged or of a newer format, or a file is missing or has changed.
        """
        directory = Path(directory)
        if str(directory) == DEMO_NAME and not directory.exists():
            directory = demo_bundle_path()
        path = directory / MANIFEST_NAME
        with failed_reads(BundleFileError, directory, MANIFEST_NAME, COPY_OR_EXPORT):
            if not path.is_file():
                raise _not_found(directory)
            text = path.read_bytes()
        bundle = cls(directory, Manifest.from_json(text, directory), hashlib.sha256(text).hexdigest())
        if check_files:
            for file in bundle.manifest.files:
                bundle.check_file(file)
            bundle._check_genes()
        return bundle

    def path(self, file: BundleFile) -> Path:
        """Return the path of a file of the manifest."""
        return self.directory / file.path

    def check_file(self, file: BundleFile) -> None:
        """Raise `BundleFileError` unless the file has the size and sha256 that the manifest states."""
        path = self.path(file)
        with failed_reads(BundleFileError, self.directory, file.path, COPY_OR_EXPORT):
            state, size = state_of(path), path.stat().st_size
            if size != file.size:
                raise self.file_error(f"{file.path} has {pluralize(size, 'byte')}, the manifest states {file.size:,}")
            digest = sha256_of(path)
            if digest != file.sha256:
                raise self.file_error(f"{file.path} has changed: sha256 {digest[:12]}, expected {file.sha256[:12]}")
        self._checked[path] = state

    def check_unchanged(self) -> None:
        """Raise `BundleFileError` if a file has changed since it was checked: sessions may read weights from it."""
        for file in self.manifest.files:
            state = state_of(self.path(file))
            # A file that was removed lives on in whoever has it open.
            if state is not None and state != self._checked.get(self.path(file), state):
                self.check_file(file)

    def _check_genes(self) -> None:
        """Raise `BundleFileError` unless the manifest has the first genes that the bundle was exported with."""
        found = checksums_of_genes(self.manifest.gene_names, self.manifest.gene_ids, self.manifest.in_vocab)
        stated = Reference.read(self.directory).gene_checksums
        if stated is not None and not np.array_equal(stated[: len(found)], found):
            raise self.file_error(f"the genes in {MANIFEST_NAME} have changed since the bundle was exported")

    def file_error(self, problem: str) -> BundleFileError:
        """Return the error for a file of this bundle that is missing or damaged."""
        return BundleFileError(problem, COPY_OR_EXPORT, where=self.directory)

    def graphs(self) -> tuple[BundleFile, ...]:
        """Return the graphs of the manifest that this version knows; raise `GraphNotInBundleError` if it knows none."""
        known = tuple(file for file in self.manifest.files if file.is_known_graph)
        stated = [f"{file.precision} for {file.target}" for file in self.manifest.files if file.target]
        if stated and not known:
            problem = f"this version of scgenept-rt knows none of its graphs ({join_limited(stated)})"
            remedy = "Update scgenept-rt, or export the bundle again with this version"
            raise GraphNotInBundleError(problem, remedy, where=self.directory)
        return known

    def graph(self, precision: Precision, target: Target) -> BundleFile:
        """Return the graph of a precision and target, or raise `GraphNotInBundleError`."""
        for file in self.graphs():
            if (file.precision, file.target) == (precision, target):
                return file
        held = join_limited([f"{file.precision} {file.target}" for file in self.graphs()]) or "none"
        problem = f"it holds no {precision} graph for the target {target!r} (it holds: {held})"
        portable = " and portable graphs" if target == "portable" else ""
        remedy = f"Export it again with the precision {precision}{portable}, or choose a graph that it holds"
        raise GraphNotInBundleError(problem, remedy, where=self.directory)

    def check_graph(self, graph: BundleFile) -> None:
        """Raise `BundleFileError` unless a graph is one of the bundle format, which reads no files but the bundle's."""
        with failed_reads(BundleFileError, self.directory, graph.path, COPY_OR_EXPORT):
            check_graph_file(self.path(graph), {file.path for file in self.manifest.files})

    def tolerance(self, precision: Precision) -> Tolerance:
        """Return how far outputs of a precision may be from the eager model's, or raise `BundleFileError`."""
        try:
            return self.manifest.tolerances[precision]
        except KeyError:  # of fp16 alone, exported before every bundle had the bound of fp32, which PyTorch runs
            raise self.file_error(f"{MANIFEST_NAME} has no tolerance for {precision}") from None


def demo_bundle_path() -> Path:
    """Return the directory of the synthetic bundle that ships with the package."""
    return Path(__file__).parents[1] / "demo_bundle"


def _not_found(directory: Path) -> BundleError:
    """Return the error for a path without a bundle; of a released one's name it says how to get that."""
    remedy = "Give the directory that holds manifest.json, or make one with `scgenept-export bundle`"
    if directory.is_file():
        problem = "this is a file, but a bundle is a directory"
    elif directory.exists():
        problem = "it holds no manifest.json, so it is not a bundle, or its export did not finish"
    else:
        problem, exported = "there is no such directory", Path("bundles", directory.name)  # where from-release writes
        variant, _, dataset = directory.name.rpartition("_")
        if dataset not in TRAINING_PERTURBATIONS:
            variant, dataset = directory.name, "norman"
        if (exported / MANIFEST_NAME).is_file():
            remedy = f"Did you mean {exported}?"
        elif variant.startswith(("scgpt", "scgenept_")):
            out = str(directory)
            make = shlex.join(["scgenept-export", "from-release", variant, "--dataset", dataset, "--out", out])
            fetch = shlex.join(["scgenept-rt", "download", "--out", out, "--bundle"])
            remedy = f"Make it with `{make}`, or, if somebody published it, fetch it with `{fetch} URL`"
    if directory.suffix.lower() in (".h5ad", ".zarr"):
        remedy = "Give the bundle first, a directory that holds manifest.json, and then the cells"
    return BundleNotFoundError(problem, remedy, where=directory)
