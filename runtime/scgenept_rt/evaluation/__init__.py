"""Evaluation against measured cells: GEARS's metrics, baselines, splits, and a report."""

from scgenept_rt.evaluation.de_genes import DeGenes
from scgenept_rt.evaluation.errors import (
    EvaluationError,
    NoTestPerturbationsError,
    NotPredictionsError,
    PerturbationNotObservedError,
    PerturbationNotPredictedError,
    PredictionFileError,
    ReportWriteError,
    SplitFormatError,
    SplitNotFoundError,
    SubgroupError,
)
from scgenept_rt.evaluation.evaluate import evaluate
from scgenept_rt.evaluation.metrics import metric_names, pearson, perturbation_metrics
from scgenept_rt.evaluation.predicted import PredictedMeans, predict_means, read_predictions
from scgenept_rt.evaluation.result import Evaluation
from scgenept_rt.evaluation.split import Split, load_split, shipped_splits
from scgenept_rt.evaluation.tables import ALL_TESTED

__all__ = [
    "ALL_TESTED",
    "DeGenes",
    "Evaluation",
    "EvaluationError",
    "NoTestPerturbationsError",
    "NotPredictionsError",
    "PerturbationNotObservedError",
    "PerturbationNotPredictedError",
    "PredictedMeans",
    "PredictionFileError",
    "ReportWriteError",
    "Split",
    "SplitFormatError",
    "SplitNotFoundError",
    "SubgroupError",
    "evaluate",
    "load_split",
    "metric_names",
    "pearson",
    "perturbation_metrics",
    "predict_means",
    "read_predictions",
    "shipped_splits",
]
