"""Transfers from a server that breaks, refuses, lies and changes: what ends up here is whole and right, or nothing."""

from __future__ import annotations

import gzip
import os
import shutil
import signal
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path

import pytest

from scgenept_rt.download import DownloadError, RetryPolicy, select
from scgenept_rt.download.errors import (
    AskedToWaitError,
    DownloadSpaceError,
    NotTheFileError,
    RefusedError,
    UnreachableError,
    UpstreamChangedError,
    WebPageError,
)
from scgenept_rt.download.retrying import retry_after_seconds

GO_C = "/models/finetuned/scgenept_go_c/norman/best_model_gpt3.5_ada_rnd_seed_42_concat.pt"
VOCAB = "/models/pretrained/scgpt/vocab.json"
(GO_C_ITEM,) = select(["scgenept_go_c"], "norman")
(VOCAB_ITEM,) = select(["vocab"], "norman")
HALF = 300_000


def files_in(directory: Path) -> set[str]:
    return {str(path.relative_to(directory)) for path in directory.rglob("*") if path.is_file()}


def nothing_usable(directory: Path) -> bool:
    """Nothing but the work directory and the records lies there."""
    return not {
        name for name in files_in(directory) if not name.startswith((".partial", "checksums.json", ".checksums"))
    }


def test_a_file_comes_whole_is_recorded_and_leaves_nothing_else(server, downloads, told):
    here = downloads()
    fetched = here.fetch(GO_C_ITEM)
    assert fetched.how == "downloaded"
    assert fetched.path.read_bytes() == server.files[GO_C]
    assert fetched.path == here.path / GO_C[1:]
    assert files_in(here.path) == {GO_C[1:], "checksums.json", ".checksums.json.lock"}
    assert not (here.path / ".partial").exists()
    assert here.checksums.read()[GO_C[1:]].sha256 == fetched.sha256
    assert told.updates[-1] == (len(server.files[GO_C]),) * 2
    assert told.open == 0


def test_what_is_here_is_checked_and_not_fetched_again(server, downloads):
    first = downloads().fetch(GO_C_ITEM)
    n_requests = len(server.requests)
    again = downloads().fetch(GO_C_ITEM)
    assert (again.how, again.sha256) == ("present", first.sha256)
    assert len(server.requests) == n_requests


@pytest.mark.parametrize("reset", [False, True], ids=["closed", "reset"])
def test_a_connection_that_breaks_once_is_continued(server, downloads, misbehave, waits, reset):
    server.on(GO_C, misbehave.break_after(HALF, reset=reset))
    fetched = downloads().fetch(GO_C_ITEM)
    assert fetched.path.read_bytes() == server.files[GO_C]
    first, second = server.gets(GO_C)
    assert "range" not in first
    if "range" in second:  # a reset may throw away every byte that was under way
        assert int(second["range"].removeprefix("bytes=").removesuffix("-")) <= HALF
        assert second["if-range"] == server.etag(GO_C)
    assert reset or "range" in second
    assert waits == [1.0]


