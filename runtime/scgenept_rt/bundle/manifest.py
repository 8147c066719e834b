"""manifest.json: what a bundle contains, what the fields may hold, and how outputs are compared within a tolerance."""

from __future__ import annotations

import dataclasses
import json
import reprlib
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import PureWindowsPath
from types import NoneType
from typing import Any, Literal, get_args, get_origin, get_type_hints

import numpy as np
from numpy.typing import NDArray

from scgenept_rt.errors import BundleFileError
from scgenept_rt.files.failures import failed_reads
from scgenept_rt.wording import printable

FORMAT_VERSION = 1
MANIFEST_NAME = "manifest.json"
_MOST_TABLE_GENES = 2**24
COPY_OR_EXPORT = "Copy or export the bundle again"

Precision = Literal["fp32", "fp16"]
Target = Literal["ort", "merged", "portable"]
"""What runs a graph: ort, ONNX Runtime's CPU and CUDA providers; merged, the CPU provider, computing identical tokens
once (`scgenept_rt.session.token_merging`); portable, TensorRT and other engines."""


TRAINING_PERTURBATIONS = {
    "norman": "CRISPR activation in K562 cells (genes turned up, not knocked out)",
    "adamson": "CRISPR interference in K562 cells (genes turned down, not knocked out)",
}
"""How the genes of a data set were perturbed: a model repeats that, and says nothing about other ways."""


@dataclass(frozen=True)
class Tolerance:
    """A bound on |difference| <= atol + rtol * |reference|, element by element.

    With `relative_to_largest`, rtol multiplies the largest |reference| instead: for ill-conditioned networks, whose
    small outputs carry the noise of large ones.
    """

    atol: float
    rtol: float
    relative_to_largest: bool = False

    def compare(self, predicted: NDArray[np.floating], reference: NDArray[np.floating]) -> Comparison:
        """Compare outputs of equal shape with reference outputs; NaN or infinity never passes."""
        difference = np.abs(predicted.astype(np.float64) - reference.astype(np.float64))
        scale = np.abs(reference.astype(np.float64))
        largest, most = float(difference.max(initial=0.0)), float(scale.max(initial=0.0))
        bound = self.atol + self.rtol * (most if self.relative_to_largest else scale)
        worst = float((difference / np.maximum(bound, 1e-30)).max(initial=0.0))
        return Comparison(largest, largest / max(most, 1e-30), worst)


