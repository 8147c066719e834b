from __future__ import annotations

import os
import pickletools
import zipfile
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch

from scgenept_export.checkpoint import Checkpoint, load_checkpoint
from scgenept_export.errors import CheckpointError
from scgenept_export.model import ReferenceModel, parameter_shapes
from scgenept_rt.errors import ArgumentError

if TYPE_CHECKING:
    from tests.conftest import Oracle

StateDict = OrderedDict[str, torch.Tensor]
SmallStateDict = Callable[[str], StateDict]
Save = Callable[..., Path]

GO_C = "scgenept_go_c_gpt_concat"
COMBINED = "scgenept_ncbi+uniprot_gpt_go_c_gpt_concat"
CLOSE = {"rtol": 1e-5, "atol": 1e-6}
"""Tensors mapped from different files may be aligned differently, which rounds differently on some processors."""


def predicted(checkpoint: Checkpoint) -> torch.Tensor:
    model = ReferenceModel.from_checkpoint(checkpoint)
    values = torch.tensor([[0.0, 1.2, 0.4, 3.0], [2.0, 0.0, 0.0, 0.7]])
    flags = torch.tensor([[0, 1, 0, 0], [0, 0, 1, 1]])
    with torch.inference_mode():
        return model(torch.tensor([0, 3, 5, 11]), values, flags)


def test_sizes_are_read_from_the_checkpoint(small_state_dict: SmallStateDict, save: Save) -> None:
    shape = load_checkpoint(save(small_state_dict(COMBINED)), COMBINED, n_heads=4).shape
    assert (shape.d_model, shape.n_layers, shape.d_ff, shape.d_decoder, shape.n_tokens) == (16, 2, 24, 16, 12)
    assert shape.n_heads == 4
    assert shape.encoders == ("encoder", "value_encoder", "genept_encoder", "gopt_encoder_c")
    assert shape.d_text == {"genept_encoder": 10, "gopt_encoder_c": 10}


@pytest.mark.parametrize(
    ("prefix", "projection"),
    [("", "Wqkv."), ("", "_impl.Wqkv."), ("module._orig_mod.", "in_proj_"), ("_orig_mod.module.", "Wqkv.")],
)
def test_names_of_flash_attention_and_wrapped_models_load_as_plain_ones(
    prefix: str, projection: str, small_state_dict: SmallStateDict, save: Save
) -> None:
    plain = small_state_dict(GO_C)
    other = {prefix + key.replace("self_attn.in_proj_", f"self_attn.{projection}"): plain[key] for key in plain}
    assert set(other) != set(plain)
    expected = load_checkpoint(save(plain, "plain.pt"), GO_C).state_dict
    loaded = load_checkpoint(save(other, "other.pt"), GO_C).state_dict
    assert loaded.keys() == expected.keys()
    assert all(torch.equal(loaded[key], expected[key]) for key in expected)


def test_a_tensor_with_and_without_a_prefix_is_refused(small_state_dict: SmallStateDict, save: Save) -> None:
    plain = small_state_dict(GO_C)
    with pytest.raises(CheckpointError, match=r"ln\.weight under two names"):
        load_checkpoint(save({**plain, "module.ln.weight": plain["ln.weight"]}), GO_C)


def test_oracle_holds_both_namings_and_storages_of_a_gpu(oracle: Oracle) -> None:
    found = set()
    for variant in oracle.variants:
        with zipfile.ZipFile(oracle.checkpoint(variant)) as archive:
            pickled = next(name for name in archive.namelist() if name.endswith("/data.pkl"))
            text = {str(argument) for _, argument, _ in pickletools.genops(archive.read(pickled))}
        naming = "Wqkv" if any("Wqkv" in argument for argument in text) else "in_proj"
        found.add((naming, "cuda:0" in text))
        checkpoint = load_checkpoint(oracle.checkpoint(variant), variant)
        assert {tensor.device.type for tensor in checkpoint.state_dict.values()} == {"cpu"}
    assert found == {("Wqkv", True), ("in_proj", False)}


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.float16])
def test_text_tables_load_in_any_precision_and_files_in_both_formats(
    dtype: torch.dtype, small_state_dict: SmallStateDict, save: Save
) -> None:
    state_dict = small_state_dict(GO_C)
    table = "gopt_encoder_c.embedding.weight"
    assert state_dict[table].dtype == torch.float64
    state_dict[table] = state_dict[table].half().to(dtype)  # values that all three hold exactly
    loaded = load_checkpoint(save(state_dict), GO_C)
    assert loaded.state_dict[table].dtype == dtype
    state_dict[table] = state_dict[table].double()
    before_zip_archives = save(state_dict, "double.pt", _use_new_zipfile_serialization=False)
    assert not zipfile.is_zipfile(before_zip_archives)
    expected = predicted(load_checkpoint(before_zip_archives, GO_C))
    torch.testing.assert_close(predicted(loaded), expected, **CLOSE)


