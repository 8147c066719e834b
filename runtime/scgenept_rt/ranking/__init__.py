"""Which perturbations matter: by effect size, by a signature of genes, or by closeness to a state of cells."""

from scgenept_rt.ranking.question import RankBy
from scgenept_rt.ranking.ranking import rank
from scgenept_rt.ranking.scores import Ranking
from scgenept_rt.ranking.search import Search

__all__ = ["RankBy", "Ranking", "Search", "rank"]
