"""Compares conversions of variants of tiny checkpoints with the reference converter's.

    python interop/variants.py --binary target/release/quantwright --reference LLAMA_CPP family…

The families are those of architectures.py, which says what is needed and what is compared. Each checkpoint
is changed in the ways that published ones differ: how config.json scales rotation and in which of its
spellings, which keys it leaves to its class, what ties embeddings, biases, prefixes of names, experts in one
tensor, FP8, layers that predict further tokens, vocabularies larger than their tokens, and others.
--only and --skip choose variants by the beginnings of their names. A variant that the reference refuses, or
with tensors that llama.cpp's graph does not have, is named and counts as no difference.
"""

import argparse
import contextlib
import functools
import io
import json
import logging
import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import architectures


class NotApplicable(Exception):
    """The checkpoint has nothing for the variant to change."""


def read(folder):
    return json.loads((folder / "config.json").read_text())


def change(folder, edit):
    """Edits the configuration of the text model, and that around it."""
    config = read(folder)
    edit(text(config), config)
    (folder / "config.json").write_text(json.dumps(config))


def text(config):
    return config.get("text_config") or config.get("thinker_config", {}).get("text_config") or config


def load(folder):
    from safetensors.torch import load_file

    return load_file(folder / "model.safetensors")


def save(folder, tensors, name="model.safetensors"):
    from safetensors.torch import save_file

    save_file({key: tensor.contiguous().clone() for key, tensor in tensors.items()}, folder / name,
              metadata={"format": "pt"})


def made(shape):
    import torch

    return (torch.randn(shape) * 0.1).bfloat16()


def has(found):
    if not found:
        raise NotApplicable


YARN = dict(rope_type="yarn", factor=4.0, original_max_position_embeddings=64)
ROPES = {
    "linear": dict(rope_type="linear", factor=2.0),
    "dynamic": dict(rope_type="dynamic", factor=2.0),
    "yarn": YARN,
    "yarn-all": dict(YARN, beta_fast=32.0, beta_slow=1.0, attention_factor=1.25, mscale=1.0,
                     mscale_all_dim=0.707),
    "llama3": dict(rope_type="llama3", factor=8.0, low_freq_factor=1.0, high_freq_factor=4.0,
                   original_max_position_embeddings=64),
    "longrope": dict(rope_type="longrope", factor=4.0, original_max_position_embeddings=64),
}


