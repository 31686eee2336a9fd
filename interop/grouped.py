#!/usr/bin/env python3
"""Grouped integers against independent implementations.

    python -m venv V
    V/bin/pip install torch transformers compressed-tensors==0.17.1 safetensors numpy psutil \
        accelerate llama-cpp-python==0.3.36
    cargo build --release && V/bin/python interop/grouped.py target/release/quantwright

Written folders are loaded with transformers, their weights decompressed by compressed-tensors and
compared with a dequantization written here from the description of the layout; the logits are those
of the original model with these weights. Mixtures of experts are among them: every folder that is
written without a warning loads. Packed checkpoints for the readers are made by packers
written here from the descriptions of GPTQ and AWQ, and by the compressed-tensors library. If
llama-cpp-python is installed, it loads the GGUF file too.

compressed-tensors 0.20 packs zero points as earlier versions do, but transformers 5.23 prepares the
model with unpacked ones when that version is installed, and so refuses every asymmetric model.
"""

import json
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile

import numpy as np
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM

ROOT = pathlib.Path(__file__).resolve().parent.parent
FIXTURES = ROOT / "fixtures"
AWQ_ORDER = [0, 2, 4, 6, 1, 3, 5, 7]
failures = []


def check(what, ok):
    print(("ok      " if ok else "FAILED  ") + what)
    if not ok:
        failures.append(what)


def run(tool, *arguments, fails=None):
    result = subprocess.run([tool, "convert", *map(str, arguments)], capture_output=True, text=True)
    if fails is None:
        if result.returncode:
            sys.exit(f"{arguments}: {result.stderr}")
        return result.stderr
    lines = result.stderr.strip().split("\n")
    refused = result.returncode == 1 and len(lines) == 1 and lines[0].startswith("error: ")
    check(f"refused: {lines[0][:110]}", refused and fails in lines[0])


def tensors(folder):
    merged = {}
    for path in sorted(pathlib.Path(folder).glob("model*.safetensors")):
        merged.update(load_file(path))
    return merged


def unpack(words, bits, count):
    """Codes along the last dimension, low bits first."""
    per_word = 32 // bits
    words = words.numpy().astype(np.uint32)
    shifts = np.arange(per_word, dtype=np.uint32) * bits
    codes = (words[..., None] >> shifts) & ((1 << bits) - 1)
    return codes.reshape(*words.shape[:-1], -1)[..., :count].astype(np.float32)


def dequantized(folder):
    """The weights of a folder, by the description of the layout."""
    config = json.loads((pathlib.Path(folder) / "config.json").read_text())
    groups = config["quantization_config"]["config_groups"].values()
    stored = tensors(folder)
    weights = {k: v.float() for k, v in stored.items() if "weight_" not in k.rsplit(".", 1)[1]}
    for name in [n for n in stored if n.endswith(".weight_packed")]:
        module = name.removesuffix(".weight_packed")
        rows, columns = stored[module + ".weight_shape"].tolist()
        named = [g for g in groups if any(is_target(t, module) for t in g["targets"])]
        scheme = (named or [g for g in groups if "Linear" in g["targets"]])[0]["weights"]
        bits = scheme["num_bits"]
        codes = unpack(stored[name], bits, columns)
        scale = stored[module + ".weight_scale"].float().numpy()
        zero = np.full(scale.shape, 1 << (bits - 1), np.float32)
        if not scheme["symmetric"]:
            packed = stored[module + ".weight_zero_point"].T.contiguous()
            zero = unpack(packed, bits, rows).T
        repeat = columns // scale.shape[1]
        zero, scale = (np.repeat(x, repeat, axis=1) for x in (zero, scale))
        weights[module + ".weight"] = torch.from_numpy((codes - zero) * scale)
    return weights


def is_target(target, module):
    return bool(re.match(target[3:], module)) if target.startswith("re:") else target == module


def fused(weights):
    """The experts as transformers has them since version 5: one tensor for all of a layer, unpacked
    in the precision of the scales, which is BF16 here."""
    merged, experts = {}, {}
    for name, weight in weights.items():
        found = re.fullmatch(r"(.*)\.block_sparse_moe\.experts\.(\d+)\.(w[123])\.weight", name)
        if found:
            layer, expert, part = found.groups()
            experts.setdefault((layer, part), {})[int(expert)] = weight.bfloat16().float()
        else:
            merged[name.replace(".block_sparse_moe.", ".mlp.")] = weight
    stack = lambda layer, part: torch.stack([w for _, w in sorted(experts[layer, part].items())])
    for layer in {layer for layer, _ in experts}:
        gate_up = torch.cat([stack(layer, "w1"), stack(layer, "w3")], 1)
        merged[f"{layer}.mlp.experts.gate_up_proj"] = gate_up
        merged[f"{layer}.mlp.experts.down_proj"] = stack(layer, "w2")
    return merged