def test_a_connection_that_always_breaks_gets_there_as_long_as_each_one_brings_something(server, downloads, misbehave):
    server.always(GO_C, misbehave.break_after(HALF // 3))
    fetched = downloads().fetch(GO_C_ITEM)
    assert fetched.path.read_bytes() == server.files[GO_C]
    assert len(server.gets(GO_C)) > 5  # more than the attempts that may bring nothing


def test_a_connection_that_always_breaks_at_the_same_byte_ends_and_is_continued_later(
    server, downloads, misbehave, waits
):
    server.ranges = False
    server.always(GO_C, misbehave.break_after(HALF))
    with pytest.raises(UnreachableError, match=r"(?s)bytes are kept.*--mirror"):
        downloads().fetch(GO_C_ITEM)
    assert len(server.gets(GO_C)) == 6  # one that brought something, five that did not
    assert waits == [1, 1, 2, 4, 8]
    assert nothing_usable(downloads().path)
    server.always(GO_C, None)
    server.ranges = True
    assert downloads().fetch(GO_C_ITEM).path.read_bytes() == server.files[GO_C]
    assert "range" in server.gets(GO_C)[-1]


def test_a_trickle_is_bounded_too(server, downloads, misbehave):
    server.always(GO_C, misbehave.break_after(70_000))
    with pytest.raises(UnreachableError):
        downloads(retry=RetryPolicy(most_attempts=3, sleep=lambda _s: None)).fetch(GO_C_ITEM)
    assert len(server.gets(GO_C)) == 3
    assert nothing_usable(downloads().path)


def test_a_server_without_ranges_sends_it_anew_and_nothing_is_appended(server, downloads, misbehave):
    server.ranges = False
    server.on(GO_C, misbehave.break_after(HALF))
    assert downloads().fetch(GO_C_ITEM).path.read_bytes() == server.files[GO_C]


@pytest.mark.parametrize("honours", [True, False], ids=["If-Range honoured", "If-Range ignored"])
def test_a_file_that_changes_between_attempts_is_not_mixed(server, downloads, misbehave, honours):
    server.honours_if_range = honours
    broken = misbehave.break_after(HALF)

    def break_then_change(handler, data):
        broken(handler, data)
        server.files[GO_C] = _other_checkpoint(server.files[GO_C])

    server.on(GO_C, break_then_change)
    fetched = downloads().fetch(GO_C_ITEM)
    assert fetched.path.read_bytes() == server.files[GO_C]


def _other_checkpoint(data: bytes) -> bytes:
    """The same size, another content, and still a sound zip: parts of both cannot be told by their length."""
    import io
    import zipfile

    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        for name, content in members.items():
            archive.writestr(name, content if name.endswith("pkl") else bytes(255 - byte for byte in content))
    assert len(packed.getvalue()) == len(data)
    return packed.getvalue()


@pytest.mark.parametrize("etag", [None, 'W/"weak"'])
def test_without_a_strong_validator_nothing_is_continued(server, downloads, misbehave, etag):
    server.etags[GO_C] = etag
    server.on(GO_C, misbehave.break_after(HALF))
    assert downloads().fetch(GO_C_ITEM).path.read_bytes() == server.files[GO_C]
    assert all("range" not in headers for headers in server.gets(GO_C))


def test_a_date_of_change_serves_where_there_is_no_etag(server, downloads, misbehave):
    server.etags[GO_C] = None
    server.last_modified = "Tue, 01 Oct 2024 10:00:00 GMT"
    server.on(GO_C, misbehave.break_after(HALF))
    assert downloads().fetch(GO_C_ITEM).path.read_bytes() == server.files[GO_C]
    assert server.gets(GO_C)[-1]["if-range"] == server.last_modified


@pytest.mark.parametrize("answer", ["wrong_range", "416"])
def test_a_range_that_is_not_the_one_asked_for_starts_anew(server, downloads, misbehave, answer):
    odd = misbehave.wrong_range if answer == "wrong_range" else misbehave.status(416)
    server.on(GO_C, misbehave.break_after(HALF), odd)
    assert downloads().fetch(GO_C_ITEM).path.read_bytes() == server.files[GO_C]
    assert "range" not in server.gets(GO_C)[-1]


def test_a_part_from_another_address_is_not_continued(server, downloads, misbehave):
    server.always(GO_C, misbehave.break_after(HALF))
    with pytest.raises(UnreachableError):
        downloads(retry=RetryPolicy(most_attempts=1)).fetch(GO_C_ITEM)
    server.always(GO_C, None)
    server.files["/other" + GO_C] = server.files[GO_C]
    fetched = downloads(mirror=f"{server.url}/other/").fetch(GO_C_ITEM)
    assert fetched.path.read_bytes() == server.files[GO_C]
    assert "range" not in server.gets("/other" + GO_C)[0]


def test_a_length_that_is_too_short_is_found_out(server, downloads, misbehave):
    server.on(GO_C, misbehave.whole(cut=HALF))
    with pytest.raises(NotTheFileError, match=r"truncated.*300,000 bytes"):
        downloads().fetch(GO_C_ITEM)
    assert nothing_usable(downloads().path)


def test_a_length_that_is_not_the_recorded_one_ends_it_before_the_first_byte(server, downloads, misbehave, told):
    fetched = downloads().fetch(GO_C_ITEM)
    fetched.path.unlink()
    told.updates.clear()
    server.on(GO_C, misbehave.whole(cut=HALF))
    with pytest.raises(UpstreamChangedError, match=r"300,000 bytes.*expected sha256.*600,\d+ bytes.*--accept-changed"):
        downloads().fetch(GO_C_ITEM)
    assert told.updates == []


def test_a_body_without_a_length_is_taken(server, downloads, misbehave):
    server.on(GO_C, misbehave.without_length)
    assert downloads().fetch(GO_C_ITEM).path.read_bytes() == server.files[GO_C]


def test_a_compressed_transfer_is_unpacked(server, downloads, misbehave):
    packed = gzip.compress(server.files[VOCAB])
    server.on(VOCAB, misbehave.whole(body=packed, Content_Encoding="gzip", ETag='"x"'))
    assert downloads().fetch(VOCAB_ITEM).path.read_bytes() == server.files[VOCAB]
    assert server.gets(VOCAB)[0]["accept-encoding"] == "identity"


@pytest.mark.parametrize(
    "headers", [{"Content_Type": "text/html; charset=utf-8"}, {"Content_Type": "application/octet-stream"}, {}]
)
def test_a_web_page_in_place_of_the_file(server, downloads, misbehave, headers):
    server.on(GO_C, misbehave.whole(body=b"\n<!DOCTYPE html><title>Log in</title>", **headers))
    with pytest.raises(WebPageError, match=r"web page.*browser"):
        downloads().fetch(GO_C_ITEM)
    assert nothing_usable(downloads().path)
    assert downloads().fetch(GO_C_ITEM).path.read_bytes() == server.files[GO_C]  # nothing of the page is in it


def test_success_without_a_file_is_refused(server, downloads, misbehave):
    server.on(GO_C, misbehave.whole(202, body=b""))
    with pytest.raises(RefusedError, match="HTTP 202"):
        downloads().fetch(GO_C_ITEM)


@pytest.mark.parametrize(
    ("code", "words"), [(403, "refused"), (404, "no such file"), (401, "login"), (418, "not give")]
)
def test_refusals_are_not_tried_again(server, downloads, misbehave, waits, code, words):
    server.on(VOCAB, misbehave.status(code))
    with pytest.raises(RefusedError, match=rf"HTTP {code} .*{words}.*expected 200.*--mirror") as refused:
        downloads().fetch(VOCAB_ITEM)
    assert refused.value.status == code
    assert len(server.gets(VOCAB)) == 1
    assert waits == []


def test_retry_after_is_honoured(server, downloads, misbehave, waits, told):
    soon = format_datetime(datetime.now(UTC) + timedelta(seconds=90), usegmt=True)
    server.on(
        VOCAB,
        misbehave.status(503, Retry_After="7"),
        misbehave.status(503, Retry_After=soon),
        misbehave.status(500),
        misbehave.status(429, Retry_After="nonsense"),
    )
    assert downloads().fetch(VOCAB_ITEM).path.read_bytes() == server.files[VOCAB]
    assert waits[0] == 7
    assert 0 < waits[1] <= 90
    assert waits[2:] == [4, 8]
    assert "HTTP 503 Service Unavailable; trying again in 7 s" in told.said


def test_retry_after_is_bounded(server, downloads, misbehave, waits):
    server.on(VOCAB, misbehave.status(503, Retry_After="86400"))
    with pytest.raises(AskedToWaitError, match=r"86,400 s.*120 s"):
        downloads().fetch(VOCAB_ITEM)
    assert waits == []


def test_a_server_that_stays_unavailable_ends_it(server, downloads, misbehave, waits):
    server.always(VOCAB, misbehave.status(503))
    with pytest.raises(UnreachableError, match="HTTP 503"):
        downloads().fetch(VOCAB_ITEM)
    assert waits == [1, 2, 4, 8]


def test_retry_after_as_a_date_in_the_past_or_in_no_form():
    now = datetime(2026, 1, 1, tzinfo=UTC)
    assert retry_after_seconds("Wed, 31 Dec 2025 23:00:00 GMT", now) == 0
    assert retry_after_seconds("Thu, 01 Jan 2026 00:00:30 -0000", now) == 30
    assert retry_after_seconds("soon", now) is None
    assert retry_after_seconds(None, now) is None


def test_a_server_that_is_not_there(downloads, server, waits):
    server.close()
    with pytest.raises(UnreachableError, match=r"HTTPS_PROXY.*--mirror.*--offline"):
        downloads().fetch(VOCAB_ITEM)
    assert len(waits) == 4


def test_a_server_that_falls_silent_is_left_and_asked_again(server, downloads, misbehave, monkeypatch, told):
    monkeypatch.setattr("scgenept_rt.download.requesting._TIMEOUT", (30.0, 0.5))
    server.on(GO_C, misbehave.hold_after(HALF))
    assert downloads().fetch(GO_C_ITEM).path.read_bytes() == server.files[GO_C]
    assert any("trying again" in text for text in told.said)


def test_a_wrong_byte_at_the_second_download_is_refused_until_accepted(server, downloads):
    first = downloads().fetch(GO_C_ITEM)
    first.path.unlink()
    changed = bytearray(server.files[GO_C])
    changed[100_000] ^= 1
    server.files[GO_C] = bytes(changed)
    with pytest.raises(UpstreamChangedError, match=rf"expected sha256 {first.sha256}.*--accept-changed"):
        downloads().fetch(GO_C_ITEM)
    assert nothing_usable(downloads().path)
    with pytest.raises(NotTheFileError, match="damaged"):  # accepted, yet no sound checkpoint
        downloads(accept_changed=True).fetch(GO_C_ITEM)
    server.files[GO_C] = _other_checkpoint(_sound(server))
    accepted = downloads(accept_changed=True).fetch(GO_C_ITEM)
    assert accepted.path.read_bytes() == server.files[GO_C]
    assert downloads().fetch(GO_C_ITEM).sha256 == accepted.sha256 != first.sha256


def _sound(server) -> bytes:
    changed = bytearray(server.files[GO_C])
    changed[100_000] ^= 1
    return bytes(changed)


def test_a_wrong_byte_at_the_first_download_of_a_checkpoint_is_found_by_its_own_checksums(server, downloads):
    changed = bytearray(server.files[GO_C])
    changed[100_000] ^= 1
    server.files[GO_C] = bytes(changed)
    with pytest.raises(NotTheFileError, match=r"damaged"):
        downloads().fetch(GO_C_ITEM)
    assert nothing_usable(downloads().path)
    assert not downloads().checksums.read()


@pytest.mark.parametrize("body", [b"not json", b"[]", b"{}", b'{"A": "x"}', b"\xff\xfe"])
def test_a_vocabulary_that_is_none(server, downloads, body):
    server.files[VOCAB] = body
    with pytest.raises(NotTheFileError):
        downloads().fetch(VOCAB_ITEM)
    assert nothing_usable(downloads().path)


def test_redirects_are_followed_and_keep_the_range(server, downloads, misbehave):
    server.files["/signed"] = server.files[GO_C]
    server.always(GO_C, misbehave.status(302, Location=f"{server.url}/signed?key=secret"))
    server.on("/signed", misbehave.break_after(HALF))
    assert downloads().fetch(GO_C_ITEM).path.read_bytes() == server.files["/signed"]
    assert "range" in server.gets("/signed")[-1]


def test_a_circle_of_redirects_ends(server, downloads, misbehave):
    server.always(VOCAB, misbehave.status(302, Location=server.url + VOCAB))
    with pytest.raises(NotTheFileError, match="circle"):
        downloads().fetch(VOCAB_ITEM)


def test_a_proxy_of_the_environment_is_used(server, downloads, monkeypatch):
    monkeypatch.setenv("HTTP_PROXY", server.url)
    monkeypatch.setenv("http_proxy", server.url)
    fetched = downloads(mirror="http://release.invalid").fetch(VOCAB_ITEM)
    assert fetched.path.read_bytes() == server.files[VOCAB]
    assert server.gets(VOCAB)[0]["host"] == "release.invalid"


def test_no_password_of_a_mirror_is_shown_or_recorded(server, downloads, misbehave):
    mirror = f"http://user:hidden@127.0.0.1:{server.port}"
    server.on(VOCAB, misbehave.status(403))
    with pytest.raises(RefusedError) as refused:
        downloads(mirror=mirror).fetch(VOCAB_ITEM)
    downloads(mirror=mirror).fetch(VOCAB_ITEM)
    assert "hidden" not in str(refused.value)
    assert "hidden" not in downloads().checksums.path.read_text()


def test_a_full_disk_is_told_before_the_first_byte(server, downloads, monkeypatch):
    usage = shutil.disk_usage(Path())._replace(free=1000)
    monkeypatch.setattr(shutil, "disk_usage", lambda _path: usage)
    with pytest.raises(DownloadSpaceError, match=r"0\.00 GB free.*--dir"):
        downloads().fetch(GO_C_ITEM)


def test_one_download_serves_two_that_want_the_same_at_once(server, downloads, misbehave, told):
    server.on(GO_C, misbehave.hold_after(HALF))
    # the second one tells that it waits: only then does the first one go on
    told.on_say = lambda text: server.released.set() if "waiting for that one" in text else None
    with ThreadPoolExecutor(2) as pool:
        first = pool.submit(downloads().fetch, GO_C_ITEM)
        assert server.held.wait(30)
        second = pool.submit(downloads().fetch, GO_C_ITEM)
        results = [first.result(60), second.result(60)]
    assert [result.how for result in results] == ["downloaded", "present"]
    assert len(server.gets(GO_C)) == 1
    assert not (downloads().path / ".partial").exists()


def test_many_at_once_record_every_file(server, downloads):
    items = select(["all", "adamson"], "norman")
    for item in items:
        if item.kind == "checkpoint":
            server.files["/" + item.keys[0]] = server.files[GO_C]
    items = [item for item in items if item.name != "norman"]
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda item: downloads().fetch(item), [*items, *items]))
    assert len(downloads().checksums.read()) == len(items) + 1  # the data set and its zip
    assert all(downloads().fetch(item).how == "present" for item in items)


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="no SIGKILL")
def test_a_killed_process_leaves_nothing_usable_and_the_next_one_goes_on(server, downloads, misbehave):
    server.on(GO_C, misbehave.hold_after(HALF))
    here = downloads()
    command = [sys.executable, "-m", "scgenept_rt", "download", "scgenept_go_c"]
    command += ["--dir", str(here.path), "--mirror", server.url]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    try:
        part = here.path / ".partial" / GO_C[1:] / f"{Path(GO_C).name}.part"
        assert server.held.wait(60)
        waited = threading.Event()
        for _ in range(600):  # until what was sent is written
            if part.exists() and part.stat().st_size > 4 * (1 << 16) - 1:
                break
            waited.wait(0.1)
        assert nothing_usable(here.path)
    finally:
        process.kill()
        process.communicate(timeout=60)
    kept = part.stat().st_size
    assert 0 < kept <= HALF
    assert nothing_usable(here.path)
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, env=os.environ | {"COLUMNS": "200"})
    assert done.returncode == 0, done.stderr
    assert server.gets(GO_C)[-1]["range"] == f"bytes={kept}-"
    assert f"going on from byte {kept:,}" in done.stderr
    assert (here.path / GO_C[1:]).read_bytes() == server.files[GO_C]
    assert files_in(here.path) == {GO_C[1:], "checksums.json", ".checksums.json.lock"}


def test_download_errors_are_both_kinds_of_error():
    assert issubclass(DownloadError, OSError)
