"""A partial output that is damaged anywhere gives the very file of an undamaged one when it is resumed."""

from __future__ import annotations

import shutil

import numpy as np
import pytest

from scgenept_rt.output import layouts
from scgenept_rt.output.destination import open_table
from scgenept_rt.output.work_directory import partial_path
from tests.runtime.mutations import SCALE, SEED
from tests.runtime.output.tables import cells_table, mean_table, part_of, rows_of
from tests.runtime.partial_output import content

SETTINGS = {"seed": 0}


@pytest.fixture(params=["mean.h5ad", "cells.zarr"])
def name(request):
    return request.param


@pytest.fixture
def spec(name, monkeypatch):
    monkeypatch.setattr(layouts, "_CHUNK_BYTES", 4 * 5 * (2 if name.startswith("mean") else 4))  # 2 or 4 rows
    return mean_table() if name.startswith("mean") else cells_table()


def write(table, end):
    table.write(part_of(rows_of(table.spec), table.n_written, end))


def flip(data: bytearray, place: int) -> bytes:
    data[place] ^= 0x10
    return bytes(data)


def blank(data: bytearray, place: int) -> bytes:
    data[place : place + 64] = bytes(len(data[place : place + 64]))
    return bytes(data)


def cut(data: bytearray, place: int) -> bytes:
    return bytes(data[:place])


def test_damage_anywhere_changes_no_result(name, spec, tmp_path):
    whole = open_table(tmp_path / f"whole.{name}", spec, settings=SETTINGS)
    write(whole, spec.n_rows)
    expected = content(whole.finish())

    out = tmp_path / name
    left = spec.n_rows - 1 if spec.kind == "cells" else spec.n_rows
    with open_table(out, spec, settings=SETTINGS) as table:
        for end in (1, left):
            write(table, end)
            table.commit()
    kept = partial_path(out).rename(tmp_path / "kept")
    files = [file for file in sorted(kept.rglob("*")) if file.is_file() and file.name != "lock"]
    n_anew = n_back = 0
    rng, n_places = np.random.default_rng([SEED, len(name)]), round((5 if out.suffix == ".zarr" else 30) * SCALE)
    places = [(file, rng.integers(file.stat().st_size)) for file in rng.permutation(files)[:n_places]]
    for number in range(n_places):
        named = ("checksums.bin", "journal.json", "data.h5ad", "0.0")[number % 4]
        places += [(file, rng.integers(file.stat().st_size)) for file in files if file.name == named][:1]
    for number, (file, place) in enumerate(places):
        harm = (flip, blank, cut)[number % 3]
        shutil.copytree(kept, partial_path(out))
        (partial_path(out) / file.relative_to(kept)).write_bytes(harm(bytearray(file.read_bytes()), int(place)))
        notices: list[str] = []
        with open_table(out, spec, settings=SETTINGS, resume=True, on_notice=notices.append) as table:
            n_anew += table.n_committed == 0
            n_back += 0 < table.n_committed < left
            assert table.n_committed > 0 or notices or file.name == "checksums.bin", (file, place, harm)
            write(table, spec.n_rows)
            table.finish()
        assert content(out) == expected, (file, place, harm)
        out.unlink() if out.is_file() else shutil.rmtree(out)
    assert n_anew
    assert n_back
