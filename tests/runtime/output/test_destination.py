from __future__ import annotations

import os
import shutil
import sys
import tempfile
from collections import namedtuple
from pathlib import Path

import numpy as np
import pytest

from scgenept_rt.cli.messages import check_report_paths
from scgenept_rt.errors import (
    MissingPackageError,
    OutputBusyError,
    OutputError,
    OutputExistsError,
    PartialOutputError,
)
from scgenept_rt.files.durable import write_report
from scgenept_rt.output.destination import cells_path, check_destination, open_table, stored_entry
from scgenept_rt.output.work_directory import Journal, plain
from tests.runtime.output.tables import LABELS, cells_table, read_table

SETTINGS = {"seed": 0, "precision": "fp32", "perturbations": ["FOSB+ctrl", "KLF1"], "input": {"path": Path("a.h5ad")}}


@pytest.fixture
def path(request, tmp_path):
    return tmp_path / f"out.{getattr(request, 'param', 'h5ad')}"


both_formats = pytest.mark.parametrize("path", ["h5ad", "zarr"], indirect=True)
"""Where an output is renamed, replaced or continued; what is decided before is the same for both."""


@pytest.fixture
def spec():
    return cells_table()


def rows(start, stop):
    return {"X": np.arange(start * 5, stop * 5, dtype=np.float32).reshape(-1, 5)}


@pytest.fixture
def partial(path, spec):
    """A run that was stopped after 5 of 12 rows."""
    with open_table(path, spec, settings=SETTINGS) as table:
        table.write(rows(0, 5))
        table.commit()
    return path.with_name(f"{path.name}.partial")


def finish(table):
    table.write(rows(table.n_written, table.n_rows))
    return table.finish()


def test_a_usable_path_is_returned_and_nothing_is_left_behind(path):
    assert check_destination(path) == path
    assert list(path.parent.iterdir()) == []
    assert cells_path("a/OUT.h5ad") == Path("a/OUT.cells.h5ad")
    assert cells_path(Path("x.y.zarr")) == Path("x.y.cells.zarr")


def test_zarr_not_installed(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "zarr", None)
    with pytest.raises(MissingPackageError, match=r"pip install .*\[zarr\]"):
        check_destination(tmp_path / "o.zarr")


def test_paths_that_cannot_be_written(tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    (tmp_path / "d.h5ad").mkdir()
    (tmp_path / "f.zarr").touch()
    (tmp_path / "d.zarr").mkdir()
    os.mkfifo(tmp_path / "pipe.h5ad")
    longest = "x" * (os.pathconf(tmp_path, "PC_NAME_MAX") - 5)
    for name, problem in {
        "o.csv": r"'\.csv' is unknown, expected \.h5ad or \.zarr",
        "absent/o.h5ad": "does not exist",
        "file/o.h5ad": "not a directory",
        "d.h5ad": "there is a directory",
        "f.zarr": "there is a file",
        "d.zarr": "there is a directory, expected a zarr store",
        "pipe.h5ad": "a pipe or a device, expected a file",
        f"{longest}.h5ad": "File name too long",
    }.items():
        with pytest.raises(OutputError, match=problem):
            check_destination(tmp_path / name, overwrite=True)

    def refuse(**_):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(tempfile, "TemporaryFile", refuse)  # root may write everywhere
    with pytest.raises(OutputError, match="Permission denied"):
        check_destination(tmp_path / "o.h5ad")


def test_a_link_is_replaced_wherever_it_points(tmp_path):
    (tmp_path / "o.h5ad").symlink_to(tmp_path / "absent")
    check_destination(tmp_path / "o.h5ad", overwrite=True)


def test_output_is_input(tmp_path):
    source = tmp_path / "cells.h5ad"
    source.touch()
    (tmp_path / "link.h5ad").symlink_to(source)
    for output in (source, tmp_path / "link.h5ad", tmp_path / "." / "cells.h5ad"):
        with pytest.raises(OutputError, match="never replaced"):
            check_destination(output, overwrite=True, input_path=source)
    check_destination(tmp_path / "other.h5ad", input_path=source)


def test_links_that_go_in_a_circle(tmp_path):
    circle = tmp_path / "circle.h5ad"
    circle.symlink_to(circle)
    check_destination(circle, overwrite=True)
    check_destination(tmp_path / "other.h5ad", input_path=circle)
    check_report_paths([tmp_path / "report.csv"], [circle])
    write_report(circle, b"new")
    assert circle.read_bytes() == b"new"


def test_too_little_space_names_needed_and_free_and_what_helps(tmp_path, monkeypatch, spec):
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage(10**12, 10**12, 4096))
    check_destination(tmp_path / "o.h5ad")
    with pytest.raises(OutputError, match=r"its disk has 4\.1 kB free.*Pass n_controls=\.\.\. .* aggregate='mean'"):
        open_table(tmp_path / "o.h5ad", spec, settings={})