def logits(model, ids):
    with torch.no_grad():
        return model(ids).logits.float()


def written_folders(tool, work):
    cases = [
        ("tiny-llama2", ["-t", "int4_sym", "--group-size", 128]),
        ("tiny-llama2", ["-t", "int4_sym", "--ratio", 0.5, "--backup", "int8_sym", "--split-max-size", "1M"]),
        ("tiny-qwen2", ["-t", "int4_asym", "--group-size", 64, "--ratio", 0.8]),
        ("tiny-qwen2", ["-t", "int8_asym", "--refine-scales"]),
        ("tiny-llama2", ["-t", "int4_sym", "--group-size", -1, "--all-layers"]),
        ("tiny-mixtral", ["-t", "int4_sym", "--group-size", 64]),
        ("tiny-mixtral", ["-t", "int8_sym"]),
        # The experts do not fit in the first ratio, and do in the second.
        ("tiny-mixtral", ["-t", "int4_sym", "--group-size", 64, "--ratio", 0.6]),
        ("tiny-mixtral", ["-t", "int4_sym", "--group-size", 64, "--ratio", 0.9]),
        ("tiny-mixtral", ["-t", "int4_sym", "--ratio", 0.9, "--backup", "none", "--all-layers"]),
        (stacked(work), ["-t", "int4_asym", "--group-size", 64]),
    ]
    for kept in [["--ratio", 0.6, "--backup", "none"]]:
        warned = run(tool, FIXTURES / "tiny-mixtral", "-o", work / "kept", "-t", "int4_sym", *kept)
        check(f"{' '.join(map(str, kept))}: warned of", "transformers 5 does not" in warned)
    for refused in [["-t", "int4_asym"], ["-t", "int4_sym", "--ratio", 0.6, "--backup", "int8_asym"]]:
        run(tool, FIXTURES / "tiny-mixtral", "-o", work / "refused", *refused, fails="experts")
    for number, (fixture, options) in enumerate(cases):
        what = f"{fixture} {' '.join(map(str, options))}"
        folder = work / f"folder{number}"
        run(tool, FIXTURES / fixture, "-o", folder, *options)
        ours = fused(dequantized(folder))
        original = AutoModelForCausalLM.from_pretrained(FIXTURES / fixture, dtype=torch.float32)
        with safe_open(FIXTURES / fixture / "reference_logits.safetensors", "pt") as f:
            ids = f.get_tensor("input_ids").long()[None]

        loaded = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
        state = decompressed(loaded)
        missing = [n for n in ours if n not in state]
        check(f"{what}: {len(ours)} tensors are loaded", not missing)
        differ = [n for n in ours if n in state and not torch.equal(state[n].float(), ours[n])]
        check(f"{what}: weights equal {differ[:3]}", not differ)

        original.load_state_dict(ours, strict=False)
        # Experts stay in BF16 else.
        difference = (logits(torch.nn.Module.float(loaded), ids) - logits(original, ids)).abs().max().item()
        check(f"{what}: logits differ by {difference:.2e}", difference <= 1e-4)


def stacked(work):
    """tiny-mixtral as transformers 5 has it in memory: the experts of a layer in one tensor."""
    folder = work / "stacked"
    ignored = shutil.ignore_patterns("model*", "*.gguf")
    shutil.copytree(FIXTURES / "tiny-mixtral", folder, ignore=ignored)
    weights = fused(tensors(FIXTURES / "tiny-mixtral"))
    stored = {k: v.bfloat16().contiguous() for k, v in weights.items()}
    save_file(stored, folder / "model.safetensors", metadata={"format": "pt"})
    return folder


def decompressed(model):
    """The weights of a loaded model, unpacked by compressed-tensors where they still are packed."""
    from compressed_tensors.compressors import ModelCompressor

    if any(n.endswith("weight_packed") for n, _ in model.named_parameters()):
        compressor = getattr(getattr(model, "hf_quantizer", None), "compressor", None)
        compressor = compressor or ModelCompressor.from_pretrained_model(model)
        compressor.decompress_model(model)
    return model.state_dict()


