"""Whatever the files, a command does its work or says in words why not: random damage to every kind of input."""

from __future__ import annotations

import faulthandler
import random
import resource
import shutil
from collections.abc import Callable
from pathlib import Path

import anndata
import pytest
from scipy.sparse import csr_matrix

import scgenept_rt as sgr
from scgenept_rt.cli import app
from scgenept_rt.errors import ScgeneptError
from tests.runtime.bundle_changes import seal
from tests.runtime.mutations import SCALE, SEED, damage_arrays, damage_bytes, damage_json, damage_objects

PREDICT = ["predict", "bundle", "cells.h5ad", "-p", "YFU19", "--out", "out.h5ad", "--threads", "1", "--provider", "cpu"]
EVALUATE = ["evaluate", "screen.h5ad", "--predictions", "predictions.h5ad", "--split", "split.json"]
COMMANDS: dict[str, list[list[str]]] = {
    "cells.h5ad": [PREDICT, ["check", "bundle", "cells.h5ad"], ["inspect", "cells.h5ad"]],
    "predictions.h5ad": [
        ["plot", "delta", "predictions.h5ad", "-p", "YFU19+ctrl", "-o", "out.png"],
        ["table", "predictions.h5ad", "--out", "out.csv"],
        ["rank", "predictions.h5ad"],
        ["inspect", "predictions.h5ad"],
        EVALUATE,
    ],
    "screen.h5ad": [EVALUATE, ["gi", "bundle", "screen.h5ad", "-p", "YFU19+EKKN10", "--provider", "cpu"]],
    "split.json": [EVALUATE],
    "cells.zarr": [["predict", "bundle", "cells.zarr", *PREDICT[3:]]],
    "bundle/manifest.json": [PREDICT, ["inspect", "bundle"], ["verify", "bundle"], ["genes", "bundle"]],
    "bundle/reference.npz": [PREDICT, ["verify", "bundle"]],
    "bundle/ort_fp32.onnx": [PREDICT],
    "list.csv": [["predict", "bundle", "cells.h5ad", "--perturbations", "list.csv", *PREDICT[5:]]],
}


@pytest.fixture
def inputs(fp32_bundle: Path, make_cells: Callable[..., anndata.AnnData], tmp_path: Path) -> Path:
    """A directory with one sound file of each kind."""
    directory = tmp_path / "sound"
    directory.mkdir()
    shutil.move(fp32_bundle, directory / "bundle")
    cells = make_cells(4)
    cells.X = csr_matrix(cells.X)
    cells.obs["batch"] = ["a", "b", "a", "b"]
    cells.write_h5ad(directory / "cells.h5ad")
    cells.write_zarr(directory / "cells.zarr")
    screen = make_cells(12)
    screen.obs["condition"] = ["ctrl", "YFU19+ctrl", "EKKN10+ctrl", "YFU19+EKKN10"] * 3
    screen.write_h5ad(directory / "screen.h5ad")
    model = sgr.load(directory / "bundle", provider="cpu", threads=1)
    model.predict_file(cells, directory / "predictions.h5ad", ["YFU19+ctrl", "EKKN10+ctrl", "YFU19+EKKN10"])
    (directory / "split.json").write_text('{"test": ["YFU19+ctrl", "YFU19+EKKN10"], "val": ["EKKN10+ctrl"]}')
    (directory / "list.csv").write_text("perturbation,n_controls\nYFU19,2\nEKKN10+ctrl,1\n")
    return directory


@pytest.fixture
def attempt() -> Callable[[list[str], str], bool]:
    """Return a function that runs a command, and returns whether it did its work."""

    def run(command: list[str], change: str) -> bool:
        # A library that hangs may let no other thread run; this names the test and ends it.
        faulthandler.dump_traceback_later(120, exit=True)
        try:
            app(args=command)
        except SystemExit as ended:
            if ended.code == 2:
                raise AssertionError(f"{command} is no command") from None
            done = not ended.code
        except (ScgeneptError, OSError, MemoryError):  # the command line words these
            done = False
        except Exception as error:
            raise AssertionError(f"{change}: {command}") from error
        finally:
            faulthandler.cancel_dump_traceback_later()
        assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss < 3 << 20, f"{change}: {command} takes over 3 GB"
        assert done or not list(Path().glob("out*")), f"{change}: {command} left an output"
        return done

    return run


def damage(path: Path, rng: random.Random) -> str:
    """Damage a file of an input; of a .zarr directory, one of its files."""
    if path.is_dir():
        path = rng.choice(sorted(found for found in path.rglob("*") if found.is_file()))
    kinds: list[Callable[[Path, random.Random], str]] = [damage_bytes]
    if path.suffix == ".h5ad":
        kinds = [damage_bytes, damage_objects, damage_objects]
    elif path.suffix == ".npz":
        kinds = [damage_bytes, damage_arrays]
    elif path.suffix == ".json" or path.name.startswith(".z"):
        kinds = [damage_bytes, damage_json, damage_json]
    return f"{path.name}: {rng.choice(kinds)(path, rng)}"


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", COMMANDS)
def test_a_damaged_input_is_refused_in_words_or_read(
    inputs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, attempt: Callable[..., bool]
) -> None:
    rng = random.Random(f"{SEED} {name}")
    sound = []
    for number in range(max(1, round(8 * SCALE))):
        case = tmp_path / "case"
        shutil.copytree(inputs, case)
        monkeypatch.chdir(case)
        change = damage(case / name, rng)
        if name in ("bundle/reference.npz", "bundle/ort_fp32.onnx"):
            seal(case / "bundle")
        commands = COMMANDS[name]
        sound.append(attempt(commands[number % len(commands)], f"{name}: {change}"))
        shutil.rmtree(case)
    if len(sound) > 40:
        assert 0 < sum(sound) < len(sound)
