"""The directory where one file is worked on, where others make and remove it at the same moment."""

from __future__ import annotations

from pathlib import Path

import pytest

from scgenept_rt.download.locking import WORK_NAME, work_directory
from tests.runtime.overtaken import overtake_mkdir

PLACE = "models/go_c/best_model.pt"


def never() -> None:
    pytest.fail("nobody else holds it")


@pytest.mark.parametrize("below", [PLACE, "models"])
def test_a_directory_that_its_last_holder_removes_just_then_is_made_again(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, below: str
) -> None:
    overtaken = overtake_mkdir(monkeypatch, tmp_path / WORK_NAME / below)
    with work_directory(tmp_path, PLACE, never) as work:
        assert work.is_dir()
    assert overtaken
    assert list(tmp_path.iterdir()) == []


def test_what_is_no_directory_is_an_error_and_no_endless_wait(tmp_path: Path) -> None:
    place = tmp_path / WORK_NAME / "models" / "go_c"
    place.mkdir(parents=True)
    (place / "best_model.pt").write_text("mine")
    with pytest.raises(FileExistsError), work_directory(tmp_path, PLACE, never):
        pass
    (place / "best_model.pt").unlink()
    (place / "best_model.pt").symlink_to(tmp_path / "nowhere")
    with pytest.raises(FileExistsError), work_directory(tmp_path, PLACE, never):
        pass
