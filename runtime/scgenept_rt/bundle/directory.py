"""A bundle's directory: its files, opened and checked against the manifest."""

from __future__ import annotations

import hashlib
from pathlib import Path

from scgenept_rt.bundle.manifest import MANIFEST_NAME, BundleFile, Manifest, Precision, Target
from scgenept_rt.bundle.tolerance import Tolerance
from scgenept_rt.errors import (
    PATH_TYPES,
    BundleError,
    BundleFileError,
    BundleNotFoundError,
    GraphNotInBundleError,
    NoKnownGraphError,
    check_argument,
    pluralize,
)

REFERENCE_NAME = "reference.npz"
REFERENCE_WEIGHTS_NAME = "reference_weights.pt"
"""The eager model's weights, for the provider torch; only in bundles exported with `--keep-reference-weights`."""
DEMO_NAME = "demo"
"""Stands for the bundle that ships with the package, where no directory of this name exists."""


class Bundle:
    """An opened bundle: its directory, its manifest, and the digest that outputs record."""

    def __init__(self, directory: Path, manifest: Manifest, digest: str) -> None:
        self.directory = directory
        self.manifest = manifest
        self.digest = digest

    @classmethod
    def open(cls, directory: str | Path, *, check_files: bool = True) -> Bundle:
        """Open a bundle and check every file that its manifest names.

        Parameters
        ----------
        directory
            The bundle's directory, or ``demo`` for the synthetic one that ships with the package.
        check_files
            Compare the size and sha256 of every file with the manifest (about 1 GB a second).

        Raises
        ------
        ArgumentTypeError
            If `directory` is no path.
        BundleNotFoundError
            If the directory or its manifest does not exist.
        BundleFormatError
            If it was written by a newer release.
        BundleFileError
            If a file is missing or has changed.
        """
        check_argument("bundle", directory, PATH_TYPES, "the path of a bundle's directory")
        directory = Path(directory)
        if str(directory) == DEMO_NAME and not directory.exists():
            directory = demo_bundle_path()
        try:
            text = (directory / MANIFEST_NAME).read_bytes()
        except (FileNotFoundError, NotADirectoryError):
            raise BundleNotFoundError(directory) from None
        except OSError as error:
            raise BundleError(
                directory, f"{MANIFEST_NAME} cannot be read ({error.strerror})", "Check its permissions."
            ) from error
        bundle = cls(directory, Manifest.from_json(text, directory), hashlib.sha256(text).hexdigest())
        if check_files:
            for file in bundle.manifest.files:
                bundle.check_file(file)
        return bundle

    def path(self, file: BundleFile) -> Path:
        """Return where a file of the manifest lies."""
        return self.directory / file.path

    def check_file(self, file: BundleFile) -> None:
        """Raise `BundleFileError` unless the file has the size and sha256 that the manifest states."""
        try:
            size = self.path(file).stat().st_size
            if size != file.size:
                raise BundleFileError(
                    self.directory, file.path, f"has {pluralize(size, 'byte')}, the manifest says {file.size:,}"
                )
            digest = file_sha256(self.path(file))
        except FileNotFoundError:
            raise BundleFileError(self.directory, file.path, "is missing") from None
        except OSError as error:
            raise BundleFileError(self.directory, file.path, f"cannot be read ({error.strerror})") from error
        if digest != file.sha256:
            raise BundleFileError(
                self.directory, file.path, f"has changed: sha256 {digest[:12]}..., expected {file.sha256[:12]}..."
            )

    def graphs(self) -> tuple[BundleFile, ...]:
        """Return the manifest's graphs, but for those that only a later version knows."""
        return tuple(file for file in self.manifest.files if file.is_known_graph)

    def check_known_graphs(self) -> None:
        """Raise `NoKnownGraphError` if the bundle has graphs, but none that this version knows."""
        # The manifest's own words, which may be no `Precision` and no `Target`.
        stated = [f"{file.precision} for {file.target}" for file in self.manifest.files if file.target is not None]
        if stated and not self.graphs():
            raise NoKnownGraphError(self.directory, stated)

    def graph(self, precision: Precision, target: Target) -> BundleFile:
        """Return the graph of a precision and target, or raise `GraphNotInBundleError`."""
        for file in self.graphs():
            if (file.precision, file.target) == (precision, target):
                return file
        available = [f"{file.precision} {file.target}" for file in self.graphs()]
        raise GraphNotInBundleError(self.directory, precision, target, available)

    def tolerance(self, precision: Precision) -> Tolerance:
        """Return how far outputs of a precision may be from the eager model's, or raise `BundleFileError`."""
        try:
            return self.manifest.tolerances[precision]
        except KeyError:  # of fp16 alone, exported before every bundle had the bound of fp32, which PyTorch runs
            raise BundleFileError(self.directory, MANIFEST_NAME, f"has no tolerance for {precision}") from None


def demo_bundle_path() -> Path:
    """Return the directory of the synthetic bundle that ships with the package."""
    return Path(__file__).parents[1] / "demo_bundle"


def file_sha256(path: Path) -> str:
    """Return the sha256 of a file's bytes, in hexadecimal."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
