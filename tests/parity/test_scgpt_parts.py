"""Our encoders, decoder and vocabulary against the real ones of the package scgpt 0.2.4.

`scgpt/__init__.py` imports the whole training stack, torchtext and GPU-only packages among it. So bare package modules
are set up in its place and `scgpt/model/model.py` alone is run, with its own `dsbn.py` and `grad_reverse.py`. Nothing
is stubbed there: tqdm is installed for its one other import, and flash_attn is optional.
"""

from __future__ import annotations

import json
import sys
import types
import warnings
from collections.abc import Iterator
from importlib.machinery import PathFinder
from importlib.metadata import version
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path

import pytest
import torch
from torch import nn

from scgenept_export.model import ContinuousValueEncoder, ExprDecoder, GeneEncoder
from scgenept_export.vocabulary import SPECIAL_TOKENS, census_vocabulary

D_MODEL = 32
MISSING = "the package scgpt is not installed: `make test` does it, or `pip install --no-deps scgpt==0.2.4 tqdm`"


@pytest.fixture(scope="module")
def scgpt_directory() -> Path:
    spec = PathFinder.find_spec("scgpt")  # finds, does not import
    if spec is None or spec.origin is None:
        pytest.fail(MISSING)
    return Path(spec.origin).parent


@pytest.fixture(scope="module")
def real(scgpt_directory: Path) -> Iterator[types.ModuleType]:
    before = set(sys.modules)
    for name in ("scgpt", "scgpt.model"):
        package = types.ModuleType(name)
        package.__path__ = [str(scgpt_directory.joinpath(*name.split(".")[1:]))]
        sys.modules[name] = package
    spec = spec_from_file_location("scgpt.model.model", scgpt_directory / "model" / "model.py")
    assert spec is not None
    assert spec.loader is not None
    module = module_from_spec(spec)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="flash_attn is not installed")
        spec.loader.exec_module(module)
    yield module
    for name in set(sys.modules) - before:
        if name.split(".")[0] == "scgpt":
            del sys.modules[name]


def same_weights(theirs: nn.Module, ours: nn.Module) -> None:
    """Randomise the real part, and load its state dict into ours by name, strictly."""
    torch.manual_seed(5)
    with torch.no_grad():
        for parameter in theirs.parameters():
            parameter.copy_(torch.randn(parameter.shape))
    ours.load_state_dict(theirs.state_dict(), strict=True)
    theirs.eval()
    ours.eval()


def test_it_is_version_0_2_4(scgpt_directory: Path) -> None:
    assert version("scgpt") == "0.2.4"
    assert '__version__ = "0.2.4"' in (scgpt_directory / "__init__.py").read_text()


def test_continuous_value_encoder(real: types.ModuleType) -> None:
    theirs, ours = real.ContinuousValueEncoder(D_MODEL, dropout=0.1), ContinuousValueEncoder(D_MODEL)
    same_weights(theirs, ours)
    values = torch.tensor([[0.0, 0.3, 1.7, 8.0, 511.9, 512.0], [512.1, 600.0, 1e6, -0.5, -3.0, -1e4]])
    with torch.inference_mode():
        expected, encoded = theirs(values), ours(values)
    assert encoded.shape == (2, 6, D_MODEL)
    torch.testing.assert_close(encoded, expected, rtol=0, atol=0)
    # Values above 512 count as 512; there is no lower bound.
    torch.testing.assert_close(encoded[1, 0], encoded[0, 5], rtol=1e-5, atol=1e-5)
    assert (encoded[1, 4] - encoded[0, 0]).abs().max() > 1e-3


def test_gene_encoder(real: types.ModuleType) -> None:
    theirs, ours = real.GeneEncoder(40, D_MODEL, padding_idx=37), GeneEncoder(40, D_MODEL)
    same_weights(theirs, ours)
    token_ids = torch.tensor([0, 39, 37, 5, 37])
    with torch.inference_mode():
        torch.testing.assert_close(ours(token_ids), theirs(token_ids), rtol=0, atol=0)


def test_expr_decoder(real: types.ModuleType) -> None:
    theirs, ours = real.ExprDecoder(D_MODEL, explicit_zero_prob=False), ExprDecoder(D_MODEL, D_MODEL)
    same_weights(theirs, ours)
    hidden = torch.randn(3, 7, D_MODEL, generator=torch.Generator().manual_seed(0)) * 4
    with torch.inference_mode():
        decoded = ours(hidden)
        torch.testing.assert_close(decoded, theirs(hidden)["pred"], rtol=0, atol=0)
    assert decoded.shape == (3, 7)


def test_census_vocabulary_is_the_packages_file_with_three_special_tokens(scgpt_directory: Path) -> None:
    published = json.loads((scgpt_directory / "tokenizer" / "default_census_vocab.json").read_text())
    shipped = census_vocabulary().token_ids
    assert len(published) == 60_694
    assert {name: shipped[name] for name in published} == published
    assert set(shipped) - set(published) == set(SPECIAL_TOKENS)
    assert [shipped[token] for token in ("<pad>", "<cls>", "<eoc>")] == [60_694, 60_695, 60_696]


def test_pred_perturb_passes_a_mask_that_masks_nothing(
    real: types.ModuleType, scgpt_directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # scGenePT's class is a copy of this one; benchmarks/published_network.py passes the same mask, which is slow.
    utils = types.ModuleType("scgpt.utils")
    utils.__dict__["map_raw_id_to_vocab_id"] = lambda raw_ids, gene_ids: torch.as_tensor(gene_ids)[raw_ids]
    monkeypatch.setitem(sys.modules, "scgpt.utils", utils)
    monkeypatch.setitem(sys.modules["scgpt"].__dict__, "logger", None)
    monkeypatch.setitem(sys.modules, "scgpt.model.model", real)
    spec = spec_from_file_location("scgpt.model.generation_model", scgpt_directory / "model" / "generation_model.py")
    assert spec is not None
    assert spec.loader is not None
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    vocab = {"<pad>": 0, **{f"g{i}": i for i in range(1, 6)}}
    network = module.TransformerGenerator(len(vocab), 8, 2, 8, 1, 1, 1, vocab)
    given: list[torch.Tensor] = []
    encode = network.transformer_encoder.forward

    def forward(src: torch.Tensor, **masks: torch.Tensor) -> torch.Tensor:
        given.append(masks["src_key_padding_mask"])
        return encode(src, **masks)

    monkeypatch.setattr(network.transformer_encoder, "forward", forward)
    cells = types.SimpleNamespace(x=torch.rand(2 * 5, 2).round(), pert=["g1", "g2"], to=str)
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of its autocast, which torch has under another name now
        network.pred_perturb(cells, "all", gene_ids=[1, 2, 3, 4, 5], amp=False)
    assert [tuple(mask.shape) for mask in given] == [(2, 5)]
    assert given[0].dtype == torch.bool
    assert not given[0].any()
