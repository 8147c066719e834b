"""Steps that measure: parts of the network alone, every kernel of a batch, rewritten graphs, sizes and options."""

from __future__ import annotations

import json
import statistics
import tempfile
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from common import (
    CELLS,
    DEVICE,
    GENES,
    GPU,
    OUT,
    PRECISION,
    Bound,
    feed,
    median_ms,
    note,
    session,
    torch_gpu,
    tried,
    workload,
)


def micro() -> None:
    """Time the parts of the network alone: products, attention, passes over memory, ONNX Runtime's operators."""
    tokens = CELLS * GENES
    torch = tried("micro", "import torch", torch_gpu)
    if torch is not None and (not GPU or torch.cuda.is_available()):
        _micro_torch(torch, tokens)
    tried("micro", "operators", lambda: _micro_operators(CELLS, GENES))


def _torch_ms(torch: Any, run: Callable[[], Any], repeats: int = 12) -> float:
    if not GPU:
        return median_ms(run, 2, 1)["ms"]
    for _ in range(3):
        run()
    times = []
    for _ in range(repeats):
        start, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
        start.record()
        run()
        end.record()
        end.synchronize()
        times.append(start.elapsed_time(end))
    return statistics.median(times)


def _micro_torch(torch: Any, tokens: int) -> None:
    half = torch.float16 if GPU else torch.float32
    size = 2 if GPU else 4

    def put(*shape: int) -> Any:
        return torch.randn(*shape, device=DEVICE, dtype=half)

    big = 8192 if GPU else 512
    a, b = put(big, big), put(big, big)
    ms = _torch_ms(torch, lambda: a @ b)
    note("micro", what=f"product {big}", ms=ms, tflops=2 * big**3 / ms / 1e9)
    x, bias = put(tokens, 512), put(512)
    for width in (512, 1024, 1536):
        w = put(512, width)
        ms = _torch_ms(torch, lambda w=w: x @ w)
        note("micro", what=f"product {tokens}x512x{width}", ms=ms, tflops=2 * tokens * 512 * width / ms / 1e9)
    w = put(512, 512)
    extra = {
        "addmm (bias in the product)": lambda: torch.addmm(bias, x, w),
        "addmm + relu in the product": lambda: torch._addmm_activation(bias, x, w),
        "addmm onto a residual": lambda: torch.addmm(x, x, w),
    }
    for name, run in extra.items():
        ms = tried("micro", name, lambda run=run: _torch_ms(torch, run))
        if ms:
            note("micro", what=name, ms=ms, tflops=2 * tokens * 512 * 512 / ms / 1e9)
    bytes_of_pass = tokens * 512 * size
    norm = torch.nn.functional.layer_norm
    passes = {
        "copy": (2, lambda: x.clone()),
        "add bias": (2, lambda: x + bias),
        "relu": (2, lambda: torch.relu(x)),
        "add": (2, lambda: torch.add(x, x)),
        "layer norm": (2, lambda: norm(x, (512,), bias, bias)),
    }
    for name, (n, run) in passes.items():
        ms = tried("micro", name, lambda run=run: _torch_ms(torch, run))
        if ms:
            note("micro", what=f"pass: {name}", ms=ms, tb_per_s=n * bytes_of_pass / ms / 1e9)
    lengths = (4549, 4608, 5040, 5045, 5056, 5120) if GPU else (64, 65)
    for length in lengths:
        tried("micro", f"attention {length}", lambda length=length: _attention(torch, put, length, 64, 64))
    for qk, v in ((64, 72), (72, 64), (72, 72), (64, 128), (80, 64)):
        tried("micro", f"attention d {qk}/{v}", lambda qk=qk, v=v: _attention(torch, put, lengths[0], qk, v))


def _attention(torch: Any, put: Callable[..., Any], length: int, qk: int, v: int) -> None:
    from torch.nn.attention import SDPBackend, sdpa_kernel

    cells = CELLS
    # As ONNX Runtime has them: [batch, length, heads, width], seen through strides.
    q, k = (put(cells, length, 8, qk).transpose(1, 2) for _ in range(2))
    value = put(cells, length, 8, v).transpose(1, 2)
    backends = {"cpu": SDPBackend.MATH}
    if GPU:
        backends = {"cudnn": SDPBackend.CUDNN_ATTENTION, "flash": SDPBackend.FLASH_ATTENTION}
    for name, backend in backends.items():

        def run(backend: Any = backend) -> Any:
            with sdpa_kernel([backend]):
                return torch.nn.functional.scaled_dot_product_attention(q, k, value, scale=0.125)

        ms = tried("micro", f"{name} {length} d {qk}/{v}", lambda run=run: _torch_ms(torch, run, 8))
        if ms:
            flops = cells * 8 * length * length * 2 * (qk + v)
            ms_per_cell = ms * 12 / cells
            note(
                "micro",
                what=f"attention {name} L {length} d {qk}/{v}",
                ms=ms,
                ms_per_cell=ms_per_cell,
                tflops=flops / ms / 1e9,
            )


