#!/usr/bin/env python3
"""Peak memory and time of a conversion that is too large to be an accident.

Makes a Llama checkpoint of about 600 MB with random weights, fp16 or with `--stored gptq` the 4-bit
codes of GPTQ, converts it to Q4_K_M and prints the wall time and the peak resident memory; exits with 1
above 400 MiB, of GPTQ above 64 MiB.
"""

import argparse
import json
import multiprocessing
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import environment

if __name__ == "__main__":
    environment.enter()

# Peaks in MiB, and layers that make 600 MB.
LIMITS = {"fp16": 400, "gptq": 64}
LAYERS = {"fp16": 14, "gptq": 54}
GROUP = 128
SHAPE = {
    "hidden_size": 1280,
    "intermediate_size": 3584,
    "num_attention_heads": 20,
    "num_key_value_heads": 4,
    "head_dim": 64,
    "vocab_size": 20480,
}


def tensors(layers: int, stored: str) -> dict:
    import numpy as np

    random = np.random.default_rng(0)

    def weights(*shape: int):
        values = random.standard_normal(shape, dtype=np.float32)
        values *= np.float32(0.02)
        return values.astype(np.float16)

    def packed(name: str, rows: int, columns: int) -> dict:
        """Any codes will do; scales that make weights of the usual size of them."""
        words = lambda *shape: random.integers(-(1 << 31), 1 << 31, shape, dtype=np.int32)
        groups = columns // GROUP
        scales = np.full((groups, rows), 0.003, dtype=np.float16)
        return {
            f"{name}.qweight": words(columns // 8, rows),
            f"{name}.qzeros": np.full((groups, rows // 8), 0x77777777, dtype=np.int32),
            f"{name}.scales": scales,
            f"{name}.g_idx": (np.arange(columns) // GROUP).astype(np.int32),
        }

    hidden, inner = SHAPE["hidden_size"], SHAPE["intermediate_size"]
    queries = SHAPE["num_attention_heads"] * SHAPE["head_dim"]
    keys = SHAPE["num_key_value_heads"] * SHAPE["head_dim"]
    made = {
        "model.embed_tokens.weight": weights(SHAPE["vocab_size"], hidden),
        "model.norm.weight": weights(hidden),
        "lm_head.weight": weights(SHAPE["vocab_size"], hidden),
    }
    layer = {
        "self_attn.q_proj": (queries, hidden),
        "self_attn.k_proj": (keys, hidden),
        "self_attn.v_proj": (keys, hidden),
        "self_attn.o_proj": (hidden, queries),
        "mlp.gate_proj": (inner, hidden),
        "mlp.up_proj": (inner, hidden),
        "mlp.down_proj": (hidden, inner),
        "input_layernorm": (hidden,),
        "post_attention_layernorm": (hidden,),
    }
    for i in range(layers):
        for name, shape in layer.items():
            name = f"model.layers.{i}.{name}"
            if stored == "gptq" and len(shape) == 2:
                made |= packed(name, *shape)
            else:
                made[f"{name}.weight"] = weights(*shape)
    return made


def make_checkpoint(to: str, layers: int | None = None, stored: str = "fp16") -> None:
    """The tokenizer is that of tiny-llama2; the converter pads its vocabulary."""
    folder = Path(to)
    tiny = environment.ROOT / "fixtures" / "tiny-llama2"
    config = json.loads((tiny / "config.json").read_text()) | SHAPE
    layers = layers or LAYERS[stored]
    config["num_hidden_layers"] = layers
    if stored == "gptq":
        config["quantization_config"] = {
            "quant_method": "gptq", "bits": 4, "group_size": GROUP, "desc_act": False, "sym": True,
        }
    (folder / "config.json").write_text(json.dumps(config))
    for name in ("tokenizer.model", "tokenizer_config.json", "special_tokens_map.json"):
        shutil.copy(tiny / name, folder)
    from safetensors.numpy import save_file

    save_file(tensors(layers, stored), folder / "model.safetensors", metadata={"format": "pt"})


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quantwright", help="the binary; built if not given")
    parser.add_argument("--type", default="q4_k_m", help="what to convert to")
    parser.add_argument("--stored", choices=LIMITS, default="fp16", help="how weights are stored")
    arguments = parser.parse_args()
    binary = environment.quantwright(arguments.quantwright)
    with tempfile.TemporaryDirectory() as folder:
        # In a process of its own: a child's peak includes what its parent held when it started it.
        spawn = multiprocessing.get_context("spawn")
        maker = spawn.Process(target=make_checkpoint, args=(folder, None, arguments.stored))
        maker.start()
        maker.join()
        if maker.exitcode != 0:
            return 1
        size = Path(folder, "model.safetensors").stat().st_size
        command = [binary, "convert", folder, "-o", Path(folder, "out.gguf")]
        command += ["--type", arguments.type, "--quiet"]
        start = time.monotonic()
        process = subprocess.Popen(command)
        _, status, usage = os.wait4(process.pid, 0)
        seconds = time.monotonic() - start
    if status != 0:
        sys.exit(f"quantwright: exit status {os.waitstatus_to_exitcode(status)}")
    peak = usage.ru_maxrss / 1024
    print(f"{arguments.stored}, {size / 1e6:.0f} MB to {arguments.type}: {seconds:.2f} s, peak {peak:.0f} MiB")
    return 1 if peak > LIMITS[arguments.stored] else 0


if __name__ == "__main__":
    sys.exit(main())
