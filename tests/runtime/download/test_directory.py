"""What comes into a download directory: checkpoints under doubtful names, data sets in zips, files placed by hand."""

from __future__ import annotations

import hashlib
import io
import json
import os
import zipfile
from dataclasses import replace

import pytest

from scgenept_rt.download import DATASETS, default_directory, select
from scgenept_rt.download.addresses import url_of
from scgenept_rt.download.catalogue import MODEL_TYPES, catalogue
from scgenept_rt.download.errors import (
    ChecksumFileError,
    DownloadDirectoryError,
    LocalFileChangedError,
    MissingOfflineError,
    NoCheckpointError,
    NotTheFileError,
    SeveralCheckpointsError,
    UnknownDownloadError,
    UpstreamChangedError,
)

GO_C = "/models/finetuned/scgenept_go_c/norman/best_model_gpt3.5_ada_rnd_seed_42_concat.pt"
PLAIN = GO_C.replace("_concat", "")
NORMAN, ADAMSON = "/api/access/datafile/6154020", "/api/access/datafile/6154417"
VOCAB = "/models/pretrained/scgpt/vocab.json"
GO_C_ITEM, VOCAB_ITEM, ADAMSON_ITEM = select(["scgenept_go_c", "vocab", "adamson"], "norman")


@pytest.fixture
def norman(server):
    """Norman with the checksum of what the server has in its place."""
    data = server.files[NORMAN]
    return replace(DATASETS["norman"], size=len(data), md5=hashlib.md5(data).hexdigest())


def unzipped(data: bytes, name: str) -> bytes:
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        return archive.read(name)


def zipped(members: dict[str, bytes], compression: int = zipfile.ZIP_DEFLATED) -> bytes:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", compression) as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    return packed.getvalue()


# --- names ------------------------------------------------------------------------------------------------------------


def test_names_are_directories_of_the_release_or_model_types():
    assert select(["scgenept_go_c_gpt_concat", "vocab", "scgenept_go_c"], "norman") == [GO_C_ITEM, VOCAB_ITEM]
    assert [item.name for item in select(["all"], "adamson")] == [*MODEL_TYPES, "vocab", "adamson"]
    assert {item.dataset for item in select(list(MODEL_TYPES), "adamson")} == {"adamson"}


def test_an_unknown_name_is_answered_with_near_ones():
    with pytest.raises(UnknownDownloadError, match=r"'scgenept_goc'.*scgenept_go_c.*--list"):
        select(["scgenept_goc"], "norman")
    for part in ("go_c", "GO_C"):
        with pytest.raises(UnknownDownloadError, match=r"Did you mean scgenept_go_c\?"):
            select([part], "norman")


def test_every_address_is_that_of_the_release():
    keys = {item.name: item.keys[0] for item in catalogue("norman")}
    assert keys["scgpt"] == "models/finetuned/scgpt/norman/best_model_seed_42.pt"
    assert keys["scgenept_ncbi+uniprot"].endswith("ncbi+uniprot/norman/best_model_gpt3.5_ada_rnd_seed_42.pt")
    assert keys["scgenept_go_all"].endswith("best_model_gpt3.5_ada_rnd_seed_42_concat.pt")
    assert {item.host for item in catalogue("norman")} == {
        "https://czi-scgenept-public.s3.amazonaws.com",
        "https://dataverse.harvard.edu",
    }
    assert DATASETS["norman"].md5 == "cdc41d6050e619c37fd9dd44d440e2b4"


# --- checkpoints ------------------------------------------------------------------------------------------------------


def test_a_checkpoint_under_its_other_documented_name(server, downloads, told):
    server.files[PLAIN] = server.files.pop(GO_C)
    server.lists = False
    fetched = downloads().fetch(GO_C_ITEM)
    assert fetched.path.name == "best_model_gpt3.5_ada_rnd_seed_42.pt"
    assert "scgenept_go_c: taking best_model_gpt3.5_ada_rnd_seed_42.pt" in told.said


