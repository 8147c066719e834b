"""How fast a bundle runs on this machine, and how accurate it is there."""

from scgenept_rt.benchmark.measurement import encoder_flops, run_benchmark
from scgenept_rt.benchmark.result import BenchmarkResult, EndToEnd, Timing

__all__ = ["BenchmarkResult", "EndToEnd", "Timing", "encoder_flops", "run_benchmark"]