@both_formats
def test_existing_output_is_replaced_only_when_finished(path, spec):
    finish(open_table(path, spec, settings={"seed": 0}))
    with pytest.raises(OutputExistsError, match="overwrite=True"):
        open_table(path, spec, settings={})
    table = open_table(path, spec, settings={"seed": 1}, overwrite=True)
    table.write(rows(20, 32))
    assert read_table(path).X[0, 1] == 1
    table.finish()
    assert read_table(path).X[0, 1] == 101
    assert list(path.parent.iterdir()) == [path]


def test_partial_output_is_refused_with_what_continues_it(path, spec, partial):
    """Of commands: tests/runtime/predictor/test_resume.py."""
    words = "left 5 of 12 rows.*resume=True to continue it.*overwrite=True to discard it"
    with pytest.raises(PartialOutputError, match=words):
        open_table(path, spec, settings=SETTINGS)
    assert partial.is_dir()


@both_formats
def test_resume_continues(path, spec, partial):
    table = open_table(path, spec, settings=SETTINGS, resume=True)
    assert table.n_written == 5
    finish(table)
    np.testing.assert_array_equal(read_table(path).X, rows(0, 12)["X"])
    assert not partial.exists()


def test_resume_without_partial_starts_afresh(path, spec):
    table = open_table(path, spec, settings=SETTINGS, resume=True)
    assert table.n_written == 0
    finish(table)
    with pytest.raises(OutputExistsError):
        open_table(path, spec, settings={**SETTINGS, "seed": "another"}, resume=True)


@both_formats
def test_resume_of_a_finished_output_has_nothing_to_do(path, spec):
    finish(open_table(path, spec, settings=SETTINGS))
    modified = path.stat().st_mtime_ns
    table = open_table(path, spec, settings=SETTINGS, resume=True)
    assert table.n_committed == table.n_rows
    assert table.finish() == path
    assert path.stat().st_mtime_ns == modified
    np.testing.assert_array_equal(read_table(path).X, rows(0, 12)["X"])
    assert list(path.parent.iterdir()) == [path]
    with pytest.raises(OutputExistsError):
        open_table(path, spec, settings=SETTINGS)


def test_partial_beside_an_existing_output_is_refused(path, spec, partial):
    finish(open_table(path.with_name("other.h5ad"), spec, settings={})).rename(path)
    words = f"exists already, and an interrupted run left 5 of 12 rows of another one in {partial}.*resume=True"
    for resume in (False, True):
        with pytest.raises(PartialOutputError, match=words):
            open_table(path, spec, settings=SETTINGS, resume=resume)
    table = open_table(path, spec, settings=SETTINGS, resume=True, overwrite=True)
    assert table.n_written == 5
    finish(table)
    assert list(path.parent.iterdir()) == [path]


def test_endings_in_capitals_are_of_the_same_format(path, spec):
    capitals = path.with_suffix(path.suffix.upper())
    assert check_destination(capitals) == capitals
    finish(open_table(capitals, spec, settings=SETTINGS))
    assert stored_entry(capitals, "run_digest") is not None
    np.testing.assert_array_equal(read_table(capitals.rename(path)).X, rows(0, 12)["X"])


def test_resume_with_other_settings_names_each(path, spec, partial):
    changed = {"perturbations": ["FOSB+ctrl", "SAMD1", *("X" * 100 for _ in range(9))], "input": {"path": "b.h5ad"}}
    other = {**SETTINGS, **changed, "seed": 1, "batch_size": 8}
    with pytest.raises(PartialOutputError) as caught:
        open_table(path, spec, settings=other, resume=True, command="scgenept-rt predict x --resume")
    for fact in (
        "seed: 0 before, 1 now",
        "input.path: a.h5ad before, b.h5ad now",
        "batch_size: not set before, 8 now",
        "2 entries, from number 2 on: KLF1 before, 11 entries, from number 2 on: SAMD1,",
    ):
        assert fact in str(caught.value)
    for absent in ("precision", "X" * 61, "predict x"):  # the command would be refused
        assert absent not in str(caught.value)
    assert partial.is_dir()


def test_resume_with_another_table_is_a_mismatch(path, partial):
    other = cells_table(LABELS[:2])
    names = r"names of the rows: sha256 [0-9a-f]{12}\.\.\. before, sha256 [0-9a-f]{12}\.\.\. now"
    with pytest.raises(PartialOutputError, match=rf"(?s)number of rows: 12 before, 8 now.*{names}"):
        open_table(path, other, settings=SETTINGS, resume=True)
    settings = {**SETTINGS, "manifest_digest": "0" * 64}
    with pytest.raises(PartialOutputError, match=r"bundle: not set before, sha256 000000000000\.\.\. now") as caught:
        open_table(path, other, settings=settings, resume=True)
    assert "number of rows" not in str(caught.value)  # which follows from the settings


