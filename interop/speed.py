#!/usr/bin/env python3
"""Speed beside llama.cpp's: both quantize the same weights in one run, in turns.

Makes an fp16 Llama checkpoint of 400 million weights, then for each type runs quantwright (from an
F16 GGUF and from the checkpoint, without and with the flush to the disk) and llama_model_quantize
(from the F16 GGUF; it never flushes), each in a process of its own. Prints medians, ratios and
whether the files are equal, as a Markdown table.
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

REFERENCE = """
import ctypes, os, sys, time
source, output, file_type, threads = sys.argv[1:]
os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
from llama_cpp import llama_cpp
params = llama_cpp.llama_model_quantize_default_params()
params.ftype, params.nthread = int(file_type), int(threads)
start = time.monotonic()
status = llama_cpp.llama_model_quantize(source.encode(), output.encode(), ctypes.byref(params))
# The call alone: what Python takes to start is not llama.cpp's.
print(time.monotonic() - start)
sys.exit(status)
"""


def theirs(source: Path, output: Path, file_type: str, threads: int) -> float:
    command = [sys.executable, "-c", REFERENCE, source, output, str(TYPES[file_type]), str(threads)]
    return float(subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout)


def ours(binary: Path, source: Path, output: Path, file_type: str, *options: str) -> float:
    command = [binary, "convert", source, "-o", output, "-t", file_type, "--force", "--quiet"]
    start = time.monotonic()
    subprocess.run([*command, *options], check=True)
    return time.monotonic() - start


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quantwright", help="the binary; built if not given")
    parser.add_argument("--runs", type=int, default=5, help="runs of each; the median counts")
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("types", nargs="*", default=list(TYPES))
    arguments = parser.parse_args()
    binary = environment.quantwright(arguments.quantwright)
    threads = ("--threads", str(arguments.threads))
    equal = True
    with tempfile.TemporaryDirectory() as folder:
        checkpoint = Path(folder, "checkpoint")
        checkpoint.mkdir()
        maker = multiprocessing.get_context("spawn").Process(
            target=peak_rss.make_checkpoint, args=(str(checkpoint), LAYERS)
        )
        maker.start()
        maker.join()
        if maker.exitcode != 0:
            return 1
        f16, mine, reference = (Path(folder, name) for name in ("f16.gguf", "a.gguf", "b.gguf"))
        ours(binary, checkpoint, f16, "f16", "--no-sync", *threads)
        copies = []
        for _ in range(arguments.runs):
            start = time.monotonic()
            shutil.copyfile(f16, mine)
            copies.append(time.monotonic() - start)
        print(f"copying the F16 file: {statistics.median(copies):.2f} s; {threads[1]} threads\n")
        print("| type | ours | llama.cpp | ratio | from the checkpoint | with flush | files |")
        print("|---|---|---|---|---|---|---|")
        for file_type in arguments.types:
            times = {"ours": [], "theirs": [], "checkpoint": [], "flushed": []}
            for _ in range(arguments.runs):
                times["ours"].append(ours(binary, f16, mine, file_type, "--no-sync", *threads))
                times["theirs"].append(theirs(f16, reference, file_type, arguments.threads))
                same = filecmp.cmp(mine, reference, shallow=False)
                times["checkpoint"].append(
                    ours(binary, checkpoint, mine, file_type, "--no-sync", *threads)
                )
                times["flushed"].append(ours(binary, checkpoint, mine, file_type, *threads))
                same = same and filecmp.cmp(mine, reference, shallow=False)
                equal = equal and same
            median = {name: statistics.median(values) for name, values in times.items()}
            print(
                f"| {file_type} | {median['ours']:.2f} s | {median['theirs']:.2f} s "
                f"| {median['theirs'] / median['ours']:.1f} | {median['checkpoint']:.2f} s "
                f"| {median['flushed']:.2f} s | {'equal' if same else 'DIFFERENT'} |",
                flush=True,
            )
    return 0 if equal else 1


if __name__ == "__main__":
    sys.exit(main())