def test_a_checkpoint_under_no_documented_name_is_listed(server, downloads):
    data = server.files.pop(GO_C)
    server.files[PLAIN.replace("42", "43")] = b"another seed"
    server.files[GO_C.replace("ada_rnd", "ada")] = data
    server.files[GO_C.replace("best_model", "args").replace(".pt", ".json")] = b"{}"
    assert downloads().fetch(GO_C_ITEM).path.name == "best_model_gpt3.5_ada_seed_42_concat.pt"


def test_a_server_that_knows_no_head(server, downloads):
    server.knows_head = False
    assert downloads().fetch(GO_C_ITEM).path.read_bytes() == server.files[GO_C]


def test_a_server_that_is_busy_while_a_name_is_looked_for(server, downloads, waits):
    server.files[GO_C.replace("ada_rnd", "ada")] = server.files.pop(GO_C)
    server.busy = 2
    assert downloads().fetch(GO_C_ITEM).path.name == "best_model_gpt3.5_ada_seed_42_concat.pt"
    assert waits == [1, 2]


def test_several_possible_checkpoints_are_not_guessed_from(server, downloads):
    del server.files[GO_C]
    for seed in (1, 2):
        server.files[PLAIN.replace("42", str(seed))] = b"a"
    with pytest.raises(SeveralCheckpointsError, match="2 files could be the checkpoint"):
        downloads().fetch(GO_C_ITEM)


@pytest.mark.parametrize("lists", [True, False])
def test_no_checkpoint_says_what_was_tried(server, downloads, lists):
    del server.files[GO_C]
    server.lists = lists
    with pytest.raises(NoCheckpointError) as missing:
        downloads().fetch(GO_C_ITEM)
    text = str(missing.value)
    assert f"{server.url}{GO_C} (HTTP 404)" in text
    assert f"{server.url}{PLAIN} (HTTP 404)" in text
    assert ("lists 0 files" if lists else "HTTP 403") in text
    assert not list(downloads().path.rglob("*.pt"))


def test_a_plus_in_a_key_is_escaped(server, downloads):
    (item,) = select(["scgenept_ncbi+uniprot"], "norman")
    server.files["/" + item.keys[0]] = server.files[GO_C]
    assert downloads().fetch(item).path.is_file()
    assert url_of(item, item.keys[0], None).startswith(
        "https://czi-scgenept-public.s3.amazonaws.com/models/finetuned/scgenept_ncbi%2Buniprot/"
    )


def test_a_checkpoint_that_came_under_another_name_is_found_again_and_still_enforced(server, downloads):
    server.files[PLAIN] = server.files.pop(GO_C)
    first = downloads().fetch(GO_C_ITEM)
    assert downloads(offline=True).fetch(GO_C_ITEM).how == "present"
    assert downloads().find(GO_C_ITEM) == first.path
    first.path.unlink()
    server.files[GO_C] = b"something else under the first name"
    assert downloads().fetch(GO_C_ITEM).path == first.path


# --- data sets --------------------------------------------------------------------------------------------------------


def test_a_data_set_is_unpacked_to_where_gears_looks_for_it(server, downloads, norman):
    fetched = downloads().fetch(norman)
    assert fetched.how == "unpacked"
    assert fetched.path == downloads().path / "norman" / "perturb_processed.h5ad"
    assert fetched.path.read_bytes() == unzipped(server.files[NORMAN], "norman/perturb_processed.h5ad")
    assert not (downloads().path / "norman.zip").exists()
    assert set(downloads().checksums.read()) == {"norman.zip", "norman/perturb_processed.h5ad"}
    assert downloads(offline=True).fetch(norman).how == "present"
    assert downloads().recorded_size(norman) == len(server.files[NORMAN])


def test_another_size_than_the_published_one_ends_it_at_once(server, downloads, told):
    with pytest.raises(UpstreamChangedError, match=r"expected md5 cdc41d.* 168,758,985 bytes.*published"):
        downloads().fetch(DATASETS["norman"])
    assert told.updates == []


def test_the_published_md5_is_enforced_at_the_first_download(server, downloads, norman):
    changed = bytearray(server.files[NORMAN])
    changed[500] ^= 1
    server.files[NORMAN] = bytes(changed)
    with pytest.raises(UpstreamChangedError, match=f"md5 is another one, expected md5 {norman.md5}"):
        downloads().fetch(norman)
    assert not downloads().checksums.read()


