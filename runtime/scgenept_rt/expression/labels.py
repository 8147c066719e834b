"""The labels of cells, and which cells are control cells."""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from scgenept_rt.errors import Caution, ControlCellsError, FieldNotFoundError, Notice, UseOption
from scgenept_rt.expression.annotation import Annotation, no_column
from scgenept_rt.expression.label_columns import LabelColumn, design_columns, label_columns
from scgenept_rt.expression.opened_cells import OpenedCells
from scgenept_rt.genes import GenePanel
from scgenept_rt.perturbation import CONTROL_LABELS
from scgenept_rt.wording import join_limited, pluralize

CONDITION_KEYS = ("condition", "perturbation", "target_gene", "gene")


@dataclass(frozen=True, eq=False)
class ControlRows:
    """Rows that are control cells, in order; all rows if obs has no column that labels cells."""

    rows: NDArray[np.int64]
    condition_key: str | None
    control_labels: tuple[str, ...] = ()  # the most frequent first
    labels: LabelColumn | None = None
    notices: tuple[str, ...] = ()

    @property
    def control_label(self) -> str | None:
        """The most frequent label of control cells."""
        return self.control_labels[0] if self.control_labels else None


def find_control_rows(cells: OpenedCells, panel: GenePanel | None = None) -> ControlRows:
    """Find the control cells by a column of obs: the `condition_key` of the options, or one of `CONDITION_KEYS`.

    If obs has none of these, all cells are control cells, unless another column names perturbations: perturbed cells
    must never be taken for control cells, so the user has to choose the column. The panel's genes show
    which labels and guides are perturbations.

    Raises `FieldNotFoundError` if obs lacks the `condition_key`, or has no column in which to look for the
    `control_label`, and `ControlCellsError` if no cell has a control label, several of `CONTROL_LABELS` occur, the
    column has to be named, or another column says that control cells are perturbed.
    """
    obs, key, label = cells.obs, cells.options["condition_key"], cells.options["control_label"]
    if key is not None and key not in obs.columns:
        choose = UseOption("condition_key", "choose one of these")
        raise no_column("obs", key, obs.columns, choose)
    keys = [name for name in CONDITION_KEYS if name in obs.columns] if key is None else [key]
    given = [label] if isinstance(label, str) else list(label or ())
    if not keys:
        of_columns = _check_other_columns(obs, given, panel)
        taken = f"all cells ({obs.n_rows:,}) are taken as control cells"
        notice = Caution(f"obs has no column {', '.join(CONDITION_KEYS)}: {taken}.")
        return ControlRows(np.arange(obs.n_rows, dtype=np.int64), None, notices=(notice, *of_columns))

    columns = [LabelColumn(name, obs.column(name), panel) for name in keys]
    for column in columns:
        labels = _selected(column, given)
        if labels:
            rows = column.rows(*labels)
            notices: list[str] = [*obs.notices(column.name)]
            if len(keys) > 1:
                chosen = f"control cells are those with {column.name} = {' or '.join(labels)}"
                notices.append(f"obs has the columns {', '.join(keys)}; {chosen}.")
            notices += _contradictions(cells, column.name, rows, panel)
            if others := [label for label in column.controls if label not in labels]:
                listed = f"which are not used: {join_limited(_counted(column, others))}"
                problem = f"obs column {column.name!r} has other labels that may be controls, {listed}"
                take = UseOption("control_label", "take them too", _patterns(column, [*labels, *others]))
                notices.append(Notice(problem, "", [take]))
            return ControlRows(rows, column.name, labels, column, tuple(notices))
    raise _no_control_cells(obs, columns[0], given, panel)


def _selected(column: LabelColumn, given: Sequence[str]) -> tuple[str, ...]:
    """Return the labels of control cells in a column, most frequent first; none if not all of those given occur."""
    counts = column.counts
    if not given:
        found = [label for label in CONTROL_LABELS if label in counts]
        if len(found) > 1:
            listed = " and ".join(_counted(column, found))
            raise ControlCellsError(
                f"obs column {column.name!r} has more than one label that may be the control: {listed}",
                options=[
                    UseOption("control_label", "choose one", found[0]),
                    UseOption("control_label", "take them together", found),
                ],
            )
        return tuple(found)
    chosen: set[str] = set()
    for label in given:
        matches = {label} if label in counts else {name for name in counts if _as_pattern(label).fullmatch(name)}
        perturbed = [name for name in column.perturbed if name in matches and name != label]
        if perturbed:
            listed = join_limited(_counted(column, perturbed))
            raise ControlCellsError(
                f"the pattern {label!r} also selects perturbed cells in obs column {column.name!r}: {listed}",
                options=[UseOption("control_label", "select only control cells", _patterns(column, column.controls))],
            )
        if not matches:
            return ()
        chosen |= matches
    return tuple(label for label in counts if label in chosen)


def _counted(column: LabelColumn, labels: Sequence[str]) -> list[str]:
    return [f"{label!r} ({pluralize(column.counts[label], 'cell')})" for label in labels]


def _as_pattern(label: str) -> re.Pattern[str]:
    # Not fnmatch: labels hold brackets.
    return re.compile(re.escape(label).replace(r"\*", ".*").replace(r"\?", "."))


