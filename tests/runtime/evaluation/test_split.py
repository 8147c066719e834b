from __future__ import annotations

import json

import pytest

from scgenept_rt.errors import EvaluationError, LabelNotFoundError
from scgenept_rt.evaluation import Split, load_split, shipped_splits


def test_shipped_splits() -> None:
    assert shipped_splits() == ["adamson-simulation-1", "norman-simulation-1"]
    norman = load_split("norman-simulation-1")
    sizes = {name: len(labels) for name, labels in norman.test.items()}
    assert sizes == {"unseen_single": 37, "combo_seen0": 9, "combo_seen1": 52, "combo_seen2": 18}
    assert norman.train is not None
    assert not {*norman.train} & {*norman.tested, *norman.val}
    assert len({*norman.train, *norman.tested, *norman.val}) == 284
    adamson = load_split("adamson-simulation-1")
    assert {name: len(labels) for name, labels in adamson.test.items()} == {"unseen_single": 22}
    assert len(adamson.val) == 7
    assert (norman.dataset, adamson.dataset) == ("norman", "adamson")


def test_a_subgroup_left_out_is_not_trained_on() -> None:
    split = Split("mine", "", {"one": ("A+ctrl",), "two": ("B+ctrl",)})
    restricted = split.restricted(["two"])
    assert restricted.tested == ("B+ctrl",)
    assert restricted.val == ("A+ctrl",)
    with pytest.raises(LabelNotFoundError, match=r"'three'.*one, two"):
        split.restricted(["three"])


def test_a_file_with_test_alone(tmp_path) -> None:
    path = tmp_path / "split.json"
    path.write_text(json.dumps({"test": ["A+ctrl", "A+ctrl", "B+ctrl"]}))
    assert load_split(path).test == {"test": ("A+ctrl", "B+ctrl")}


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("{", "cannot be read"),
        ('{"train": []}', "no test perturbations; it holds: train"),
        ("{}", "it holds: nothing"),
        ('{"test": []}', "are empty"),
        ('{"test": "A"}', "'test' is not a list of labels"),
        ('{"test_subgroup": {"one": ["A", "B"], "two": ["B"]}}', "more than one test subgroup has B"),
        ('{"test": ["A"], "val_subgroup": ["B"]}', "'val_subgroup' holds no subgroups"),
        ('{"test": ["A"], "val_subgroup": {"one": "B"}}', "'one' is not a list of labels"),
    ],
)
def test_files_that_are_no_splits(tmp_path, text, problem) -> None:
    path = tmp_path / "split.json"
    path.write_text(text)
    with pytest.raises(EvaluationError, match=problem):
        load_split(path)


def test_a_name_that_is_not_shipped() -> None:
    with pytest.raises(LabelNotFoundError, match=r"'norman'.*there are: adamson-simulation-1, norman-simulation-1"):
        load_split("norman")
