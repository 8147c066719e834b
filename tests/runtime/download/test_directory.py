"""What comes into a download directory: checkpoints, data sets in zips, files placed by hand."""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace

import pytest

from scgenept_rt.download import DATASETS, default_directory, select
from scgenept_rt.download.catalogue import MODEL_TYPES, catalogue
from scgenept_rt.errors import ArgumentError, ChecksumError, DownloadError, OfflineError
from tests.runtime.download.conftest import ADAMSON, GO_C, H5AD, NORMAN, VOCAB, zipped

PLAIN = GO_C.replace("_concat", "")
GO_C_ITEM, VOCAB_ITEM, ADAMSON_ITEM = select(["scgenept_go_c", "vocab", "adamson"], "norman")


def records(downloads):
    path = downloads().directory / "checksums.json"
    return json.loads(path.read_text())["files"] if path.exists() else {}


@pytest.fixture
def norman(server):
    """Norman with the checksum of what the server has in its place."""
    data, item = server.files[NORMAN], DATASETS["norman"]
    return replace(item, archive=replace(item.archive, md5=hashlib.md5(data).hexdigest()))


def test_names_are_directories_of_the_release_or_model_types():
    assert select(["scgenept_go_c_gpt_concat", "vocab", "scgenept_go_c"], "norman") == [GO_C_ITEM, VOCAB_ITEM]
    assert [item.name for item in select(["all"], "adamson")] == [*MODEL_TYPES, "vocab", "adamson"]
    for name in ("scgenept_goc", "go_c", "GO_C"):
        with pytest.raises(ArgumentError, match=r"Did you mean .*scgenept_go_c.*--list"):
            select([name], "norman")


def test_every_address_is_that_of_the_release():
    items = catalogue("norman")
    first = {name: next(iter(item.addresses)) for name, item in items.items()}
    assert first["scgpt"] == "models/finetuned/scgpt/norman/best_model_seed_42.pt"
    assert first["scgenept_ncbi+uniprot"].endswith("ncbi+uniprot/norman/best_model_gpt3.5_ada_rnd_seed_42.pt")
    assert first["scgenept_go_all"].endswith("best_model_gpt3.5_ada_rnd_seed_42_concat.pt")
    assert {"/".join(url.split("/")[:3]) for item in items.values() for url in item.addresses.values()} == {
        "https://czi-scgenept-public.s3.amazonaws.com",
        "https://dataverse.harvard.edu",
    }


def test_a_checkpoint_is_looked_for_under_every_name_of_the_release(server, downloads, misbehave):
    server.files[PLAIN] = server.files.pop(GO_C)
    server.always(GO_C, misbehave.status(403))
    first = downloads().fetch(GO_C_ITEM)
    assert first.path == downloads().find(GO_C_ITEM) == downloads().directory / PLAIN[1:]
    assert downloads(offline=True).fetch(GO_C_ITEM).how == "present"
    del server.files[PLAIN]
    first.path.unlink()
    with pytest.raises(DownloadError, match=r"is not there .*_concat\.pt \(HTTP .*_seed_42\.pt \(HTTP 404 Not Found\)"):
        downloads().fetch(GO_C_ITEM)


def test_a_plus_in_a_key_is_escaped(server, downloads):
    (item,) = select(["scgenept_ncbi+uniprot"], "norman")
    place = next(iter(item.addresses))
    server.files["/" + place] = server.files[GO_C]
    assert downloads().fetch(item).path.is_file()
    assert "scgenept_ncbi%2Buniprot" in records(downloads)[place]["url"]


def test_a_data_set_is_unpacked_to_where_gears_looks_for_it(server, downloads, norman):
    fetched = downloads().fetch(norman)
    assert fetched.how == "unpacked"
    assert fetched.path == downloads().directory / "norman" / "perturb_processed.h5ad"
    assert fetched.path.read_bytes() == H5AD
    assert not (downloads().directory / "norman.zip").exists()
    assert set(records(downloads)) == {"norman.zip", "norman/perturb_processed.h5ad"}
    assert downloads(offline=True).fetch(norman).how == "present"


def test_the_published_checksum_is_enforced_until_a_stand_in_is_accepted(downloads):
    real = DATASETS["norman"]
    with pytest.raises(ChecksumError, match=r"expected md5 cdc41d"):
        downloads().fetch(real)
    assert records(downloads) == {}
    first = downloads(accept_changed=True).fetch(real)
    first.path.unlink()
    assert downloads().fetch(real).sha256 == first.sha256


