"""Parts that several processes divide a run into, and how they are put together."""

from __future__ import annotations

import re
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd
from anndata.io import read_elem
from numpy.typing import NDArray
from pandas.api.types import union_categoricals

from scgenept_rt.errors import ArgumentError, ShardsError
from scgenept_rt.expression.stored_element import check_chunks, checked, row_names
from scgenept_rt.files.failures import failed_reads
from scgenept_rt.files.hashing import state_of
from scgenept_rt.files.stores import open_store
from scgenept_rt.output.destination import cells_path, open_table
from scgenept_rt.output.partial_table import PartialTable, finish_all
from scgenept_rt.output.table_spec import N_CONTROLS, RUN_DIGEST, SHARD_KEY, UNS_KEY, TableSpec
from scgenept_rt.output.work_directory import differences
from scgenept_rt.wording import join_limited, pluralize

_BLOCK_VALUES = 1 << 20
_PART = re.compile(r"(?P<stem>.+)\.shard-(?P<number>\d+)-of-(?P<count>\d+)(?P<ending>(\.cells)?(?P<suffix>\.[^.]+))")
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
        """Return which means of a run belong to the part; raise `ArgumentError` if a part would be empty.

        `starts` are the first row of each mean's cells, and the number of rows; `bounds` the means that a part may
        begin with, and the number of means.
        """
        n_means = len(starts) - 1
        if self.count > n_means:
            raise ArgumentError(
                f"shard is {str(self)!r}, but the run has {pluralize(n_means, 'mean')}",
                f"Use at most {pluralize(n_means, 'part')}",
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
    return (part.with_name(f"{found['stem']}{found['suffix']}"), found["ending"]) if found else None


def merge_shards(
    out: str | Path,
    *,
    overwrite: bool = False,
    resume: bool = False,
    command: str = "",
    progress: Callable[[int, int], None] | None = None,
    on_notice: Callable[[str], None] | None = None,
) -> list[Path]:
    """Put the parts of a run together that `predict_file` wrote with `shard`; the parts stay.

    Parameters
    ----------
    out
        The output that the parts were written for. Of the aggregate "both" the cells are merged too.
    overwrite
        Replace an output that exists.
    resume
        Continue an interrupted merge.
    command
        The command that continues it, for messages.
    progress
        Called with the rows that are written, and their total.
    on_notice
        Called with each warning message.

    Returns
    -------
    list of Path
        The files written: byte for byte those of an undivided run on the same type of machine.

    Raises
    ------
    ShardsError
        If parts are missing, unfinished or of another run.
    OutputError
        If the output cannot be written.
    """
    out = Path(out)
    outputs = {out: _read_parts(out, find_parts(out, out.suffix))}
    if outputs[out][0].shard["aggregate"] == "both":
        cells = cells_path(out)
        outputs[cells] = _read_parts(out, find_parts(out, cells.name.removeprefix(out.stem)))
    with ExitStack() as stack:
        tables = []
        for path, parts in outputs.items():
            settings = {"merged parts": [part.path.name for part in parts], "run": parts[0].shard[RUN_DIGEST]}
            table = open_table(
                path,
                _whole(parts),
                settings=settings,
                overwrite=overwrite,
                resume=resume,
                command=command,
                on_notice=on_notice,
            )
            tables.append(stack.enter_context(table))
        total = sum(table.n_rows for table in tables)
        for table, parts in zip(tables, outputs.values(), strict=True):
            for _ in _copy(parts, table):
                table.commit()
                if progress is not None:
                    progress(sum(table.n_written for table in tables), total)
        for part in chain.from_iterable(outputs.values()):
            if state_of(part.path) != part.state:
                for table in tables:
                    table.abort()  # nobody knows which rows are of which file
                raise ShardsError(f"{part.path.name} was changed while it was merged", "Merge again", where=out)
        return finish_all(tables)


@dataclass(frozen=True)
class _Part:
    path: Path
    state: Hashable
    spec: TableSpec
    shard: Mapping[str, Any]

    @property
    def skipped_rows(self) -> int:
        """Control cells that every part begins with in the cell-eval format; those of the first are kept."""
        return int(self.shard["n_control_rows"]) if self.shard["number"] > 1 else 0


def find_parts(out: Path, ending: str) -> list[Path]:
    """Return the files of all parts, in order.

    `ending` is that of the files: of the output, or ``.cells`` and it. Raises `ShardsError` if there are none, some are
    missing, or they are of different divisions.
    """
    finished, begun, counts = {}, set(), set()
    for path in out.parent.glob("*"):
        match = _PART.fullmatch(path.name.removesuffix(".partial"))
        if match and (match["stem"], match["ending"]) == (out.stem, ending):
            counts.add(int(match["count"]))
            if path.suffix == ".partial":
                begun.add(int(match["number"]))
            else:
                finished[int(match["number"])] = path
    if not counts:
        problem = f"there is no file {out.stem}.shard-I-of-N{ending} in {out.parent.resolve()}"
        part_of = output_of_part(out)
        remedy = f"Give the output of which it is a part: {part_of[0]}" if part_of else "Predict the parts"
        raise ShardsError(problem, remedy, where=out)
    if len(counts) > 1:
        problem = f"there are parts of runs that were divided by {' and by '.join(map(str, sorted(counts)))}"
        raise ShardsError(problem, "Move the parts of all but one run away", where=out)
    (count,) = counts
    missing = [number for number in range(1, count + 1) if number not in finished]
    if missing:
        words = [f"{n}/{count}{' (begun, not finished)' if n in begun else ''}" for n in missing]
        raise ShardsError(
            f"of {pluralize(count, 'part')}, {len(missing):,} cannot be merged: {join_limited(words, 10)}",
            "Predict them with the command of the others, resuming those that are begun, and merge again",
            where=out,
        )
    return [finished[number] for number in range(1, count + 1)]


def _read_parts(out: Path, paths: Sequence[Path]) -> list[_Part]:
    """Read all but the values of the parts, and check that they are of one run."""
    parts = [_read_part(path) for path in paths]
    first = parts[0]
    for number, part in enumerate(parts, start=1):
        stated, expected = (Shard(int(p.shard["number"]), int(p.shard["count"])) for p in (part, first))
        if stated != Shard(number, expected.count):
            problem = f"{part.path.name} holds part {stated}, not what its name says"
            raise ShardsError(problem, "Rename it, or predict the part again", where=out)
        if part.shard[RUN_DIGEST] != first.shard[RUN_DIGEST]:
            words = f"in part {Shard(1, expected.count)}", f"in part {stated}"
            found = list(differences(first.shard["settings"], part.shard["settings"], words=words))
            raise ShardsError(
                f"{part.path.name} is of another run than {first.path.name}:\n  "
                + "\n  ".join(found or ["other rows or genes"]),
                "Predict all parts with the same bundle, cells, perturbations and options",
                where=out,
            )
    return parts


def _read_part(path: Path) -> _Part:
    state = state_of(path)
    with failed_reads(ShardsError, path, remedy="Predict this part again"), open_store(path) as store:
        uns = read_elem(checked(store["uns"])).get(UNS_KEY, {})
        if SHARD_KEY not in uns:
            raise ShardsError("this is no part of a run", "Move it away, or predict the part", where=path)
        for name in ("obs", "var"):
            row_names(store[name])
        obs, var = (read_elem(checked(store[name])) for name in ("obs", "var"))
        shard = uns.pop(SHARD_KEY)
        kind: Literal["mean", "cells"] = "mean" if N_CONTROLS in obs else "cells"
        clipped = bool(uns.get("clipped_at_zero", False))
        spec = TableSpec(kind, obs, var, tuple(shard["layers"]), uns, clip_at_zero=clipped)
        for name, dtype in spec.arrays.items():
            if store[name].shape != (len(obs), *dtype.shape):
                raise ValueError("its values do not fit obs and var")
            check_chunks(store[name], name)
        return _Part(path, state, spec, shard)


def _whole(parts: Sequence[_Part]) -> TableSpec:
    """Return the table that the parts make together."""
    first, frames = parts[0], [part.spec.obs_rows(part.skipped_rows) for part in parts]
    for part, frame in zip(parts, frames, strict=True):
        if list(frame) != list(frames[0]):
            problem = f"its columns of obs are not those of {first.path.name}"
            raise ShardsError(problem, "Predict the part again that was edited", where=part.path)
    columns: dict[Any, Any] = {}
    for name in frames[0]:  # one by one: other categories in each part would make all columns objects at once
        of_parts = [frame[name] for frame in frames]
        categorical = isinstance(of_parts[0].dtype, pd.CategoricalDtype)
        columns[name] = union_categoricals(of_parts) if categorical else pd.concat(of_parts).array
    obs = pd.DataFrame(columns, index=frames[0].index.append([frame.index for frame in frames[1:]]))
    return replace(first.spec, obs=obs, uns={**first.spec.uns, RUN_DIGEST: first.shard[RUN_DIGEST]})


def _copy(parts: Sequence[_Part], table: PartialTable) -> Iterator[int]:
    """Write the rows that the table lacks, a block at a time; yield how many it has."""
    begin = 0
    for part in parts:
        n_skipped, n_rows = part.skipped_rows, part.spec.n_rows - part.skipped_rows
        step = max(1, _BLOCK_VALUES // len(part.spec.var))
        with failed_reads(ShardsError, part.path, remedy="Predict this part again"), open_store(part.path) as store:
            while table.n_written < begin + n_rows:
                start = n_skipped + table.n_written - begin
                rows = slice(start, min(start + step, n_skipped + n_rows))
                table.write({name: store[name][rows] for name in part.spec.arrays})
                yield table.n_written
        begin += n_rows