def _patterns(column: LabelColumn, labels: Sequence[str]) -> str | list[str] | None:
    """Return what to pass to select these labels and no perturbed ones: numbered ones as a pattern."""
    stems: dict[str, list[str]] = {}
    for label in labels:
        stems.setdefault(re.sub(r"[-_ .]?\d+$", "", label), []).append(label)
    chosen: list[str] = []
    for stem, numbered in stems.items():
        pattern = _as_pattern(f"{stem}*")
        others = [name for name in column.counts if pattern.fullmatch(name) and name not in labels]
        chosen += numbered if len(numbered) == 1 or others or not stem else [f"{stem}*"]
    return chosen[0] if len(chosen) == 1 else chosen or None


def _contradictions(cells: OpenedCells, key: str, rows: NDArray[np.int64], panel: GenePanel | None) -> list[str]:
    """Raise if another column says that control cells are perturbed; return a warning if the user named the column."""
    found: dict[str, str] = {}
    for column in label_columns(cells.obs, panel):
        counts = column.counts_in(rows)
        perturbed = [label for label in counts if label in column.perturbed]
        if perturbed and column.name != key and column.names_perturbations:
            n = sum(counts[label] for label in perturbed)
            found[column.name] = f"{column.name!r} ({join_limited(perturbed, 3)} in {n:,} of {len(rows):,})"
    if not found:
        return []
    others = join_limited(list(found.values()))
    problem = f"control cells by obs column {key!r} are perturbed by other columns: {others}"
    options = [UseOption("condition_key", "name the column that labels control cells", _only(found))]
    if cells.options["condition_key"] is not None:
        return [Caution(problem, "", options)]
    options.append(UseOption("condition_key", "keep to this column", key))
    raise ControlCellsError(problem, options=options)


def _check_other_columns(obs: Annotation, given: Sequence[str], panel: GenePanel | None) -> list[str]:
    """Raise if columns that are not looked at by default name perturbations, or cannot be read; return warnings."""
    missing = f"obs has no column {', '.join(CONDITION_KEYS)}"
    columns = {column.name: column for column in label_columns(obs, panel, strict=True)}
    if given:
        holding = [name for name, column in columns.items() if _selected(column, given)]
        found = f"obs has: {join_limited(obs.columns, 12) or 'none'}"
        if holding:
            found = f"it is in {join_limited(holding)}"
        problem = f"{missing} in which to look for the control label {' and '.join(map(repr, given))} ({found})"
        raise FieldNotFoundError(problem, options=[UseOption("condition_key", "name the column", _only(holding))])
    naming = {name: column for name, column in columns.items() if column.names_perturbations}
    if naming:
        held = join_limited([_held(column) for column in naming.values()])
        only = _only(naming)
        options = [UseOption("condition_key", "name the column", only)]
        controls = naming[only].controls if only else ()
        if only and not (len(controls) == 1 and controls[0] in CONTROL_LABELS):
            passed = _patterns(naming[only], controls)
            options.append(UseOption("control_label", "name its label of control cells", passed, together=True))
        raise ControlCellsError(
            f"{missing}, but other columns label control cells or perturbations: {held}",
            f"To take all cells as control cells, remove {only or 'these columns'} from obs",
            options,
        )
    design = design_columns(obs, panel) if panel is not None else []
    if len(design) > 1:
        labels = "(adata.obs[genes] > 0).apply(lambda cell: '+'.join(cell.index[cell]) or 'ctrl', axis=1)"
        raise ControlCellsError(
            "obs columns named by genes of the model hold 0 and 1, as those that mark perturbed cells: "
            f"{join_limited(design)}",
            f"Write these `genes` as one column, such as `adata.obs['condition'] = {labels}`; rename them if they mark "
            "something else",
        )
    return [notice for name in columns for notice in obs.notices(name)]


def _held(column: LabelColumn) -> str:
    shown = column.controls or column.perturbed or tuple(column.counts)
    return f"{column.name!r} holds {join_limited(_counted(column, shown), 3)}"


def _no_control_cells(
    obs: Annotation, column: LabelColumn, given: Sequence[str], panel: GenePanel | None
) -> ControlCellsError:
    expected = " or ".join(repr(label) for label in given or CONTROL_LABELS)
    held = join_limited(_counted(column, list(column.counts)))
    found = f"its most frequent labels: {held}" if held else "it has no labels at all"
    for notice in obs.notices(column.name):
        found += f" ({notice.problem})"
    elsewhere = [
        other.name
        for other in label_columns(obs, panel)
        if other.name != column.name and (_selected(other, given) if given else other.controls)
    ]
    if elsewhere:
        found += f"; such a label is in {join_limited(elsewhere)}"
    n_without = obs.n_rows - sum(column.counts.values())
    remedy = ""
    if held and n_without:
        found += f"; {pluralize(n_without, 'cell has', 'cells have')} no label"
        labelled = f"adata.obs[{column.name!r}]"
        filled = f"{labelled}.astype(object).fillna('').replace('', 'ctrl')"
        remedy = "" if given else f"If these are the control cells, write `{labelled} = {filled}`"
    passed = _patterns(column, [label for label in column.controls if label not in given])
    name_label = UseOption("control_label", "name the label of control cells", passed)
    name_column = UseOption("condition_key", "name another column", _only(elsewhere))
    return ControlCellsError(
        f"obs column {column.name!r} has no control cells, expected {expected}; {found}",
        remedy,
        options=([name_label] if held else []) + ([] if passed else [name_column]),
    )


def _only(names: Collection[str]) -> str | None:
    return next(iter(names)) if len(names) == 1 else None
