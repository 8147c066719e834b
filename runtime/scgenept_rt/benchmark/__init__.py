"""How fast a bundle runs on this machine, beside how accurate it is there and what the machine could do at best.

`run_benchmark` measures; the figures go to JSON (`BenchmarkResult.to_json`), and
`scgenept_rt.plotting.throughput` draws them.
"""

from scgenept_rt.benchmark.measurement import BenchmarkResult, EndToEnd, Timing, run_benchmark
from scgenept_rt.benchmark.options import BenchmarkOptionError, BenchmarkOptions
from scgenept_rt.benchmark.work import encoder_flops

__all__ = [
    "BenchmarkOptionError",
    "BenchmarkOptions",
    "BenchmarkResult",
    "EndToEnd",
    "Timing",
    "encoder_flops",
    "run_benchmark",
]
