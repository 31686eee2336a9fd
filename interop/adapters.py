"""Compares LoRA adapters with those of llama.cpp's convert_lora_to_gguf.py, byte for byte.

    python interop/adapters.py --binary target/release/quantwright --reference LLAMA_CPP [case…]

Needs what architectures.py needs. An adapter of random matrices is made for the layers of a tiny base
model, in the layout of PEFT; both programs convert it. `--snapshots` renews what the Rust tests
compare with.
"""

import argparse
import hashlib
import json
import logging
import runpy
import subprocess
import sys
import tempfile
from pathlib import Path

import architectures

ATTENTION = ("q_proj", "k_proj", "v_proj", "o_proj")
LINEAR = ATTENTION + ("gate_proj", "up_proj", "down_proj")
# name: (base, modules, rank, alpha, type of the adapter's floats)
CASES = {
    "llama": ("llama", LINEAR, 8, 16, "F32"),
    "llama-one": ("llama", ("q_proj", "v_proj"), 1, 0.5, "BF16"),
    "qwen2": ("qwen2", LINEAR, 32, 64, "F16"),
    "gemma": ("gemma", LINEAR, 8, 8, "BF16"),
    "gemma3-vision": ("gemma3-vision", LINEAR, 4, 8, "F32"),
    "mixtral-attention": ("mixtral", ATTENTION, 8, 16, "F32"),
    "qwen2moe": ("qwen2moe", LINEAR, 4, 8, "F32"),
    "qwen3moe": ("qwen3moe", LINEAR, 4, 8, "BF16"),
    "phi3": ("phi3", ("qkv_proj", "o_proj", "gate_up_proj", "down_proj"), 8, 16, "F32"),
    "embedding": ("llama", ("q_proj", "embed_tokens"), 8, 16, "F32"),
    "output": ("mistral", ("q_proj", "lm_head"), 8, 16, "F32"),
    "norms": ("llama", ("q_proj", "input_layernorm", "norm"), 8, 16, "F32"),
    "granite": ("granite", LINEAR, 8, 16, "F32"),
    "falcon": ("falcon", ("query_key_value", "dense"), 8, 16, "F32"),
    "gptneox": ("gptneox", ("query_key_value", "dense"), 8, 16, "F32"),
}
# Its modify_tensors leaves these to numpy operations that an adapter's pair does not have.
NOT_BY_REFERENCE = {"gptneox"}
TYPES = ("f32", "f16", "bf16", "q8_0")


def adapter(case, base, folder):
    """Writes the adapter; the layout of its file."""
    import torch
    from safetensors import safe_open
    from safetensors.torch import save_file

    _, modules, rank, alpha, dtype = CASES[case]
    kind = {"F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16}[dtype]
    tensors = {}
    with safe_open(base / "model.safetensors", "pt") as weights:
        for name in weights.keys():
            module = name.removesuffix(".weight")
            # Of experts that are stored as one, each becomes a layer again, as adapters have them.
            last, shape = module.split(".")[-1], weights.get_slice(name).get_shape()
            if not name.endswith(".weight") or last not in modules or "visual" in name or "vision" in name:
                continue
            if len(shape) == 1:
                tensors[name] = torch.zeros(shape, dtype=kind)
                continue
            rows, columns = shape
            end = ("embedding_A", "embedding_B") if last == "embed_tokens" else ("A.weight", "B.weight")
            if last == "embed_tokens":
                rows, columns = columns, rows
            tensors[f"base_model.model.{module}.lora_{end[0]}"] = torch.zeros((rank, columns), dtype=kind)
            tensors[f"base_model.model.{module}.lora_{end[1]}"] = torch.zeros((rows, rank), dtype=kind)
    folder.mkdir(parents=True, exist_ok=True)
    save_file(tensors, folder / "model.safetensors")
    layout = architectures.regenerate(folder)
    (folder / "model.safetensors").rename(folder / "adapter_model.safetensors")
    config = dict(peft_type="LORA", r=rank, lora_alpha=alpha, use_dora=False, bias="none",
                  target_modules=list(modules), base_model_name_or_path="nobody/nothing")
    (folder / "adapter_config.json").write_text(json.dumps(config))
    return layout


def reference(script, *arguments):
    """Runs the reference's script; what goes wrong."""
    before = sys.argv
    sys.argv = [str(script), *map(str, arguments)]
    try:
        runpy.run_path(str(script), run_name="__main__")
    except (Exception, SystemExit) as error:
        return f"{type(error).__name__}: {error}"
    finally:
        sys.argv = before


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--binary", required=True, type=Path)
    parser.add_argument("--reference", required=True, type=Path)
    parser.add_argument("--snapshots", type=Path)
    parser.add_argument("cases", nargs="*", default=list(CASES))
    options = parser.parse_args()
    sys.path[:0] = [str(options.reference), str(options.reference / "gguf-py")]
    logging.disable(logging.CRITICAL)
    failed = []
    with tempfile.TemporaryDirectory() as temporary:
        for case in options.cases:
            base, folder = Path(temporary) / CASES[case][0], Path(temporary) / f"{case}-lora"
            problems = []
            if not base.exists():
                base.mkdir()
                architectures.make(CASES[case][0], base, False)
            layout = adapter(case, base, folder)
            made = {}
            for kind in TYPES:
                ours, theirs = (Path(temporary) / f"{whose}.gguf" for whose in ("ours", "theirs"))
                theirs.unlink(missing_ok=True)
                error = reference(options.reference / "convert_lora_to_gguf.py", folder, "--base", base,
                                  "--outfile", theirs, "--outtype", kind)
                mine = subprocess.run([options.binary, "convert", folder, "--base", base, "-o", ours,
                                       "-t", kind, "--force", "--quiet", "--like-reference"],
                                      capture_output=True, text=True)
                if mine.returncode:
                    problems.append(mine.stderr)
                elif error and case in NOT_BY_REFERENCE:
                    continue
                elif error:
                    problems.append(error)
                elif ours.read_bytes() != theirs.read_bytes():
                    found = list(architectures.differences(
                        architectures.describe(ours), architectures.describe(theirs)))
                    problems.append(f"{kind}: {found or 'the files differ'}")
                else:
                    made[kind] = architectures.describe(theirs)
            if options.snapshots and "f16" in made:
                keys, tensors = made["f16"]
                config = json.loads((base / "config.json").read_text())
                rows = lambda items: "{\n" + ",\n".join(
                    f"    {json.dumps(key)}: {json.dumps(value)}" for key, value in items) + "\n  }"
                lines = ['"config": ' + json.dumps(config),
                         '"adapter": ' + (folder / "adapter_config.json").read_text(),
                         '"checkpoint": ' + rows(layout.items()),
                         '"metadata": ' + rows((k, v[1]) for k, v in keys.items()
                                               if k in ("general.architecture", "general.type")
                                               or not k.startswith("general.")),
                         '"tensors": ' + rows(tensors.items())]
                (options.snapshots / f"{case}.json").write_text("{\n  " + ",\n  ".join(lines) + "\n}\n")
            print(f"{case}: {'equal' if not problems else 'differs'}", flush=True)
            for problem in problems:
                print("   ", problem[:900])
            failed += [case] if problems else []
    if failed:
        sys.exit(f"differ: {' '.join(failed)}")


if __name__ == "__main__":
    main()
