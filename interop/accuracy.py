#!/usr/bin/env python3
"""What types lose: the accuracy tables of README.md and the book.

    python3 interop/accuracy.py --quantwright target/release/quantwright
    python3 interop/accuracy.py --model SmolLM2-135M-Instruct.Q4_1.gguf --chunks 8

For each checkpoint of the fixtures, with its importance matrix, or for each --model, with one made of
calibration.txt: files of all recipes from one read, some also with `--search better`, and for the sizes of three of them the mix
that `--target-size` chooses, its sensitivities measured on calibration.txt. Sizes, perplexity and KL divergence are those of test.txt;
tokens a second are those of `bench`. Types are those that most weights have, which in models with short
rows are not those that recipes are named after.

Prints Markdown. Exits with 1 if a mix loses more than the recipe of its size.
"""

import argparse
import json
import math
import subprocess
import sys
import tempfile
from pathlib import Path

import environment

ROOT = Path(__file__).resolve().parent.parent
TEXT = ROOT / "fixtures" / "text"
CHECKPOINTS = ["tiny-llama2", "tiny-llama3", "tiny-qwen2", "tiny-phi2", "tiny-mixtral"]
RECIPES = "q8_0 q6_k q5_k_m q4_k_m q4_0 iq4_xs q3_k_m q2_k".split()
# These need an importance matrix.
LOW = "iq3_xxs iq2_xs".split()
SIZES = "q4_k_m q3_k_m q2_k".split()
# Also with --search better.
BETTER = "q6_k q5_k_m q4_k_m q4_0 iq4_xs q3_k_m q2_k".split()


class Tables:
    def __init__(self, args: argparse.Namespace, folder: Path) -> None:
        self.binary = environment.quantwright(args.quantwright)
        self.args = args
        self.folder = folder
        self.ratios: list[float] = []

    def json(self, *arguments: object) -> object:
        command = [str(argument) for argument in (self.binary, *arguments, "--json")]
        done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        if done.returncode != 0:
            sys.exit(f"{' '.join(command)}: exit status {done.returncode}\n{done.stderr[-2000:]}")
        return json.loads(done.stdout)

    def of_model(self, name: str, model: Path, matrix: Path | None = None) -> None:
        reference = model
        if model.is_file():
            # Quantized already: what it holds is the reference, in half precision.
            reference = self.folder / "reference.gguf"
            self.json("convert", model, "-o", reference, "-t", "f16", "--allow-requantize", "--force")
        if matrix is None:
            matrix = self.folder / f"{name}-imatrix.gguf"
            self.json("imatrix", reference, "-f", TEXT / "calibration.txt", "-o", matrix)
        recipes = RECIPES + LOW
        weighed = ["--imatrix", matrix]
        output = self.folder / f"{name}-{{type}}.gguf"
        made = self.json("convert", reference, "-o", output, "-t", ",".join(recipes), "--force", *weighed)
        reports = {recipe.upper(): report for recipe, report in zip(recipes, made)}
        output = self.folder / f"{name}-better-{{type}}.gguf"
        made = self.json("convert", reference, "-o", output, "-t", ",".join(BETTER), "--force", *weighed,
                         "--search", "better")
        reports |= {f"{recipe.upper()}, better search": report for recipe, report in zip(BETTER, made)}
        saved = self.folder / f"{name}.json"
        for recipe in SIZES:
            mix = f"mix, size of {recipe.upper()}"
            # Measured once; the other sizes choose by the same.
            measured = [] if saved.exists() else ["--calibration", TEXT / "calibration.txt"]
            size = Path(reports[recipe.upper()]["output"]).stat().st_size
            reports[mix] = self.json(
                "convert", reference, "-o", self.folder / f"{name}-mix-{recipe}.gguf", "--force",
                "--target-size", size, "--sensitivities", saved, *measured, *weighed,
            )
        files = [report["output"] for report in reports.values()]
        windows = ["--chunks", self.args.chunks] if self.args.chunks else []
        found = self.json("kl", reference, *files, "-f", TEXT / "test.txt", *windows)
        speeds = {}
        if not self.args.no_speed:
            for test in self.json("bench", *files, "-p", "512", "-n", "32", "-r", "3"):
                speeds.setdefault(test["model"], []).append(f"{test['mean']:.0f}")
        ppl = found["reference"]["ppl"]
        print(f"\n## {name}\n\nIts own perplexity is {ppl:.3f}.\n")
        print("| file | most weights are | size | bits per weight | perplexity | mean KLD | same top token "
              "| pp512, tg32 tokens/s |")
        print("|---|---|---|---|---|---|---|---|")
        losses = {}
        for (title, report), row in zip(reports.items(), found["candidates"]):
            losses[title] = row["mean_kld"]
            speed = ", ".join(speeds.get(report["output"], ["–"]))
            print(f"| {title} | {most(report)} | {row['bytes'] / 2**20:.2f} MiB | {row['bits_per_weight']:.2f} | "
                  f"{row['ppl']:.3f} ± {row['ppl_error']:.3f} | {row['mean_kld']:.5f} | "
                  f"{row['same_top_p']:.1f} % | {speed} |", flush=True)
        for recipe in SIZES:
            self.ratios.append(losses[f"mix, size of {recipe.upper()}"] / losses[recipe.upper()])
        ratios = ", ".join(f"{ratio:.2f}" for ratio in self.ratios[-len(SIZES):])
        print(f"\nKL divergence of the mixes over that of the recipes: {ratios}.")


def most(report: dict) -> str:
    """The type that most weights have."""
    weights: dict[str, int] = {}
    for tensor in report["tensors"]:
        weights[tensor["type"]] = weights.get(tensor["type"], 0) + math.prod(tensor["shape"])
    return max(weights, key=lambda ty: weights[ty])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quantwright", help="the binary; built if left out")
    parser.add_argument("--model", type=Path, action="append", help="a GGUF file instead of the fixtures")
    parser.add_argument("--chunks", type=int, help="windows of 512 tokens; all if left out")
    parser.add_argument("--no-speed", action="store_true", help="leave out tokens a second")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        tables = Tables(args, Path(folder))
        if args.model:
            for model in args.model:
                tables.of_model(model.stem, model, None)
        else:
            for name in CHECKPOINTS:
                checkpoint = ROOT / "fixtures" / name
                tables.of_model(name, checkpoint, checkpoint / "imatrix.gguf")
        mean = math.exp(sum(map(math.log, tables.ratios)) / len(tables.ratios))
        print(f"\nOf all: {mean:.3f} in the geometric mean, {max(tables.ratios):.3f} at most.")
    sys.exit(max(tables.ratios) > 1)


if __name__ == "__main__":
    main()
