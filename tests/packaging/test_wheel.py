"""What is installed: the wheel's content, and the runtime in an environment without the export stage's packages."""

from __future__ import annotations

import configparser
import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
EXPORT_ONLY = ("torch", "onnx", "onnxscript", "scgpt", "scanpy")
HEAVY = ("numpy", "scipy", "pandas", "anndata", "h5py", "onnxruntime")


def run(*command: str | Path, cwd: Path) -> str:
    """Run a command as a user's shell would: nothing of this checkout on the path."""
    environment = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "PYTHONHOME")}
    done = subprocess.run([str(part) for part in command], cwd=cwd, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, f"{' '.join(map(str, command))}\n{done.stdout}\n{done.stderr}"
    return done.stdout


def run_python(code: str) -> str:
    """Run code in this environment, on this checkout's packages."""
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(str(ROOT / part) for part in ("runtime", "export"))}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
    return done.stdout


def imported_by(arguments: str) -> set[str]:
    """Return the top-level modules that a command of `scgenept-rt` has imported when it ends."""
    report = run_python(
        "import atexit, json, sys\n"
        "atexit.register(lambda: print(json.dumps(sorted({name.partition('.')[0] for name in sys.modules}))))\n"
        f"sys.argv = ['scgenept-rt', *{arguments.split()!r}]\n"
        "from scgenept_rt.cli import main\n"
        "main()"
    )
    return set(json.loads(report.splitlines()[-1]))


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("wheel")
    run(sys.executable, "-m", "pip", "wheel", ROOT, "--no-deps", "--quiet", "-w", directory, cwd=directory)
    (built,) = directory.glob("scgenept_rt-*.whl")
    return built


@pytest.mark.slow
def test_wheel_holds_both_packages_and_their_data_and_nothing_else(wheel: Path):
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
    (info,) = {name.split("/")[0] for name in names if ".dist-info/" in name}
    assert {name.split("/")[0] for name in names} == {"scgenept_rt", "scgenept_export", info}
    assert {
        "scgenept_rt/__init__.py",
        "scgenept_rt/py.typed",
        "scgenept_rt/demo_bundle/manifest.json",
        "scgenept_rt/demo_bundle/ort_fp32.onnx",
        "scgenept_rt/demo_bundle/merged_fp32.onnx",
        "scgenept_rt/demo_bundle/reference.npz",
        "scgenept_export/__init__.py",
        "scgenept_export/gene_lists/norman_genes.csv.xz",
        "scgenept_export/vocabulary/census_genes.txt.xz",
        "scgenept_export/vocabulary/LICENSE.scGPT",
    } <= set(names)
    licenses = [name for name in names if name.startswith(f"{info}/licenses/")]
    assert {Path(name).name for name in licenses} == {"LICENSE", "LICENSE.scGPT"}
    unwanted = ("test", "__pycache__", ".pyc", ".pt", ".partial", "make_demo_bundle")
    assert [name for name in names if any(part in name for part in unwanted)] == []
    assert wheel.stat().st_size < 2_500_000


@pytest.mark.slow
def test_wheel_declares_its_scripts_and_no_heavy_requirement(wheel: Path):
    with zipfile.ZipFile(wheel) as archive:
        read = {Path(name).name: archive.read(name).decode() for name in archive.namelist() if ".dist-info/" in name}
    scripts = configparser.ConfigParser()
    scripts.read_string(read["entry_points.txt"])
    assert dict(scripts["console_scripts"]) == {
        "scgenept-rt": "scgenept_rt.__main__:main",
        "scgenept-export": "scgenept_export.cli:main",
    }
    required = [line for line in read["METADATA"].splitlines() if line.startswith("Requires-Dist:")]
    base = {line.split()[1].split(">")[0] for line in required if "extra ==" not in line}
    assert base == {"numpy"}


@pytest.mark.slow
def test_arrays_are_predicted_where_only_their_extra_is_installed(wheel: Path, tmp_path: Path):
    run(sys.executable, "-m", "venv", tmp_path / "venv", cwd=tmp_path)
    binaries = tmp_path / "venv" / ("Scripts" if os.name == "nt" else "bin")
    requirement = f"scgenept-rt[arrays] @ {wheel.as_uri()}"
    run(binaries / "python", "-m", "pip", "install", "--quiet", "--no-compile", requirement, cwd=tmp_path)
    run(binaries / "python", "-m", "pip", "check", cwd=tmp_path)
    page = (ROOT / "docs" / "embedding.md").read_text("utf-8")
    script = page.split("```python\n")[1].split("```")[0]
    assert "FOSB" in run(binaries / "python", "-c", script, cwd=tmp_path)
    find = "from importlib.util import find_spec as f; print([n for n in ('anndata', 'pandas', 'scipy') if f(n)])"
    assert run(binaries / "python", "-c", find, cwd=tmp_path).strip() == "[]"
    answer = subprocess.run([binaries / "scgenept-rt", "--help"], capture_output=True, text=True)
    assert answer.returncode == 1
    assert "Install the extra `cpu`" in answer.stderr


def test_demo_imports_no_package_of_the_export_stage():
    imported = imported_by("demo --cells 1 --provider cpu")
    assert "onnxruntime" in imported
    assert not imported & {*EXPORT_ONLY, "scgenept_export"}


@pytest.mark.parametrize("arguments", ["--help", "--version", "predict --help", "demo --help"])
def test_help_imports_nothing_heavy(arguments: str):
    assert not imported_by(arguments) & {*HEAVY, *EXPORT_ONLY, "scgenept_export"}
