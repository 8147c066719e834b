"""The steps of `gpu_proof.sh`: `python steps.py STEP ...`. See README.md.

Each figure is appended to $OUT/results.jsonl as soon as it is known. A measurement that fails is a line there too, and
the rest goes on.
"""

from __future__ import annotations

import sys

from common import labels, workload
from proof import big, compare, crowded, killed, latency, prepare
from speed import kernels, variants
from summary import collect, collect_sides, summary


def perturbations() -> None:
    """Print the labels of the perturbations that are predicted, one per line."""
    print("\n".join(labels(workload())))


STEPS = (prepare, perturbations, compare, kernels, variants, latency, killed, big, crowded)
SUMMARIES = (collect, collect_sides, summary)

if __name__ == "__main__":
    name, *arguments = sys.argv[1:]
    {step.__name__: step for step in (*STEPS, *SUMMARIES)}[name](*arguments)
