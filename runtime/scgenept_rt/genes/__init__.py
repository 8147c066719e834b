"""The model's genes: look-up by symbol or Ensembl id, and matching them with the columns of an input."""

from scgenept_rt.genes.matching import GeneMatch, match_columns
from scgenept_rt.genes.panel import GenePanel, at_line, ensembl_id, panel_warnings

__all__ = ["GeneMatch", "GenePanel", "at_line", "ensembl_id", "match_columns", "panel_warnings"]