def test_a_stand_in_is_accepted_on_request_and_then_enforced(server, downloads):
    real = DATASETS["norman"]
    first = downloads(accept_changed=True).fetch(real)
    assert downloads().fetch(real).how == "present"
    first.path.unlink()
    assert downloads().fetch(real).sha256 == first.sha256


@pytest.mark.parametrize(
    "name", ["../../perturb_processed.h5ad", "/etc/perturb_processed.h5ad", "perturb_processed.h5ad"]
)
def test_no_member_is_written_anywhere_else(server, downloads, name):
    server.files[ADAMSON] = zipped({name: b"\x89HDF\r\n\x1a\nx", "../escaped.txt": b"x", "/tmp/escaped.txt": b"x"})
    fetched = downloads().fetch(ADAMSON_ITEM)
    assert fetched.path == downloads().path / "adamson" / "perturb_processed.h5ad"
    assert not list(downloads().path.parent.rglob("escaped.txt"))


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (zipped({"adamson/other.h5ad": b"x"}), "holds 0 files called perturb_processed.h5ad"),
        (zipped({"a/perturb_processed.h5ad": b"x", "b/perturb_processed.h5ad": b"x"}), "holds 2 files"),
        (zipped({"adamson/perturb_processed.h5ad": b"no HDF5"}), "is not an .h5ad"),
        (b"no zip at all", "not a zip file"),
        (zipped({"adamson/perturb_processed.h5ad": bytes(9999)}, zipfile.ZIP_STORED)[:-2], "damaged or truncated"),
    ],
)
def test_a_zip_that_does_not_hold_the_data_set(server, downloads, data, words):
    server.files[ADAMSON] = data
    with pytest.raises(NotTheFileError, match=words):
        downloads().fetch(ADAMSON_ITEM)
    assert not (downloads().path / "adamson").exists()


def test_a_damaged_member_is_found_by_its_crc(server, downloads):
    data = bytearray(zipped({"adamson/perturb_processed.h5ad": b"\x89HDF\r\n\x1a\n" + bytes(9999)}, zipfile.ZIP_STORED))
    data[5000] ^= 1
    server.files[ADAMSON] = bytes(data)
    with pytest.raises(NotTheFileError, match="wrong checksum"):
        downloads().fetch(ADAMSON_ITEM)


# --- what lies here ---------------------------------------------------------------------------------------------------


def test_offline_says_which_file_to_place_where_with_which_checksum(downloads, server):
    with pytest.raises(MissingOfflineError) as missing:
        downloads(offline=True, mirror=None).fetch(DATASETS["norman"])
    text = str(missing.value)
    for part in (
        "https://dataverse.harvard.edu/api/access/datafile/6154020",
        str(downloads().path / "norman.zip"),
        "md5 cdc41d6050e619c37fd9dd44d440e2b4 and 168,758,985 bytes",
        str(downloads().path / "norman" / "perturb_processed.h5ad"),
    ):
        assert part in text
    with pytest.raises(MissingOfflineError, match="not published"):
        downloads(offline=True).fetch(GO_C_ITEM)
    assert server.requests == []


def test_offline_tells_a_checksum_that_was_recorded(downloads):
    fetched = downloads().fetch(VOCAB_ITEM)
    fetched.path.unlink()
    with pytest.raises(MissingOfflineError, match=fetched.sha256):
        downloads(offline=True).fetch(VOCAB_ITEM)


def test_files_placed_by_hand_are_checked_recorded_and_unpacked(server, downloads, norman):
    here = downloads(offline=True)
    for place, data in (
        (GO_C.replace("_concat", "_any")[1:], server.files[GO_C]),
        (VOCAB[1:], server.files[VOCAB]),
        ("norman.zip", server.files[NORMAN]),
    ):
        (here.path / place).parent.mkdir(parents=True, exist_ok=True)
        (here.path / place).write_bytes(data)
    assert [here.fetch(item).how for item in (GO_C_ITEM, VOCAB_ITEM, norman)] == ["recorded", "recorded", "unpacked"]
    assert (here.path / "norman.zip").exists()  # theirs, not ours
    assert [here.fetch(item).how for item in (GO_C_ITEM, VOCAB_ITEM, norman)] == ["present"] * 3
    assert server.requests == []


