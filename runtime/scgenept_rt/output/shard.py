"""One of the parts that several processes divide a run into."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from scgenept_rt.errors import ArgumentError
from scgenept_rt.wording import pluralize

_PART = re.compile(r"(.+)\.shard-\d+-of-\d+((?:\.cells)?(\.[^.]+))")
_SHARD = re.compile(r"(\d{1,9})/(\d{1,9})")


@dataclass(frozen=True)
class Shard:
    """Part `number` of `count`, counted from 1.

    Parts are runs of whole perturbations, as equal as these allow; one after the other they are the whole table.
    """

    number: int
    count: int

    @classmethod
    def parse(cls, text: str) -> Shard:
        """Return the part that a text such as ``3/8`` names."""
        found = _SHARD.fullmatch(text)
        if found is None or not 1 <= int(found[1]) <= int(found[2]):
            raise ArgumentError(f"shard is {text!r}, expected I/N with I from 1 to N, such as 3/8")
        return cls(int(found[1]), int(found[2]))

    def __str__(self) -> str:
        return f"{self.number}/{self.count}"

    def path(self, out: Path) -> Path:
        """Return where the part of an output goes: ``OUT.shard-3-of-8.h5ad`` beside ``OUT.h5ad``."""
        return out.with_name(f"{out.stem}.shard-{self.number:0{len(str(self.count))}}-of-{self.count}{out.suffix}")

    def means(self, starts: NDArray[np.int64], bounds: NDArray[np.int64]) -> range:
        """Return which means of a run belong to the part; raises `ArgumentError` if a part would be empty.

        `starts` are the first row of each mean's cells, and the number of rows; `bounds` the means that a part may
        begin with, and the number of means.
        """
        n_means = len(starts) - 1
        if self.count > n_means:
            raise ArgumentError(
                f"shard is {str(self)!r}, but the run has {pluralize(n_means, 'mean')}", f"Use at most {n_means} parts"
            )
        if self.count > len(bounds) - 1:
            bounds = np.arange(n_means + 1)
        wanted = starts[-1] / self.count * np.arange(1, self.count)
        cuts = [0]
        for part, row in enumerate(wanted, start=1):
            nearest = int(np.abs(starts[bounds] - row).argmin())
            # every part has some, whatever the sizes of the others
            cuts.append(min(max(nearest, cuts[-1] + 1), len(bounds) - 1 - (self.count - part)))
        cuts.append(len(bounds) - 1)
        return range(int(bounds[cuts[self.number - 1]]), int(bounds[cuts[self.number]]))


def output_of_part(part: Path) -> tuple[Path, str] | None:
    """Return the output that a part belongs to and the ending of its file, by its name; None if it has no such name."""
    found = _PART.fullmatch(part.name)
    return (part.with_name(f"{found[1]}{found[3]}"), found[2]) if found else None
