"""Compares the tokens of our own tokenizer with llama.cpp's, for llama.cpp's test vocabularies and every pre-tokenizer.

    python interop/tokenizers.py LLAMA_CPP [--llama-tokenize PATH] [--tool PATH]

LLAMA_CPP is a source tree: `models/ggml-vocab-*.gguf` with their `.inp` and `.out`. With llama-tokenize, a
text of mixed languages, code, emoji and odd spaces and one of random characters of all categories are
tokenized by both, for each of these vocabularies, with and without special tokens, and for a vocabulary of
byte-level BPE under the name of each pre-tokenizer. The tool is gguf-model's example `tokenize`.
"""

import argparse
import random
import re
import struct
import subprocess
import sys
import tempfile
from pathlib import Path

import environment
from tokens import lines

ROOT = Path(__file__).resolve().parent.parent
SEPARATOR = "\n__ggml_vocab_test__\n"
CHAT = "<s>Hello</s> <|im_start|>user\nHi there <|im_end|>\n<|endoftext|><bos><start_of_turn>x<end_of_turn> [MASK] <mask> a<unk>b "


def ours(tool, vocabulary, texts, *options):
    done = subprocess.run([tool, vocabulary, *options], input="\0".join(texts).encode(), capture_output=True)
    if done.returncode:
        sys.exit(f"{vocabulary}: {done.stderr.decode()}")
    return [[int(id) for id in line.split()] for line in done.stdout.decode().split("\n")[:-1]]


def theirs(program, vocabulary, text, *options):
    with tempfile.NamedTemporaryFile(suffix=".txt") as file:
        Path(file.name).write_bytes(text.encode())
        command = [program, "-m", vocabulary, "-f", file.name, "--ids", "--log-disable", "--no-escape", *options]
        done = subprocess.run(command, capture_output=True)
    found = re.search(rb"\[([\d, ]*)\]\s*$", done.stdout)
    return [int(id) for id in found[1].split(b",") if id.strip()] if found else None


def characters(count):
    """A text of characters from all planes that are in use, short runs of one script and single ones."""
    chance = random.Random(3)
    ranges = [(0x20, 0x7F), (0xA0, 0x250), (0x2B0, 0x370), (0x370, 0x530), (0x591, 0x700), (0x900, 0xE00),
              (0x1E00, 0x2000), (0x2000, 0x2BFF), (0x2E80, 0x3100), (0x3400, 0x9FFF), (0xA000, 0xABFF),
              (0xAC00, 0xD7FF), (0xF900, 0xFFFE), (0x10000, 0x12000), (0x1D400, 0x1D800), (0x1F300, 0x1FB00),
              (0x20000, 0x2FA20), (0xE0000, 0xE01F0)]
    parts = []
    for _ in range(count):
        first, last = chance.choice(ranges + ranges[:4] * 3)
        parts += [chr(chance.randrange(first, last)) for _ in range(chance.randint(1, 5))]
        if chance.random() < 0.3:
            parts.append(chance.choice([" ", "  ", "\n", " \n ", "\t", "'s", "'LL", "12", "1234567", "\u3000", "\u0301", "½"]))
    return "".join(parts)


def renamed(source, name, folder):
    """The same vocabulary with another pre-tokenizer; without tensors nothing depends on places."""
    data = source.read_bytes()
    key = b"tokenizer.ggml.pre" + struct.pack("<I", 8)
    at = data.index(key) + len(key)
    (length,) = struct.unpack_from("<Q", data, at)
    value = struct.pack("<Q", len(name)) + name.encode()
    path = folder / f"{name}.gguf"
    path.write_bytes(data[:at] + value + data[at + 8 + length:])
    return path


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("llama_cpp", type=Path)
    parser.add_argument("--llama-tokenize", help="llama.cpp's program; without it only the pairs are compared")
    parser.add_argument("--tool", help="the example `tokenize` (default: built in release mode)")
    parser.add_argument("--only", default="", help="vocabularies and pre-tokenizers with this in their names")
    arguments = parser.parse_args()
    tool = arguments.tool or environment.built("--example", "tokenize")
    wrong, compared = [], 0

    def compare(what, a, b):
        nonlocal compared
        if b is None:
            print(f"{what}: llama.cpp gives up", flush=True)
            return
        compared += 1
        if a != b:
            at = next((i for i, (x, y) in enumerate(zip(a, b)) if x != y), None)
            where = f"token {at}: ours {a[at:at + 8]}, llama.cpp's {b[at:at + 8]}" if at is not None else f"{len(a)} and {len(b)} tokens"
            wrong.append(what)
            print(f"{what}: {where}", flush=True)

    models = arguments.llama_cpp / "models"
    vocabularies = [path for path in sorted(models.glob("ggml-vocab-*.gguf")) if arguments.only in path.name]
    for path in vocabularies:
        pairs = Path(f"{path}.inp")
        if not pairs.exists():
            continue
        texts = pairs.read_bytes().decode().removesuffix(SEPARATOR).split(SEPARATOR)
        outputs = [[int(id) for id in line.split()] for line in Path(f"{path}.out").read_text().split("\n")]
        for text, found, expected in zip(texts, ours(tool, path, texts), outputs):
            compare(f"{path.name}, {text!r}", found, expected)
    mixed, odd = "\n".join(lines(2000)), characters(4000)
    if arguments.llama_tokenize:
        for path in vocabularies:
            for text, kind in [(mixed, "mixed text"), (odd, "odd characters"), (CHAT, "special tokens"), ("", "nothing")]:
                for options, flags in [(["--add-special", "--parse-special"], []), ([], ["--no-bos", "--no-parse-special"])]:
                    (found,) = ours(tool, path, [text], *options)
                    compare(f"{path.name}, {kind} {options}", found, theirs(arguments.llama_tokenize, path, text, *flags))
        source = models / "ggml-vocab-qwen2.gguf"
        names = re.findall(r'\brow\(\s*"([^"]+)"', (ROOT / "gguf-model/src/tokenizer/pre.rs").read_text())
        with tempfile.TemporaryDirectory() as top:
            for name in names:
                if arguments.only not in name:
                    continue
                path = renamed(source, name, Path(top))
                for text, kind in [(mixed, "mixed text"), (odd, "odd characters")]:
                    (found,) = ours(tool, path, [text])
                    compare(f"{name}, {kind}", found, theirs(arguments.llama_tokenize, path, text, "--no-bos", "--no-parse-special"))
                path.unlink()
    print(f"{compared} compared; {len(wrong)} differ")
    sys.exit(bool(wrong))


if __name__ == "__main__":
    main()
