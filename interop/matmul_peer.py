#!/usr/bin/env python3
"""Measures ggml's mul_mat through the C API of llama-cpp-python's shared libraries.

    python matmul_peer.py [--threads 1] [--n 512] [--types Q4_K,Q6_K] [--rows 4096] [--cols 4096]

Prints, per type, GFLOPS (2·rows·cols·n) and GB/s of weights, with plain and with repacked weights
("-" where ggml has no repacked kernel for the type). With one thread the time is that on the
processor, so that other load on the machine does not count; otherwise it is the shortest run.
For products with one column choose rows so that the weights are far larger than the caches.
Needs llama-cpp-python and nothing else. --library measures another build of ggml, made for
example for CPUs with AVX2 only (GGML_NATIVE=OFF, GGML_AVX2=ON, GGML_FMA=ON, GGML_F16C=ON).
"""

import argparse
import ctypes as c
import itertools
import pathlib
import random
import sys
import time

TYPES = {  # name: (id, elements in a block, bytes in a block)
    "F32": (0, 1, 4), "F16": (1, 1, 2), "Q4_0": (2, 32, 18), "Q4_1": (3, 32, 20),
    "Q5_0": (6, 32, 22), "Q5_1": (7, 32, 24), "Q8_0": (8, 32, 34), "Q2_K": (10, 256, 84),
    "Q3_K": (11, 256, 110), "Q4_K": (12, 256, 144), "Q5_K": (13, 256, 176),
    "Q6_K": (14, 256, 210), "BF16": (30, 1, 2), "IQ2_XXS": (16, 256, 66), "IQ2_XS": (17, 256, 74),
    "IQ3_XXS": (18, 256, 98), "IQ1_S": (19, 256, 50), "IQ4_NL": (20, 32, 18), "IQ3_S": (21, 256, 110),
    "IQ2_S": (22, 256, 82), "IQ4_XS": (23, 256, 136), "IQ1_M": (29, 256, 56), "TQ1_0": (34, 256, 54),
    "TQ2_0": (35, 256, 66), "MXFP4": (39, 32, 17),
}


class InitParams(c.Structure):
    _fields_ = [("mem_size", c.c_size_t), ("mem_buffer", c.c_void_p), ("no_alloc", c.c_bool)]


def library(folder, name):
    found = sorted(folder.glob(f"*{name}.*"))
    if not found:
        sys.exit(f"{folder} has no {name}")
    return c.CDLL(str(found[0]), mode=c.RTLD_GLOBAL)


def installed():
    """The folder of the libraries that came with llama-cpp-python."""
    import importlib.util

    spec = importlib.util.find_spec("llama_cpp")
    if spec is None:
        sys.exit("llama-cpp-python is not installed")
    return pathlib.Path(spec.origin).parent / "lib"


def functions(folder):
    base, cpu = library(folder, "ggml-base"), library(folder, "ggml-cpu")
    p, i64 = c.c_void_p, c.c_int64

    def declare(lib, name, result, *arguments):
        f = getattr(lib, name)
        f.restype, f.argtypes = result, arguments
        return f

    return {
        "init": declare(base, "ggml_init", p, InitParams),
        "free": declare(base, "ggml_free", None, p),
        "new": declare(base, "ggml_new_tensor_2d", p, p, c.c_int, i64, i64),
        "mul_mat": declare(base, "ggml_mul_mat", p, p, p, p),
        "graph": declare(base, "ggml_new_graph", p, p),
        "expand": declare(base, "ggml_build_forward_expand", None, p, p),
        "alloc": declare(base, "ggml_backend_alloc_ctx_tensors_from_buft", p, p, p),
        "free_buffer": declare(base, "ggml_backend_buffer_free", None, p),
        "set": declare(base, "ggml_backend_tensor_set", None, p, p, c.c_size_t, c.c_size_t),
        "compute": declare(base, "ggml_backend_graph_compute", c.c_int, p, p),
        "quantize": declare(base, "ggml_quantize_chunk", c.c_size_t, c.c_int, p, p, i64, i64, i64, p),
        "supports": declare(base, "ggml_backend_supports_op", c.c_bool, p, p),
        "plain": declare(base, "ggml_backend_cpu_buffer_type", p),
        # The only function of the interface that is not C; without it repacking is not measured.
        "repack": declare(cpu, "_Z35ggml_backend_cpu_repack_buffer_typev", p)
        if hasattr(cpu, "_Z35ggml_backend_cpu_repack_buffer_typev") else None,
        "cpu": declare(cpu, "ggml_backend_cpu_init", p),
        "threads": declare(cpu, "ggml_backend_cpu_set_n_threads", None, p, c.c_int),
    }