def test_cls_decoder_is_dropped_and_may_be_absent(small_state_dict: SmallStateDict, save: Save) -> None:
    state_dict = small_state_dict(GO_C)
    assert not any(key.startswith("cls_decoder.") for key in state_dict)
    absent = load_checkpoint(save(state_dict), GO_C)
    state_dict["cls_decoder.out_layer.weight"] = torch.full((1, 16), torch.nan)
    present = load_checkpoint(save(state_dict, "with_cls.pt"), GO_C)
    assert set(present.state_dict) == set(absent.state_dict) == set(parameter_shapes(absent.shape))


def test_every_missing_unexpected_and_missized_tensor_is_listed(small_state_dict: SmallStateDict, save: Save) -> None:
    state_dict = small_state_dict(GO_C)
    missing = ("ln.bias", "decoder.fc.4.bias", "transformer_encoder.layers.1.norm1.weight")
    for key in missing:
        del state_dict[key]
    state_dict["mvc_decoder.weight"] = torch.zeros(3)
    state_dict["n_averaged"] = torch.tensor(3)
    state_dict["value_encoder.linear2.weight"] = torch.zeros(16, 15)
    state_dict["ln.weight"] = torch.zeros(17)
    with pytest.raises(CheckpointError) as caught:
        load_checkpoint(save(state_dict), GO_C)
    message = str(caught.value)
    for words in (
        *missing,
        "mvc_decoder.weight",
        "n_averaged",
        "3 missing",
        "2 unexpected",
        "2 of another shape",
        "value_encoder.linear2.weight [16, 15] instead of [16, 16]",
        "ln.weight [17] instead of [16]",
    ):
        assert words in message


def test_a_layer_number_takes_no_memory(small_state_dict: SmallStateDict, save: Save) -> None:
    state_dict = small_state_dict("scgpt")
    state_dict["transformer_encoder.layers.1000000000.norm1.weight"] = torch.ones(16)
    with pytest.raises(CheckpointError, match=r"layers\.1000000000"):
        load_checkpoint(save(state_dict), "scgpt")


def test_another_variant_names_those_that_fit(small_state_dict: SmallStateDict, save: Save) -> None:
    path = save(small_state_dict("scgenept_ncbi_gpt"))
    with pytest.raises(
        CheckpointError,
        match=r"holds the encoders encoder, value_encoder, genept_encoder, .*gopt_encoder_c.*"
        r"scgenept_ncbi_gpt, scgenept_ncbi\+uniprot_gpt",
    ) as caught:
        load_checkpoint(path, GO_C)
    assert caught.value.options[0].value == "scgenept_ncbi_gpt"
    assert load_checkpoint(path, "scgenept_ncbi+uniprot_gpt").shape.d_model == 16


def test_encoders_of_no_variant_are_refused(small_state_dict: SmallStateDict, save: Save) -> None:
    state_dict = {key: t for key, t in small_state_dict("scgpt").items() if not key.startswith("value_encoder.")}
    with pytest.raises(CheckpointError, match="No published variant has the encoders"):
        load_checkpoint(save(state_dict), "scgpt")


