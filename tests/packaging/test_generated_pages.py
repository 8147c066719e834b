"""Pages that programs write are up to date: `make docs` writes them."""

from __future__ import annotations

from pathlib import Path
from runpy import run_path

import pytest

DOCS = Path(__file__).parents[2] / "docs"


@pytest.mark.parametrize("name", ["architecture", "reference"])
def test_page_is_up_to_date(name: str) -> None:
    made = run_path(str(DOCS / f"make_{name}.py"))["page"]()
    assert (DOCS / f"{name}.md").read_text("utf-8") == made, "run: make docs"
