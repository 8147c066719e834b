"""A public data set that was not made for this."""

from __future__ import annotations

from pathlib import Path

import anndata
import numpy as np
import pandas as pd
import scipy.sparse

from scgenept_rt.bundle import Bundle
from scgenept_rt.compatibility import check_cells
from scgenept_rt.demo import demo_bundle_path
from scgenept_rt.options import ReadOptions
from scgenept_rt.predictor import load
from tests.runtime.compatibility.cells import finding, predict_works, problems, scaled, written


def like_pbmc68k_reduced() -> anndata.AnnData:
    """Return cells with the properties of `scanpy.datasets.pbmc68k_reduced`.

    700 cells x 765 variable genes by symbol, of which the Norman model has 233; X scaled, with negative values and a
    maximum of 28; raw the log-normalised values of the same genes; obs without any of the condition columns.
    """
    names = Bundle.open(demo_bundle_path()).manifest.gene_names
    generator = np.random.default_rng(0)
    counts = generator.poisson(generator.lognormal(0, 1, 765), (700, 765)) * (generator.random((700, 765)) < 0.4)
    lognorm = np.log1p(counts * generator.uniform(3.1, 4.7, (700, 1))).astype(np.float32)
    var = pd.DataFrame(index=[*names[200:433], *(f"HVG{at}" for at in range(765 - 233))])
    obs = pd.DataFrame(
        {"bulk_labels": "CD4+/CD25 T Reg", "louvain": "1"}, index=[f"AAAGCCTG-{at}" for at in range(700)]
    )
    adata = anndata.AnnData(scipy.sparse.csr_matrix(lognorm), obs=obs, var=var)
    adata.raw = adata.copy()
    x = scaled(lognorm)
    x[0, 0] = 28.4
    adata.X = x
    return adata


def test_scanpy_pbmc68k_reduced_as_a_new_user_would_try_it(tmp_path: Path):
    bundle = Bundle.open(demo_bundle_path())
    path = written(like_pbmc68k_reduced(), tmp_path)
    report = check_cells(bundle, path, provider="cpu")
    assert problems(report) == {"genes", "scale"}
    assert finding(report, "labels").text.startswith("obs has no column condition")
    counted, missing = (entry for entry in report.findings if entry.topic == "genes")
    assert "233 of the model's 5,045 genes found in var_names" in counted.text
    assert "4,812 of the model's 5,045 genes are missing" in missing.text
    assert [(option.name, option.value) for option in missing.options] == [("missing_genes", "zero"), ("use_raw", True)]
    assert "negative" in finding(report, "scale").text
    assert finding(report, "scale").options[0].name == "use_raw"

    options = ReadOptions(missing_genes="zero", use_raw=True)
    followed = check_cells(bundle, path, read=options, provider="cpu")
    assert not followed.problems
    assert "only 5% of what the model reads is measured" in finding(followed, "genes").text
    with load(bundle, provider="cpu") as model:
        assert predict_works(model, path, options, tmp_path, n_controls=2)
