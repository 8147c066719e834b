"""How fast a bundle runs on this machine, how accurate it is there, and what the machine could do at best.

`run_benchmark` measures; `BenchmarkResult.to_json` keeps the figures and `scgenept_rt.plotting.throughput` draws them.
"""

from scgenept_rt.benchmark.measurement import run_benchmark
from scgenept_rt.benchmark.result import BenchmarkResult, EndToEnd, PrecisionResult, Timing
from scgenept_rt.benchmark.work import encoder_flops

__all__ = ["BenchmarkResult", "EndToEnd", "PrecisionResult", "Timing", "encoder_flops", "run_benchmark"]
