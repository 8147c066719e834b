"""Whoever catches an error finds its class in the package that is documented to raise it, and what it is for."""

from __future__ import annotations

import importlib
import inspect
import pkgutil

import pytest

import scgenept_export
import scgenept_rt
from scgenept_rt.errors import ScgeneptError

INTERNAL = {"TransientError"}
"""Raised and caught within one module."""


def exception_classes() -> list[type[BaseException]]:
    found: dict[type[BaseException], None] = {}
    for package in (scgenept_rt, scgenept_export):
        for module in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
            if module.name.endswith("__main__"):
                continue
            for _, member in inspect.getmembers(importlib.import_module(module.name), inspect.isclass):
                if issubclass(member, BaseException) and member.__module__ == module.name:
                    found[member] = None
    return [kind for kind in found if kind.__name__ not in INTERNAL and not issubclass(kind, Warning)]


def test_every_error_of_the_package_is_known_here() -> None:
    found = exception_classes()
    assert len(found) > 90
    assert all(issubclass(kind, ScgeneptError) for kind in found)


@pytest.mark.parametrize("kind", exception_classes(), ids=lambda kind: kind.__name__)
def test_an_error_is_offered_where_its_callers_look(kind: type[BaseException]) -> None:
    package, subject, *_ = kind.__module__.split(".")
    public = importlib.import_module(f"{package}.{subject}")
    assert getattr(public, kind.__name__, None) is kind
    assert kind.__name__ in getattr(public, "__all__", [kind.__name__])
    assert subject != "cli", "what a command raises, Python callers may meet as well"
    assert vars(kind)["__doc__"], "each says what it is for"