def _micro_operators(cells: int, genes: int) -> None:
    from onnx import TensorProto, helper
    from onnx import numpy_helper as nh

    half, ms_domain = TensorProto.FLOAT16, {"domain": "com.microsoft"}
    rng = np.random.default_rng(0)

    def weight(*shape: int) -> np.ndarray:
        return (rng.standard_normal(shape) / 22).astype(np.float16)

    def node(kind: str, inputs: list[str], outputs: list[str], **attributes: Any) -> Any:
        return helper.make_node(kind, inputs, outputs, **attributes)

    w, b, wide = weight(512, 512), weight(512), weight(512, 1536)
    flat, norm = np.array([-1, 512]), {"epsilon": 1e-5, **ms_domain}
    models: dict[str, tuple[list[Any], dict[str, np.ndarray]]] = {
        "MatMul": ([node("MatMul", ["x", "w"], ["y"])], {"w": w}),
        "MatMul+Add": ([node("MatMul", ["x", "w"], ["m"]), node("Add", ["m", "b"], ["y"])], {"w": w, "b": b}),
        "MatMul+Add+Relu": (
            [node("MatMul", ["x", "w"], ["m"]), node("Add", ["m", "b"], ["a"]), node("Relu", ["a"], ["y"])],
            {"w": w, "b": b},
        ),
        "MatMul+Max": ([node("MatMul", ["x", "w"], ["m"]), node("Max", ["m", "b"], ["y"])], {"w": w, "b": b}),
        "Gemm(bias)": (
            [node("Reshape", ["x", "s"], ["t"]), node("Gemm", ["t", "w", "b"], ["y"])],
            {"w": w, "b": b, "s": flat},
        ),
        "GemmFloat8(fp16, RELU)": (
            [
                node("Reshape", ["x", "s"], ["t"]),
                node("GemmFloat8", ["t", "w"], ["y"], activation="RELU", transB=1, dtype=half, **ms_domain),
            ],
            {"w": w, "s": flat},
        ),
        "MatMul 1536": ([node("MatMul", ["x", "w"], ["y"])], {"w": wide}),
        "Add": ([node("Add", ["x", "b"], ["y"])], {"b": b}),
        "Relu": ([node("Relu", ["x"], ["y"])], {}),
        "Max": ([node("Max", ["x", "b"], ["y"])], {"b": b}),
        "LeakyRelu": ([node("LeakyRelu", ["x"], ["y"], alpha=0.01)], {}),
        "LayerNormalization": (
            [node("LayerNormalization", ["x", "g", "b"], ["y"], epsilon=1e-5)],
            {"g": b, "b": b},
        ),
        "SkipLayerNormalization": (
            [node("SkipLayerNormalization", ["x", "x", "g", "b", "b"], ["y"], **norm)],
            {"g": b, "b": b},
        ),
        "MultiHeadAttention": ([node("MultiHeadAttention", ["x", "x", "x"], ["y"], num_heads=8, **ms_domain)], {}),
        "Attention (packed, with bias)": (
            [node("Attention", ["x", "w", "b"], ["y"], num_heads=8, **ms_domain)],
            {"w": wide, "b": weight(1536)},
        ),
        "3 MatMul + MultiHeadAttention": (
            [
                *(node("MatMul", ["x", "w"], [name]) for name in "qkv"),
                node("MultiHeadAttention", ["q", "k", "v"], ["y"], num_heads=8, **ms_domain),
            ],
            {"w": w},
        ),
        "values 72 wide": (
            [
                node("MatMul", ["x", "w"], ["v"]),
                node("MultiHeadAttention", ["x", "x", "v"], ["y"], num_heads=8, **ms_domain),
            ],
            {"w": weight(512, 576)},
        ),
    }
    x = rng.standard_normal((cells, genes, 512), dtype=np.float32).astype(np.float16)
    for name, (nodes, initializers) in models.items():

        def measure(nodes: Any = nodes, initializers: Any = initializers, name: str = name) -> None:
            graph = helper.make_graph(
                nodes,
                "one",
                [helper.make_tensor_value_info("x", half, ["b", "n", 512])],
                [helper.make_tensor_value_info("y", half, None)],
                [nh.from_array(array, key) for key, array in initializers.items()],
            )
            opsets = [helper.make_opsetid("", 20), helper.make_opsetid("com.microsoft", 1)]
            model = helper.make_model(graph, opset_imports=opsets, ir_version=10)
            bound = Bound(session(model.SerializeToString()), {"x": x})
            note("micro", what=f"ORT {name}", **median_ms(bound.run, 12))

        tried("micro", f"ORT {name}", measure)


