"""The directory beside an output, where others make and remove it at the same moment."""

from __future__ import annotations

from pathlib import Path

import pytest

from scgenept_rt.errors import OutputBusyError, OutputKindError
from scgenept_rt.output.work_directory import WorkDirectory, partial_path
from tests.runtime.overtaken import overtake_mkdir


def test_a_directory_that_its_last_holder_removes_just_then_is_made_again(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    target = tmp_path / "out.h5ad"
    overtaken = overtake_mkdir(monkeypatch, partial_path(target))
    WorkDirectory.lock(target).remove()
    assert overtaken
    assert list(tmp_path.iterdir()) == []


def test_a_file_in_its_place_is_an_error(tmp_path: Path) -> None:
    target = tmp_path / "out.h5ad"
    partial_path(target).write_text("mine")
    with pytest.raises(OutputKindError, match="there is a file, expected a directory of partial output"):
        WorkDirectory.lock(target)
    assert partial_path(target).read_text() == "mine"


def test_one_holder_at_a_time(tmp_path: Path) -> None:
    held = WorkDirectory.lock(tmp_path / "out.h5ad")
    with pytest.raises(OutputBusyError):
        WorkDirectory.lock(tmp_path / "out.h5ad")
    held.remove()
    WorkDirectory.lock(tmp_path / "out.h5ad").remove()
