"""Prediction: the public `load` and `Predictor`, and the batch loop that feeds a session."""

from scgenept_rt.predictor.batches import Progress
from scgenept_rt.predictor.loading import load
from scgenept_rt.predictor.predictor import MeanAndCells, Predictor
from scgenept_rt.predictor.run import PredictedRows

__all__ = ["MeanAndCells", "PredictedRows", "Predictor", "Progress", "load"]
