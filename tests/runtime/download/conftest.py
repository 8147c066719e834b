"""A server on loopback in place of the release, and what it serves."""

from __future__ import annotations

import io
import json
import random
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from runpy import run_path
from types import SimpleNamespace
from typing import Any

import pytest

from scgenept_rt.download import DownloadDirectory, RetryPolicy

GO_C = "/models/finetuned/scgenept_go_c/norman/best_model_gpt3.5_ada_rnd_seed_42_concat.pt"
VOCAB = "/models/pretrained/scgpt/vocab.json"
NORMAN = "/api/access/datafile/6154020"
ADAMSON = "/api/access/datafile/6154417"
H5AD = b"\x89HDF\r\n\x1a\n" + random.Random(3).randbytes(150_000)


def zipped(members: dict[str, bytes]) -> bytes:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_STORED) as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    return packed.getvalue()


def checkpoint_bytes(seed: int = 0) -> bytes:
    """As many kinds of bytes as a checkpoint: torch writes zips too."""
    return zipped({"model/data.pkl": b"\x80\x02", "model/data/0": random.Random(seed).randbytes(600_000)})


@pytest.fixture(scope="session")
def misbehave() -> SimpleNamespace:
    """The behaviours of the server, by name."""
    return SimpleNamespace(**run_path(str(Path(__file__).parents[2] / "release_server.py")))


@pytest.fixture(autouse=True)
def plain_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy", "scgenept_rt_downloads"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)


@pytest.fixture
def server(misbehave: SimpleNamespace) -> Iterator[Any]:
    server = misbehave.ReleaseServer()
    server.files[GO_C] = checkpoint_bytes()
    server.files[VOCAB] = json.dumps({"A1BG": 0, "A1CF": 1, "<pad>": 2}).encode()
    server.files[NORMAN] = zipped({"norman/perturb_processed.h5ad": H5AD, "norman/go.csv": b"a,b\n"})
    server.files[ADAMSON] = zipped({"adamson/perturb_processed.h5ad": H5AD[:-7]})
    yield server
    server.close()


class Recorder:
    """A listener that keeps what it is told."""

    def __init__(self) -> None:
        self.said: list[str] = []
        self.updates: list[tuple[int, int | None]] = []
        self.labels: list[str] = []
        self.open = 0
        self.on_say: Callable[[str], None] = lambda _text: None

    def say(self, text: str) -> None:
        self.said.append(text)
        self.on_say(text)

    def begin(self, label: str) -> None:
        self.labels.append(label)
        self.open += 1

    def update(self, done: int, total: int | None) -> None:
        self.updates.append((done, total))

    def end(self) -> None:
        self.open -= 1


@pytest.fixture
def told() -> Recorder:
    return Recorder()


@pytest.fixture
def waits() -> list[float]:
    """Seconds that the downloads of the test wanted to wait; none are really waited."""
    return []


@pytest.fixture
def downloads(tmp_path: Path, server: Any, told: Recorder, waits: list[float]) -> Callable[..., DownloadDirectory]:
    def make(**options: Any) -> DownloadDirectory:
        options = {"mirror": server.url, "listener": told, "retry": RetryPolicy(sleep=waits.append)} | options
        return DownloadDirectory(tmp_path / "downloads", **options)

    return make
