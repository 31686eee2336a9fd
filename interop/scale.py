#!/usr/bin/env python3
"""Conversions with 1, 2, 4, … threads: seconds, and bytes a second in and out.

Makes a Llama checkpoint of about a billion random fp16 weights, in memory where there is a tmpfs, and
converts it to each type with each number of threads, to one file or with --shards to several. Needs Python
alone.

    python3 interop/scale.py --quantwright target/release/quantwright [--folder /dev/shm] [--shards 16]
"""

import argparse
import json
import os
import shutil
import subprocess
import tempfile
from pathlib import Path

FIXTURE = Path(__file__).resolve().parent.parent / "fixtures" / "tiny-llama2"
HIDDEN, INNER = 2048, 5632
TYPES = ["q4_k_m", "q6_k", "q8_0", "q4_0", "f16"]
# Clears the highest bit of an exponent, so that every value is finite and below 2.
SMALL = bytes(byte & 0xBF for byte in range(256))


def shapes(layers: int, vocabulary: int) -> dict[str, list[int]]:
    found = {"model.embed_tokens.weight": [vocabulary, HIDDEN], "lm_head.weight": [vocabulary, HIDDEN]}
    found["model.norm.weight"] = [HIDDEN]
    for layer in range(layers):
        prefix = f"model.layers.{layer}."
        for name in ("input_layernorm", "post_attention_layernorm"):
            found[f"{prefix}{name}.weight"] = [HIDDEN]
        for name in ("q_proj", "k_proj", "v_proj", "o_proj"):
            found[f"{prefix}self_attn.{name}.weight"] = [HIDDEN, HIDDEN]
        for name in ("gate_proj", "up_proj"):
            found[f"{prefix}mlp.{name}.weight"] = [INNER, HIDDEN]
        found[f"{prefix}mlp.down_proj.weight"] = [HIDDEN, INNER]
    return found


def make(folder: Path, layers: int) -> int:
    """A checkpoint with the tokenizer of a fixture; the bytes of its weights."""
    folder.mkdir()
    for path in FIXTURE.glob("*token*"):
        shutil.copy(path, folder)
    config = json.loads((FIXTURE / "config.json").read_text())
    tensors = shapes(layers, config["vocab_size"])
    config |= {
        "hidden_size": HIDDEN,
        "intermediate_size": INNER,
        "num_hidden_layers": layers,
        "num_attention_heads": 16,
        "num_key_value_heads": 16,
        "head_dim": HIDDEN // 16,
        "tie_word_embeddings": False,
    }
    (folder / "config.json").write_text(json.dumps(config))
    header, at = {}, 0
    for name, shape in tensors.items():
        size = 2
        for length in shape:
            size *= length
        header[name] = {"dtype": "F16", "shape": shape, "data_offsets": [at, at + size]}
        at += size
    text = json.dumps(header).encode()
    piece = bytearray(os.urandom(1 << 22))
    piece[1::2] = piece[1::2].translate(SMALL)
    with open(folder / "model.safetensors", "wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        left = at
        while left:
            left -= file.write(piece[: min(left, len(piece))])
    return at


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quantwright", type=Path, required=True)
    parser.add_argument("--folder", type=Path, default=Path("/dev/shm"))
    parser.add_argument("--layers", type=int, default=20)
    parser.add_argument("--shards", type=int, default=1, help="files that the output is split into")
    parser.add_argument("--types", nargs="+", default=TYPES, metavar="TYPE")
    parser.add_argument("--runs", type=int, default=3, help="of which the fastest counts")
    options = parser.parse_args()
    binary = options.quantwright.resolve()
    counts = [1]
    while counts[-1] * 2 <= (os.cpu_count() or 1):
        counts.append(counts[-1] * 2)
    with tempfile.TemporaryDirectory(dir=options.folder) as scratch:
        checkpoint = Path(scratch) / "checkpoint"
        read = make(checkpoint, options.layers)
        print(f"{read / 2e9:.2f} billion weights, {read / 1e9:.2f} GB; {options.shards} files", flush=True)
        print("| type | " + " | ".join(f"{n} threads" for n in counts) + " | GB/s in, out at the best |")
        print("|---|" + "---|" * (len(counts) + 1))
        for kind in options.types:
            cells, best = [], None
            for threads in counts:
                times = []
                for _ in range(options.runs):
                    output = Path(scratch) / "model.gguf"
                    command = [binary, "convert", checkpoint, "-o", output, "--type", kind, "--json"]
                    command += ["--threads", str(threads), "--no-sync", "--force", "--quiet"]
                    command += ["--shards", str(options.shards)] if options.shards > 1 else []
                    done = subprocess.run(command, capture_output=True, text=True, check=True)
                    times.append(json.loads(done.stdout)["seconds"])
                    made = list(Path(scratch).glob("model*.gguf"))
                    written = sum(path.stat().st_size for path in made)
                    for path in made:
                        path.unlink()
                best = min(best or times[0], *times)
                cells.append(f"{min(times):.2f} s")
            rates = f"{read / best / 1e9:.1f}, {written / best / 1e9:.1f}"
            print(f"| {kind} | {' | '.join(cells)} | {rates} |", flush=True)


if __name__ == "__main__":
    main()
