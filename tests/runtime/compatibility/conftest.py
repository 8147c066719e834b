"""A network for the checks of files."""

from __future__ import annotations

from pathlib import Path

import pytest

from scgenept_rt.bundle import Bundle
from scgenept_rt.predictor import Predictor, load


@pytest.fixture(scope="module")
def bundle(bundle: Path) -> Bundle:
    """A network of 24 genes, some of them out of the vocabulary."""
    return Bundle.open(bundle)


@pytest.fixture(scope="module")
def predictor(bundle: Bundle) -> Predictor:
    return load(bundle, provider="cpu")
