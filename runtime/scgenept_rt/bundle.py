"""The bundle: a directory with a manifest, ONNX graphs and reference outputs.

`docs/bundle-format.md` describes the files. The export package writes the manifest through the same classes that
read it here, so that both sides agree by construction.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import reprlib
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path, PureWindowsPath
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from scgenept_rt.errors import (
    BundleError,
    BundleFileError,
    BundleFormatError,
    BundleNotFoundError,
    GraphNotInBundleError,
    counted,
)

FORMAT_VERSION = 1
MANIFEST_NAME = "manifest.json"
REFERENCE_NAME = "reference.npz"
REFERENCE_WEIGHTS_NAME = "reference_weights.pt"
"""The eager model's weights, for the provider torch; only in bundles exported with `--keep-reference-weights`."""
DEMO_NAME = "demo"
"""Stands for the bundle that ships with the package, where no directory of this name exists."""

Precision = Literal["fp32", "fp16"]
Target = Literal["ort", "merged", "portable"]
"""Whom a graph is for: ONNX Runtime's CPU and CUDA providers; the CPU provider, which computes identical tokens once
(`scgenept_rt.session.token_merging`); TensorRT and other engines."""


@dataclass(frozen=True)
class Dimensions:
    """Sizes of the network, read from the checkpoint (only the head count is given by the user)."""

    n_genes: int
    n_table_genes: int
    d_model: int
    n_layers: int
    n_heads: int
    d_ff: int


@dataclass(frozen=True)
class BundleFile:
    """One file of a bundle; `precision` and `target` are set for graphs alone."""

    path: str
    sha256: str
    size: int
    precision: Precision | None = None
    target: Target | None = None

    @property
    def is_known_graph(self) -> bool:
        """Whether this is a graph that this version can run; later ones may know more precisions and targets."""
        return self.precision in get_args(Precision) and self.target in get_args(Target)


@dataclass(frozen=True)
class Tolerance:
    """A bound on |difference| <= atol + rtol * |reference|, element by element.

    With `relative_to_largest`, rtol multiplies the largest |reference| instead: used for network types that are
    ill-conditioned, where small outputs carry the noise of large ones.
    """

    atol: float
    rtol: float
    relative_to_largest: bool = False

    def compare(self, predicted: NDArray[np.floating], reference: NDArray[np.floating]) -> Comparison:
        """Compare outputs of equal shape with reference outputs; NaN or infinity never passes."""
        expected = reference.astype(np.float64)
        difference = np.abs(predicted.astype(np.float64) - expected)
        scale = np.abs(expected)
        bound = self.atol + self.rtol * (scale.max(initial=0.0) if self.relative_to_largest else scale)
        return Comparison(
            max_difference=float(difference.max(initial=0.0)),
            max_relative=float(difference.max(initial=0.0) / max(float(scale.max(initial=0.0)), 1e-30)),
            worst=float((difference / np.maximum(bound, 1e-30)).max(initial=0.0)),
        )


@dataclass(frozen=True)
class Comparison:
    """How outputs differ from reference outputs.

    Attributes
    ----------
    max_difference
        Largest absolute difference.
    max_relative
        The same, relative to the largest reference output.
    worst
        Largest ratio of a difference to its bound; NaN if an output is.
    """

    max_difference: float
    max_relative: float
    worst: float

    @property
    def passed(self) -> bool:
        """Whether every difference is within its bound."""
        return self.worst <= 1.0  # False for NaN


@dataclass(frozen=True)
class SourceCheckpoint:
    """The file that a bundle was exported from."""

    name: str
    sha256: str


