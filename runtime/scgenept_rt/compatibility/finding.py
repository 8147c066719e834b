"""What a check reports about one subject."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from scgenept_rt.errors.core import ScgeneptError, UseOption, compose

Status = Literal["ok", "note", "problem"]
Topic = Literal["file", "labels", "perturbations", "genes", "vocabulary", "scale", "provider", "run"]


@dataclass(frozen=True)
class Finding:
    """One thing found.

    Attributes
    ----------
    topic
        What it is about.
    status
        "ok"; "note" for what users should know but does not stop `predict`; "problem" for what does.
    text
        What was found; of a problem, the `problem` of the error that `predict` would raise.
    remedy
        A next step that needs no option; may be empty.
    options
        Options that would help.
    """

    topic: Topic
    status: Status
    text: str
    remedy: str = ""
    options: tuple[UseOption, ...] = ()

    @classmethod
    def from_error(cls, topic: Topic, error: ScgeneptError) -> Finding:
        """Return the problem that `predict` would report as this error."""
        return cls(topic, "problem", error.problem, error.remedy, error.options)

    def step(self, flags: Mapping[str, str] | None = None) -> str:
        """Return remedy and options in words; see `compose` for `flags`. Empty where nothing needs doing."""
        return compose("", self.remedy, self.options, flags=flags)