def test_a_zip_placed_by_hand_must_have_the_published_checksum(downloads, server, norman):
    here = downloads(offline=True)
    here.path.mkdir()
    (here.path / "norman.zip").write_bytes(server.files[NORMAN] + b"x")
    with pytest.raises(LocalFileChangedError, match=rf"norman.zip: .*expected md5 {norman.md5}.*--accept-changed"):
        here.fetch(norman)


@pytest.mark.parametrize("body", [b"<html>Log in</html>", b""])
def test_a_page_placed_by_hand_is_not_taken_for_a_checkpoint(downloads, body):
    here = downloads(offline=True)
    path = here.path / GO_C[1:]
    path.parent.mkdir(parents=True)
    path.write_bytes(body)
    with pytest.raises(NotTheFileError, match="not a PyTorch checkpoint"):
        here.fetch(GO_C_ITEM)
    assert not here.checksums.read()


def test_a_file_that_changed_here_is_an_error_until_accepted(downloads):
    fetched = downloads().fetch(VOCAB_ITEM)
    fetched.path.write_text('{"changed": 1}')
    with pytest.raises(LocalFileChangedError, match=rf"vocab.json: .*14 bytes.*{fetched.sha256}.*Remove it"):
        downloads().fetch(VOCAB_ITEM)
    assert downloads(accept_changed=True).fetch(VOCAB_ITEM).how == "recorded"
    assert downloads().fetch(VOCAB_ITEM).how == "present"


# --- the directory itself ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("text", ["", "[]", '{"format_version": 2}', '{"format_version": 1, "files": {"a": {}}}'])
def test_damaged_records_stop_everything(downloads, server, text):
    here = downloads()
    here.path.mkdir()
    here.checksums.path.write_text(text)
    with pytest.raises(ChecksumFileError, match=r"checksums.json: .*Restore it"):
        here.fetch(VOCAB_ITEM)
    assert not (here.path / VOCAB[1:]).exists()


def test_records_are_plain_json_with_where_they_came_from(downloads, server):
    fetched = downloads().fetch(VOCAB_ITEM)
    stored = json.loads(downloads().checksums.path.read_text())
    assert stored["format_version"] == 1
    assert stored["files"][VOCAB[1:]] | {"recorded": ""} == {
        "sha256": fetched.sha256,
        "size": fetched.size,
        "url": server.url + VOCAB,
        "recorded": "",
    }


def test_a_file_in_the_way_of_the_directory(downloads, tmp_path):
    (tmp_path / "downloads").write_text("")
    with pytest.raises(DownloadDirectoryError, match="--dir"):
        downloads().fetch(VOCAB_ITEM)


def test_a_directory_that_others_keep_is_read_without_writing(downloads, server, norman, monkeypatch):
    first = downloads().fetch(VOCAB_ITEM)
    downloads().fetch(norman)
    monkeypatch.setattr(os, "access", lambda _path, _mode: False)
    n_requests = len(server.requests)
    assert downloads().fetch(VOCAB_ITEM).sha256 == first.sha256
    assert downloads().fetch(norman).how == "present"
    with pytest.raises(DownloadDirectoryError, match="not writable, and holds no recorded file of scgenept_go_c"):
        downloads().fetch(GO_C_ITEM)
    first.path.write_text("{}")
    with pytest.raises(LocalFileChangedError, match="2 bytes"):
        downloads(accept_changed=True).fetch(VOCAB_ITEM)
    assert len(server.requests) == n_requests


def test_the_directory_comes_from_the_environment(monkeypatch, tmp_path):
    assert default_directory().name == "scgenept-rt"
    monkeypatch.setenv("SCGENEPT_RT_DOWNLOADS", str(tmp_path))
    assert default_directory() == tmp_path
