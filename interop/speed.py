#!/usr/bin/env python3
"""Speed beside llama.cpp's: both quantize the same weights in one run, in turns.

Makes an fp16 Llama checkpoint of 400 million weights, or fewer with --layers, and an importance matrix,
then for each type runs quantwright (from an F16 GGUF and from the checkpoint, without and with the
flush to the disk) and llama_model_quantize (from the F16 GGUF; it never flushes), each in a process of
its own.
Prints medians, ratios, our peak memory and whether the files are equal, as a Markdown table.

With --isa NAME a column more: the same with the kernels of that instruction set, and its ratio.

With --reference LLAMA_CPP (a source folder) and --python (one with torch and transformers),
convert_hf_to_gguf.py takes its turn too: its time and that of quantizing stand against ours from
the checkpoint.
"""

import argparse
import filecmp
import multiprocessing
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import environment

if __name__ == "__main__":
    environment.enter()

import peak_rss

LAYERS = 20
WEIGHTS = "+imatrix"
TYPES = {
    "Q4_K_M": 15,
    "Q5_K_M": 17,
    "Q2_K": 10,
    "Q6_K": 18,
    "Q3_K_M": 12,
    "Q4_0": 2,
    "Q4_1": 3,
    "Q5_0": 8,
    "Q5_1": 9,
    "Q8_0": 7,
}
# Types with a codebook. Some need an importance matrix, and nobody makes the others without.
CODEBOOKS = {
    "IQ4_XS": 30,
    "IQ4_NL": 25,
    "IQ3_S": 26,
    "IQ3_XXS": 23,
    "IQ2_S": 28,
    "IQ2_XS": 20,
    "IQ2_XXS": 19,
    "IQ1_M": 31,
    "IQ1_S": 24,
}
ROWS = [*TYPES, *(name + WEIGHTS for name in ("Q4_K_M", "Q5_K_M", "Q2_K", "Q6_K", "Q3_K_M"))]
ROWS += [name + WEIGHTS for name in CODEBOOKS]

REFERENCE = """
import ctypes, os, sys, time
folder, source, output, file_type, threads, matrix = sys.argv[1:]
sys.path.insert(0, folder)
os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
from llama_cpp import llama_cpp
params = llama_cpp.llama_model_quantize_default_params()
params.ftype, params.nthread = int(file_type), int(threads)
if matrix:
    from pathlib import Path
    from against_llama_cpp import Matrix
    matrix = Matrix(Path(matrix))
    entries, overrides = matrix.entries(), matrix.overrides()
    params.imatrix, params.kv_overrides = entries, overrides
start = time.monotonic()
status = llama_cpp.llama_model_quantize(source.encode(), output.encode(), ctypes.byref(params))
# The call alone: what Python takes to start is not llama.cpp's.
print(time.monotonic() - start)
sys.exit(status)
"""