def quantized(weight, bits, group, symmetric):
    """Codes, scales and zero points of the transpose of a weight, groups along the inputs."""
    w = weight.float().numpy().reshape(weight.shape[0], -1, group)
    top = 2**bits - 1
    low, high = np.minimum(w.min(2), 0), np.maximum(w.max(2), 0)
    scale = np.maximum((high - low) / top, 1e-6).astype(np.float16)
    zero = np.full(scale.shape, 2 ** (bits - 1), np.int64)
    if not symmetric:
        zero = np.clip(np.round(-low / scale.astype(np.float32)), 1, top).astype(np.int64)
    codes = np.clip(np.round(w / scale[..., None].astype(np.float32)) + zero[..., None], 0, top)
    return codes.reshape(weight.shape).astype(np.int64), scale, zero


def pack(codes, bits, order=None):
    """Words along the last dimension."""
    per_word = 32 // bits
    order = order or list(range(per_word))
    codes = codes.reshape(*codes.shape[:-1], -1, per_word)[..., order].astype(np.uint64)
    shifts = np.arange(per_word, dtype=np.uint64) * np.uint64(bits)
    words = (codes << shifts).sum(-1).astype(np.uint32).view(np.int32)
    return torch.from_numpy(words)


def pack_gptq(weight, bits, group, version, act_order, rng):
    codes, scale, zero = quantized(weight, bits, group, symmetric=False)
    inputs = weight.shape[1]
    g_idx = np.arange(inputs) // group
    if act_order:
        # Inputs in the order of their importance: groups are scattered over the columns.
        order = rng.permutation(inputs)
        shuffled = torch.from_numpy(weight.float().numpy()[:, order])
        codes_shuffled, scale, zero = quantized(shuffled, bits, group, symmetric=False)
        codes[:, order] = codes_shuffled
        g_idx[order] = np.arange(inputs) // group
    restored = (codes - zero[:, g_idx]).astype(np.float32) * scale[:, g_idx].astype(np.float32)
    parts = {
        "qweight": pack(codes, bits).T.contiguous(),
        "qzeros": pack((zero - (version == 1)).T, bits),
        "scales": torch.from_numpy(scale.T.copy()),
        "g_idx": torch.from_numpy(g_idx.astype(np.int32)),
    }
    return parts, torch.from_numpy(restored)


def pack_awq(weight, group):
    codes, scale, zero = quantized(weight, 4, group, symmetric=False)
    g_idx = np.arange(weight.shape[1]) // group
    restored = (codes - zero[:, g_idx]).astype(np.float32) * scale[:, g_idx].astype(np.float32)
    parts = {
        "qweight": pack(codes.T, 4, AWQ_ORDER),
        "qzeros": pack(zero.T, 4, AWQ_ORDER),
        "scales": torch.from_numpy(scale.T.copy()),
    }
    return parts, torch.from_numpy(restored)


def pack_compressed(weight, bits, group):
    """Packed by the public library."""
    from compressed_tensors.compressors.pack_quantized.helpers import pack_to_int32

    codes, scale, zero = quantized(weight, bits, group, symmetric=False)
    g_idx = np.arange(weight.shape[1]) // group
    restored = (codes - zero[:, g_idx]).astype(np.float32) * scale[:, g_idx].astype(np.float32)
    middle = 1 << (bits - 1)
    signed = lambda x: torch.from_numpy((x - middle).astype(np.int8))
    parts = {
        "weight_packed": pack_to_int32(signed(codes), bits),
        "weight_scale": torch.from_numpy(scale),
        "weight_shape": torch.tensor(weight.shape),
        "weight_zero_point": pack_to_int32(signed(zero), bits, packed_dim=0).contiguous(),
    }
    return parts, torch.from_numpy(restored)


def pack_w8a8(weight):
    """Whole numbers with a scale for each row, as llm-compressor writes W8A8."""
    w = weight.float()
    scale = (w.abs().amax(1, keepdim=True) / 127).bfloat16()
    codes = torch.clamp(torch.round(w / scale.float()), -128, 127).to(torch.int8)
    return {"weight": codes, "weight_scale": scale}, codes.float() * scale.float()


def pack_fp8(weight):
    """Torch's own FP8 with one scale, as AutoFP8 writes it."""
    w = weight.float()
    scale = w.abs().max() / 448
    codes = (w / scale).to(torch.float8_e4m3fn)
    parts = {"weight": codes, "weight_scale": scale, "input_scale": torch.tensor(0.5)}
    return parts, codes.float() * scale


def packed_checkpoint(folder, method, packer):
    """A checkpoint whose linear layers are packed; returns the weights it stands for."""
    shutil.copytree(FIXTURES / "tiny-llama2", folder, ignore=shutil.ignore_patterns("model*", "*.gguf"))
    stored, weights = {}, {}
    for name, weight in tensors(FIXTURES / "tiny-llama2").items():
        weights[name] = weight.float()
        if ".layers." not in name or weight.dim() != 2:
            stored[name] = weight
            continue
        parts, weights[name] = packer(weight)
        module = name.removesuffix("weight")
        stored.update({module + part: tensor.contiguous() for part, tensor in parts.items()})
    save_file(stored, folder / "model.safetensors", metadata={"format": "pt"})
    config = json.loads((folder / "config.json").read_text())
    config["quantization_config"] = method
    (folder / "config.json").write_text(json.dumps(config))
    return weights


