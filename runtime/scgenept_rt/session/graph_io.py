"""Inputs and outputs of the graphs of a bundle, by name."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from numpy.typing import NDArray

Feed = Mapping[str, NDArray[Any]]
"""A graph's inputs by name: those of `Session.run`; a merged graph has `log_count` too."""

OUTPUT: Final = "predicted"
"""Name of the output: (n_cells, n_genes) float32."""
