"""The README's sentence on speed, from the figures of one comparison."""

from __future__ import annotations

import textwrap
from typing import Any

from form_figures import memory_ratio, seconds_a_cell, timed_forms

BEGIN, END = "<!-- written by benchmarks/render.py -->\n", "<!-- until here -->\n"


def readme_sentence(result: dict[str, Any]) -> str:
    """Return what the README says of one comparison, in lines of at most 120 characters."""
    timed = timed_forms(result)
    own = timed.get("scgenept-rt-fp32" if result["device"] == "cpu" else "scgenept-rt-fp16")
    machine = result["machine"]
    where = f"{machine['cpus']} cores of {machine['cpu']}" if result["device"] == "cpu" else machine["gpu"]["name"]
    than = {
        "published": "the published code as it comes",
        "published-no-mask": "the same without an empty mask that slows it down",
        "published-no-fast-path": "the same with PyTorch's fast path off",
        "torch-compile": "torch.compile of the folded network",
    }
    ratios = [
        f"{seconds_a_cell(timed[name]) / seconds_a_cell(own):.1f} times {words}"
        for name, words in than.items()
        if own is not None and name in timed
    ]
    text = f"One full-size network (random weights) on {where}, all in one run."
    text += f" Cells a second: {', '.join(ratios)}." if ratios else " It gave no ratios."
    if result["device"] == "cpu" and own is not None and "published" in timed:
        memory = memory_ratio(own.get("peak_bytes"), timed["published"].get("peak_bytes"))
        text += f" It takes {memory:.0%} of the published code's memory." if memory is not None else ""
    text += " Figures from a GPU are not there yet." if result["device"] == "cpu" else ""
    return textwrap.fill(text, 120, break_long_words=False, break_on_hyphens=False) + "\n"


def with_sentence(readme: str, sentence: str) -> str:
    """Return the README with another sentence between its marks."""
    before, rest = readme.split(BEGIN)
    return before + BEGIN + sentence + END + rest.split(END)[1]
