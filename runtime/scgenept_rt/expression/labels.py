"""The labels of cells, and which cells are control cells."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from scgenept_rt.errors import Caution, ControlCellsError, FieldNotFoundError, Notice, ScgeneptError, UseOption
from scgenept_rt.expression.annotation import Annotation, no_column
from scgenept_rt.expression.label_columns import LabelColumn, Labels, design_columns, label_columns
from scgenept_rt.genes import GenePanel
from scgenept_rt.perturbation import CONTROL_LABELS
from scgenept_rt.wording import join_limited, pluralize

CONDITION_KEYS = ("condition", "perturbation", "target_gene", "gene")
_N_FREQUENT = 5


@dataclass(frozen=True, eq=False)
class ControlRows:
    """Rows that are control cells, in order.

    Attributes
    ----------
    rows
        int64 [n_control_cells].
    condition_key, control_labels, labels
        The obs column that labels cells, its labels of control cells (the most frequent first), and all its labels;
        None and none if obs has no such column and all rows are control cells.
    notices
        Messages for the user.
    """

    rows: NDArray[np.int64]
    condition_key: str | None
    control_labels: tuple[str, ...] = ()
    labels: Labels | None = None
    notices: tuple[str, ...] = ()

    @property
    def control_label(self) -> str | None:
        """The most frequent label of control cells."""
        return self.control_labels[0] if self.control_labels else None


def find_control_rows(
    obs: Annotation,
    where: str,
    condition_key: str | None = None,
    control_label: str | Sequence[str] | None = None,
    panel: GenePanel | None = None,
) -> ControlRows:
    """Find the control cells by a column of obs.

    Parameters
    ----------
    condition_key
        The column; by default the first of `CONDITION_KEYS` that holds a control label. If obs has none of these, all
        cells are control cells, unless some other column names perturbations: perturbed cells must never be taken for
        control cells, so the user has to choose the column.
    control_label
        One or more labels, or patterns with `*` and `?`; by default the one of `CONTROL_LABELS` that occurs.
    panel
        The model's genes, by which labels and guides are known for perturbations.

    Raises
    ------
    FieldNotFoundError
        If obs lacks `condition_key`, or has no column in which to look for `control_label`.
    ControlCellsError
        If no cell has a control label, several of `CONTROL_LABELS` occur, the column has to be named, or another
        column says that control cells are perturbed.
    """
    if condition_key is not None and condition_key not in obs.columns:
        choose = UseOption("condition_key", "choose one of these")
        raise no_column("obs", condition_key, obs.columns, choose, where)
    keys = [key for key in CONDITION_KEYS if key in obs.columns] if condition_key is None else [condition_key]
    given = [control_label] if isinstance(control_label, str) else list(control_label or ())
    if not keys:
        of_columns = _check_other_columns(obs, where, given, panel)
        taken = f"all {obs.n_rows:,} cells are taken as control cells"
        if obs.n_rows == 1:
            taken = "its only cell is taken as a control cell"
        notice = Caution(f"obs has no column {', '.join(CONDITION_KEYS)}: {taken}.")
        return ControlRows(np.arange(obs.n_rows, dtype=np.int64), None, notices=(notice, *of_columns))

    columns = [LabelColumn(key, Labels(obs.column(key)), panel) for key in keys]
    for column in columns:
        labels = _selected(column, given, where)
        if labels:
            rows = column.labels.rows(*labels)
            notices: list[str] = [*obs.notices(column.name)]
            if len(keys) > 1:
                named = " or ".join(labels)
                notices.append(
                    f"obs has the columns {', '.join(keys)}; control cells are those with {column.name} = {named}."
                )
            notices += _contradictions(obs, where, column.name, rows, panel, chosen=condition_key is not None)
            notices += _other_controls(column, labels)
            return ControlRows(rows, column.name, labels, column.labels, tuple(notices))
    raise _no_control_cells(obs, where, columns[0], given, panel)


def _selected(column: LabelColumn, given: Sequence[str], where: str) -> tuple[str, ...]:
    """Return the labels of control cells in a column, most frequent first; none if not all of those given occur."""
    counts = column.counts
    if not given:
        found = [label for label in CONTROL_LABELS if label in counts]
        if len(found) > 1:
            listed = " and ".join(f"{label!r} ({pluralize(counts[label], 'cell')})" for label in found)
            raise ControlCellsError(
                f"obs column {column.name!r} has more than one label that may be the control: {listed}",
                options=[
                    UseOption("control_label", "choose one", found[0]),
                    UseOption("control_label", "take them together", found),
                ],
                where=where,
            )
        return tuple(found)
    chosen: set[str] = set()
    for label in given:
        matches = {label} if label in counts else {name for name in counts if _as_pattern(label).fullmatch(name)}
        perturbed = [name for name in counts if name in matches and name != label and name in column.perturbed]
        if perturbed:
            listed = join_limited([f"{name!r} ({pluralize(counts[name], 'cell')})" for name in perturbed])
            raise ControlCellsError(
                f"the pattern {label!r} also selects perturbed cells in obs column {column.name!r}: {listed}",
                options=[UseOption("control_label", "select only control cells", _patterns(column, column.controls))],
                where=where,
            )
        if not matches:
            return ()
        chosen |= matches
    return tuple(label for label in counts if label in chosen)


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


def _contradictions(
    obs: Annotation, where: str, key: str, rows: NDArray[np.int64], panel: GenePanel | None, *, chosen: bool
) -> list[str]:
    """Raise if another column says that control cells are perturbed; return a warning if the user named the column."""
    found: dict[str, str] = {}
    for column in label_columns(obs, panel):
        counts = column.labels.counts(rows)
        perturbed = [label for label in counts if label in column.perturbed]
        if perturbed and column.name != key and column.names_perturbations:
            n = sum(counts[label] for label in perturbed)
            found[column.name] = f"{column.name!r} ({join_limited(perturbed, 3)} in {n:,} of {len(rows):,})"
    if not found:
        return []
    problem = (
        f"control cells by obs column {key!r} are perturbed by other columns: {join_limited(list(found.values()))}"
    )
    options = [UseOption("condition_key", "name the column that labels control cells", _only(found))]
    if chosen:
        return [Caution(f"Warning: {problem}", "", options)]
    raise ControlCellsError(
        problem, options=[*options, UseOption("condition_key", "keep to this column", key)], where=where
    )


def _other_controls(column: LabelColumn, labels: Sequence[str]) -> list[str]:
    others = [label for label in column.controls if label not in labels]
    if not others:
        return []
    listed = join_limited([f"{label!r} ({pluralize(column.counts[label], 'cell')})" for label in others])
    passed = _patterns(column, [*labels, *others])
    return [
        Notice(
            f"obs column {column.name!r} has other labels that may be controls, which are not used: {listed}",
            "",
            [UseOption("control_label", "take them too", passed)],
        )
    ]


def _check_other_columns(obs: Annotation, where: str, given: Sequence[str], panel: GenePanel | None) -> list[str]:
    """Raise if columns that are not looked at by default name perturbations, or cannot be read; return warnings."""
    columns = {column.name: column for column in label_columns(obs, panel, strict=True)}
    notices: list[str] = [notice for name in columns for notice in obs.notices(name)]
    if given:
        holding = [name for name, column in columns.items() if _selected(column, given, where)]
        found = (
            f"it is in {join_limited(holding)}" if holding else f"obs has: {join_limited(obs.columns, 12) or 'none'}"
        )
        raise FieldNotFoundError(
            f"obs has no column {', '.join(CONDITION_KEYS)} in which to look for the control label "
            f"{' and '.join(map(repr, given))} ({found})",
            options=[UseOption("condition_key", "name the column", _only(holding))],
            where=where,
        )
    columns = {name: column for name, column in columns.items() if column.names_perturbations}
    design = design_columns(obs, panel) if panel is not None and not columns else []
    if len(design) > 1:
        labels = "(adata.obs[genes] > 0).apply(lambda cell: '+'.join(cell.index[cell]) or 'ctrl', axis=1)"
        raise ControlCellsError(
            "obs columns named by genes of the model hold 0 and 1, as those that mark perturbed cells: "
            f"{join_limited(design)}",
            f"Write these `genes` as one column, such as `adata.obs['condition'] = {labels}`; rename them if they mark "
            "something else",
            where=where,
        )
    if not columns:
        return notices
    only = _only(columns)
    options = [UseOption("condition_key", "name the column", only)]
    controls = columns[only].controls if only else ()
    if only and not (len(controls) == 1 and controls[0] in CONTROL_LABELS):
        passed = _patterns(columns[only], controls)
        options.append(UseOption("control_label", "name its label of control cells", passed, together=True))
    raise ControlCellsError(
        f"obs has no column {', '.join(CONDITION_KEYS)}, but other columns label control cells or perturbations: "
        f"{join_limited([_held(column, obs.n_rows) for column in columns.values()])}",
        f"To take all cells as control cells, remove {only or 'these columns'} from obs",
        options,
        where=where,
    )


def _held(column: LabelColumn, n_obs: int) -> str:
    shown = column.controls or column.perturbed or tuple(column.counts)
    held = [f"{label!r} ({column.counts[label]:,} of {n_obs:,} cells)" for label in shown]
    return f"{column.name!r} holds {join_limited(held, 3)}"


def _no_control_cells(
    obs: Annotation, where: str, column: LabelColumn, given: Sequence[str], panel: GenePanel | None
) -> ScgeneptError:
    expected = " or ".join(repr(label) for label in given or CONTROL_LABELS)
    frequent = [f"{label!r} ({count:,})" for label, count in list(column.counts.items())[:_N_FREQUENT]]
    found = f"its most frequent labels: {', '.join(frequent)}" if frequent else "it has no labels at all"
    for notice in obs.notices(column.name):
        found += f" ({notice.problem})"
    elsewhere = [
        other.name
        for other in label_columns(obs, panel)
        if other.name != column.name and (_selected(other, given, where) if given else other.controls)
    ]
    if elsewhere:
        found += f"; such a label is in {join_limited(elsewhere)}"
    likely = [label for label in column.controls if label not in given]
    passed = _patterns(column, likely)
    name_label = UseOption("control_label", "name the label of control cells", passed)
    name_column = UseOption("condition_key", "name another column", _only(elsewhere))
    return ControlCellsError(
        f"obs column {column.name!r} has no control cells, expected {expected}; {found}",
        options=([name_label] if frequent else []) + ([] if passed else [name_column]),
        where=where,
    )


def _only(names: Iterable[str]) -> str | None:
    names = list(names)
    return names[0] if len(names) == 1 else None
