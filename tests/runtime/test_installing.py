"""Commands in messages: for the environment that prints them, and from where this package came."""

from __future__ import annotations

import json
import shlex
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from scgenept_rt import installing
from scgenept_rt.cli.messages import say
from scgenept_rt.errors import MissingPackageError
from scgenept_rt.installing import install_command, pip_command

COMMIT = "0123456789abcdef0123456789abcdef01234567"


@pytest.fixture
def came_from(monkeypatch: pytest.MonkeyPatch):
    """Let this package be recorded as installed from somewhere: what pip writes into direct_url.json."""

    def record(origin: dict[str, object] | None) -> None:
        text = None if origin is None else json.dumps(origin)
        found = SimpleNamespace(read_text=lambda _name: text)
        monkeypatch.setattr("importlib.metadata.distribution", lambda _name: found)

    return record


def test_the_package_is_taken_from_where_it_came(came_from, tmp_path: Path) -> None:
    clone = tmp_path / "my clone"
    clone.mkdir()
    origins = {
        "scgenept-rt[zarr]": None,
        f"{clone}[zarr]": {"url": clone.as_uri(), "dir_info": {}},
        "scgenept-rt[zarr] @ https://lab.example/w.whl": {"url": "https://lab.example/w.whl", "archive_info": {}},
        f"scgenept-rt[zarr] @ git+https://lab.example/rt@{COMMIT}": {
            "url": "https://lab.example/rt",
            "vcs_info": {"vcs": "git", "commit_id": COMMIT},
        },
    }
    for requirement, origin in origins.items():
        came_from(origin)
        assert shlex.split(install_command("zarr"))[-2:] == ["install", requirement]
    came_from({"url": clone.as_uri(), "dir_info": {"editable": True}})
    assert shlex.split(install_command("zarr"))[-2:] == ["-e", f"{clone}[zarr]"]
    assert f"-e '{clone}[zarr]'" in str(MissingPackageError("zarr", "reading", "zarr"))
    clone.rmdir()  # as the build of an image does
    assert shlex.split(install_command("zarr"))[-1] == "scgenept-rt[zarr]"


def test_pip_is_that_of_this_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(installing.shutil, "which", lambda _name: str(Path(sys.executable).parent / "pip"))
    assert pip_command("uninstall -y a") == "pip uninstall -y a"
    monkeypatch.setattr(installing.shutil, "which", lambda _name: "/usr/bin/pip")
    assert pip_command("install a") == f"{sys.executable} -m pip install a"
    monkeypatch.setattr(installing, "find_spec", lambda _name: None)
    assert pip_command("uninstall -y a") == f"uv pip uninstall a --python {sys.executable}"


def test_commands_are_named_as_the_program_was_started(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["/lib/scgenept_rt/__main__.py", "check"])
    say("error: Run `scgenept-rt providers`")
    monkeypatch.setattr(sys, "argv", ["/bin/scgenept-rt", "check"])
    say("error: Run `scgenept-rt providers`")
    assert capsys.readouterr().err.splitlines() == [
        f"error: Run `{sys.executable} -m scgenept_rt providers`",
        "error: Run `scgenept-rt providers`",
    ]