def filled(block, config):
    """The block with a factor for each pair of a head, where it has such."""
    if block["rope_type"] != "longrope":
        return dict(block)
    head = config.get("head_dim") or config["hidden_size"] // config["num_attention_heads"]
    return dict(block, long_factor=[1.0 + i for i in range(head // 2)],
                short_factor=[1.0 + i / 8 for i in range(head // 2)])


def rope_now(block, folder):
    """As transformers 5 writes it."""
    def edit(config, _):
        rope = config.get("rope_parameters")
        has(rope)
        if "full_attention" in rope:
            rope = rope["full_attention"]
        rope.update(filled(block, config))
    change(folder, edit)


def rope_then(block, folder):
    """As older versions wrote it: the method in a block of its own, all else beside it."""
    def edit(config, _):
        rope = config.pop("rope_parameters", None)
        has(rope)
        if "full_attention" in rope:
            config["rope_local_base_freq"] = rope["sliding_attention"]["rope_theta"]
            rope = rope["full_attention"]
        for key in ("rope_theta", "partial_rotary_factor"):
            if key in rope:
                config[key] = rope[key]
        config["rope_scaling"] = filled(block, config)
        if "mrope_section" in rope:
            config["rope_scaling"]["mrope_section"] = rope["mrope_section"]
    change(folder, edit)


def without(*keys):
    def variant(folder):
        def edit(config, _):
            has([config.pop(key) for key in keys if config.get(key) is not None])
        change(folder, edit)
    return variant


def with_keys(**keys):
    return lambda folder: change(folder, lambda config, _: config.update(keys))


def minimal(folder):
    """Without all that the class assumes anyway."""
    import transformers

    config = read(folder)
    has(config.get("model_type") in transformers.CONFIG_MAPPING)

    def strip(values, assumed):
        for key, value in list(values.items()):
            if key == "text_config" and isinstance(assumed.get(key), dict):
                strip(value, assumed[key])
            elif key in assumed and assumed[key] == value and key not in ("model_type", "architectures"):
                del values[key]
    strip(config, transformers.CONFIG_MAPPING[config["model_type"]]().to_dict())
    (folder / "config.json").write_text(json.dumps(config))


def embedding(tensors):
    names = [key for key in tensors if key.endswith("embed_tokens.weight") and "layers" not in key]
    has(names)
    return names[0]


def tie(tied, head, folder):
    """Ties embeddings by config.json or not, with a head of its own or without."""
    tensors = load(folder)
    heads = [key for key in tensors if key.endswith("lm_head.weight")]
    of_tokens = embedding(tensors)
    if head and not heads:
        tensors[re.sub(r"(model\.)?(language_model\.)?(model\.)?embed_tokens", "lm_head", of_tokens)] = \
            made(tensors[of_tokens].shape)
    for name in heads if not head else ():
        del tensors[name]
    save(folder, tensors)
    change(folder, lambda config, whole: [part.update(tie_word_embeddings=tied) for part in (config, whole)])


def biases(parts, folder):
    tensors, found = load(folder), False
    for key in list(tensors):
        other = ("visi", "audio", ".experts.", "self_attn.gate", "mtp")
        is_text = ".layers." in key and not any(part in key for part in other)
        bias = key.removesuffix("weight") + "bias"
        if is_text and key.endswith(tuple(part + "_proj.weight" for part in parts)) and bias not in tensors:
            tensors[bias] = made(tensors[key].shape[:1])
            found = True
    has(found)
    save(folder, tensors)
    change(folder, lambda config, _: config.update(
        attention_bias=True, use_bias=True, **({"mlp_bias": True} if "up" in parts else {})))


def prefix(old, new, folder):
    tensors = load(folder)
    has(any(key.startswith(old) for key in tensors) and not (
        new.startswith(old) and any(key.startswith(new) for key in tensors)))
    save(folder, {new + key[len(old):] if key.startswith(old) else key: tensor
                  for key, tensor in tensors.items()})


def sharded(folder):
    tensors = load(folder)
    names = sorted(tensors)
    files = ["model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"]
    where = {name: files[i % 2] for i, name in enumerate(names)}
    for file in files:
        save(folder, {name: tensors[name] for name in names if where[name] == file}, file)
    (folder / "model.safetensors.index.json").write_text(json.dumps(dict(metadata={}, weight_map=where)))
    (folder / "model.safetensors").unlink()


def padded(folder):
    """More rows than tokens."""
    import torch

    tensors, count = load(folder), text(read(folder))["vocab_size"]
    for key, tensor in tensors.items():
        if tensor.dim() == 2 and tensor.shape[0] == count:
            tensors[key] = torch.cat([tensor, tensor[:64]])
    save(folder, tensors)
    change(folder, lambda config, _: config.update(vocab_size=count + 64))


def added_tokens(folder):
    import transformers

    padded(folder)
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    tokenizer.add_tokens(["<tool_call>", "<think>"])
    tokenizer.add_tokens(["<|turn_end|>"], special_tokens=True)
    tokenizer.save_pretrained(folder)


def several_ends(folder):
    (folder / "generation_config.json").write_text(json.dumps(dict(
        eos_token_id=[2, 24, 25], bos_token_id=1, pad_token_id=0, temperature=0.6, top_p=0.95)))
    change(folder, lambda config, _: config.update(eos_token_id=[2, 24]))


def template(folder):
    (folder / "chat_template.jinja").write_text("{% for m in messages %}{{ m.content }}{% endfor %}")


def experts_in_one(folder):
    import torch

    tensors, groups = load(folder), {}
    for key in list(tensors):
        if found := re.fullmatch(r"(.*mlp\.experts)\.(\d+)\.(gate|up|down)_proj\.weight", key):
            base, expert, part = found.groups()
            groups.setdefault(base, {}).setdefault(part, {})[int(expert)] = tensors.pop(key)
    has(groups)
    for base, parts in groups.items():
        gate, up, down = (torch.stack([parts[part][i] for i in sorted(parts[part])])
                          for part in ("gate", "up", "down"))
        tensors[base + ".gate_up_proj"] = torch.cat([gate, up], dim=1)
        tensors[base + ".down_proj"] = down
    save(folder, tensors)


def fp8(folder):
    import torch

    out, tensors = {}, load(folder)
    for key, tensor in tensors.items():
        out[key] = tensor
        if key.endswith("_proj.weight") and tensor.dim() == 2 and "visi" not in key and "audio" not in key:
            out[key] = (tensor.float() * 100).to(torch.float8_e4m3fn)
            out[key + "_scale_inv"] = torch.rand([-(-size // 16) for size in tensor.shape])
    has(len(out) > len(tensors))
    save(folder, out)
    change(folder, lambda _, config: config.update(
        quantization_config=dict(quant_method="fp8", weight_block_size=[16, 16])))


FURTHER = ("num_nextn_predict_layers", "mtp_num_hidden_layers")
ROUTING = ("routed_scaling_factor", "norm_topk_prob", "scoring_func", "score_function", "n_group",
           "topk_group", "moe_router_activation_func", "topk_method")
VARIANTS = {
    "as-it-is": lambda folder: None, "minimal": minimal,
    **{f"rope-{name}": functools.partial(rope_now, block) for name, block in ROPES.items()},
    **{f"rope-scaling-{name}": functools.partial(rope_then, block) for name, block in ROPES.items()},
    "tied": functools.partial(tie, True, False), "tied-with-head": functools.partial(tie, True, True),
    "untied": functools.partial(tie, False, True),
    "biases-qkv": functools.partial(biases, ("q", "k", "v")),
    "biases-attention": functools.partial(biases, ("q", "k", "v", "o")),
    "biases-all": functools.partial(biases, ("q", "k", "v", "o", "gate", "up", "down")),
    "prefix-language-model": functools.partial(prefix, "model.", "model.language_model."),
    "prefix-outside": functools.partial(prefix, "model.", "language_model.model."),
    "prefix-swapped": functools.partial(prefix, "model.language_model.", "language_model.model."),
    "sharded": sharded, "padded": padded, "added-tokens": added_tokens, "several-ends": several_ends,
    "template": template, "experts-in-one": experts_in_one, "fp8": fp8,
    "window": with_keys(use_sliding_window=True, sliding_window=32, max_window_layers=1),
    "no-window": with_keys(sliding_window=None),
    "without-epsilon": without("rms_norm_eps", "layer_norm_eps", "norm_eps"),
    "without-rope": without("rope_parameters", "rope_theta", "rope_scaling"),
    "without-context": without("max_position_embeddings"),
    "without-routing": without(*ROUTING), "without-used-experts": without("num_experts_per_tok"),
    "without-further-count": without(*FURTHER),
}


def compare(options, name, variant, base, root):
    """The differences, or why there are none to look for."""
    folder, ours, theirs = root / "model", root / "ours.gguf", root / "theirs.gguf"
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(base, folder)
    try:
        VARIANTS[variant](folder)
    except NotApplicable:
        return None
    refused = None
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        try:
            architectures.reference(folder, theirs, architectures.pre_tokenizer(name))
        except Exception as error:  # What the reference refuses must not hide the others.
            refused = f"{type(error).__name__}: {error}"
    command = [options.binary, "convert", folder, "--force", "--quiet", "--like-reference", "-t", "f32"]
    if architectures.pre_tokenizer(name) == architectures.PRE:
        command += ["--pre-tokenizer", architectures.PRE]
    run = subprocess.run([*command, "-o", ours], capture_output=True, text=True)
    if refused:
        return f"the reference refuses it: {refused}"[:160]
    if run.returncode and "has a place for" in run.stderr:
        return "refused here: llama.cpp's graph has no such tensor"
    if run.returncode:
        return [run.stderr.strip()[:400]]
    expected = architectures.describe(theirs)
    architectures.exponentials(folder, expected[1], theirs)
    return sorted(architectures.differences(architectures.describe(ours), expected))


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--binary", required=True, type=Path)
    parser.add_argument("--reference", required=True, type=Path)
    parser.add_argument("--only", nargs="*", default=[""], help="beginnings of the names of variants")
    parser.add_argument("--skip", nargs="*", default=[], help="beginnings of names to leave out")
    parser.add_argument("families", nargs="+")
    options = parser.parse_args()
    sys.path[:0] = [str(options.reference), str(options.reference / "gguf-py")]
    os.environ["TRANSFORMERS_VERBOSITY"] = "error"
    logging.disable(logging.WARNING)
    variants = [name for name in VARIANTS
                if name.startswith(tuple(options.only)) and not name.startswith(tuple(options.skip or ["?"]))]
    failed = []
    for family in options.families:
        with tempfile.TemporaryDirectory() as temporary:
            root = Path(temporary)
            base = root / family
            base.mkdir()
            architectures.make(family, base, False)
            equal = []
            for variant in variants:
                found = compare(options, family, variant, base, root)
                if isinstance(found, str):
                    print(f"{family}, {variant}: {found}", flush=True)
                elif found:
                    failed.append(f"{family}, {variant}")
                    print(f"{failed[-1]}: {len(found)} differences", *found[:6], sep="\n    ", flush=True)
                elif found is not None:
                    equal.append(variant)
            print(f"{family}: {len(equal)} equal: {' '.join(equal)}", flush=True)
    if failed:
        sys.exit(f"differ: {'; '.join(failed)}")


if __name__ == "__main__":
    main()
