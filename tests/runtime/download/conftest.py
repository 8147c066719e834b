"""A server on loopback in place of the release, and what it serves."""

from __future__ import annotations

import io
import json
import random
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from scgenept_rt.download import DownloadDirectory
from tests import release_server

GO_C = "/models/finetuned/scgenept_go_c/norman/best_model_gpt3.5_ada_rnd_seed_42_concat.pt"
VOCAB = "/models/pretrained/scgpt/vocab.json"
NORMAN, ADAMSON = "/api/access/datafile/6154020", "/api/access/datafile/6154417"
H5AD = b"\x89HDF\r\n\x1a\n" + random.Random(3).randbytes(150_000)


def zipped(members: dict[str, bytes]) -> bytes:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_STORED) as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    return packed.getvalue()


@pytest.fixture(scope="session")
def misbehave() -> ModuleType:
    """The behaviours of the server, by name."""
    return release_server


@pytest.fixture(autouse=True)
def plain_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy", "scgenept_rt_downloads", "scgenept_rt_cache"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)


@pytest.fixture
def server(misbehave: ModuleType) -> Iterator[Any]:
    server = misbehave.ReleaseServer()
    server.files[GO_C] = b"PK\x03\x04" + random.Random(0).randbytes(600_000)
    server.files[VOCAB] = json.dumps({"A1BG": 0, "A1CF": 1, "<pad>": 2}).encode()
    server.files[NORMAN] = zipped({"norman/perturb_processed.h5ad": H5AD, "norman/go.csv": b"a,b\n"})
    server.files[ADAMSON] = zipped({"adamson/perturb_processed.h5ad": H5AD})
    yield server
    server.close()


@pytest.fixture
def updates() -> list[tuple[str, int, int | None]]:
    """The progress that downloads showed."""
    return []


@pytest.fixture
def waits(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Seconds that the downloads of the test wanted to wait; none are really waited."""
    waits: list[float] = []
    monkeypatch.setattr("scgenept_rt.download.transfer.time.sleep", waits.append)
    return waits


@pytest.fixture
def downloads(tmp_path: Path, server: Any, updates: list[Any], waits: list[float]) -> Callable[..., DownloadDirectory]:
    def make(**options: Any) -> DownloadDirectory:
        shown = {"mirror": server.url, "progress": lambda *update: updates.append(update)}
        return DownloadDirectory(tmp_path / "downloads", **{**shown, **options})

    return make
