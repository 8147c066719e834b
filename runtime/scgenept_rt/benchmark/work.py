"""How many floating-point operations a prediction needs, from the network's sizes alone."""

from __future__ import annotations

from scgenept_rt.bundle import Dimensions


def encoder_flops(dimensions: Dimensions, n_genes: int) -> int:
    """Return the floating-point operations of the transformer layers for one cell (a multiply-add counts as two).

    Counted are the matrix products: of a layer with n genes, width d and feed-forward width f, the four projections of
    attention (8 n d^2), queries with keys and weights with values (4 n^2 d), and the feed-forward block (4 n d f). The
    published size, 12 layers of 512 over 5,045 genes, needs 816e9, 626e9 of them in attention. The embedding, the
    decoder, norms and softmax are left out (about 1% at that size), so that rates are not flattered.

    Parameters
    ----------
    dimensions
        Sizes of the network.
    n_genes
        Genes that are predicted.
    """
    n, d, f = n_genes, dimensions.d_model, dimensions.d_ff
    return dimensions.n_layers * (8 * n * d * d + 4 * n * n * d + 4 * n * d * f)
