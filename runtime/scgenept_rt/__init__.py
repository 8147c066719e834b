"""Predict how single cells respond to gene perturbations with scGenePT, on ONNX Runtime, without PyTorch.

>>> import scgenept_rt as sgr
>>> model = sgr.load("bundles/scgenept_go_c")
>>> adata = model.predict(control_adata, ["FOSB+ctrl", "SAMD1+ZBTB1"])

Nothing is imported, configured or printed before a name is used.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from scgenept_rt import plotting as pl
    from scgenept_rt.bundle import Bundle
    from scgenept_rt.errors import PredictionWarning, ScgeneptError
    from scgenept_rt.options import ReadOptions
    from scgenept_rt.output.shards import merge_shards
    from scgenept_rt.predictor import MeanAndCells, PredictedRows, Predictor, load
    from scgenept_rt.ranking import Ranking, rank

    __version__: str

__all__ = [
    "Bundle",
    "MeanAndCells",
    "PredictedRows",
    "PredictionWarning",
    "Predictor",
    "Ranking",
    "ReadOptions",
    "ScgeneptError",
    "__version__",
    "load",
    "merge_shards",
    "pl",
    "rank",
]

_MODULES = {
    "Bundle": "bundle",
    "MeanAndCells": "predictor",
    "PredictedRows": "predictor",
    "PredictionWarning": "errors",
    "Predictor": "predictor",
    "Ranking": "ranking",
    "ReadOptions": "options",
    "ScgeneptError": "errors",
    "load": "predictor",
    "merge_shards": "output.shards",
    "rank": "ranking",
}


def __getattr__(name: str) -> Any:
    if name == "pl":
        return import_module("scgenept_rt.plotting")
    if name == "__version__":
        return import_module("importlib.metadata").version("scgenept-rt")
    if name in _MODULES:
        return getattr(import_module(f"scgenept_rt.{_MODULES[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__
