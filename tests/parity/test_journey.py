"""The whole journey through the command line: download, export, predict, evaluate, plot.

A server on loopback stands in for the release and for Dataverse. Checkpoint and vocabulary are the oracle's (the
published layout, small, synthetic); the data set is a stand-in of Norman's layout over the oracle's genes, zipped as
published. What comes out is compared with the outputs of the published code.
"""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import anndata
import numpy as np
import pandas as pd
import pytest

from scgenept_rt.demo import norman_layout
from tests.release_server import ReleaseServer

if TYPE_CHECKING:
    from tests.commands import CommandLine
    from tests.conftest import Oracle

VARIANT = "scgenept_go_c_gpt_concat"
CHECKPOINT = "/models/finetuned/scgenept_go_c/norman/best_model_gpt3.5_ada_rnd_seed_42_concat.pt"


class Journey:
    """A directory to work in, and the command line in it."""

    def __init__(self, directory: Path, server: Any, scripts: Mapping[str, CommandLine]) -> None:
        self.directory = directory
        self.server = server
        self.scripts = scripts
        self.environment = {"COLUMNS": "200", "NO_PROXY": "*", "SCGENEPT_RT_DOWNLOADS": str(directory / "downloads")}

    def run(self, script: str, *arguments: str, code: int = 0) -> str:
        """Run a script in its own process and return what it printed; standard error follows standard output."""
        done = self.scripts[script](*arguments, cwd=self.directory, environment=self.environment)
        assert done.returncode == code, f"{' '.join(arguments)}\n{done.stdout}\n{done.stderr}"
        assert "Traceback" not in done.stderr
        return done.stdout + done.stderr


@pytest.fixture(scope="module")
def norman(oracle: Oracle) -> anndata.AnnData:
    """The oracle's control cells and made-up cells of its perturbations, in Norman's layout; control cells first."""
    golden = oracle.golden(VARIANT)
    perts = [label for label in oracle.perturbations if label != "ctrl" and label.count("+") == 1]
    rng = np.random.default_rng(0)
    blocks, labels = [golden["X"]], ["ctrl"] * len(golden["X"])
    for label in perts:
        mean = golden["fwd"][oracle.perturbations.index(label)].mean(axis=0)
        cells = np.clip(mean + rng.normal(0.0, 0.05, (5, mean.size)), 0.0, None)
        blocks.append(cells)
        labels += [label] * len(cells)
    names = oracle.genes.read_text().split()
    ids = [f"ENSG{number:011d}" for number in range(len(names))]
    return norman_layout(np.concatenate(blocks).astype(np.float32), np.array(labels), names, ids)


@pytest.fixture(scope="module")
def journey(
    oracle: Oracle,
    norman: anndata.AnnData,
    command_line: CommandLine,
    export_cli: CommandLine,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Journey]:
    directory = tmp_path_factory.mktemp("journey")
    norman.write_h5ad(directory / "packed.h5ad")
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.write(directory / "packed.h5ad", "norman/perturb_processed.h5ad")
    (directory / "packed.h5ad").unlink()
    server = ReleaseServer()
    server.files = {
        CHECKPOINT: oracle.checkpoint(VARIANT).read_bytes(),
        "/models/pretrained/scgpt/vocab.json": oracle.vocab.read_bytes(),
        "/api/access/datafile/6154020": packed.getvalue(),
    }
    yield Journey(directory, server, {"scgenept-rt": command_line, "scgenept-export": export_cli})
    server.close()