@pytest.mark.parametrize("text", ["{", '{"format_version": 3, "sha256": "0"}'])
def test_damaged_journal_is_refused_and_resumed_from_the_start(path, spec, partial, text):
    (partial / "journal.json").write_text(text)
    with pytest.raises(PartialOutputError, match=r"journal\.json.*overwrite=True"):
        open_table(path, spec, settings=SETTINGS)
    with open_table(path, spec, settings=SETTINGS, resume=True, on_notice=(notices := []).append) as table:
        assert table.n_written == 0
    (notice,) = notices
    assert "journal.json" in notice


@pytest.mark.parametrize("journal", ['{"format_version": 1, "n_rows": 12}', None])
def test_journal_of_another_release_is_kept(path, spec, partial, journal):
    if journal is None:
        Journal(plain(SETTINGS), spec.fingerprint(), {}, 0, format_version=4).save(partial)
    else:
        (partial / "journal.json").write_text(journal)
    for resume in (False, True):
        with pytest.raises(PartialOutputError, match="another release"):
            open_table(path, spec, settings=SETTINGS, resume=resume)
    assert (partial / "checksums.bin").exists()


@both_formats
def test_what_gets_the_name_during_a_run_is_kept_unless_it_may_be_replaced(path, spec):
    table = open_table(path, spec, settings=SETTINGS)
    finish(open_table(path.with_name(f"other{path.suffix}"), spec, settings={})).rename(path)
    before = stored_entry(path, "run_digest")
    with pytest.raises(OutputExistsError, match="took this name"):
        finish(table)
    table.close()
    assert stored_entry(path, "run_digest") == before
    table = open_table(path, spec, settings=SETTINGS, resume=True, overwrite=True)
    assert table.n_committed == 12
    table.finish()
    assert stored_entry(path, "run_digest") != before
    assert list(path.parent.iterdir()) == [path]


def test_two_writers_of_one_output(path, spec):
    table = open_table(path, spec, settings={})
    for options in ({}, {"resume": True}, {"overwrite": True}):
        with pytest.raises(OutputBusyError, match="another process"):
            open_table(path, spec, settings={}, **options)
    table.close()
    finish(open_table(path, spec, settings={}))


def test_file_in_the_place_of_the_work_directory(path, spec):
    path.with_name(f"{path.name}.partial").touch()
    with pytest.raises(OutputError, match="a file where"):
        open_table(path, spec, settings={})


def test_files_of_others_in_the_work_directory_are_never_deleted(path, spec, partial):
    (partial / "notes.txt").write_text("mine")
    with open_table(path, spec, settings={}, overwrite=True) as table:
        finish(table)
    assert [entry.name for entry in partial.iterdir()] == ["notes.txt"]


def test_abort_and_close_without_rows_leave_nothing(path, spec, partial):
    table = open_table(path, spec, settings=SETTINGS, resume=True)
    table.abort()
    assert list(path.parent.iterdir()) == []
    open_table(path, spec, settings={}).close()
    assert list(path.parent.iterdir()) == []


def test_a_file_whose_close_failed_is_not_closed_again(path, spec):
    table = open_table(path, spec, settings=SETTINGS)
    table.write(rows(0, 5))
    table.commit()
    table.write(rows(5, 6))
    (file,) = table._files.values()
    number = file.fileno()
    os.close(number)  # as where a network file system fails on close: the number is free
    with pytest.raises(OSError, match="file descriptor"):
        table.close()
    with Path(os.devnull).open() as other:
        if other.fileno() != number:
            os.dup2(other.fileno(), number)
        table.close()
        os.fstat(number)  # raises if that file was closed


def test_settings_are_compared_as_json_keeps_them(path, spec):
    with open_table(path, spec, settings={"n": np.int64(3), "a": np.arange(2), "t": (1, 2)}) as table:
        table.write(rows(0, 1))
        table.commit()
    open_table(path, spec, settings={"n": 3, "a": [0, 1], "t": [1, 2]}, resume=True).abort()


def test_planted_links_and_pipes_are_refused(path, spec):
    partial, victim = path.with_name(f"{path.name}.partial"), path.with_name("victim")
    victim.mkdir()
    (victim / "journal.json").write_text("mine")
    partial.symlink_to(victim)
    with pytest.raises(OutputError, match="symbolic link"):
        open_table(path, spec, settings={}, resume=True)
    assert [entry.name for entry in victim.iterdir()] == ["journal.json"]
    partial.unlink()
    partial.mkdir()
    (partial / "checksums.bin").symlink_to(victim / "journal.json")
    with pytest.raises(OutputError, match=r"checksums\.bin.*symbolic link"):
        open_table(path, spec, settings={}, resume=True)
    (partial / "checksums.bin").unlink()
    os.mkfifo(partial / "journal.json")  # opening it would wait for a writer
    with pytest.raises(OutputError, match=r"journal\.json.*a pipe"):
        open_table(path, spec, settings={}, resume=True)