class _Executed:
    """Pickles to a call that makes a file."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[object, ...]:
        return (os.mkdir, (str(self.marker),))


@pytest.mark.parametrize("zipped", [True, False])
def test_a_pickle_that_would_execute_code_is_refused_unexecuted(zipped: bool, tmp_path: Path, save: Save) -> None:
    marker = tmp_path / "executed"
    path = save({"ln.weight": _Executed(marker)}, _use_new_zipfile_serialization=zipped)
    with pytest.raises(CheckpointError, match=r"would execute code.*refused") as caught:
        load_checkpoint(path, "scgpt")
    assert "state_dict()" in str(caught.value)
    assert not marker.exists()
    torch.load(path, weights_only=False)  # the attack works where nothing refuses it
    assert marker.exists()


@pytest.mark.parametrize("zipped", [True, False])
def test_a_file_that_is_missing_cut_or_of_text_is_unreadable(
    zipped: bool, small_state_dict: SmallStateDict, save: Save, tmp_path: Path
) -> None:
    with pytest.raises(CheckpointError, match=r"nowhere\.pt: there is no such file"):
        load_checkpoint(tmp_path / "nowhere.pt", "scgpt")
    path = save(small_state_dict("scgpt"), _use_new_zipfile_serialization=zipped)
    contents = path.read_bytes()
    page = b"<!DOCTYPE html><html><body>404 Not Found</body></html>\n" * 50
    for damaged in (contents[: len(contents) // 2000], contents[: len(contents) // 2], page):
        path.write_bytes(damaged)
        with pytest.raises(CheckpointError, match=r"it cannot be read.*incomplete") as caught:
            load_checkpoint(path, "scgpt")
        assert "execute" not in str(caught.value)


def test_a_nested_state_dict_is_refused_with_its_keys(small_state_dict: SmallStateDict, save: Save) -> None:
    path = save({"model": small_state_dict("scgpt"), "epoch": 3})
    with pytest.raises(CheckpointError, match=r"not a state dict of tensors \(it holds the keys model, epoch\)"):
        load_checkpoint(path, "scgpt")


@pytest.mark.parametrize(
    "tensor",
    [
        torch.zeros(1).expand(3, 10**12),  # one number, stated to be 4 TB
        torch.zeros(3, 16).to_sparse(),
        torch.empty(3, 16, device="meta"),
        torch.zeros(3, 16, dtype=torch.complex64),
        torch.zeros(3, 16, dtype=torch.float8_e4m3fn),
    ],
    ids=["expanded", "sparse", "meta", "complex", "float8"],
)
def test_tensors_that_hold_no_number_for_each_value_are_refused(
    tensor: torch.Tensor, small_state_dict: SmallStateDict, save: Save
) -> None:
    path = save({**small_state_dict("scgpt"), "pert_encoder.weight": tensor})
    with pytest.raises(CheckpointError, match=r"fewer than stated, for pert_encoder\.weight"):
        load_checkpoint(path, "scgpt")


def test_weights_that_are_not_finite_are_named(small_state_dict: SmallStateDict, save: Save) -> None:
    state_dict = small_state_dict("scgpt")
    state_dict["decoder.fc.2.weight"][3, 4] = torch.inf
    with pytest.raises(CheckpointError, match=r"NaN or infinity \(decoder\.fc\.2\.weight\)"):
        load_checkpoint(save(state_dict), "scgpt")


@pytest.mark.parametrize("n_heads", [3, 0])
def test_heads_that_do_not_divide_the_width_are_refused(
    n_heads: int, small_state_dict: SmallStateDict, save: Save
) -> None:
    with pytest.raises(ArgumentError, match=f"n_heads is {n_heads}, which does not divide the model's width 16"):
        load_checkpoint(save(small_state_dict("scgpt")), "scgpt", n_heads=n_heads)


@pytest.mark.filterwarnings("ignore")  # torch remarks on what it finds in the damaged bytes
def test_a_damaged_pickle_ends_in_one_message_however_it_fails(small_state_dict: SmallStateDict, save: Save) -> None:
    path = save(small_state_dict("scgpt"))
    contents = path.read_bytes()
    start, end = contents.index(b"data.pkl"), contents.index(b".format_version")
    rng = np.random.default_rng(0)
    refused = 0
    for _ in range(100):
        damaged = bytearray(contents)
        for place in rng.integers(start + 60, end, 3):
            damaged[place] = rng.integers(256)
        path.write_bytes(damaged)
        try:
            load_checkpoint(path, "scgpt")
        except CheckpointError as error:
            assert str(path) in str(error)  # noqa: PT017
            refused += 1
    assert refused > 60


def test_a_zeroed_block_of_weights_is_noticed(small_state_dict: SmallStateDict, save: Save) -> None:
    path = save(small_state_dict(GO_C))
    weights = small_state_dict(GO_C)["decoder.fc.0.weight"].numpy().tobytes()
    contents = bytearray(path.read_bytes())
    begin = contents.index(weights)
    contents[begin : begin + 512] = bytes(512)
    path.write_bytes(contents)
    with pytest.raises(CheckpointError, match="is damaged: the checksum of "):
        load_checkpoint(path, GO_C)
