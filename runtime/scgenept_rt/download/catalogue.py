"""What can be downloaded by name, and where it is published.

The release of czi-ai/scGenePT keeps one directory a variant and data set; the data sets are those of GEARS.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Literal

from scgenept_rt.download.errors import UnknownDownloadError

RELEASE_HOST = "https://czi-scgenept-public.s3.amazonaws.com"
DATAVERSE_HOST = "https://dataverse.harvard.edu"

Kind = Literal["checkpoint", "vocabulary", "dataset"]

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

_SCGPT_NAME = "best_model_seed_42.pt"
_TEXT_NAME = "best_model_gpt3.5_ada_rnd_seed_42.pt"
_CONCAT_NAME = "best_model_gpt3.5_ada_rnd_seed_42_concat.pt"


@dataclass(frozen=True)
class Item:
    """Something that can be downloaded by one name.

    Attributes
    ----------
    name
        What a user calls it.
    host
        Address that the keys are relative to.
    keys
        Paths below the host; for a checkpoint every documented one, the likeliest first.
    place
        Path in the download directory; a checkpoint lies at its own key.
    archive
        For a data set, the path in the download directory of the zip that it comes in.
    size, md5
        Of the file at the key, where published.
    """

    name: str
    kind: Kind
    description: str
    host: str
    keys: tuple[str, ...]
    place: str
    dataset: str | None = None
    archive: str | None = None
    size: int | None = None
    md5: str | None = None

    @property
    def prefix(self) -> str:
        """Directory of the first key, with its slash."""
        return self.keys[0].rpartition("/")[0] + "/"


VOCABULARY = Item(
    "vocab",
    "vocabulary",
    "scGPT's gene vocabulary",
    RELEASE_HOST,
    ("models/pretrained/scgpt/vocab.json",),
    "models/pretrained/scgpt/vocab.json",
)


def _dataset(name: str, description: str, file_number: int, size: int | None = None, md5: str | None = None) -> Item:
    return Item(
        name,
        "dataset",
        description,
        DATAVERSE_HOST,
        (f"api/access/datafile/{file_number}",),
        f"{name}/perturb_processed.h5ad",  # where GEARS looks for it below its data directory
        name,
        f"{name}.zip",
        size,
        md5,
    )


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


def checkpoint(variant: str, dataset: str) -> Item:
    """Return the checkpoint of a variant (by its directory of the release) for a data set."""
    names: tuple[str, ...]
    if variant == "scgpt":
        names = (_SCGPT_NAME,)
    elif variant.startswith("scgenept_go_"):
        names = (_CONCAT_NAME, _TEXT_NAME)
    else:
        names = (_TEXT_NAME, _CONCAT_NAME)
    keys = tuple(f"models/finetuned/{variant}/{dataset}/{name}" for name in names)
    return Item(
        variant, "checkpoint", f"{MODEL_TYPES[variant]} trained on {dataset}", RELEASE_HOST, keys, keys[0], dataset
    )


def catalogue(dataset: str) -> list[Item]:
    """Return everything that can be downloaded, with the checkpoints of one data set."""
    return [*(checkpoint(variant, dataset) for variant in MODEL_TYPES), VOCABULARY, *DATASETS.values()]


def select(names: Sequence[str], dataset: str) -> list[Item]:
    """Return the items of the names, each once, in order.

    Parameters
    ----------
    names
        Variants (directory of the release, or upstream's model type), ``vocab``, data sets, or ``all``: every
        variant for the data set, the vocabulary, and the data set.
    dataset
        Which checkpoints of the variants: ``norman`` or ``adamson``.

    Raises
    ------
    UnknownDownloadError
        If a name is none of these; suggests near ones.
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
            raise UnknownDownloadError(name, _near(name, list(known), list(by_model_type)))
        chosen[key] = known[key]
    return list(chosen.values())


def _near(name: str, known: Sequence[str], model_types: Sequence[str]) -> list[str]:
    """Return names that contain `name` (`go_c` for `scgenept_go_c`), else those of a near spelling."""
    part = name.casefold()
    for names in (known, model_types):
        containing = [entry for entry in names if part in entry] if len(part) > 1 else []
        if containing:
            return containing
    return get_close_matches(name, [*known, *model_types, "all"], n=3, cutoff=0.6)
