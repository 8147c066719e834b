"""Prediction: the public `load` and `Predictor`, and the loop that feeds batches to a session."""

from scgenept_rt.predictor.aggregation import PredictedRows
from scgenept_rt.predictor.loading import load
from scgenept_rt.predictor.predictor import MeanAndCells, Predictor
from scgenept_rt.predictor.schedule import Progress

__all__ = ["MeanAndCells", "PredictedRows", "Predictor", "Progress", "load"]
