from __future__ import annotations

import errno
import os
import platform
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import filelock
import pytest

from scgenept_rt.errors import OutputError
from scgenept_rt.files.cache import cache_directory
from scgenept_rt.files.durable import check_report_path, move_durably, sync_tree, write_durably
from scgenept_rt.files.locking import Busy, lock
from scgenept_rt.files.text import csv_cell, read_text
from tests.runtime.overtaken import overtake_mkdir


@pytest.mark.skipif(sys.platform != "linux", reason="/proc takes no files, from root neither")
def test_a_report_that_cannot_be_written_is_found_before(tmp_path):
    (tmp_path / "link.csv").symlink_to("/proc/report.csv")
    for path in (Path("/proc/report.csv"), tmp_path / "link.csv"):
        with pytest.raises(OutputError, match="the directory /proc cannot be written"):
            check_report_path(path)
    check_report_path(Path("/dev/stdout"))
    check_report_path(tmp_path / "report.csv")
    assert [path.name for path in tmp_path.iterdir()] == ["link.csv"]


def test_a_lock_has_one_holder_whom_the_error_names(tmp_path):
    path = tmp_path / "work" / "lock"
    with lock(path):
        with pytest.raises(Busy, match=f"process {os.getpid()} on "), lock(path):
            pass
        with ThreadPoolExecutor(1) as pool, pytest.raises(Busy):
            pool.submit(lock(path).__enter__).result()
    with lock(path):
        pass


def test_a_waiting_process_comes_next(tmp_path):
    path, waiting, order = tmp_path / "lock", threading.Event(), []

    def wait():
        with lock(path, on_wait=lambda _holder: waiting.set()):
            order.append("second")

    with ThreadPoolExecutor(1) as pool:
        with lock(path):
            second = pool.submit(wait)
            assert waiting.wait(30)
            order.append("first")
        second.result(30)
    assert order == ["first", "second"]


def test_a_killed_process_frees_its_lock(tmp_path):
    path = tmp_path / "lock"
    code = f"""
from pathlib import Path
from scgenept_rt.files.locking import lock
with lock(Path({str(path)!r})):
    print("held", flush=True)
    input()
"""
    process = subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "held\n"
    with pytest.raises(Busy, match=f"process {process.pid} "), lock(path):
        pass
    process.kill()
    process.communicate()
    with lock(path):
        pass


def test_the_holder_may_remove_the_directory(tmp_path, monkeypatch):
    path = tmp_path / "work" / "lock"
    with lock(path):
        path.unlink()
        path.parent.rmdir()
        with lock(path):  # another lock: this file is a new one
            assert path.exists()
    overtaken = overtake_mkdir(monkeypatch, path.parent)
    path.unlink()
    path.parent.rmdir()
    with lock(path):
        assert path.exists()
    assert overtaken


def test_a_file_in_the_place_of_the_directory_is_an_error(tmp_path):
    (tmp_path / "work").write_text("mine")
    with pytest.raises(NotADirectoryError, match="work"), lock(tmp_path / "work" / "below" / "lock"):
        pass


def test_a_file_system_without_locks_is_used_with_a_warning(tmp_path, monkeypatch, caplog):
    def refuse(*_arguments, **_options):
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr(filelock.FileLock, "acquire", refuse)
    path, owner = tmp_path / "lock", tmp_path / "lock.owner"
    with lock(path):
        assert "has no locks" in caplog.text
        with pytest.raises(Busy, match=f"process {os.getpid()} on .* delete {owner}"), lock(path):
            pass
    assert not owner.exists()
    gone = subprocess.run([sys.executable, "-c", "import os; print(os.getpid())"], capture_output=True, text=True)
    owner.write_text(f"{gone.stdout.strip()}\n{platform.node()}\n")  # it was killed
    with lock(path):
        assert owner.read_text().split()[:2] == [str(os.getpid()), platform.node()]
    owner.write_text(f"{gone.stdout.strip()}\nanother-machine\n")
    with pytest.raises(Busy, match="another-machine"), lock(path):
        pass


def test_a_name_that_is_taken_is_kept(tmp_path, monkeypatch):
    source, target = tmp_path / "source", tmp_path / "target"
    for refuse in (False, True):
        if refuse:  # as on a file system without hard links
            monkeypatch.setattr(os, "link", lambda *_: (_ for _ in ()).throw(PermissionError(errno.EPERM, "no")))
        source.write_text("new")
        target.write_text("old")
        with pytest.raises(FileExistsError):
            move_durably(source, target, replace=False)
        assert target.read_text() == "old"
        target.unlink()
        move_durably(source, target, replace=False)
        assert [path.name for path in tmp_path.iterdir()] == ["target"]
        assert target.read_text() == "new"


def test_a_file_is_replaced_whole_or_not_at_all(tmp_path, monkeypatch):
    path = tmp_path / "file.json"
    write_durably(path, b"old")
    with monkeypatch.context() as patch:
        patch.setattr(Path, "replace", lambda *_: (_ for _ in ()).throw(OSError(errno.ENOSPC, "full")))
        with pytest.raises(OSError, match="full"):
            write_durably(path, b"new")
    assert path.read_bytes() == b"old"
    write_durably(path, memoryview(b"new"))
    assert [entry.name for entry in tmp_path.iterdir()] == ["file.json"]
    sync_tree(tmp_path)
    monkeypatch.setattr(os, "fsync", lambda _: (_ for _ in ()).throw(OSError(errno.EINVAL, "no directories")))
    move_durably(path, tmp_path / "moved.json")
    assert (tmp_path / "moved.json").read_bytes() == b"new"


def test_the_cache_directory_can_be_named(monkeypatch, tmp_path):
    monkeypatch.delenv("SCGENEPT_RT_CACHE", raising=False)
    assert cache_directory().name == "scgenept-rt"
    monkeypatch.setenv("SCGENEPT_RT_CACHE", str(tmp_path))
    assert cache_directory("engines") == tmp_path / "engines"


def test_formulas_in_tables_are_quoted():
    for text in ("=1+1", "+FOSB", "-cmd", "@SUM(A1)", "\t=1"):
        assert csv_cell(text) == f"'{text}"
    for value in ("-1.5", "+2e-3", "FOSB+ctrl", "", 3, None):
        assert csv_cell(value) is value


def test_a_planted_link_is_not_written_through(tmp_path):
    victim = tmp_path / "victim"
    victim.write_text("mine")
    (tmp_path / f".report.csv.{os.getpid()}.new").symlink_to(victim)
    write_durably(tmp_path / "report.csv", b"new")
    assert victim.read_text() == "mine"
    assert (tmp_path / "report.csv").read_bytes() == b"new"


def test_a_file_without_end_is_no_list():
    with pytest.raises(ValueError, match="more than"):
        read_text(Path("/dev/zero"))
