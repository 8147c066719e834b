"""Which perturbations matter: by effect size, by a signature of genes, or by closeness to a state of cells."""

from scgenept_rt.ranking.question import RankBy, check_question
from scgenept_rt.ranking.ranking import rank
from scgenept_rt.ranking.result import Ranking
from scgenept_rt.ranking.screen import Screen

__all__ = ["RankBy", "Ranking", "Screen", "check_question", "rank"]
