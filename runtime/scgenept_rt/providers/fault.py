"""What keeps a provider from being used."""

from __future__ import annotations

from typing import NamedTuple


class Fault(NamedTuple):
    """What is wrong, in one line, and one next step."""

    reason: str
    remedy: str
