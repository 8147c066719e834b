"""A panel of eight genes whose names try the grammar of labels."""

from __future__ import annotations

import numpy as np

from scgenept_rt.genes import GenePanel

IDS = tuple(f"ENSG{number:011d}" for number in range(1, 9))
PANEL = GenePanel(
    names=("SAMD1", "FOSB", "ZBTB1", "C19orf26", "KIAA1804", "A_B", "CTRL", "X+Y"),
    ids=IDS,
    in_vocab=np.array([True, True, True, False, False, True, True, True]),
)