@dataclass(frozen=True)
class Manifest:
    """What a bundle says of itself; `manifest.json` holds these fields under these names.

    Attributes
    ----------
    gene_names, gene_ids, in_vocab
        One entry a model gene, in model order. `gene_ids` are Ensembl ids, None where unknown. A gene with
        `in_vocab` False has no token of its own: the network sees all such genes as the same padding token.
    encoders
        Names of the gene-level and value encoders that the network has, as in the checkpoint.
    synthetic
        True if the weights were made up and predictions mean nothing in biology.
    tolerances
        One `Tolerance` a precision, against the eager fp32 outputs in `reference.npz`.
    activation_range
        Largest absolute activation of each part of the network on the reference cells: ``embedding``, ``layers.0``
        and so on, ``decoder``. Empty in bundles that were exported before it was recorded.
    """

    variant: str
    dataset: str
    gene_names: tuple[str, ...]
    gene_ids: tuple[str | None, ...]
    in_vocab: tuple[bool, ...]
    encoders: tuple[str, ...]
    dimensions: Dimensions
    files: tuple[BundleFile, ...]
    source_checkpoint: SourceCheckpoint
    versions: Mapping[str, str]
    tolerances: Mapping[str, Tolerance]
    synthetic: bool = False
    activation_range: Mapping[str, float] = dataclasses.field(default_factory=dict)
    format_version: int = FORMAT_VERSION

    def to_json(self) -> str:
        """Return the text of manifest.json."""
        fields = dataclasses.asdict(self)
        ordered = {"format_version": fields.pop("format_version"), "synthetic": fields.pop("synthetic"), **fields}
        return json.dumps(ordered, separators=(",", ":")) + "\n"

    @classmethod
    def from_json(cls, text: str | bytes, directory: Path) -> Manifest:
        """Read the text of manifest.json; `directory` is named in errors.

        Raises
        ------
        BundleFormatError
            If the format is newer than this release.
        BundleError
            If the text is not a manifest.
        """
        try:
            fields: dict[str, Any] = json.loads(text)
            version = fields["format_version"]
        except (ValueError, KeyError, TypeError, RecursionError) as error:
            raise BundleError(
                directory, f"{MANIFEST_NAME} is not a manifest ({error})", "Copy or export the bundle again."
            ) from error
        if type(version) is not int or not 1 <= version <= FORMAT_VERSION:
            raise BundleFormatError(directory, version, FORMAT_VERSION)
        try:
            _check_field(fields, _FIELDS, "")
            manifest = cls(
                variant=fields["variant"],
                dataset=fields["dataset"],
                gene_names=tuple(fields["gene_names"]),
                gene_ids=tuple(fields["gene_ids"]),
                in_vocab=tuple(fields["in_vocab"]),
                encoders=tuple(fields["encoders"]),
                dimensions=Dimensions(**fields["dimensions"]),
                files=tuple(BundleFile(**entry) for entry in fields["files"]),
                source_checkpoint=SourceCheckpoint(**fields["source_checkpoint"]),
                versions=dict(fields["versions"]),
                tolerances={name: Tolerance(**entry) for name, entry in fields["tolerances"].items()},
                synthetic=fields["synthetic"],
                activation_range=dict(fields.get("activation_range", {})),
                format_version=version,
            )
            manifest._check_agreement()
        except (TypeError, ValueError) as error:
            raise BundleError(
                directory, f"{MANIFEST_NAME} lacks or misstates a field ({error})", "Copy or export the bundle again."
            ) from error
        n_genes = manifest.dimensions.n_genes
        if not len(manifest.gene_names) == len(manifest.gene_ids) == len(manifest.in_vocab) == n_genes:
            raise BundleError(
                directory,
                f"{MANIFEST_NAME} lists {counted(len(manifest.gene_names), 'gene name')}, "
                f"{counted(len(manifest.gene_ids), 'id')} and {counted(len(manifest.in_vocab), 'vocabulary flag')} for "
                f"n_genes = {n_genes}",
                "Copy or export the bundle again.",
            )
        return manifest

    def _check_agreement(self) -> None:
        """Raise ValueError where fields do not go together that each may be right."""
        sizes, names = self.dimensions, self.gene_names
        if not sizes.n_genes <= sizes.n_table_genes <= _MOST_TABLE_GENES:
            expected = f"n_genes = {sizes.n_genes} or more, up to {_MOST_TABLE_GENES}"
            raise ValueError(f"dimensions.n_table_genes is {sizes.n_table_genes}, expected {expected}")
        if len(names) > 1 and len(set(names)) == 1:  # some panels do have a name twice
            raise ValueError(f"gene_names gives all {len(names):,} genes the name {names[0]!r}")
        for file in self.files:
            if (file.precision is None) != (file.target is None):
                raise ValueError(f"{file.path} has the precision {file.precision!r} and the target {file.target!r}")
            if file.is_known_graph and file.precision not in self.tolerances:
                raise ValueError(f"tolerances has none for {file.precision}, the precision of {file.path}")


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
        BundleNotFoundError
            If the directory or its manifest does not exist.
        BundleFormatError
            If it was written by a newer release.
        BundleFileError
            If a file is missing or has changed.
        """
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
                    self.directory, file.path, f"has {counted(size, 'byte')}, the manifest says {file.size:,}"
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
    return Path(__file__).parent / "demo_bundle"


def file_sha256(path: Path) -> str:
    """Return the sha256 of a file's bytes, in hexadecimal."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


