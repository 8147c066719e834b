"""Splits: which perturbations a model was trained on, and which it is tested on."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path
from typing import Any

from scgenept_rt.errors import EvaluationError, LabelNotFoundError, UseOption
from scgenept_rt.evaluation.measured import MeasuredCells
from scgenept_rt.expression.label_matching import CONTROL, did_you_mean
from scgenept_rt.files.failures import failed_reads
from scgenept_rt.files.text import read_text
from scgenept_rt.perturbation.spellings import is_control_word, is_unassigned
from scgenept_rt.wording import join_limited, pluralize

SUBGROUPS = ("unseen_single", "combo_seen0", "combo_seen1", "combo_seen2")
"""GEARS's subgroups of a test set, in the order of reports."""

_SHIPPED = Path(__file__).with_name("splits")
_FORMAT = "Give a JSON object with subgroups.test_subgroup ({NAME: [LABEL, ...]}) or test ([LABEL, ...])"


@dataclass(frozen=True)
class Split:
    """The training, validation and test labels of a data set.

    Attributes
    ----------
    name
        Name of a shipped split, or the path of a file.
    dataset
        Name of the data set, empty where unknown.
    test
        Labels tested, by subgroup; no subgroup is empty.
    val
        Labels of the validation set, neither trained on nor tested.
    train
        Labels trained on; None for all labels of the data that are in neither `test` nor `val`.
    """

    name: str
    dataset: str
    test: Mapping[str, tuple[str, ...]]
    val: tuple[str, ...] = ()
    train: tuple[str, ...] | None = None

    @property
    def tested(self) -> tuple[str, ...]:
        """The distinct test labels, in order of subgroups."""
        return tuple(dict.fromkeys(label for labels in self.test.values() for label in labels))

    def restricted(self, subgroups: Sequence[str]) -> Split:
        """Return the split with only these subgroups tested; raise `LabelNotFoundError` if one is not there."""
        for name in subgroups:
            if name not in self.test:
                raise LabelNotFoundError(
                    f"it has no test perturbations of the subgroup {name!r} (it has: {join_limited(list(self.test))})",
                    options=[UseOption("subgroups", "choose among these")],
                    where=f"split {self.name}",
                )
        # What is no longer tested is still not trained on.
        dropped = [label for name, labels in self.test.items() if name not in subgroups for label in labels]
        kept = {name: labels for name, labels in self.test.items() if name in subgroups}
        return replace(self, test=kept, val=(*self.val, *dropped))


def shipped_splits() -> list[str]:
    """Return the names of the splits that ship with the package."""
    return sorted(path.stem for path in _SHIPPED.glob("*.json"))


def load_split(name: str | Path) -> Split:
    """Load a shipped split by its name, or a split from a .json file of the same format.

    Raises `LabelNotFoundError` if there is neither, `EvaluationError` if the file holds no test perturbations.
    """
    name, shipped, dataset = str(name), shipped_splits(), ""
    path = Path(name)
    if name in shipped:
        path, dataset = _SHIPPED / f"{name}.json", name.partition("-")[0]
    elif not path.is_file():
        raise LabelNotFoundError(
            f"there is no shipped split of this name (there are: {', '.join(shipped)}) and no such file",
            "Choose one of these, or give the path of a .json file",
            where=f"split {name!r}",
        )
    with failed_reads(EvaluationError, f"split {name}", remedy=_FORMAT):
        content = json.loads(read_text(path))
        # GEARS's own file of subgroups has these at the top.
        subgroups = content.get("subgroups", content) if isinstance(content, dict) else None
        if not isinstance(subgroups, dict):
            raise ValueError("it holds no subgroups")
        tested = subgroups.get("test_subgroup", {"test": content["test"]} if "test" in content else None)
        if not isinstance(tested, dict):
            raise ValueError(f"it names no test perturbations; it holds: {join_limited(list(content)) or 'nothing'}")
        found = {group: _labels(labels, group) for group, labels in tested.items()}
        test = {group: found[group] for group in dict.fromkeys([*SUBGROUPS, *found]) if found.get(group)}
        if not test:
            raise ValueError("its test subgroups are empty")
        if twice := [label for label, n in Counter(chain.from_iterable(test.values())).items() if n > 1]:
            raise ValueError(f"more than one test subgroup has {join_limited(twice)}")
        val, train = content.get("val"), content.get("train")
        if val is None:
            groups = subgroups.get("val_subgroup", {})
            if not isinstance(groups, dict):
                raise ValueError("'val_subgroup' holds no subgroups")
            val = list(chain.from_iterable(_labels(labels, group) for group, labels in groups.items()))
        trained = None if train is None else _labels(train, "train")
        return Split(name, str(content.get("dataset", dataset)), test, _labels(val, "val"), trained)


