"""Opening a model for a command."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from scgenept_rt.cli.messages import note, say
from scgenept_rt.options import EngineOptions

if TYPE_CHECKING:
    from scgenept_rt.predictor import Predictor


@contextmanager
def open_model(
    bundle: Path, engine: EngineOptions, *, check: bool = True, ray: str | None = None, workers: int | None = None
) -> Iterator[Predictor]:
    """Open a bundle for prediction, print which provider was chosen, and compare its reference cells.

    Parameters
    ----------
    ray
        Address of a Ray cluster whose `workers` predict; empty for the one of this machine, None for none.
    """
    from scgenept_rt import cluster
    from scgenept_rt.predictor import load
    from scgenept_rt.verification import check_reference

    if ray is None:
        opened = load(bundle, on_notice=note, **engine)
    else:
        opened = cluster.load(bundle, address=ray or None, workers=workers, check=check, on_notice=note, **engine)
    with opened as model:
        say(f"provider: {model.choice_reason}, {model.precision}")
        if check and ray is None:
            check_reference(model.bundle, model.session).raise_if_missed()
        if model.bundle.manifest.synthetic:
            note("this bundle's weights are synthetic; its predictions mean nothing in biology.")
        yield model
