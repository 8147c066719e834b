"""manifest.json: what a bundle contains, and what the fields may hold."""

from __future__ import annotations

import dataclasses
import json
import reprlib
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path, PureWindowsPath
from typing import Any, Literal, get_args

from scgenept_rt.bundle.tolerance import Tolerance
from scgenept_rt.errors import BundleFileError, pluralize

FORMAT_VERSION = 1
MANIFEST_NAME = "manifest.json"
_MOST_TABLE_GENES = 2**24
_COPY_OR_EXPORT = "Copy or export the bundle again"

Precision = Literal["fp32", "fp16"]
Target = Literal["ort", "merged", "portable"]
"""What runs a graph: ort, ONNX Runtime's CPU and CUDA providers; merged, the CPU provider, computing identical tokens
once (`scgenept_rt.session.token_merging`); portable, TensorRT and other engines."""


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
    """One file of a bundle; `precision` and `target` are set for graphs only."""

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
class SourceCheckpoint:
    """The file that a bundle was exported from."""

    name: str
    sha256: str


@dataclass(frozen=True)
class Manifest:
    """What a bundle contains; `manifest.json` holds these fields under these names.

    Attributes
    ----------
    gene_names, gene_ids, in_vocab
        One entry per gene of the model, in model order. `gene_ids` are Ensembl ids, None where unknown. A gene with
        `in_vocab` False has no token of its own: the network sees all such genes as the same padding token.
    encoders
        Names of the gene-level and value encoders that the network has, as in the checkpoint.
    synthetic
        True if the weights were made up and predictions mean nothing in biology.
    tolerances
        One `Tolerance` per precision, against the eager fp32 outputs in `reference.npz`.
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
        BundleFileError
            If the text is not a manifest, or of a format that is newer than this release.
        """
        try:
            fields: dict[str, Any] = json.loads(text)
            version = fields["format_version"]
        except (ValueError, KeyError, TypeError, RecursionError) as error:
            problem = f"{MANIFEST_NAME} is not a manifest ({error})"
            raise BundleFileError(problem, _COPY_OR_EXPORT, where=directory) from error
        if type(version) is not int or not 1 <= version <= FORMAT_VERSION:
            raise BundleFileError(
                f"its format_version is {version!r}, this release reads up to {FORMAT_VERSION}",
                "Upgrade scgenept-rt, or export the bundle again with this release",
                where=directory,
            )
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
            problem = f"{MANIFEST_NAME} lacks or misstates a field ({error})"
            raise BundleFileError(problem, _COPY_OR_EXPORT, where=directory) from error
        return manifest

    def _check_agreement(self) -> None:
        """Raise ValueError for fields that contradict each other."""
        sizes, names = self.dimensions, self.gene_names
        if not len(names) == len(self.gene_ids) == len(self.in_vocab) == sizes.n_genes:
            raise ValueError(
                f"{pluralize(len(names), 'gene name')}, {pluralize(len(self.gene_ids), 'id')} and "
                f"{pluralize(len(self.in_vocab), 'vocabulary flag')} for n_genes = {sizes.n_genes}"
            )
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
"""A list has entries of its one rule, an object those of its rules; `NAME?` may be left out, `*` is any name."""


def _check_field(value: Any, rule: Any, place: str) -> None:
    """Raise ValueError unless `value`, at `place` in the manifest, follows a rule of `_FIELDS`."""
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
