"""Computing identical tokens once, exactly.

The network has no positional encoding: genes that share a token (all genes outside the vocabulary do) and have the same
value and flag in a cell stay identical through every layer. They are computed as one token whose key counts once per
gene: a merged graph adds the logarithm of their number to the key's attention scores.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from scgenept_rt.bundle import Manifest
from scgenept_rt.session.protocol import Feed


def shares_token(manifest: Manifest) -> NDArray[np.bool_]:
    """Return, for every row of the gene table, whether it is the token that genes outside the vocabulary share."""
    shares = np.zeros(manifest.dimensions.n_table_genes, dtype=np.bool_)
    shares[: len(manifest.in_vocab)] = ~np.asarray(manifest.in_vocab, dtype=np.bool_)
    return shares


def merge_tokens(
    values: NDArray[np.float32], pert_flags: NDArray[np.int64], shared: NDArray[np.bool_]
) -> tuple[NDArray[np.int64], NDArray[np.float32], NDArray[np.int64]]:
    """Find the distinct tokens of one cell; all inputs are (n_genes,), `shared` as `shares_token`.

    Returns the columns (n_tokens,) that are computed, ascending, the logarithm of the number of columns that each
    represents, and for every column (n_genes,) which of these tokens it is.
    """
    sharing = np.flatnonzero(shared)
    representative = np.arange(len(values))
    # As complex numbers: value and flag compare as one, and -0 equals 0.
    keys = values[sharing] + 1j * pert_flags[sharing]
    _, first, group = np.unique(keys, return_index=True, return_inverse=True)
    representative[sharing] = sharing[first][group]
    columns, position, counts = np.unique(representative, return_inverse=True, return_counts=True)
    return columns, np.log(counts).astype(np.float32), position


def run_merged(
    run: Callable[[Feed], NDArray[np.float32]],
    values: NDArray[np.float32],
    pert_flags: NDArray[np.int64],
    gene_index: NDArray[np.int64],
    shared_rows: NDArray[np.bool_],
) -> NDArray[np.float32]:
    """Run a merged graph cell by cell: the tokens of two cells differ, and one cell keeps a CPU busy.

    `run` runs the graph on named inputs: those of every graph (see `Session.run`), and `log_count` float32 [n_tokens];
    `shared_rows` as `shares_token`. Raises ValueError if inputs differ in cells or genes: columns are chosen here, so
    the graph would not notice.
    """
    if not values.shape == pert_flags.shape == (len(values), *gene_index.shape):
        shapes = f"values {values.shape}, pert_flags {pert_flags.shape} and gene_index {gene_index.shape}"
        raise ValueError(f"the shapes of the inputs do not fit together: {shapes}")
    predicted = np.empty(values.shape, dtype=np.float32)
    shared = shared_rows[gene_index]
    for cell in range(len(values)):
        columns, log_count, position = merge_tokens(values[cell], pert_flags[cell], shared)
        feed: Feed = {
            "values": values[cell : cell + 1, columns],
            "pert_flags": pert_flags[cell : cell + 1, columns],
            "gene_index": gene_index[columns],
            "log_count": log_count,
        }
        predicted[cell] = run(feed)[0, position]
    return predicted
