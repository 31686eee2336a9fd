"""Writes what the tests of quant-evaluate compare logits with: two rows for each fixture, by transformers
in single precision on the CPU.

    python interop/fixture_logits.py

The reference_logits.safetensors of the fixtures are of all rows, but were made on a GPU: they differ from
these by up to 1.4e-3 of their range.
"""

from pathlib import Path

import torch
from safetensors.numpy import load_file, save_file
from transformers import AutoModelForCausalLM

ROOT = Path(__file__).resolve().parent.parent
ROWS = [31, 63]


def main():
    torch.set_num_threads(1)
    rows = {}
    for name in ("tiny-llama2", "tiny-llama3", "tiny-qwen2", "tiny-phi2", "tiny-mixtral"):
        folder = ROOT / "fixtures" / name
        tokens = torch.tensor(load_file(folder / "reference_logits.safetensors")["input_ids"]).long()
        model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, attn_implementation="eager")
        with torch.no_grad():
            rows[name] = model.eval()(tokens[None]).logits[0][ROWS].numpy()
    save_file(rows, ROOT / "evaluate" / "tests" / "data" / "logits.safetensors")


if __name__ == "__main__":
    main()
