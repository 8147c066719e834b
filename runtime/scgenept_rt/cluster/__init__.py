"""Prediction on a Ray cluster: one process writes the file, workers on any machine run the network."""

from scgenept_rt.cluster.predicting import ClusterPredictor, load, predict_file

__all__ = ["ClusterPredictor", "load", "predict_file"]
