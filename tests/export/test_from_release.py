"""From a release on loopback to a bundle that predicts, through the command line and in Python."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from typing import Any

import pytest

from scgenept_export.bundle_export import export_release
from scgenept_export.gene_list import SHIPPED, read_gene_list
from scgenept_export.vocabulary import census_vocabulary
from scgenept_rt.bundle import Bundle
from scgenept_rt.download import DownloadDirectory
from scgenept_rt.errors import DownloadError, OfflineError, OutputExistsError
from tests.release_server import ReleaseServer

GO_C = "/models/finetuned/scgenept_go_c/norman/best_model_gpt3.5_ada_rnd_seed_42_concat.pt"
VARIANT = "scgenept_go_c_gpt_concat"


@pytest.fixture(autouse=True)
def no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "https_proxy", "all_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def release(oracle: Any) -> Iterator[Any]:
    """The published layout with a small checkpoint and its vocabulary."""
    server = ReleaseServer()
    server.files[GO_C] = oracle.checkpoint(VARIANT).read_bytes()
    server.files["/models/pretrained/scgpt/vocab.json"] = oracle.vocab.read_bytes()
    yield server
    server.close()


@pytest.mark.parametrize(
    ("dataset", "n_genes", "n_in_vocab", "sha256"),
    [
        ("norman", 5045, 4547, "03ca7b42bb5dbbce7c8e8445fa83db72faa5a9ba681bc23c1c3989bf54456f2d"),
        ("adamson", 5060, 4399, "3cc30a2a25a514406cc5625c16b1f4a5d0328d890b391b4bca39f216cbfe3331"),
    ],
)
def test_shipped_gene_lists_are_those_of_the_published_models(dataset, n_genes, n_in_vocab, sha256):
    genes = read_gene_list(dataset)
    assert dataset in SHIPPED
    assert len(genes.names) == len(genes.ids) == len(set(genes.names)) == n_genes
    assert hashlib.sha256("".join(f"{name}\n" for name in genes.names).encode()).hexdigest() == sha256
    assert sum(census_vocabulary().encode(genes.names)[1]) == n_in_vocab
    assert all(gene_id is not None and gene_id.startswith("ENSG") for gene_id in genes.ids)


def test_what_was_downloaded_once_serves_offline(release, oracle, copy_graphs, tmp_path):
    def export(name: str, **download_options: Any) -> Bundle:
        options: dict[str, Any] = {"genes": str(oracle.genes), "precisions": ("fp32",), "progress": print}
        downloads = DownloadDirectory(tmp_path / "downloads", **download_options)
        return export_release(VARIANT, "norman", tmp_path / name, downloads=downloads, **options)

    with pytest.raises(OfflineError):
        export("out", offline=True)
    export("out", mirror=release.url)
    n_requests = len(release.requests)
    assert export("again", offline=True).manifest.variant == VARIANT
    assert len(release.requests) == n_requests


def test_an_occupied_output_is_told_before_the_download(release, tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "file").touch()
    downloads = DownloadDirectory(tmp_path / "downloads", mirror=release.url)
    with pytest.raises(OutputExistsError, match="overwrite=True"):
        export_release(VARIANT, "norman", tmp_path / "out", downloads=downloads, progress=print)
    assert release.requests == []


def test_a_variant_that_the_server_lacks_leaves_no_bundle(release, tmp_path):
    downloads = DownloadDirectory(tmp_path / "downloads", mirror=release.url)
    with pytest.raises(DownloadError, match=r"scgenept_go_f \(.* trained on norman\) is not there"):
        export_release("scgenept_go_f", "norman", tmp_path / "out", downloads=downloads, progress=print)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (("scgenept_go_c", "--mirror", "host"), 2, "--mirror"),
        (("go_c",), 1, "Did you mean scgenept_go_c?"),
        (("norman",), 1, "expected one of the release"),
    ],
)
def test_wrong_usage(arguments, code, words, export_cli, tmp_path):
    done = export_cli("from-release", *arguments, cwd=tmp_path)
    assert done.returncode == code
    assert words in done.stderr
    assert "Traceback" not in done.stderr