@dataclass(frozen=True)
class Comparison:
    """How outputs differ from reference outputs."""

    max_difference: float
    """Largest absolute difference."""
    max_relative: float
    """The same, relative to the largest reference output."""
    worst: float
    """Largest ratio of a difference to its bound; NaN if an output is."""

    @property
    def passed(self) -> bool:
        """Whether every difference is within its bound."""
        return self.worst <= 1.0  # False for NaN


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
    training_total
        Total to which each cell of the training data was normalised, over all genes that were measured; None if that
        was not stated.
    """

    synthetic: bool
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
    activation_range: Mapping[str, float] = dataclasses.field(default_factory=dict)
    training_total: float | None = None

    @property
    def training_perturbations(self) -> str:
        """How genes were perturbed in the training data; "unknown" unless the data set is a published one."""
        return TRAINING_PERTURBATIONS.get(self.dataset, "unknown")

    @property
    def training_data(self) -> str:
        """The data set that the model was trained on, with how genes were perturbed there if that is known."""
        known = self.dataset in TRAINING_PERTURBATIONS
        return f"{self.dataset}: {self.training_perturbations}" if known else self.dataset

    def to_json(self) -> str:
        """Return the text of manifest.json."""
        fields = {"format_version": FORMAT_VERSION, **dataclasses.asdict(self)}
        return json.dumps(fields, separators=(",", ":")) + "\n"

    @classmethod
    def from_json(cls, text: str | bytes, directory: object) -> Manifest:
        """Read the text of manifest.json; `directory` (or its address) is named in errors.

        Raises
        ------
        BundleFileError
            If the text is not a manifest, or of a format that is newer than this release.
        """
        with failed_reads(BundleFileError, directory, MANIFEST_NAME, COPY_OR_EXPORT):
            fields: dict[str, Any] = json.loads(text)
            version = fields["format_version"]
            if type(version) is not int or not 1 <= version <= FORMAT_VERSION:
                problem = f"its format_version is {version!r}, this release reads up to {FORMAT_VERSION}"
                remedy = "Upgrade scgenept-rt, or export the bundle again with this release"
                raise BundleFileError(problem, remedy, where=directory)
            manifest: Manifest = _read(cls, fields, "")
            manifest._check_agreement()
        return manifest

    def _check_agreement(self) -> None:
        """Raise ValueError for fields that contradict each other."""
        sizes, names = self.dimensions, self.gene_names
        for name, size in vars(sizes).items():
            _expect(size >= 1, "a whole number from 1", size, f"dimensions.{name}")
        lengths = [len(names), len(self.gene_ids), len(self.in_vocab)]
        if lengths != [sizes.n_genes] * 3:
            raise ValueError(f"gene_names, gene_ids and in_vocab have {lengths} entries for n_genes = {sizes.n_genes}")
        fits = sizes.n_genes <= sizes.n_table_genes <= _MOST_TABLE_GENES
        expected = f"n_genes = {sizes.n_genes} or more, up to {_MOST_TABLE_GENES}"
        _expect(fits, expected, sizes.n_table_genes, "dimensions.n_table_genes")
        if len(names) > 1 and len(set(names)) == 1:  # some panels do have a name twice
            raise ValueError(f"gene_names gives all {len(names):,} genes the name {names[0]!r}")
        for number, file in enumerate(self.files):
            path = PureWindowsPath(file.path)  # takes both kinds of slashes and drives
            inside = path.parts and not path.anchor and ".." not in path.parts
            _expect(inside, "the name of a file in the bundle", file.path, f"files[{number}].path")
            if (file.precision is None) != (file.target is None):
                raise ValueError(f"{file.path} has the precision {file.precision!r} and the target {file.target!r}")
            if file.is_known_graph and file.precision not in self.tolerances:
                raise ValueError(f"tolerances has none for {file.precision}, the precision of {file.path}")


_PLAIN: Mapping[Any, str] = {
    str: "text without control characters",
    bool: "true or false",
    int: "a whole number from 0",
    float: "a finite number from 0",
}


def _read(kind: Any, value: Any, place: str) -> Any:
    """Return a JSON value as what the annotation `kind` says, or raise ValueError naming its `place`."""
    parts = get_args(kind)
    if NoneType in parts:
        return None if value is None else _read(parts[0], value, place)
    if isinstance(kind, type) and dataclasses.is_dataclass(kind):
        _expect(isinstance(value, dict), "an object", value, place)
        kinds, read = get_type_hints(kind), {}
        for field in dataclasses.fields(kind):
            name = f"{place}.{field.name}".lstrip(".")
            if field.name in value:
                read[field.name] = _read(kinds[field.name], value[field.name], name)
            elif field.default is field.default_factory is dataclasses.MISSING:
                raise ValueError(f"{name} is missing")
        return kind(**read)
    if get_origin(kind) is tuple:
        _expect(isinstance(value, list), "a list", value, place)
        return tuple(_read(parts[0], entry, f"{place}[{number}]") for number, entry in enumerate(value))
    if get_origin(kind) is Mapping:
        _expect(isinstance(value, dict), "an object", value, place)
        return {name: _read(parts[1], entry, f"{place}.{name}") for name, entry in value.items()}
    plain = kind if kind in _PLAIN else str  # a later version may know more values of a Literal
    fits = type(value) is plain or (plain is float and type(value) is int)
    if fits and plain in (int, float):
        fits = 0 <= value <= sys.float_info.max
    _expect(fits and (plain is not str or printable(value) == value), _PLAIN[plain], value, place)
    return value


def _expect(holds: object, expected: str, value: Any, place: str) -> None:
    if not holds:
        raise ValueError(f"{place} is {reprlib.repr(value)}, expected {expected}")