@pytest.mark.slow
def test_from_the_release_to_figures(
    journey: Journey, oracle: Oracle, norman: anndata.AnnData, copy_graphs: None
) -> None:
    mirror = ("--mirror", journey.server.url)
    golden = oracle.golden(VARIANT)
    labels = [label for label in norman.obs["condition"].unique() if label != "ctrl"]
    single, pair = (next(label for label in labels if ("ctrl" in label) is is_single) for is_single in (True, False))

    # Download. The stand-in is not the file whose checksum is known: that is said, and has to be asked for.
    refused = journey.run("scgenept-rt", "download", "norman", *mirror, code=1)
    assert "cdc41d6050e619c37fd9dd44d440e2b4" in refused or "168,758,985" in refused
    journey.run("scgenept-rt", "download", "norman", "vocab", "scgenept_go_c", *mirror, "--accept-changed")
    data = "downloads/norman/perturb_processed.h5ad"
    n_requests = len(journey.server.requests)

    # Export; everything is here, so nothing more is asked of the server.
    exported = journey.run("scgenept-export", "from-release", "scgenept_go_c", "--genes", data, "--offline")
    assert "bundles/scgenept_go_c_norman" in exported
    assert len(journey.server.requests) == n_requests
    bundle = "bundles/scgenept_go_c_norman"
    journey.run("scgenept-rt", "inspect", bundle)
    journey.run("scgenept-rt", "check", bundle, data)
    assert "ok" in journey.run("scgenept-rt", "verify", bundle)

    # Predict.
    requested = [word for label in labels for word in ("-p", label)]
    journey.run("scgenept-rt", "predict", bundle, data, "--out", "predictions.h5ad", *requested)
    predicted = anndata.read_h5ad(journey.directory / "predictions.h5ad")
    assert predicted.obs["condition"].tolist() == labels
    for row, label in enumerate(labels):
        expected = golden["fwd64"][oracle.perturbations.index(label)].mean(axis=0)
        np.testing.assert_allclose(predicted.X[row], expected, rtol=1e-4, atol=2e-5)

    # Evaluate, with the bundle and with the file that predict wrote: the same figures.
    split = {"subgroups": {"test_subgroup": {"unseen_single": [single], "combo_seen0": [pair]}}}
    (journey.directory / "split.json").write_text(json.dumps(split))
    options = ("--split", "split.json")
    printed = journey.run(
        "scgenept-rt", "evaluate", bundle, data, *options, "--csv", "metrics.csv", "--html", "report.html"
    )
    assert "unseen_single" in printed
    journey.run("scgenept-rt", "evaluate", data, *options, "--predictions", "predictions.h5ad", "--csv", "again.csv")
    metrics, again = (pd.read_csv(journey.directory / name) for name in ("metrics.csv", "again.csv"))
    assert {"control mean", "training mean", "additive"} <= set(metrics["method"])
    for label in (single, pair):
        row = (metrics["perturbation"] == label) & (metrics["method"] == VARIANT)
        measured = norman[norman.obs["condition"] == label].X.toarray().mean(axis=0, dtype=np.float64)
        expected = golden["fwd64"][oracle.perturbations.index(label)].mean(axis=0)
        assert metrics.loc[row, "mse"].item() == pytest.approx(np.square(expected - measured).mean(), rel=1e-3)
        assert again.loc[row, "mse"].item() == pytest.approx(metrics.loc[row, "mse"].item(), rel=1e-3)
    report = (journey.directory / "report.html").read_text("utf-8")
    assert "<svg" in report
    assert pair in report

    # Plot.
    for name, arguments in {
        "top_de.png": ("top-de", data, "-p", single, "--predictions", "GO-C=predictions.h5ad"),
        "top_de.svg": ("top-de", data, "-p", pair, "--bundle", f"GO-C={bundle}"),
        "agreement.pdf": ("agreement", data, "-p", pair, "--predictions", "predictions.h5ad"),
        "delta.png": ("delta", "predictions.h5ad", "-p", pair),
        "heatmap.png": ("heatmap", "predictions.h5ad"),
    }.items():
        journey.run("scgenept-rt", "plot", *arguments, "--out", name)
        drawn = (journey.directory / name).read_bytes()
        starts = {".png": b"\x89PNG", ".svg": b"<?xml", ".pdf": b"%PDF"}
        assert drawn.startswith(starts[Path(name).suffix])
        assert len(drawn) > 5_000
    assert pair.split("+")[0] in (journey.directory / "top_de.svg").read_text("utf-8")
