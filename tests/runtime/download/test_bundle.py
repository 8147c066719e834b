"""Bundles that somebody published as directories: what comes is whole and theirs, or nothing."""

from __future__ import annotations

import hashlib
import shutil
from functools import partial
from pathlib import Path

import pytest

import scgenept_rt as sgr
from scgenept_rt.bundle import Bundle
from scgenept_rt.download import download_bundle
from scgenept_rt.errors import ArgumentError, BundleError, ChecksumError, DownloadError, OutputExistsError

PLACE = "/shared/scgenept_go_c_norman/"


@pytest.fixture
def published(server, bundle: Path) -> Path:
    """The bundle, served at PLACE."""
    for path in bundle.iterdir():
        server.files[PLACE + path.name] = path.read_bytes()
    return bundle


def contents(directory: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in directory.iterdir()}


def test_a_bundle_comes_whole_under_its_name(server, published, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    digest = hashlib.sha256((published / "manifest.json").read_bytes()).hexdigest()
    for address in (PLACE, PLACE[:-1], f"{PLACE}manifest.json"):  # the second and third find it here
        opened = download_bundle(server.url + address, digest=digest.upper())
        assert (opened.directory, opened.digest) == (Path("bundles/scgenept_go_c_norman"), digest)
    assert contents(opened.directory) == contents(published)
    assert [path.name for path in Path("bundles").iterdir()] == ["scgenept_go_c_norman"]
    assert all(len(server.gets(PLACE + name)) == 1 for name in contents(published) if name != "manifest.json")
    assert sgr.load(opened.directory, provider="cpu").gene_names == list(opened.manifest.gene_names)


def test_an_interrupted_download_continues_within_the_file(server, published, misbehave, tmp_path, waits):
    largest = max(published.iterdir(), key=lambda path: path.stat().st_size).name
    server.always(PLACE + largest, misbehave.status(404))
    with pytest.raises(DownloadError, match=f"{largest} is not there") as refused:
        download_bundle(server.url + PLACE, tmp_path / "b")
    assert refused.value.options == ()
    assert not (tmp_path / "b").exists()
    server.always(PLACE + largest, None)
    server.on(PLACE + largest, misbehave.break_after(70_000))
    assert contents(download_bundle(server.url + PLACE, tmp_path / "b").directory) == contents(published)
    assert server.gets(PLACE + largest)[-1]["range"] == "bytes=65536-"
    others = [name for name in contents(published) if name not in (largest, "manifest.json")]
    assert sum(len(server.gets(PLACE + name)) for name in others) == len(others), "what had come is not fetched again"


def test_a_changed_file_or_another_manifest_is_refused(server, published, tmp_path):
    name = PLACE + "reference.npz"
    right = server.files[name]
    server.files[name] = bytes(len(right))
    with pytest.raises(ChecksumError, match=r"reference\.npz has changed"):
        download_bundle(server.url + PLACE, tmp_path / "b")
    server.files[name] = right
    with pytest.raises(ChecksumError, match="expected 0000"):
        download_bundle(server.url + PLACE, tmp_path / "b", digest="0" * 64)
    server.files[PLACE + "manifest.json"] = b"<html>Log in</html>"
    with pytest.raises(BundleError, match=f"{server.url}.*cannot be read"):
        download_bundle(server.url + PLACE, tmp_path / "b")
    assert not (tmp_path / "b").exists()


def test_what_is_there_is_never_replaced(server, published, tmp_path):
    mine = tmp_path / "mine"
    mine.mkdir()
    (mine / "notes.txt").write_text("mine")
    with pytest.raises(OutputExistsError, match="not the published bundle") as exists:
        download_bundle(server.url + PLACE, mine)
    assert [option.name for option in exists.value.options] == ["out"]
    other = tmp_path / "other"
    shutil.copytree(published, other)
    (other / "manifest.json").write_bytes((other / "manifest.json").read_bytes() + b"\n")
    with pytest.raises(OutputExistsError, match="not the published bundle"):
        download_bundle(server.url + PLACE, other)
    assert [path.name for path in mine.iterdir()] == ["notes.txt"]
    assert {path.name for path in tmp_path.iterdir()} == {"mine", "other"}


@pytest.mark.parametrize("url", ["s3://lab/go_c", "https://lab.example/go_c?X-Amz-Signature=1", "https://lab.example/"])
def test_addresses_without_a_bundle_are_refused_before_anything_is_asked(url):
    with pytest.raises(ArgumentError, match=r"https://HOST/NAME; .* https://BUCKET\.s3\.amazonaws\.com/NAME"):
        download_bundle(url)


def test_the_command_prints_the_digest_that_it_enforces(server, published, tmp_path, command_line):
    download = partial(command_line, "download")
    out = tmp_path / "b"
    done = download("--bundle", server.url + PLACE, "--out", out)
    assert done.returncode == 0, done.stderr
    assert str(out) in done.stdout
    assert Bundle.open(out).digest in done.stdout
    wrong = download("--bundle", server.url + PLACE, "--out", out, "--digest", "ab")
    assert wrong.returncode == 1
    assert Bundle.open(out).digest in wrong.stderr
    assert download("--bundle", server.url, "vocab").returncode == 2
    assert download("vocab", "--out", out).returncode == 2


def test_the_name_of_a_released_bundle_says_how_to_get_it(tmp_path, monkeypatch, bundle):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(BundleError, match=r"from-release scgenept_go_c --dataset norman .*download --out") as missing:
        sgr.load("scgenept_go_c_norman")
    assert "--bundle URL" in missing.value.remedy
    shutil.copytree(bundle, "bundles/scgenept_go_c_norman")
    with pytest.raises(BundleError, match="Did you mean bundles/scgenept_go_c_norman"):
        sgr.load("scgenept_go_c_norman")
    with pytest.raises(BundleError, match=r"from-release scgpt --dataset adamson --out mine/scgpt_adamson"):
        sgr.load("mine/scgpt_adamson")
    with pytest.raises(BundleError, match=r"from-release scgenept_go_c --dataset norman --out bundles/scgenept_go_c`"):
        sgr.load("bundles/scgenept_go_c")
    with pytest.raises(BundleError, match="scgenept-export bundle"):
        sgr.load("another")
