"""What a check says: one finding a subject, each with at most one next step."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

from scgenept_rt.errors import CellsError, ScgeneptError

Status = Literal["ok", "note", "problem"]
Topic = Literal["file", "labels", "perturbations", "genes", "vocabulary", "scale", "sparsity", "provider", "run"]

_END_OF_PROBLEM = re.compile(r"\. (?=[A-Z`])")


@dataclass(frozen=True)
class Finding:
    """One thing found.

    Attributes
    ----------
    topic
        What it is about.
    status
        "ok"; "note" for what deserves a thought but does not keep `predict` from working; "problem" for what does.
    text
        What was found, in one or two sentences.
    step
        What to do next, None where nothing needs doing.
    """

    topic: Topic
    status: Status
    text: str
    step: str | None = None


def problem_from(topic: Topic, error: ScgeneptError) -> Finding:
    """Return the problem that `predict` would report as `error`: its message, without the path that it begins with."""
    message = str(error)
    if isinstance(error, CellsError):
        message = message.removeprefix(f"{error.where}: ")
    # Messages state the problem and then the next step, as sentences.
    text, *steps = _END_OF_PROBLEM.split(message, maxsplit=1)
    if not steps:
        return Finding(topic, "problem", _sentence(message))
    return Finding(topic, "problem", _sentence(f"{text}."), steps[0])


def _sentence(text: str) -> str:
    is_prose = not text.startswith(("obs ", "var ", "raw ")) and not text[:1].isupper()
    return text[:1].upper() + text[1:] if is_prose else text
