"""Evaluation against measured cells: GEARS's metrics, baselines, splits, and reports."""

from scgenept_rt.evaluation.change_table import change_tables
from scgenept_rt.evaluation.de_genes import DeGenes
from scgenept_rt.evaluation.evaluate import evaluate
from scgenept_rt.evaluation.metrics import metric_names, pearson, perturbation_metrics
from scgenept_rt.evaluation.predicted import PredictedMeans, predict_means
from scgenept_rt.evaluation.prediction_files import (
    holds_predictions,
    read_groups,
    read_predictions,
    summarize_predictions,
)
from scgenept_rt.evaluation.result import Evaluation
from scgenept_rt.evaluation.split import Split, load_split, shipped_splits

__all__ = [
    "DeGenes",
    "Evaluation",
    "PredictedMeans",
    "Split",
    "change_tables",
    "evaluate",
    "holds_predictions",
    "load_split",
    "metric_names",
    "pearson",
    "perturbation_metrics",
    "predict_means",
    "read_groups",
    "read_predictions",
    "shipped_splits",
    "summarize_predictions",
]
