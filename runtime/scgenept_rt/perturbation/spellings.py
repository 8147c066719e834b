"""How public data sets spell control cells and guides."""

from __future__ import annotations

import re
from collections.abc import Collection

from scgenept_rt.genes import GenePanel

_CONTROL_WORD = re.compile(
    r"(?:neg(?:ative)?[-_ .]?)?(?:ctrl|control)s?|neg|ntc?|no[-_ .]?target|"
    r"non[-_ .]?target(?:ing|ed)?(?:[-_ .]?(?:ctrl|control|(?:sg|g)rna|guide)s?)?|"
    r"safe[-_ .]?(?:target(?:ing)?|harbou?r)|aavs1|rosa(?:[-_ .]?26)?|(?:one[-_ .])?intergenic(?:[-_ .]site)?|"
    r"scrambled?|luc(?:iferase)?|[a-z]?e?gfp|lacz|mock|vehicle|dmso(?:_tf)?|untreated|unperturbed|unstimulated|"
    r"ctl|wt|wild[-_ ]?type|empty[-_ ]?vector|no[-_ ]?perturbation|parental",
    re.IGNORECASE,
)
_UNASSIGNED = re.compile(
    r"|nan|<na>|n/?a|none|null|unassigned|unknown|undetermined|ambiguous|negative|(multi|doub|sing)lets?|[*?.-]",
    re.IGNORECASE,
)
_GUIDE_NUMBERS = (
    re.compile(r"[-_ .#]*\d+$"),
    re.compile(r"[-_ .#]*(?:sgrna|grna|guide|sg|g)[-_ .#]*\d+$", re.IGNORECASE),
)
_SEPARATORS = re.compile(r"__|[+;,|:&/\s()]+")
# Besides the gene: its number, promoters and coordinates (Replogle), a plasmid (Adamson), a response (mixscape).
_REST_OF_GUIDE = re.compile(
    r"(?:sgrna|grna|guide|sg|g)?[-.#]?\d*|P1|P2|P1P2|[\d.]+-P1|[\d.]+-P2|[\d.]+-P1P2|p|p[A-Z]{2}\d+|mod|"
    r"KO|KD|NP|OE|CRISPR[ain]?|-",
    re.IGNORECASE,
)


def is_control_word(label: str) -> bool:
    """Return whether a label is a usual word for control cells in any case, numbered or not, or several of them."""
    parts = re.split(r"__|[+;,|:&/]", label.strip())
    return all(_is_word(part) or all(map(_is_word, part.split("_"))) for part in parts)


def is_unassigned(label: str) -> bool:
    """Return whether a label says that a cell has no perturbation assigned, or several."""
    return bool(_UNASSIGNED.fullmatch(label))


def _is_word(text: str) -> bool:
    bare = text.removeprefix("sg")
    return any(_CONTROL_WORD.fullmatch(word) for word in (bare, *(number.sub("", bare) for number in _GUIDE_NUMBERS)))


def guide_targets(label: str, panel: GenePanel, control_labels: Collection[str] = ()) -> tuple[str, ...]:
    """Return the genes of the model that a label or the name of a guide targets, sorted.

    Reads `KLF1_g2`, `sgKLF1`, `KLF1-1`, `KLF1;BAK1`, Norman's `KLF1_NegCtrl0__KLF1_NegCtrl0`, Replogle's
    `5_KLF1_P1P2_ENSG00000105610` and the like. Empty for controls, and for what cannot be read as a whole.
    """

    def is_control(text: str) -> bool:
        return text in control_labels or is_control_word(text)

    genes: set[str] = set()
    for part in [label.strip()] if label.strip() in panel else _SEPARATORS.split(label.strip()):
        for piece in [part] if part in panel or is_control(part) else part.split("_"):
            gene = next((name for name in _without_numbers(piece) if name in panel), None)
            if gene is not None:
                genes.add(panel.names[panel.position(gene)])
            elif not (is_control(piece) or _REST_OF_GUIDE.fullmatch(piece)):
                return ()
    return tuple(sorted(genes))


def _without_numbers(piece: str) -> tuple[str, ...]:
    bare = piece.removeprefix("sg")
    return piece, bare, re.sub(r"[-.]\d+$", "", bare)
