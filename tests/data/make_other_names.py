"""Make `runtime/scgenept_rt/genes/other_names.tsv.xz` from HGNC's table; the README beside it says where that is from.

python tests/data/make_other_names.py hgnc_entries.tsv
"""

from __future__ import annotations

import csv
import lzma
import sys
from collections import defaultdict
from pathlib import Path

from scgenept_export.gene_list import SHIPPED, read_gene_list

OUT = Path(__file__).parents[2] / "runtime/scgenept_rt/genes/other_names.tsv.xz"


def main(table: Path) -> None:
    names_of: dict[str, set[str]] = defaultdict(set)  # by HGNC id
    entry_of: dict[str, str] = {}
    with table.open(encoding="utf-8") as file:
        for row in csv.DictReader(file, delimiter="\t"):
            if row["Status"] == "Approved":
                previous = filter(None, map(str.strip, row["Previous symbols"].split(",")))
                names_of[row["HGNC ID"]] |= {row["Approved symbol"], *previous}
                if row["Ensembl gene ID"]:
                    entry_of[row["Ensembl gene ID"]] = row["HGNC ID"]
    panel_names: dict[str, set[str]] = defaultdict(set)  # by Ensembl id
    for dataset in SHIPPED:
        genes = read_gene_list(dataset)
        for name, gene_id in zip(genes.names, genes.ids, strict=True):
            panel_names[gene_id].add(name)
            entry = entry_of.setdefault(gene_id, gene_id)
            names_of[entry].add(name)
    meanings = defaultdict(set)
    for entry, names in names_of.items():
        for name in names:
            meanings[name].add(entry)
    lines = []
    for gene_id in sorted(panel_names):
        # A name that another gene has or had would be a guess, and NA, ON and OK are words too.
        names = sorted(
            name
            for name in names_of[entry_of[gene_id]]
            if len(meanings[name]) == 1 and (len(name) > 2 or name in panel_names[gene_id])
        )
        if len(names) > 1:
            lines.append("\t".join([gene_id, *names]))
    OUT.write_bytes(lzma.compress("\n".join(lines).encode(), preset=9 | lzma.PRESET_EXTREME))
    print(f"wrote {OUT}: {len(lines):,} genes, {OUT.stat().st_size:,} bytes")


main(Path(sys.argv[1]))
