"""Errors of the export stage; see `scgenept_rt.errors` for the others."""

from __future__ import annotations

from scgenept_rt.errors import ScgeneptError


class ExportWarning(UserWarning):
    """The genes of a bundle are doubtful, or its activations are near the range of fp16."""


class CheckpointError(ScgeneptError, ValueError):
    """A checkpoint cannot be read, or is not one of the variant; `where` is its file."""


class GeneListError(ScgeneptError, ValueError):
    """A gene list cannot be read, or its names cannot be a model's genes; `where` is its file."""


class VocabularyError(ScgeneptError, ValueError):
    """A vocabulary cannot be read, or does not fit the checkpoint or the genes; `where` is its file."""


class ExportedGraphError(ScgeneptError):
    """Exported graphs differ from the eager model by more than their tolerance."""


class EngineBuildError(ScgeneptError, RuntimeError):
    """TensorRT-RTX cannot read a graph, or cannot build an engine of it."""
