"""The published table, to be shown beside an evaluation."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.resources import files


@dataclass(frozen=True)
class PublishedTable:
    """Published figures of one data set.

    Attributes
    ----------
    source, protocol
        Where they are from, and how they were computed.
    names
        The publication's name of each metric key.
    rows
        The figures of each model, in the order of `names`.
    """

    source: str
    protocol: str
    names: Mapping[str, str]
    rows: Mapping[str, tuple[float, ...]]


def published_table(dataset: str) -> PublishedTable | None:
    """Return the published figures of a data set ("norman", "adamson"), None for another."""
    text = (files("scgenept_rt.evaluation") / "published_results.json").read_text(encoding="utf-8")
    content = json.loads(text)
    rows = content["datasets"].get(dataset)
    if rows is None:
        return None
    return PublishedTable(
        content["source"],
        content["protocol"],
        content["columns"],
        {name: tuple(figures) for name, figures in rows.items()},
    )