def weights(g, ty, rows, cols):
    """Sixteen quantized rows, repeated."""
    generator = random.Random(1)
    values = (c.c_float * (16 * cols))(*(generator.gauss(0, 0.02) for _ in range(16 * cols)))
    ident, block, size = TYPES[ty]
    few = c.create_string_buffer(16 * cols // block * size)
    # The coarsest types are made with importance only.
    importance = (c.c_float * cols)(*[1.0] * cols) if ty.startswith("IQ") else None
    g["quantize"](ident, values, few, 0, 16, cols, importance)
    return (few.raw * (rows // 16 + 1))[: rows * cols // block * size]


def measure(g, backend, buffer_type, ty, data, inputs, args):
    """The best time in seconds, or None if these buffers do not hold the type."""
    make = lambda: g["init"](InitParams(1 << 20, None, True))
    fixed, work = make(), make()
    w = g["new"](fixed, TYPES[ty][0], args.cols, args.rows)
    x = g["new"](work, 0, args.cols, args.n)
    y = g["mul_mat"](work, w, x)
    buffers = [g["alloc"](fixed, buffer_type), g["alloc"](work, g["plain"]())]
    best = None
    # A repacked buffer accepts other types but keeps their layout: the operation tells.
    if all(buffers) and g["supports"](backend, y):
        g["set"](w, data, 0, len(data))
        g["set"](x, inputs, 0, c.sizeof(inputs))
        graph = g["graph"](work)
        g["expand"](graph, y)
        clock = time.thread_time if args.threads == 1 else time.perf_counter
        end, best, runs = time.monotonic() + args.seconds, float("inf"), 0
        while runs < 4 or time.monotonic() < end:
            start = clock()
            if g["compute"](backend, graph) != 0:
                sys.exit("ggml could not compute the graph")
            best, runs = min(best, clock() - start), runs + 1
    for buffer in filter(None, buffers):
        g["free_buffer"](buffer)
    g["free"](fixed)
    g["free"](work)
    return best


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rows", type=int, default=4096)
    parser.add_argument("--cols", type=int, default=4096)
    parser.add_argument("--n", type=int, default=512)
    parser.add_argument("--seconds", type=float, default=0.5)
    parser.add_argument("--types", default="Q4_0,Q8_0,Q4_K,Q5_K,Q6_K")
    parser.add_argument("--library", type=pathlib.Path, help="folder of another build of ggml")
    args = parser.parse_args()
    g = functions(args.library or installed())
    # A few thousand values, again and again: the time does not depend on them.
    few = [random.Random(i).gauss(0, 1) for i in range(4096)]
    inputs = (c.c_float * (args.cols * args.n))(
        *itertools.islice(itertools.cycle(few), args.cols * args.n))
    backend = g["cpu"]()
    g["threads"](backend, args.threads)
    print(f"rows {args.rows}, cols {args.cols}, n {args.n}, {args.threads} thread(s)")
    print(f"{'type':<6} {'plain GFLOPS':>13} {'GB/s':>6} {'repacked GFLOPS':>16} {'GB/s':>6}")
    for ty in args.types.split(","):
        data = weights(g, ty, args.rows, args.cols)
        line = f"{ty:<6}"
        for name, width in (("plain", 13), ("repack", 16)):
            seconds = None
            if g[name] is not None:
                seconds = measure(g, backend, g[name](), ty, data, inputs, args)
            if seconds is None:
                line += f" {'-':>{width}} {'-':>6}"
            else:
                flops = 2 * args.rows * args.cols * args.n / seconds / 1e9
                line += f" {flops:>{width}.1f} {len(data) / seconds / 1e9:>6.1f}"
        print(line, flush=True)


if __name__ == "__main__":
    main()