def make_matrix(path: str, layers: int) -> None:
    """Importance of the kind that activations have: mostly alike, some columns far larger."""
    import gguf
    import numpy as np

    random = np.random.default_rng(1)
    writer = gguf.GGUFWriter(path, arch="imatrix")
    # The key that gguf-py writes first is not one of an importance matrix.
    writer.kv_data[0].clear()
    writer.add_string("general.type", "imatrix")
    writer.add_array("imatrix.datasets", ["made-up.txt"])
    writer.add_uint32("imatrix.chunk_count", 16)
    writer.add_uint32("imatrix.chunk_size", 512)
    hidden, inner = peak_rss.SHAPE["hidden_size"], peak_rss.SHAPE["intermediate_size"]
    names = {"attn_q": hidden, "attn_k": hidden, "attn_v": hidden, "attn_output": hidden}
    names |= {"ffn_gate": hidden, "ffn_up": hidden, "ffn_down": inner}
    rows = {f"blk.{i}.{name}": size for i in range(layers) for name, size in names.items()}
    for name, size in (rows | {"output": hidden}).items():
        sums = 16 * np.exp(2 * random.standard_normal((1, size))).astype(np.float32)
        writer.add_tensor(f"{name}.weight.in_sum2", sums)
        writer.add_tensor(f"{name}.weight.counts", np.full((1, 1), 16, np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def apart(function, *arguments) -> None:
    """In a process of its own: a child's peak includes what its parent held when it started it."""
    process = multiprocessing.get_context("spawn").Process(target=function, args=arguments)
    process.start()
    process.join()
    if process.exitcode != 0:
        sys.exit(1)


class Run:
    """Both programs, on the same files."""

    def __init__(self, binary: Path, folder: Path, threads: int, isa: str | None) -> None:
        self.binary, self.threads, self.isa = binary, str(threads), isa
        self.checkpoint = folder / "checkpoint"
        self.matrix, self.f16 = folder / "imatrix.gguf", folder / "f16.gguf"
        self.mine, self.reference = folder / "a.gguf", folder / "b.gguf"
        self.peak = 0.0

    def ours(self, source: Path, row: str, *options: str) -> float:
        name, weighted, _ = row.partition(WEIGHTS)
        self.mine.unlink(missing_ok=True)
        command = [self.binary, "convert", source, "-o", self.mine, "-t", name, "--quiet"]
        command += ["--threads", self.threads, *options]
        command += ["--imatrix", self.matrix] if weighted else []
        return self.timed(command)

    def forced(self, row: str) -> float:
        name, weighted, _ = row.partition(WEIGHTS)
        self.mine.unlink(missing_ok=True)
        command = [environment.built("--example", "convert_on"), self.isa, self.f16, self.mine]
        command += [name, self.threads, *([self.matrix] if weighted else [])]
        return self.timed(command)

    def timed(self, command: list) -> float:
        start = time.monotonic()
        _, status, usage = os.wait4(subprocess.Popen(command).pid, 0)
        seconds = time.monotonic() - start
        if status != 0:
            sys.exit(f"{command[0]}: exit status {os.waitstatus_to_exitcode(status)}")
        self.peak = max(self.peak, usage.ru_maxrss / 1024)
        return seconds

    def theirs(self, row: str) -> float:
        name, weighted, _ = row.partition(WEIGHTS)
        self.reference.unlink(missing_ok=True)
        files = (self.f16, self.reference, str((TYPES | CODEBOOKS)[name]), self.threads)
        command = [sys.executable, "-c", REFERENCE, environment.HERE, *files]
        command += [self.matrix if weighted else ""]
        return float(subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout)

    def converted(self, python: Path, llama_cpp: Path) -> float:
        output = self.f16.with_name("c.gguf")
        command = [python, llama_cpp / "convert_hf_to_gguf.py", self.checkpoint]
        command += ["--outtype", "f16", "--outfile", output]
        start = time.monotonic()
        subprocess.run(command, check=True, capture_output=True)
        seconds = time.monotonic() - start
        output.unlink()
        return seconds


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quantwright", help="the binary; built if not given")
    parser.add_argument("--runs", type=int, default=5, help="runs of each; the median counts")
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--layers", type=int, default=LAYERS, help="layers of the model: fewer take less time")
    parser.add_argument("--isa", help="an instruction set to force, such as avx2")
    parser.add_argument("--reference", type=Path, help="the source of llama.cpp")
    parser.add_argument("--python", type=Path, help="one with torch and transformers")
    parser.add_argument("rows", nargs="*", default=ROWS, metavar="type", help="such as Q6_K, Q6_K+imatrix")
    arguments = parser.parse_args()
    binary = environment.quantwright(arguments.quantwright)
    equal = True
    with tempfile.TemporaryDirectory() as folder:
        run = Run(binary, Path(folder), arguments.threads, arguments.isa)
        run.checkpoint.mkdir()
        apart(peak_rss.make_checkpoint, str(run.checkpoint), arguments.layers)
        apart(make_matrix, str(run.matrix), arguments.layers)
        run.ours(run.checkpoint, "f16", "--no-sync")
        run.mine.rename(run.f16)
        copies = []
        for _ in range(arguments.runs):
            start = time.monotonic()
            shutil.copyfile(run.f16, run.mine)
            copies.append(time.monotonic() - start)
            run.mine.unlink()
        print(f"copying the F16 file: {statistics.median(copies):.2f} s; {run.threads} threads")
        if arguments.reference:
            seconds = statistics.median(
                run.converted(arguments.python, arguments.reference) for _ in range(arguments.runs)
            )
            print(f"convert_hf_to_gguf.py to F16: {seconds:.2f} s")
        forced = f" | {run.isa} alone" if run.isa else ""
        print(f"\n| type | ours | llama.cpp | ratio | from the checkpoint | with flush{forced} | peak | files |")
        print("|---" * (9 if forced else 8) + "|")
        if forced:
            environment.built("--example", "convert_on")
        for row in arguments.rows:
            times = {"ours": [], "theirs": [], "checkpoint": [], "flushed": []}
            run.peak, same = 0.0, True
            for _ in range(arguments.runs):
                times["ours"].append(run.ours(run.f16, row, "--no-sync"))
                times["theirs"].append(run.theirs(row))
                same = same and filecmp.cmp(run.mine, run.reference, shallow=False)
                times["checkpoint"].append(run.ours(run.checkpoint, row, "--no-sync"))
                times["flushed"].append(run.ours(run.checkpoint, row))
                same = same and filecmp.cmp(run.mine, run.reference, shallow=False)
                if forced:
                    times.setdefault("forced", []).append(run.forced(row))
                    same = same and filecmp.cmp(run.mine, run.reference, shallow=False)
            equal = equal and same
            median = {name: statistics.median(values) for name, values in times.items()}
            if forced:
                ratio = median["theirs"] / median["forced"]
                forced = f" | {median['forced']:.2f} s, {ratio:.1f}"
            print(
                f"| {row} | {median['ours']:.2f} s | {median['theirs']:.2f} s "
                f"| {median['theirs'] / median['ours']:.1f} | {median['checkpoint']:.2f} s "
                f"| {median['flushed']:.2f} s{forced} | {run.peak:.0f} MiB | {'equal' if same else 'DIFFERENT'} |",
                flush=True,
            )
    return 0 if equal else 1


if __name__ == "__main__":
    sys.exit(main())
