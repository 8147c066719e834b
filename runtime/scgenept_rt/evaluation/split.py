"""Splits: which perturbations a model was trained on, and which it is tested on."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

from scgenept_rt.errors import PATH_TYPES, check_argument
from scgenept_rt.evaluation.errors import SplitFormatError, SplitNotFoundError, SubgroupError

SUBGROUPS = ("unseen_single", "combo_seen0", "combo_seen1", "combo_seen2")
"""GEARS's subgroups of a test set, in the order in which they are shown."""

_ALL_TESTED = "test"


@dataclass(frozen=True)
class Split:
    """Labels of a data set by their part in training.

    Attributes
    ----------
    name
        Name of a shipped split, or the path of a file.
    dataset
        Name of the data set, empty where unknown.
    test
        Labels tested, by subgroup; no subgroup is empty.
    val
        Labels of the validation set: neither trained on nor tested.
    train
        Labels trained on; None for every label of the data that is in neither `test` nor `val`.
    n_dropped
        How many tested labels a restriction to subgroups has left out.
    """

    name: str
    dataset: str
    test: Mapping[str, tuple[str, ...]]
    val: tuple[str, ...] = ()
    train: tuple[str, ...] | None = None
    n_dropped: int = 0

    @property
    def tested(self) -> tuple[str, ...]:
        """Every label tested, once, in order of subgroups."""
        return tuple(dict.fromkeys(label for labels in self.test.values() for label in labels))

    def subgroup_of(self) -> dict[str, str]:
        """Return the subgroup of each tested label."""
        return {label: name for name, labels in self.test.items() for label in labels}

    def restricted(self, subgroups: Sequence[str]) -> Split:
        """Return the split with only these subgroups tested.

        Raises
        ------
        SubgroupError
            If there is no such subgroup.
        """
        for name in subgroups:
            if name not in self.test:
                raise SubgroupError(name, self.name, list(self.test))
        # What is no longer tested is still not trained on.
        dropped = [label for name, labels in self.test.items() if name not in subgroups for label in labels]
        kept = {name: labels for name, labels in self.test.items() if name in subgroups}
        n_dropped = self.n_dropped + len(dropped)
        return Split(self.name, self.dataset, kept, (*self.val, *dropped), self.train, n_dropped)


def shipped_splits() -> list[str]:
    """Return the names of the splits that ship with the package."""
    folder = files("scgenept_rt.evaluation") / "splits"
    return sorted(entry.name.removesuffix(".json") for entry in folder.iterdir() if entry.name.endswith(".json"))


def load_split(name: str | Path) -> Split:
    """Load a split by its name, or from a .json file of the same form.

    Raises
    ------
    SplitNotFoundError
        If there is neither.
    SplitFormatError
        If the file holds no test perturbations.
    """
    check_argument("split", name, PATH_TYPES, "the name of a shipped split, or the path of a .json file")
    shipped = shipped_splits()
    if str(name) in shipped:
        text = (files("scgenept_rt.evaluation") / "splits" / f"{name}.json").read_text(encoding="utf-8")
        return _parsed(text, str(name), str(name).partition("-")[0])
    path = Path(name)
    if not path.is_file():
        raise SplitNotFoundError(str(name), shipped)
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise SplitFormatError(path, f"it cannot be read ({error})") from error
    return _parsed(text, str(path), "")


def _parsed(text: str, name: str, dataset: str) -> Split:
    try:
        content = json.loads(text)
    except ValueError as error:
        raise SplitFormatError(name, f"it is not JSON ({error})") from error
    if not isinstance(content, dict):
        raise SplitFormatError(name, f"it holds a {type(content).__name__}")
    # GEARS's own file of subgroups has these at the top.
    subgroups = content.get("subgroups", content)
    if not isinstance(subgroups, dict):
        raise SplitFormatError(name, f"its subgroups are a {type(subgroups).__name__}")
    tested = subgroups.get("test_subgroup")
    if tested is None and "test" in content:
        tested = {_ALL_TESTED: content["test"]}
    if not isinstance(tested, dict):
        raise SplitFormatError(name, f"it names no test perturbations (it holds: {', '.join(map(str, content))})")
    found = {str(group): _labels(labels, name, str(group)) for group, labels in tested.items()}
    order = [*(group for group in SUBGROUPS if group in found), *(group for group in found if group not in SUBGROUPS)]
    test = {group: found[group] for group in order if found[group]}
    if not test:
        raise SplitFormatError(name, "its test subgroups are empty")
    val = content.get("val")
    if val is None:
        groups = subgroups.get("val_subgroup", {})
        val = [label for labels in groups.values() for label in labels] if isinstance(groups, dict) else []
    train = content.get("train")
    return Split(
        name,
        str(content.get("dataset", dataset)),
        test,
        _labels(val, name, "val"),
        None if train is None else _labels(train, name, "train"),
    )


def _labels(value: Any, name: str, part: str) -> tuple[str, ...]:
    if not isinstance(value, list) or not all(isinstance(label, str) for label in value):
        raise SplitFormatError(name, f"{part!r} is not a list of labels")
    return tuple(dict.fromkeys(value))
