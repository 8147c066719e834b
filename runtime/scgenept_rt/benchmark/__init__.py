"""How fast a bundle runs on this machine, and how accurate it is there."""

from scgenept_rt.benchmark.measurement import encoder_flops, run_benchmark

__all__ = ["encoder_flops", "run_benchmark"]
