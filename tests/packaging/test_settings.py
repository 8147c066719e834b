"""What pyproject.toml, the constraints, the Makefile and the files that call it say about each other."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
EXTRAS: dict[str, list[str]] = PROJECT["optional-dependencies"]


def pinned(constraints: str) -> dict[str, str]:
    pins = re.findall(r"^([\w.-]+)==([^\s;]+)", (ROOT / constraints).read_text(), re.MULTILINE)
    return {canonicalize_name(name): version for name, version in pins}


def declared(*extras: str) -> list[Requirement]:
    lines = sum((EXTRAS[extra] for extra in ("files", *extras)), PROJECT["dependencies"])
    return [Requirement(line) for line in lines if line != "scgenept-rt[files]"]


def test_the_oldest_versions_are_the_declared_bounds() -> None:
    pins = pinned("constraints-minimum.txt")
    for requirement in declared("cpu", "zarr", "plot"):
        (specifier,) = requirement.specifier
        version = pins.pop(canonicalize_name(requirement.name))
        assert specifier.operator == ">="
        assert version == specifier.version or version.startswith(f"{specifier.version}."), requirement
        assert set(version.removeprefix(specifier.version)) <= {".", "0"}, requirement
    assert pins == {}


def test_every_package_of_the_test_environment_is_pinned() -> None:
    pins = pinned("requirements-test.txt") | pinned("constraints-torch.txt")
    for requirement in declared("cpu", "export", "zarr", "plot", "eval", "ray", "tensorrt-rtx-build", "dev"):
        assert requirement.specifier.contains(pins[canonicalize_name(requirement.name)]), requirement


@pytest.mark.parametrize(
    "file", [".ci/run", ".github/workflows/test.yml", ".pre-commit-config.yaml", "CONTRIBUTING.md", "RELEASING.md"]
)
def test_targets_that_are_named_exist(file: str) -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    text = (ROOT / file).read_text()
    named = set(re.findall(r"\bmake (?:--silent )?([a-z-]+)", text)) | set(re.findall(r"target: ([a-z-]+)", text))
    assert named, "every one of them calls make"
    assert named <= targets
