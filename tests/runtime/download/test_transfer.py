"""Transfers from a server that breaks, refuses and changes: what ends up here is whole and right, or nothing."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import requests

from scgenept_rt.download import DownloadDirectory, select
from scgenept_rt.download.transfer import _Session
from scgenept_rt.errors import ChecksumError, DownloadError
from tests.runtime.download.conftest import GO_C, VOCAB

GO_C_ITEM, VOCAB_ITEM = select(["scgenept_go_c", "vocab"], "norman")
HALF = 300_000
WHOLE_CHUNKS = 4 << 16  # of that


def files_in(directory: Path) -> set[str]:
    return {
        str(path.relative_to(directory))
        for path in directory.rglob("*")
        if path.is_file() and ".partial" not in path.parts
    }


def test_a_file_comes_whole_is_recorded_and_is_not_fetched_again(server, downloads, updates):
    fetched = downloads().fetch(GO_C_ITEM)
    assert fetched.how == "downloaded"
    assert fetched.path.read_bytes() == server.files[GO_C]
    assert files_in(downloads().directory) == {GO_C[1:], "checksums.json"}
    assert [path.name for path in (downloads().directory / ".partial").iterdir()] == ["lock"]
    n_bytes = len(server.files[GO_C])
    assert updates[-1] == (Path(GO_C).name, n_bytes, n_bytes)
    again = downloads().fetch(GO_C_ITEM)
    assert (again.how, again.sha256) == ("present", fetched.sha256)
    assert len(server.requests) == 1


@pytest.mark.parametrize("dated", [False, True], ids=["ETag", "Last-Modified"])
def test_a_broken_connection_is_continued(server, downloads, misbehave, dated, updates):
    server.last_modified = "Tue, 01 Oct 2024 10:00:00 GMT" if dated else None
    server.on(GO_C, misbehave.break_after(HALF))
    assert downloads().fetch(GO_C_ITEM).path.read_bytes() == server.files[GO_C]
    first, second = server.gets(GO_C)
    assert "range" not in first
    assert second["range"] == f"bytes={WHOLE_CHUNKS}-"
    assert any("continuing from byte 262,144" in text for text, *_ in updates)


def test_a_connection_that_always_breaks_gets_there_while_it_brings_something(server, downloads, misbehave):
    server.always(GO_C, misbehave.break_after(HALF // 4))
    assert downloads().fetch(GO_C_ITEM).path.read_bytes() == server.files[GO_C]
    assert len(server.gets(GO_C)) > 6


def test_a_connection_that_brings_nothing_new_ends_and_is_continued_later(server, downloads, misbehave, waits):
    server.ranges = False
    server.always(GO_C, misbehave.break_after(HALF))
    with pytest.raises(DownloadError, match=r"262\.1 kB are here.*run the same command again"):
        downloads().fetch(GO_C_ITEM)
    assert len(server.gets(GO_C)) == 6
    assert waits == [1, 2, 4, 8, 16]
    assert files_in(downloads().directory) == set()
    server.always(GO_C, None)
    server.ranges = True
    assert downloads().fetch(GO_C_ITEM).path.read_bytes() == server.files[GO_C]
    assert "range" in server.gets(GO_C)[-1]


def test_a_file_that_changes_between_attempts_is_not_mixed(server, downloads, misbehave):
    broken = misbehave.break_after(HALF)

    def break_then_change(handler):
        broken(handler)
        server.files[GO_C] = b"PK\x03\x04" + random.Random(1).randbytes(600_000)

    server.on(GO_C, break_then_change)
    assert downloads().fetch(GO_C_ITEM).path.read_bytes() == server.files[GO_C]


@pytest.mark.parametrize("case", ["weak ETag", "no ranges", "416"])
def test_what_cannot_be_continued_starts_anew(server, downloads, misbehave, case):
    server.weak_etags, server.ranges = case == "weak ETag", case != "no ranges"
    server.on(GO_C, misbehave.break_after(HALF), *([misbehave.status(416)] if case == "416" else []))
    assert downloads().fetch(GO_C_ITEM).path.read_bytes() == server.files[GO_C]
    assert ("range" in server.gets(GO_C)[-1]) == (case == "no ranges")


def test_bytes_from_another_address_are_not_continued(server, downloads, misbehave):
    server.ranges = False
    server.always(GO_C, misbehave.break_after(HALF))
    with pytest.raises(DownloadError):
        downloads().fetch(GO_C_ITEM)
    server.files["/other" + GO_C] = server.files[GO_C]
    fetched = downloads(mirror=f"{server.url}/other/").fetch(GO_C_ITEM)
    assert fetched.path.read_bytes() == server.files[GO_C]
    assert "range" not in server.gets("/other" + GO_C)[0]


def test_a_busy_server_is_asked_again_when_it_says_but_not_after_a_day(server, downloads, misbehave, waits):
    busy = misbehave.status
    server.on(VOCAB, busy(503, Retry_After="7"), busy(429, Retry_After="86400"), busy(500))
    assert downloads().fetch(VOCAB_ITEM).path.read_bytes() == server.files[VOCAB]
    assert waits[:2] == [7, 120]


def test_a_server_that_is_not_there_or_falls_silent(downloads, server, misbehave, monkeypatch):
    monkeypatch.setattr("scgenept_rt.download.transfer._TIMEOUT", (30.0, 0.5))
    server.on(GO_C, misbehave.hold_after(HALF))
    assert downloads().fetch(GO_C_ITEM).path.read_bytes() == server.files[GO_C]
    server.close()
    with pytest.raises(DownloadError, match=r"Connection refused.*HTTPS_PROXY.*mirror=.*offline=True"):
        downloads().fetch(VOCAB_ITEM)


@pytest.mark.parametrize("code", [403, 202])
def test_a_refusal_is_not_tried_again(server, downloads, misbehave, code):
    server.on(VOCAB, misbehave.status(code))
    with pytest.raises(DownloadError, match=rf"vocab .* is refused; tried http://.*vocab\.json \(HTTP {code}"):
        downloads().fetch(VOCAB_ITEM)
    assert len(server.requests) == 1


def test_redirects_keep_the_range_and_proxies_come_from_the_environment(server, downloads, misbehave, monkeypatch):
    server.files["/signed"] = server.files[GO_C]
    server.always(GO_C, misbehave.status(302, Location=f"{server.url}/signed?key=secret"))
    server.on("/signed", misbehave.break_after(HALF))
    assert downloads().fetch(GO_C_ITEM).path.read_bytes() == server.files["/signed"]
    assert "range" in server.gets("/signed")[-1]
    monkeypatch.setenv("http_proxy", server.url)
    downloads(mirror="http://user:hidden@release.invalid").fetch(VOCAB_ITEM)
    assert server.gets(VOCAB)[0]["host"] == "release.invalid"
    assert "hidden" not in (downloads().directory / "checksums.json").read_text()


def test_a_certificate_that_is_not_trusted_is_not_tried_again(downloads, monkeypatch, waits):
    def refuse(*_arguments, **_options):
        raise requests.exceptions.SSLError("certificate verify failed")

    monkeypatch.setattr(requests.Session, "get", refuse)
    with pytest.raises(DownloadError, match="REQUESTS_CA_BUNDLE"):
        downloads().fetch(VOCAB_ITEM)
    assert waits == []


def test_a_web_page_in_place_of_a_file_is_not_kept(server, downloads):
    right, server.files[GO_C] = server.files[GO_C], b"<!DOCTYPE html><title>Log in</title>"
    with pytest.raises(ChecksumError, match=r"\(36 bytes\) is not a \.pt file"):
        downloads().fetch(GO_C_ITEM)
    assert files_in(downloads().directory) == set()
    server.files[GO_C] = right
    assert downloads().fetch(GO_C_ITEM).path.read_bytes() == right


def test_two_that_want_the_same_file_at_once_download_it_once(server, downloads, misbehave):
    def release(text, *_):
        if "waiting for process" in text:
            server.released.set()

    server.on(GO_C, misbehave.hold_after(HALF))
    with ThreadPoolExecutor(2) as pool:
        first = pool.submit(downloads().fetch, GO_C_ITEM)
        assert server.held.wait(30)
        second = pool.submit(downloads(progress=release).fetch, GO_C_ITEM)
        assert [first.result(60).how, second.result(60).how] == ["downloaded", "present"]
    assert len(server.gets(GO_C)) == 1


def test_a_killed_process_leaves_nothing_usable_and_the_next_one_continues(server, misbehave, tmp_path):
    server.on(GO_C, misbehave.hold_after(HALF))
    command = [sys.executable, "-m", "scgenept_rt", "download", "scgenept_go_c"]
    command += ["--dir", str(tmp_path), "--mirror", server.url]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    part = DownloadDirectory(tmp_path)._part(GO_C[1:])
    try:
        assert server.held.wait(60)
        for _ in range(600):  # until what was sent is written
            if part.exists() and part.stat().st_size > WHOLE_CHUNKS - 1:
                break
            threading.Event().wait(0.1)
    finally:
        process.send_signal(signal.SIGKILL)
        process.communicate(timeout=60)
    kept = part.stat().st_size
    assert 0 < kept <= HALF
    assert files_in(tmp_path) == set()
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, env=os.environ | {"COLUMNS": "200"})
    assert done.returncode == 0, done.stderr
    assert server.gets(GO_C)[-1]["range"] == f"bytes={kept}-"
    assert (tmp_path / GO_C[1:]).read_bytes() == server.files[GO_C]


def test_https_is_not_led_to_http():
    asked, response = requests.Request("GET", "http://elsewhere/file").prepare(), requests.Response()
    response.url = "https://host/file"
    with pytest.raises(DownloadError, match="not encrypted"):
        _Session().rebuild_auth(asked, response)


def test_passwords_of_a_mirror_are_not_kept(server, downloads):
    directory = downloads(mirror=server.url.replace("://", "://user:secret@"))
    directory.fetch(GO_C_ITEM)
    kept = [path.read_bytes() for path in directory.directory.rglob("*") if path.is_file()]
    assert not any(b"secret" in content for content in kept)
