"""What can be downloaded by name, and where it is published.

The release of czi-ai/scGenePT has one directory per variant and data set; the data sets are those of GEARS.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Literal

from scgenept_rt.errors import ArgumentError

_RELEASE = "https://czi-scgenept-public.s3.amazonaws.com"
_DATAVERSE = "https://dataverse.harvard.edu"

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

_TEXT_NAME = "best_model_gpt3.5_ada_rnd_seed_42.pt"
_CONCAT_NAME = "best_model_gpt3.5_ada_rnd_seed_42_concat.pt"


@dataclass(frozen=True)
class Item:
    """Something that can be downloaded by one name.

    Attributes
    ----------
    host, keys
        Address of the server and paths below it; of a checkpoint every name that the release uses, likeliest first.
    places
        Path in the download directory for each key.
    archive
        The zip file that a data set comes in.
    size, md5
        Of the file, where published.
    """

    name: str
    kind: Literal["checkpoint", "vocabulary", "dataset"]
    description: str
    host: str
    keys: tuple[str, ...]
    places: tuple[str, ...]
    archive: Item | None = None
    size: int | None = None
    md5: str | None = None


def _dataset(name: str, description: str, file_number: int, size: int | None = None, md5: str | None = None) -> Item:
    keys = (f"api/access/datafile/{file_number}",)
    archive = Item(name, "dataset", f"{description}, zip file", _DATAVERSE, keys, (f"{name}.zip",), None, size, md5)
    # where GEARS looks for it below its data directory
    return Item(name, "dataset", description, _DATAVERSE, keys, (f"{name}/perturb_processed.h5ad",), archive)


DATASETS = {
    "norman": _dataset(
        "norman",
        "Norman et al. 2019, K562, single genes and pairs (GEARS preprocessing)",
        6154020,
        168_758_985,
        "cdc41d6050e619c37fd9dd44d440e2b4",
    ),
    "adamson": _dataset("adamson", "Adamson et al. 2016, K562, single genes (GEARS preprocessing)", 6154417),
}
_VOCABULARY_KEY = ("models/pretrained/scgpt/vocab.json",)
_VOCABULARY = Item("vocab", "vocabulary", "scGPT's gene vocabulary", _RELEASE, _VOCABULARY_KEY, _VOCABULARY_KEY)


def _checkpoint(variant: str, dataset: str) -> Item:
    likeliest = _CONCAT_NAME if variant.startswith("scgenept_go_") else _TEXT_NAME
    names = ["best_model_seed_42.pt"] if variant == "scgpt" else dict.fromkeys([likeliest, _TEXT_NAME, _CONCAT_NAME])
    keys = tuple(f"models/finetuned/{variant}/{dataset}/{name}" for name in names)
    return Item(variant, "checkpoint", f"{MODEL_TYPES[variant]} trained on {dataset}", _RELEASE, keys, keys)


def catalogue(dataset: str) -> list[Item]:
    """Return everything that can be downloaded, with the checkpoints of one data set."""
    return [*(_checkpoint(variant, dataset) for variant in MODEL_TYPES), _VOCABULARY, *DATASETS.values()]


def select(names: Sequence[str], dataset: str) -> list[Item]:
    """Return the items of the names, each once, in order.

    Parameters
    ----------
    names
        Variants (directory of the release, or upstream's model type), ``vocab``, data sets, or ``all``: every
        variant for the data set, the vocabulary, and the data set.
    dataset
        Data that the variants were trained on: ``norman`` or ``adamson``.

    Raises
    ------
    ArgumentError
        If a name is none of these; suggests similar ones.
    """
    known = {item.name: item for item in catalogue(dataset)}
    by_model_type = {model_type: variant for variant, model_type in MODEL_TYPES.items()}
    chosen: dict[str, Item] = {}
    for name in names:
        if name == "all":
            chosen |= {key: item for key, item in known.items() if item.kind != "dataset" or key == dataset}
            continue
        key = by_model_type.get(name, name)
        if key not in known:
            similar = [entry for entry in known if len(name) > 1 and name.casefold() in entry]
            similar = similar or get_close_matches(name, [*known, *by_model_type, "all"], n=3)
            hint = f"Did you mean {' or '.join(similar)}? " if similar else ""
            remedy = f"{hint}`scgenept-rt download --list` shows every name"
            raise ArgumentError(f"nothing to download is called {name!r}", remedy)
        chosen[key] = known[key]
    return list(chosen.values())