def test_no_member_of_a_zip_is_written_anywhere_else(server, downloads):
    server.files[ADAMSON] = zipped(
        {"../../perturb_processed.h5ad": H5AD, "../escaped.txt": b"x", "/tmp/escaped.txt": b"x"}
    )
    assert downloads().fetch(ADAMSON_ITEM).path == downloads().directory / "adamson" / "perturb_processed.h5ad"
    assert not list(downloads().directory.parent.rglob("escaped.txt"))


def damaged(data: bytes) -> bytes:
    return data[:5000] + bytes([data[5000] ^ 1]) + data[5001:]


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (zipped({"adamson/other.h5ad": b"x"}), "holds 0 files called perturb_processed.h5ad"),
        (zipped({"adamson/perturb_processed.h5ad": b"no HDF5"}), r"is not a \.h5ad file"),
        (damaged(zipped({"adamson/perturb_processed.h5ad": H5AD})), "Bad CRC-32"),
    ],
)
def test_a_zip_that_does_not_hold_the_data_set(server, downloads, data, words):
    server.files[ADAMSON] = data
    with pytest.raises(ChecksumError, match=words):
        downloads().fetch(ADAMSON_ITEM)
    assert not (downloads().directory / "adamson").exists()


def test_offline_says_which_file_to_place_where_with_which_checksum(downloads, server):
    with pytest.raises(OfflineError) as missing:
        downloads(offline=True, mirror=None).fetch(DATASETS["norman"])
    for part in (
        "https://dataverse.harvard.edu/api/access/datafile/6154020",
        str(downloads().directory / "norman.zip"),
        "md5 cdc41d6050e619c37fd9dd44d440e2b4",
    ):
        assert part in str(missing.value)
    with pytest.raises(OfflineError, match="not published"):
        downloads(offline=True).fetch(GO_C_ITEM)
    assert server.requests == []
    fetched = downloads().fetch(VOCAB_ITEM)
    fetched.path.unlink()
    with pytest.raises(OfflineError, match=fetched.sha256):
        downloads(offline=True).fetch(VOCAB_ITEM)


def test_files_placed_by_hand_are_checked_recorded_and_unpacked(server, downloads, norman):
    here = downloads(offline=True)
    items = (GO_C_ITEM, VOCAB_ITEM, norman)
    for place, data in {PLAIN[1:]: GO_C, VOCAB[1:]: VOCAB, "norman.zip": NORMAN}.items():
        (here.directory / place).parent.mkdir(parents=True, exist_ok=True)
        (here.directory / place).write_bytes(server.files[data])
    assert [here.fetch(item).how for item in items] == ["recorded", "recorded", "unpacked"]
    assert (here.directory / "norman.zip").exists()  # theirs, not ours
    assert [here.fetch(item).how for item in items] == ["present"] * 3
    assert server.requests == []


def test_a_wrong_file_placed_by_hand(downloads):
    here = downloads(offline=True)
    here.directory.mkdir()
    (here.directory / "norman.zip").write_bytes(b"<html>Log in</html>")
    with pytest.raises(ChecksumError, match=r"norman.zip \(19 bytes\) is not a \.zip file. Remove it"):
        here.fetch(DATASETS["norman"])
    assert records(downloads) == {}


def test_a_file_that_changed_here_is_an_error_until_accepted(downloads):
    fetched = downloads().fetch(VOCAB_ITEM)
    fetched.path.write_text('{"changed": 1}')
    with pytest.raises(ChecksumError, match=rf"\(14 bytes\) has .*, expected sha256 {fetched.sha256}. Remove it"):
        downloads().fetch(VOCAB_ITEM)
    assert downloads(accept_changed=True).fetch(VOCAB_ITEM).how == "recorded"
    assert downloads().fetch(VOCAB_ITEM).how == "present"


def test_records_are_plain_json_and_damage_to_them_stops_everything(downloads, server):
    fetched = downloads().fetch(VOCAB_ITEM)
    path = downloads().directory / "checksums.json"
    record = json.loads(path.read_text())["files"][VOCAB[1:]]
    assert (record["sha256"], record["url"]) == (fetched.sha256, server.url + VOCAB)
    for text in ("", "[]", "{}"):
        path.write_text(text)
        with pytest.raises(DownloadError, match=r"checksums.json: .*Restore it"):
            downloads().fetch(VOCAB_ITEM)


def test_a_file_in_the_way_of_the_directory(downloads, tmp_path):
    (tmp_path / "downloads").write_text("")
    with pytest.raises(DownloadError, match=r"cannot be used.*directory="):
        downloads().fetch(VOCAB_ITEM)


def test_the_directory_comes_from_the_environment(monkeypatch, tmp_path):
    assert default_directory().name == "scgenept-rt"
    monkeypatch.setenv("SCGENEPT_RT_DOWNLOADS", str(tmp_path))
    assert default_directory() == tmp_path
