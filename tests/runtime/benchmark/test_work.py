from __future__ import annotations

import pytest

from scgenept_rt.benchmark import encoder_flops
from scgenept_rt.bundle import Dimensions


def test_published_size_needs_816_gflop_626_of_them_in_attention():
    published = Dimensions(n_genes=5045, n_table_genes=5045, d_model=512, n_layers=12, n_heads=8, d_ff=512)
    assert encoder_flops(published, 5045) == pytest.approx(816e9, rel=1e-3)
    projections_and_feed_forward = 12 * 5045 * (8 * 512**2 + 4 * 512 * 512)
    assert encoder_flops(published, 5045) - projections_and_feed_forward == pytest.approx(626e9, rel=1e-3)