def plain_checkpoint(folder, weights):
    shutil.copytree(FIXTURES / "tiny-llama2", folder, ignore=shutil.ignore_patterns("model*", "*.gguf"))
    save_file({k: v.contiguous() for k, v in weights.items()}, folder / "model.safetensors", metadata={"format": "pt"})


def packed_inputs(tool, work):
    rng = np.random.default_rng(7)
    gptq = lambda bits, **more: {"quant_method": "gptq", "bits": bits, "group_size": 64, **more}
    ct = lambda bits: {
        "quant_method": "compressed-tensors",
        "format": "pack-quantized",
        "config_groups": {"group_0": {"targets": ["Linear"], "weights": {"num_bits": bits, "type": "int"}}},
    }
    cases = {
        "gptq v1": (gptq(4, desc_act=False), lambda w: pack_gptq(w, 4, 64, 1, False, rng)),
        "gptq v2": (gptq(4, checkpoint_format="gptq_v2"), lambda w: pack_gptq(w, 4, 64, 2, False, rng)),
        "gptq act-order": (gptq(4, desc_act=True), lambda w: pack_gptq(w, 4, 64, 1, True, rng)),
        "gptq 8 bits": (gptq(8), lambda w: pack_gptq(w, 8, 128, 1, False, rng)),
        "awq": ({"quant_method": "awq", "bits": 4, "version": "gemm"}, lambda w: pack_awq(w, 64)),
        "compressed-tensors 4 bits": (ct(4), lambda w: pack_compressed(w, 4, 64)),
        "compressed-tensors 8 bits": (ct(8), lambda w: pack_compressed(w, 8, 128)),
    }
    w8a8 = {"num_bits": 8, "type": "int", "strategy": "channel"}
    groups = {"group_0": {"targets": ["Linear"], "weights": w8a8}}
    w8a8 = {"quant_method": "compressed-tensors", "format": "int-quantized", "config_groups": groups}
    cases["compressed-tensors W8A8"] = (w8a8, pack_w8a8)
    cases["AutoFP8"] = ({"quant_method": "fp8", "activation_scheme": "static"}, pack_fp8)
    for number, (what, (method, packer)) in enumerate(cases.items()):
        packed, plain = work / f"packed{number}", work / f"plain{number}"
        weights = packed_checkpoint(packed, method, packer)
        plain_checkpoint(plain, weights)
        for ty in ["f32", "q4_k_m"]:
            # The same name for both, from which general.name comes.
            outputs = []
            for source in (packed, plain):
                home = work / f"{source.name}-home" / "model"
                if not home.exists():
                    home.parent.mkdir()
                    source.rename(home)
                outputs.append(work / f"{source.name}.{ty}.gguf")
                run(tool, home, "-o", outputs[-1], "-t", ty, "--no-sync")
            check(f"{what} to {ty}: as from the dequantized weights", outputs[0].read_bytes() == outputs[1].read_bytes())
    for change in [{"bits": 5}, {"checkpoint_format": "marlin"}, {"quant_method": "bitsandbytes"}]:
        home = work / "packed0-home" / "model"
        config = json.loads((home / "config.json").read_text())
        config["quantization_config"] = {**gptq(4), **change}
        (home / "config.json").write_text(json.dumps(config))
        run(tool, home, "-o", work / "refused.gguf", fails=str(list(change.values())[0]))


def gguf(tool, work):
    path = work / "q4_0.gguf"
    run(tool, FIXTURES / "tiny-llama2", "-o", path, "-t", "int4_sym", "--group-size", 128)
    try:
        import llama_cpp
    except ImportError:
        print("skipped llama-cpp-python is not installed: the GGUF file was written, not loaded")
        return
    model = llama_cpp.Llama(str(path), n_ctx=128, verbose=False)
    check("llama-cpp-python generates from the Q4_0 file", len(model("The", max_tokens=4)["choices"]) == 1)


def main():
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    tool = str(pathlib.Path(sys.argv[1]).resolve())
    with tempfile.TemporaryDirectory() as work:
        work = pathlib.Path(work)
        packed_inputs(tool, work)
        gguf(tool, work)
        written_folders(tool, work)
    sys.exit(f"{len(failures)} failed" if failures else 0)


if __name__ == "__main__":
    main()
