from __future__ import annotations

import csv
import hashlib
from pathlib import Path

from scgenept_export.gene_list import read_gene_list
from scgenept_export.vocabulary import census_vocabulary

DATA = Path(__file__).parents[1] / "data"
NORMAN = DATA / "norman_genes.csv"


def test_norman_genes_are_those_of_the_published_data() -> None:
    names = read_gene_list(NORMAN).names
    assert len(names) == 5045
    digest = hashlib.sha256("".join(f"{name}\n" for name in names).encode()).hexdigest()
    assert digest == "03ca7b42bb5dbbce7c8e8445fa83db72faa5a9ba681bc23c1c3989bf54456f2d"


def test_norman_genes_have_their_published_tokens_in_the_shipped_vocabulary() -> None:
    with NORMAN.open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    token_ids, in_vocab = census_vocabulary().encode([row["gene_name"] for row in rows])
    assert token_ids == [int(row["scgpt_token_id"]) for row in rows]
    assert in_vocab == [row["in_scgpt_vocab"] == "1" for row in rows]
    assert sum(in_vocab) == 4547
    # Targets of the published screen that the model cannot tell apart.
    outside = {row["gene_name"] for row, known in zip(rows, in_vocab, strict=True) if not known}
    assert {"C19orf26", "C3orf72", "ELMSAN1", "KIAA1804", "RHOXF2BB"} <= outside


def test_data_files_stay_small() -> None:
    sizes = {path: path.stat().st_size for path in DATA.rglob("*") if path.is_file()}
    assert sum(sizes.values()) < 8_000_000
