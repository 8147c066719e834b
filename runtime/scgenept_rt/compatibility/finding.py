"""What a check reports about one subject."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal

from scgenept_rt.errors import Notice, ScgeneptError, UseOption, compose

Topic = Literal["file", "labels", "perturbations", "genes", "vocabulary", "scale", "provider", "run"]


@dataclass(frozen=True)
class Finding:
    """One thing found.

    Attributes
    ----------
    topic, status
        What it is about; "problem" for what stops `predict`, "note" for what to look at.
    text, remedy, options
        What was found and what to do; of a problem, those of the error that `predict` would raise.
    """

    topic: Topic
    status: Literal["ok", "note", "problem"]
    text: str
    remedy: str = ""
    options: tuple[UseOption, ...] = ()

    def step(self, flags: Mapping[str, str] | None = None) -> str:
        """Return remedy and options in words; see `compose` for `flags`. Empty where nothing needs doing."""
        return compose("", self.remedy, self.options, flags=flags)

    def to_json(self, flags: Mapping[str, str] | None = None) -> dict[str, Any]:
        """Return it as plain values; see `compose` for `flags`."""
        return {"topic": self.topic, "status": self.status, "text": self.text, "step": self.step(flags)}


class Findings(list[Finding]):
    """What a check found, in order."""

    def add(self, topic: Topic, text: str, *, note: bool = False, remedy: str = "", options: Any = ()) -> None:
        """Add what is as it should be, or is a note."""
        self.append(Finding(topic, "note" if note else "ok", text, remedy, tuple(options)))

    def add_notices(self, topic: Topic, notices: Iterable[str]) -> None:
        """Add notices of `predict` as notes."""
        for notice in notices:
            parts = (notice.problem, notice.remedy, notice.options) if isinstance(notice, Notice) else (notice,)
            self.append(Finding(topic, "note", *parts))

    @contextmanager
    def problems(self, topic: Topic) -> Iterator[None]:
        """Add what the context raises as a problem, which `predict` would report."""
        try:
            yield
        except ScgeneptError as error:
            self.append(Finding(topic, "problem", error.problem, error.remedy, error.options))
