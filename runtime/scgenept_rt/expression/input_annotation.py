"""What outputs keep of their input besides values: the names of its genes, and obs of its control cells."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from scgenept_rt.errors import CellsFormatError
from scgenept_rt.expression.annotation import Annotation, as_text, is_storable, text_of
from scgenept_rt.expression.label_columns import Labels, label_columns
from scgenept_rt.expression.labels import ControlRows
from scgenept_rt.expression.opened_cells import OpenedCells
from scgenept_rt.genes import GenePanel


@dataclass(frozen=True, eq=False)
class InputAnnotation:
    """Names and annotation of an input; `var_names` alone unless the rest was asked for."""

    var_names: NDArray[np.object_]
    # Columns of the control cells in use, without the column of labels and those left out:
    obs: Mapping[str, Any] = field(default_factory=dict)
    left_out: Sequence[str] = ()  # columns that tell control cells from others, as predicted cells are none
    control_labels: Sequence[str] = ()  # of each control cell in use, as the input writes it
    labels: Sequence[str] = ()  # of all cells, each once


def read_annotation(
    cells: OpenedCells, panel: GenePanel, control: ControlRows, rows: NDArray[np.int64]
) -> InputAnnotation:
    """Read names and annotation; `rows` are those of the control cells in use."""
    obs, left_out = _columns(cells.obs, panel, control, rows)
    labels = np.empty(0, object)
    if control.condition_key is not None:
        labels = as_text(cells.obs.column(control.condition_key))
    return InputAnnotation(
        cells.var.index, obs, left_out, labels[rows].tolist() if len(labels) else (), tuple(dict.fromkeys(labels))
    )


def _columns(
    obs: Annotation, panel: GenePanel, control: ControlRows, rows: NDArray[np.int64]
) -> tuple[dict[str, Any], list[str]]:
    """Return the columns that describe a cell whatever perturbs it, at `rows`, and the names of the others."""
    of_perturbations = {column.name for column in label_columns(obs, panel) if column.names_perturbations}
    kept, left_out = {}, []
    for name in dict.fromkeys(obs.columns):
        if name == control.condition_key or not is_storable(name):
            continue
        try:
            values = obs.column(name)
            tells_controls = name in of_perturbations or _tells_controls(Labels(values), control.rows)
        except (CellsFormatError, TypeError):  # nobody asked for this column; lists and the like
            continue
        if tells_controls:
            left_out.append(name)
        else:
            kept[name] = _storable(values, rows)
    return kept, left_out


def _tells_controls(labels: Labels, control_rows: NDArray[np.int64]) -> bool:
    """Return whether all control cells have one value that no other cell has."""
    if len(control_rows) == len(labels.codes):
        return False
    found = labels.counts(control_rows)
    return list(found.values()) == [len(control_rows)] and found.items() <= labels.counts().items()


def _storable(values: Any, rows: NDArray[np.int64]) -> Any:
    """Return values at rows as numbers, or else as a categorical of text: every format of anndata stores these."""
    import pandas as pd

    series = pd.Series(values).iloc[rows]
    if pd.api.types.is_numeric_dtype(series.dtype):
        return series.array
    return pd.Categorical(series.astype(object).map(text_of, na_action="ignore"))