_MOST_TABLE_GENES = 2**24

# --- fields of the manifest -------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Kind:
    """What a field may hold; `expected` is for messages."""

    expected: str
    holds: Callable[[Any], bool]


_TEXT = _Kind("text", lambda value: isinstance(value, str) and value != "")
_TEXT_OR_NULL = _Kind("text or null", lambda value: value is None or isinstance(value, str))
_FLAG = _Kind("true or false", lambda value: isinstance(value, bool))
# `type`, since True is an int to isinstance.
_COUNT = _Kind("a whole number from 1", lambda value: type(value) is int and value >= 1)
_SIZE = _Kind("a whole number from 0", lambda value: type(value) is int and value >= 0)
_NUMBER = _Kind(
    "a finite number from 0", lambda value: type(value) in (int, float) and 0 <= value <= sys.float_info.max
)
_PATH = _Kind("the name of a file in the bundle", lambda value: _TEXT.holds(value) and _stays_inside(value))

_FIELDS: Mapping[str, Any] = {
    "synthetic": _FLAG,
    "variant": _TEXT,
    "dataset": _Kind("text", lambda value: isinstance(value, str)),
    "gene_names": [_TEXT],
    "gene_ids": [_TEXT_OR_NULL],
    "in_vocab": [_FLAG],
    "encoders": [_TEXT],
    "dimensions": {field.name: _COUNT for field in dataclasses.fields(Dimensions)},
    "files": [{"path": _PATH, "sha256": _TEXT, "size": _SIZE, "precision?": _TEXT_OR_NULL, "target?": _TEXT_OR_NULL}],
    "source_checkpoint": {"name": _TEXT, "sha256": _TEXT},
    "versions": {"*": _TEXT},
    "tolerances": {"*": {"atol": _NUMBER, "rtol": _NUMBER, "relative_to_largest?": _FLAG}},
    "activation_range?": {"*": _NUMBER},
}
"""A list or an object holds what its one entry or its entries say; `NAME?` may be left out, `*` is any name."""


def _check_field(value: Any, rule: Any, place: str) -> None:
    """Raise ValueError unless `value`, at `place` in the manifest, is what the rule (as in `_FIELDS`) says."""
    if isinstance(rule, _Kind):
        if not rule.holds(value):
            raise ValueError(f"{place} is {reprlib.repr(value)}, expected {rule.expected}")
    elif isinstance(rule, list):
        if not isinstance(value, list):
            raise ValueError(f"{place} is {reprlib.repr(value)}, expected a list")
        for number, entry in enumerate(value):
            _check_field(entry, rule[0], f"{place}[{number}]")
    else:
        if not isinstance(value, dict):
            raise ValueError(f"{place} is {reprlib.repr(value)}, expected an object")
        for key, entry_rule in rule.items():
            name = key.removesuffix("?")
            if name not in value and key not in ("*", f"{name}?"):
                raise ValueError(f"{place}.{name} is missing".lstrip("."))
            for found in value if key == "*" else value.keys() & {name}:
                _check_field(value[found], entry_rule, f"{place}.{found}".lstrip("."))


def _stays_inside(path: str) -> bool:
    """Whether a relative path names something below the directory that it starts from, on any system."""
    parts = PureWindowsPath(path)  # takes both kinds of slashes and drives
    return bool(parts.parts) and not parts.anchor and ".." not in parts.parts and "\0" not in path