def _labels(value: Any, part: str) -> tuple[str, ...]:
    if not isinstance(value, list) or not all(isinstance(label, str) for label in value):
        raise ValueError(f"{part!r} is not a list of labels")
    return tuple(dict.fromkeys(value))


def tested_labels(measured: MeasuredCells, split: Split) -> tuple[dict[str, str], list[str]]:
    """Return the data's label of each test perturbation that can be tested, in order of subgroups, and notices."""
    labels = measured.labels
    tested_as: dict[str, str] = {}  # by the data's label
    absent, unknown = [], []
    for label in split.tested:
        in_data = labels.find(label)
        if labels.reader.genes(label) is None:
            unknown.append(label)
        elif in_data is None or in_data == CONTROL:
            absent.append(label)
        else:
            tested_as.setdefault(in_data, label)
    n_split = pluralize(len(split.tested), "test perturbation")
    if not tested_as:
        names = [name for name in labels.names if name != CONTROL]
        raise LabelNotFoundError(
            f"there are no cells of the {n_split} of the split {split.name} ({join_limited(split.tested)}); labels: "
            f"{join_limited(names) or 'none'}",
            did_you_mean(split.tested[0], names, labels.reader) or "Give the data set of the split",
            [UseOption("condition_key", "name the obs column of its labels")],
            where=measured.cells.where,
        )
    notices = []
    if absent:
        have = pluralize(len(absent), "has", "have")
        notices.append(f"Of the split's {n_split}, {have} no cells in the data: {join_limited(absent)}.")
    if unknown:
        left_out = f"({len(unknown):,}): {join_limited(unknown)}"
        notices.append(f"Test perturbations of genes that the model lacks are left out {left_out}.")
    return {label: in_data for in_data, label in tested_as.items()}, notices


def training_labels(measured: MeasuredCells, split: Split) -> tuple[list[str], list[str], list[str]]:
    """Return the data's labels that were trained on, those of all perturbed and control cells, and notices of others.

    A test or validation perturbation is not trained on, in any spelling. A label that is no perturbation of the model's
    genes is neither, unless the split lists it and it is none of the usual words for other cells.
    """
    labels = measured.labels
    reader = labels.reader
    held_out = {reader.spelling(label) for label in (*split.tested, *split.val)}
    trained = None if split.train is None else {reader.spelling(label) for label in split.train}
    train: list[str] = []
    left_out = {"no label": labels.n_without} if labels.n_without else {}
    other_cells: dict[str, int] = {}
    for name in labels.names:
        if name == CONTROL:
            continue
        genes, spelling = reader.genes(name), reader.spelling(name)
        listed = trained is not None and spelling in trained
        unclear = is_control_word(name) or any(map(is_unassigned, re.split(r"[+;,|&/]", name)))
        if genes == () or (genes is None and (unclear or not (listed or spelling in held_out))):
            other_cells[name] = labels.n_cells[name]
        elif spelling not in held_out and (trained is None or listed):
            train.append(name)
    left_out |= dict(sorted(other_cells.items(), key=lambda entry: -entry[1]))
    notices = []
    if left_out:
        cells = pluralize(sum(left_out.values()), "cell is", "cells are")
        named = join_limited([f"{name} ({count:,})" for name, count in left_out.items()])
        notices.append(f"{cells} left out, as no perturbation of the model's genes: {named}.")
    return train, [name for name in labels.names if name not in other_cells], notices
