"""`scgenept-rt genes`: which genes a model can perturb."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated

from scgenept_rt.cli.options import BundleArgument, with_options
from scgenept_rt.errors import UnknownGeneError
from scgenept_rt.files.text import json_text
from scgenept_rt.options import Option
from scgenept_rt.wording import join_limited

if TYPE_CHECKING:
    from scgenept_rt.genes import GenePanel

_HEADER = ("gene_name", "gene_id", "in_vocab")


@with_options()
def genes(
    bundle: BundleArgument,
    search: Annotated[
        str | None, Option(None, "Only genes whose name or Ensembl id contains this, in any case.", "STR")
    ],
    in_vocab: Annotated[bool, Option(False, "Only genes in the vocabulary, which the model knows by name.")],
    json_output: Annotated[bool, Option(False, "Print a JSON list.", flag="--json")],
) -> None:
    """List the genes that a model reads, predicts and can perturb; tab-separated when piped."""
    from scgenept_rt.bundle import Bundle
    from scgenept_rt.genes import GenePanel

    # Only the manifest is read: the graphs' checksums would take longer than everything else.
    panel = GenePanel.from_manifest(Bundle.open(bundle, check_files=False).manifest)
    found = list(range(len(panel))) if search is None else _matching(panel, search.strip())
    positions = [position for position in found if panel.in_vocab[position] or not in_vocab]
    if not positions:
        names = join_limited([panel.names[position] for position in found])
        raise UnknownGeneError(f"no gene found is in the vocabulary ({names})", "List them without --in-vocab")
    rows = [(panel.names[at], panel.ids[at], bool(panel.in_vocab[at])) for at in positions]
    if json_output:
        print(json_text([dict(zip(_HEADER, row, strict=True)) for row in rows]))
    else:
        table = [_HEADER, *((name, gene_id or "", "yes" if known else "no") for name, gene_id, known in rows)]
        columns = sys.stdout is not None and sys.stdout.isatty()  # None: closed by the caller
        width, id_width = (max(len(row[at]) for row in table) for at in (0, 1))
        for name, gene_id, known in table:
            print(f"{name:<{width}}  {gene_id:<{id_width}}  {known}" if columns else f"{name}\t{gene_id}\t{known}")


def _matching(panel: GenePanel, search: str) -> list[int]:
    from scgenept_rt.genes import ensembl_id

    positions = panel.find(ensembl_id(search.upper()) or search)
    if positions:
        return positions
    near = panel.suggestions(search)
    remedy = f"Did you mean {' or '.join(near)}?" if near else "Search for a shorter part of the name"
    raise UnknownGeneError(f"none of the model's {len(panel):,} genes has {search!r} in its name or Ensembl id", remedy)
