from __future__ import annotations

import numpy as np
import pytest

from scgenept_rt.errors import ArgumentError, CellsFormatError, FieldNotFoundError
from tests.runtime.expression.inputs import GENES, cells, log1p_values, read


def test_options_that_name_what_is_not_there(tmp_path):
    adata = cells(log1p_values())
    adata.layers["lognorm"] = adata.X
    adata.write_h5ad(tmp_path / "cells.h5ad")
    for source in (adata, tmp_path / "cells.h5ad"):
        with pytest.raises(FieldNotFoundError, match="no layer 'counts'"):
            read(source, layer="counts")
        with pytest.raises(FieldNotFoundError, match="no raw"):
            read(source, use_raw=True)
        with pytest.raises(FieldNotFoundError, match=r"no column 'arm' \(it has: condition\)"):
            read(source, condition_key="arm")
        with pytest.raises(FieldNotFoundError, match="no column 'symbol'"):
            read(source, gene_key="symbol")
        with pytest.raises(ArgumentError, match="both raw and the layer 'lognorm'"):
            read(source, layer="lognorm", use_raw=True)
    with pytest.raises(ArgumentError, match="there is no option 'missing'"):
        read(cells(log1p_values()), missing="zero")


@pytest.mark.parametrize("shape", [(0, 8), (3, 0), (0, 1)])
def test_no_cells_or_no_genes(tmp_path, shape):
    adata = cells(np.zeros(shape, np.float32), GENES[: shape[1]], conditions=False)
    adata.write_h5ad(tmp_path / "cells.h5ad")
    for source in (adata, tmp_path / "cells.h5ad"):
        with pytest.raises(CellsFormatError, match=rf"{shape[0]} cells x {shape[1]} gene{'s'[: shape[1] != 1]},"):
            read(source)