def kernels() -> None:
    """Record the time of every kernel of one batch with PyTorch's profiler, which sees the whole process."""
    torch = torch_gpu()
    work = workload()
    bound = Bound(session(str(work.bundle / f"ort_{PRECISION}.onnx")), feed(CELLS, GENES, GENES))
    runs = 3
    for _ in range(3):
        bound.run()
    activities = [torch.profiler.ProfilerActivity.CPU]
    if GPU:
        torch.zeros(1, device="cuda")
        activities.append(torch.profiler.ProfilerActivity.CUDA)
    with torch.profiler.profile(activities=activities) as profile:
        for _ in range(runs):
            bound.run()
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "trace.json"
        profile.export_chrome_trace(str(path))
        events = json.loads(path.read_text())["traceEvents"]
    spans = [e for e in events if e.get("ph") == "X" and e.get("cat") in ("kernel", "gpu_memcpy", "gpu_memset")]
    total, count = Counter(), Counter()
    for event in spans:
        total[event["name"]] += event["dur"]
        count[event["name"]] += 1
    begins = [e["ts"] for e in spans]
    wall = max((e["ts"] + e["dur"] for e in spans), default=0) - min(begins, default=0)
    note(
        "kernels", kinds=len(total), kernel_ms=sum(total.values()) / 1e3 / runs, wall_ms=wall / 1e3 / runs, cells=CELLS
    )
    with (OUT / "kernels.csv").open("w") as file:
        file.write("ms_per_batch,calls_per_batch,us_per_call,name\n")
        for name, us in total.most_common():
            row = f"{us / 1e3 / runs:.4f},{count[name] / runs:.1f},{us / count[name]:.1f},{name[:240]!r}"
            file.write(row + "\n")
    for name, us in total.most_common(14):
        print(f"{us / 1e3 / runs:9.3f} ms {count[name] / runs:6.1f} calls {us / count[name]:9.1f} us  {name[:120]}")


def variants() -> None:
    """Time the graph as exported and rewritten, then batch sizes, lengths and session options."""
    from rewrite import rewrite

    work = workload()
    source, exact = work.bundle / f"ort_{PRECISION}.onnx", work.bundle / "ort_fp32.onnx"
    inputs = feed(CELLS, GENES, GENES)
    reference = None
    fp32 = Bound(session(str(exact), **({"use_tf32": "0"} if GPU else {})), {**feed(2, GENES, GENES)})
    fp32.run()
    truth = fp32.output()
    del fp32
    with tempfile.TemporaryDirectory() as directory:
        for what in ("", "max", "q", "dec", "max,q,dec", "id", ""):

            def measure(what: str = what) -> None:
                nonlocal reference
                path, shift = str(source), 0.0
                if what:
                    path = str(Path(directory) / f"{what}.onnx")
                    shift = rewrite(str(source), path, set(what.split(",")), str(exact))
                bound = Bound(session(path), inputs)
                timed = median_ms(bound.run)
                if reference is None:
                    reference = bound.output()
                small = Bound(bound.opened, feed(2, GENES, GENES))
                small.run()
                note(
                    "variants",
                    what=what or "as exported",
                    ms_per_cell=timed["ms"] / CELLS,
                    best_ms_per_cell=timed["best_ms"] / CELLS,
                    largest_shift=shift,
                    max_error_to_fp32=float(np.abs(small.output() - truth).max()),
                    difference=float(np.abs(bound.output() - reference).max()),
                )

            tried("variants", what or "as exported", measure)
        opened = session(str(source))
        for cells in (1, 2, 4, 8, 16, 24, 32, 48, 64, 128) if GPU else (1, 2):
            timed = tried(
                "variants",
                f"batch {cells}",
                lambda cells=cells: median_ms(Bound(opened, feed(cells, GENES, GENES)).run, 10),
            )
            if timed:
                note(
                    "variants",
                    what=f"batch {cells}",
                    ms_per_cell=timed["ms"] / cells,
                    best_ms_per_cell=timed["best_ms"] / cells,
                )
        for genes in (4549, 4608, 5040, 5045, 5048, 5056, 5120) if GPU else (64, 128):
            timed = tried(
                "variants",
                f"length {genes}",
                lambda genes=genes: median_ms(Bound(opened, feed(CELLS, genes, GENES)).run, 8),
            )
            if timed:
                note("variants", what=f"length {genes}", ms_per_cell=timed["ms"] / CELLS)
        for name, pattern, options in (
            ("no memory pattern", False, {}),
            ("arena as requested", True, {"arena_extend_strategy": "kSameAsRequested"}),
            ("tunable products", True, {"tunable_op_enable": "1", "tunable_op_tuning_enable": "1"}),
        ):

            def with_options(name: str = name, pattern: bool = pattern, options: dict[str, str] = options) -> None:
                opened = session(str(source), pattern=pattern, **options)
                small = Bound(opened, feed(2, GENES, GENES))
                small.run()
                timed = median_ms(Bound(opened, inputs).run)
                error = float(np.abs(small.output() - truth).max())
                note("variants", what=name, ms_per_cell=timed["ms"] / CELLS, max_error_to_fp32=error)

            if GPU or not options:
                tried("variants", name, with_options)
