"""How public data sets spell control cells and guides."""

from __future__ import annotations

import re
from collections.abc import Collection

from scgenept_rt.genes import GenePanel

# With one blank in the place of each separator.
_WORD = (
    r"(?:neg(?:ative)? ?)?(?:ctrl|control|ctl)s?|neg|nt[cog]?|(?:no|non) ?target(?:ing|ed)?|nontarg|"
    r"safe ?(?:target(?:ing)?|harbou?r)|safe|aavs1|rosa(?: ?26)?|(?:inter|non ?)genic|non ?gene|no ?site|"
    r"scr(?:ambled?)?|luc(?:iferase)?|[a-z]?e?gfp|mcherry|tdtomato|[bry]fp|lacz|mock|vehicle|dmso(?: tf)?|pbs|"
    r"saline|sham|(?:un|non ?|not ?)(?:treated|perturb(?:ed)?|stimulated|transduced|infected|edited)|unstim|"
    r"wt(?!1\b)|wild ?type|parental|empty ?vector|no ?(?:perturb(?:ation)?|guide|(?:sg|g)rna|ko|treatment)|nc|"
    r"plko(?: 1)?|kontroll?e?|contr[oô]le|t[eé]moin|对照|対照"
)
# WT1 and SCRG1 are genes: short ones stand apart.
_NUMBER = r"\d++|(?:(?:sg|g)rna|guide)s?\d*+"
_BESIDE = rf"(?:{_NUMBER}|s?g\d++|one|sites?|cells?|human|mouse|only|[nuµ]m|\d++h)"
_CONTROL = re.compile(rf"(?:{_BESIDE} )*(?:sg|sh|si)?(?:{_WORD})(?: ?(?:{_WORD}|{_NUMBER})| {_BESIDE})*", re.IGNORECASE)
_UNASSIGNED = re.compile(
    r"|nan|<na>|n/?a|none|null|unassigned|unknown|undetermined|ambiguous|negative|(multi|doub|sing)lets?|[*?.-]",
    re.IGNORECASE,
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
    parts = re.split(r"__|[+;|:&/]|,(?! )", label)  # Tahoe: [('DMSO_TF', 0.0, 'uM')]
    return all(_CONTROL.fullmatch(re.sub(r"[\W_]+", " ", part).strip()) for part in parts)


def is_unassigned(label: str) -> bool:
    """Return whether a label says that a cell has no perturbation assigned, or several."""
    return bool(_UNASSIGNED.fullmatch(label))


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
            bare = piece.removeprefix("sg")
            gene = next((name for name in (piece, bare, re.sub(r"[-.]\d+$", "", bare)) if name in panel), None)
            if gene is not None:
                genes.add(panel.names[panel.position(gene)])
            elif not (is_control(piece) or _REST_OF_GUIDE.fullmatch(piece)):
                return ()
    return tuple(sorted(genes))
