#!/usr/bin/env python3
"""The page "671 B on eight machines": what each of eight jobs writes, and how much memory it takes.

Makes a checkpoint with the names, shapes and types of DeepSeek V3 (FP8 with scales, 160 files, 685 billion
weights with the layer that predicts a further token). Its files are headers with holes for the weights, so that
they take no space. Plans each shard of eight, and writes one small shard of many, which plans the same model and
reads holes: its peak is that of any shard. Then measures how fast FP8 weights of these shapes become the type:
random ones, of a dense layer and of one with a few experts.

Checks that the shards of a plan add up to that of the whole, and that no run takes more memory than --most.
Needs Python alone, and a file system with sparse files.

    python3 interop/cluster.py --quantwright target/release/quantwright [--type q4_k_m] [--folder FOLDER]
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import scale

JOBS = 8
# As DeepSeek publishes it.
CONFIG = {
    "architectures": ["DeepseekV3ForCausalLM"],
    "model_type": "deepseek_v3",
    "first_k_dense_replace": 3,
    "hidden_act": "silu",
    "hidden_size": 7168,
    "intermediate_size": 18432,
    "kv_lora_rank": 512,
    "max_position_embeddings": 163840,
    "moe_intermediate_size": 2048,
    "moe_layer_freq": 1,
    "n_group": 8,
    "n_routed_experts": 256,
    "n_shared_experts": 1,
    "norm_topk_prob": True,
    "num_attention_heads": 128,
    "num_experts_per_tok": 8,
    "num_hidden_layers": 61,
    "num_key_value_heads": 128,
    "num_nextn_predict_layers": 1,
    "q_lora_rank": 1536,
    "qk_nope_head_dim": 128,
    "qk_rope_head_dim": 64,
    "quantization_config": {
        "activation_scheme": "dynamic",
        "fmt": "e4m3",
        "quant_method": "fp8",
        "weight_block_size": [128, 128],
    },
    "rms_norm_eps": 1e-06,
    "rope_scaling": {
        "beta_fast": 32,
        "beta_slow": 1,
        "factor": 40,
        "mscale": 1.0,
        "mscale_all_dim": 1.0,
        "original_max_position_embeddings": 4096,
        "type": "yarn",
    },
    "rope_theta": 10000,
    "routed_scaling_factor": 2.5,
    "scoring_func": "sigmoid",
    "tie_word_embeddings": False,
    "topk_group": 4,
    "topk_method": "noaux_tc",
    "torch_dtype": "bfloat16",
    "v_head_dim": 128,
    "vocab_size": 129280,
}
# Bytes of weights in a file of the checkpoint.
FILE = 4_220_000_000
BYTES = {"F8_E4M3": 1, "BF16": 2, "F32": 4}


def tensors(config: dict):
    """Name, dtype and shape of every tensor, in the order of the layers."""
    hidden, heads, rank = (config[key] for key in ("hidden_size", "num_attention_heads", "kv_lora_rank"))
    nope, rope, value = (config[key] for key in ("qk_nope_head_dim", "qk_rope_head_dim", "v_head_dim"))
    queries, vocabulary = config["q_lora_rank"], config["vocab_size"]
    layers = config["num_hidden_layers"]

    def matrix(name: str, rows: int, columns: int):
        yield f"{name}.weight", "F8_E4M3", [rows, columns]
        yield f"{name}.weight_scale_inv", "F32", [-(-rows // 128), -(-columns // 128)]

    def mlp(name: str, inner: int):
        yield from matrix(f"{name}.gate_proj", inner, hidden)
        yield from matrix(f"{name}.up_proj", inner, hidden)
        yield from matrix(f"{name}.down_proj", hidden, inner)

    yield "model.embed_tokens.weight", "BF16", [vocabulary, hidden]
    for number in range(layers + config["num_nextn_predict_layers"]):
        layer = f"model.layers.{number}"
        if number == layers:
            yield f"{layer}.embed_tokens.weight", "BF16", [vocabulary, hidden]
            yield f"{layer}.enorm.weight", "BF16", [hidden]
            yield f"{layer}.hnorm.weight", "BF16", [hidden]
            yield f"{layer}.eh_proj.weight", "BF16", [hidden, 2 * hidden]
            yield f"{layer}.shared_head.norm.weight", "BF16", [hidden]
            yield f"{layer}.shared_head.head.weight", "BF16", [vocabulary, hidden]
        yield f"{layer}.input_layernorm.weight", "BF16", [hidden]
        yield f"{layer}.post_attention_layernorm.weight", "BF16", [hidden]
        attention = f"{layer}.self_attn"
        yield from matrix(f"{attention}.q_a_proj", queries, hidden)
        yield f"{attention}.q_a_layernorm.weight", "BF16", [queries]
        yield from matrix(f"{attention}.q_b_proj", heads * (nope + rope), queries)
        yield from matrix(f"{attention}.kv_a_proj_with_mqa", rank + rope, hidden)
        yield f"{attention}.kv_a_layernorm.weight", "BF16", [rank]
        yield from matrix(f"{attention}.kv_b_proj", heads * (nope + value), rank)
        yield from matrix(f"{attention}.o_proj", hidden, heads * value)
        if number < config["first_k_dense_replace"]:
            yield from mlp(f"{layer}.mlp", config["intermediate_size"])
            continue
        experts, inner = config["n_routed_experts"], config["moe_intermediate_size"]
        yield f"{layer}.mlp.gate.weight", "BF16", [experts, hidden]
        yield f"{layer}.mlp.gate.e_score_correction_bias", "F32", [experts]
        for expert in range(experts):
            yield from mlp(f"{layer}.mlp.experts.{expert}", inner)
        yield from mlp(f"{layer}.mlp.shared_experts", inner * config["n_shared_experts"])
    yield "model.norm.weight", "BF16", [hidden]
    yield "lm_head.weight", "BF16", [vocabulary, hidden]


def tokenizer(folder: Path) -> None:
    """A byte-level tokenizer of 128,000 tokens and as many merges, so that metadata has its usual size."""
    made = json.loads((scale.FIXTURE.parent / "tiny-llama3" / "tokenizer.json").read_text())
    tokens = list(made["model"]["vocab"])
    known, merges = set(tokens), [tuple(m.split(" ")) if isinstance(m, str) else tuple(m) for m in made["model"]["merges"]]
    single = [token for token in tokens if len(token) == 1]
    for first in list(tokens):
        if len(tokens) >= 128_000:
            break
        for second in single:
            if first + second not in known and not first.startswith("<"):
                known.add(first + second)
                tokens.append(first + second)
                merges.append((first, second))
    made["model"]["vocab"] = {token: number for number, token in enumerate(tokens[:128_000])}
    kept = made["model"]["vocab"]
    made["model"]["merges"] = [f"{a} {b}" for a, b in merges if a in kept and b in kept and a + b in kept]
    (folder / "tokenizer.json").write_text(json.dumps(made))
    shutil.copy(scale.FIXTURE.parent / "tiny-llama3" / "tokenizer_config.json", folder)


def make(folder: Path, config: dict, fill) -> int:
    """A checkpoint in files of about `FILE` bytes; `fill` writes the weights of one. Returns their number."""
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(config))
    tokenizer(folder)
    files, weights = [[]], 0
    filled = 0
    for name, dtype, shape in tensors(config):
        count = 1
        for length in shape:
            count *= length
        size = count * BYTES[dtype]
        if filled and filled + size > FILE:
            files.append([])
            filled = 0
        files[-1].append((name, dtype, shape, filled, filled + size))
        filled += size
        weights += count if not name.endswith("_scale_inv") else 0
    index = {}
    for number, content in enumerate(files, 1):
        file_name = f"model-{number:05}-of-{len(files):06}.safetensors"
        header = {
            name: {"dtype": dtype, "shape": shape, "data_offsets": [start, end]}
            for name, dtype, shape, start, end in content
        }
        index |= dict.fromkeys(header, file_name)
        text = json.dumps(header).encode()
        with open(folder / file_name, "wb") as file:
            file.write(len(text).to_bytes(8, "little") + text)
            fill(file, content)
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": index}))
    return weights


def holes(file, content: list) -> None:
    file.truncate(file.tell() + content[-1][-1])


def random(file, content: list) -> None:
    """Codes of every value but NaN; scales and other weights near a hundredth."""
    codes = bytes(byte if byte & 0x7F != 0x7F else byte & 0x80 for byte in range(256))
    for _, dtype, _, start, end in content:
        left = end - start
        while left:
            piece = os.urandom(min(left, 1 << 22))
            if dtype == "F8_E4M3":
                piece = piece.translate(codes)
            else:
                width = BYTES[dtype]
                piece = bytearray(piece)
                piece[width - 1 :: width] = b"\x3c" * (len(piece) // width)
            left -= file.write(piece)


def run(*command: object) -> tuple[str, float, float, float]:
    """What a command prints, its peak memory in MiB, its seconds and those of the processors."""
    with tempfile.TemporaryFile() as out:
        start = time.monotonic()
        process = subprocess.Popen([str(word) for word in command], stdout=out)
        _, status, usage = os.wait4(process.pid, 0)
        seconds = time.monotonic() - start
        if status:
            sys.exit(f"{' '.join(map(str, command))}: exit status {os.waitstatus_to_exitcode(status)}")
        out.seek(0)
        return out.read().decode(), usage.ru_maxrss / 1024, seconds, usage.ru_utime + usage.ru_stime


def elements(plan: dict) -> int:
    total = 0
    for tensor in plan["tensors"]:
        count = 1
        for length in tensor["shape"]:
            count *= length
        total += count
    return total


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quantwright", type=Path, required=True)
    parser.add_argument("--type", default="q4_k_m")
    parser.add_argument("--folder", type=Path, help="for the checkpoints; the system's for temporary files")
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--most", type=float, default=1024, help="MiB of memory that a run may take")
    parser.add_argument("--experts", type=int, default=16, help="of the layer that is measured; 0 measures nothing")
    options = parser.parse_args()
    convert = [options.quantwright.resolve(), "convert"]
    kind = ["--type", options.type, "--quiet", "--threads", options.threads]
    failed = []
    with tempfile.TemporaryDirectory(dir=options.folder) as name:
        folder = Path(name)
        weights = make(folder / "whole", CONFIG, holes)
        files = list((folder / "whole").glob("*.safetensors"))
        size = sum(file.stat().st_size for file in files)
        print(f"{weights / 1e9:.1f} billion weights in {len(files)} files, {size / 1e9:.0f} GB; {options.type}")

        plan = [*convert, folder / "whole", *kind, "--dry-run", "--json"]
        text, peak, _, seconds = run(*plan)
        whole = json.loads(text)
        written, total = elements(whole), whole["total_bytes"]
        print(f"the whole: {len(whole['tensors'])} tensors, {written / 1e9:.1f} billion weights, {total / 1e9:.1f} GB")
        print("| job | tensors | weights | GB written | memory of the plan | processor time |\n|---|---|---|---|---|---|")
        print(f"| all | {len(whole['tensors'])} | {written / 1e9:.1f} B | {total / 1e9:.1f} | {peak:.0f} MiB | {seconds:.1f} s |")
        names, largest = [], 0
        for job in range(1, JOBS + 1):
            text, peak, _, seconds = run(*plan, "--shard", f"{job}/{JOBS}")
            shard = json.loads(text)
            names += [tensor["name"] for tensor in shard["tensors"]]
            largest = max(largest, elements(shard))
            print(
                f"| {job} | {len(shard['tensors'])} | {elements(shard) / 1e9:.1f} B "
                f"| {shard['total_bytes'] / 1e9:.1f} | {peak:.0f} MiB | {seconds:.1f} s |",
                flush=True,
            )
            failed += [f"planning shard {job} took {peak:.0f} MiB"] if peak > options.most else []
        if sorted(names) != sorted(tensor["name"] for tensor in whole["tensors"]):
            failed.append("the shards do not have the tensors of the whole")

        # One of many, so that it is small; no smaller than the largest tensor, which this one holds.
        count = max(total // 2_000_000_000, 2)
        shard = f"{count // 2}/{count}"
        _, peak, seconds, _ = run(*convert, folder / "whole", *kind, "--no-sync", "-o", folder / "m.gguf", "--shard", shard)
        [made] = folder.glob("m-*.gguf")
        print(f"shard {shard}, {made.stat().st_size / 1e9:.2f} GB, was written in {peak:.0f} MiB of memory, {seconds:.0f} s")
        failed += [f"writing a shard took {peak:.0f} MiB"] if peak > options.most else []
        made.unlink()

        if options.experts:
            few = CONFIG | {
                "num_hidden_layers": 2,
                "first_k_dense_replace": 1,
                "n_routed_experts": options.experts,
                "num_experts_per_tok": 2,
                "n_group": 1,
                "topk_group": 1,
                "num_nextn_predict_layers": 0,
            }
            make(folder / "few", few, random)
            times = []
            for _ in range(3):
                command = [*convert, folder / "few", *kind, "--no-sync", "--force", "-o", folder / "few.gguf", "--json"]
                text, peak, wall, used = run(*command)
                times.append((wall, used))
            count = elements(json.loads(text))
            wall, used = (min(column) for column in zip(*times))
            print(
                f"{count / 1e9:.2f} billion random weights of these shapes: {wall:.2f} s with {options.threads} threads, "
                f"{count / wall / 1e6:.0f} million a second; {count / used / 1e6:.0f} million a second of processor time; "
                f"{peak:.0f} MiB; the largest of {JOBS} shards at that rate: {largest * wall / count / 60:.1f} minutes"
            )
    for problem in failed:
        print(problem)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
