"""What can be downloaded by name: the release of czi-ai/scGenePT, and the data sets of GEARS."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from urllib.parse import quote

from scgenept_rt.errors import ArgumentError

_RELEASE = "https://czi-scgenept-public.s3.amazonaws.com"

MODEL_TYPES = {
    "scgpt": "scgpt",
    "scgenept_ncbi": "scgenept_ncbi_gpt",
    "scgenept_ncbi+uniprot": "scgenept_ncbi+uniprot_gpt",
    "scgenept_go_c": "scgenept_go_c_gpt_concat",
    "scgenept_go_f": "scgenept_go_f_gpt_concat",
    "scgenept_go_p": "scgenept_go_p_gpt_concat",
    "scgenept_go_all": "scgenept_go_all_gpt_concat",
}
"""Upstream's model type by the directory of the release."""


@dataclass(frozen=True)
class Item:
    """Something that can be downloaded by one name."""

    name: str
    description: str
    addresses: Mapping[str, str]
    """By the path in the download directory; of a checkpoint, for every name that the release uses, likeliest first."""
    archive: Item | None = None
    """The zip file that a data set comes in."""
    md5: str | None = None
    """Checksum, where published."""


def _dataset(name: str, description: str, file_number: int, md5: str | None = None) -> Item:
    description = f"{description}: K562 as GEARS prepared them"
    address = f"https://dataverse.harvard.edu/api/access/datafile/{file_number}"
    archive = Item(name, f"{description}, zip file", {f"{name}.zip": address}, md5=md5)
    # where GEARS looks for it below its data directory
    return Item(name, description, {f"{name}/perturb_processed.h5ad": address}, archive)


DATASETS = {
    "norman": _dataset("norman", "Norman et al. 2019, 169 MB", 6154020, "cdc41d6050e619c37fd9dd44d440e2b4"),
    "adamson": _dataset("adamson", "Adamson et al. 2016", 6154417),
}


def _released(name: str, description: str, *paths: str) -> Item:
    return Item(name, description, {path: f"{_RELEASE}/{quote(path)}" for path in paths})  # S3 reads + as a space


def _checkpoint(variant: str, dataset: str) -> Item:
    names = ["best_model_gpt3.5_ada_rnd_seed_42.pt", "best_model_gpt3.5_ada_rnd_seed_42_concat.pt"]
    if variant.startswith("scgenept_go_"):
        names.reverse()
    elif variant == "scgpt":
        names = ["best_model_seed_42.pt"]
    paths = (f"models/finetuned/{variant}/{dataset}/{name}" for name in names)
    return _released(variant, f"{MODEL_TYPES[variant]} trained on {dataset}", *paths)


def catalogue(dataset: str) -> dict[str, Item]:
    """Return everything that can be downloaded by name, with the checkpoints of one data set."""
    vocabulary = _released("vocab", "scGPT's gene vocabulary", "models/pretrained/scgpt/vocab.json")
    return {**{variant: _checkpoint(variant, dataset) for variant in MODEL_TYPES}, "vocab": vocabulary, **DATASETS}


def select(names: Sequence[str], dataset: str) -> list[Item]:
    """Return the items of names, each once, in order; raise `ArgumentError` for any other name.

    Names are variants (directory of the release, or upstream's model type) trained on the `dataset` (``norman`` or
    ``adamson``), ``vocab``, data sets, and ``all``: every variant, the vocabulary, and this data set.
    """
    known = catalogue(dataset)
    by_model_type = {model_type: variant for variant, model_type in MODEL_TYPES.items()}
    chosen: dict[str, Item] = {}
    for name in names:
        key = by_model_type.get(name, name)
        if name == "all":
            chosen |= {key: item for key, item in known.items() if key not in DATASETS or key == dataset}
        elif key in known:
            chosen[key] = known[key]
        else:
            similar = get_close_matches(name.casefold(), known, cutoff=0.45)
            hint = f"Did you mean {' or '.join(similar)}? " if similar else ""
            remedy = f"{hint}`scgenept-rt download --list` shows every name"
            raise ArgumentError(f"nothing to download is called {name!r}", remedy)
    return list(chosen.values())
