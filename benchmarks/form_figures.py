"""Figures of one form in a comparison: what the page, the README's sentence and its figure all show."""

from __future__ import annotations

from statistics import median
from typing import Any


def timed_forms(result: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Return the forms that were timed, by name; those that failed are left out."""
    return {form["name"]: form for form in result["forms"] if form["seconds"] and not form["problem"]}


def memory_ratio(own: int | None, other: int | None) -> float | None:
    """Return by what memory differs, None where one of them was not measured."""
    return own / other if own is not None and other else None


def seconds_a_cell(form: dict[str, Any]) -> float:
    """Return the median time of a cell."""
    return median(form["seconds"]) / form["cells"]


def cpu_seconds_a_cell(form: dict[str, Any]) -> float:
    """Return the median processor time of a cell, all threads together."""
    return median(form["cpu_seconds"]) / form["cells"]
