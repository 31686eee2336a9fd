"""Compares projectors (`--mmproj`) with those of llama.cpp's convert_hf_to_gguf.py: keys and tensors.

    python interop/projectors.py --binary target/release/quantwright --reference LLAMA_CPP [case…]

Needs what architectures.py needs. Most checkpoints are those of architectures.py, of random weights
and a tiny encoder; the others are written by hand, as their authors publish them. `--snapshots` renews
what the Rust tests compare with.
"""

import argparse
import copy
import functools
import json
import logging
import subprocess
import sys
import tempfile
from pathlib import Path

import architectures

COLOURS = dict(image_mean=[0.5, 0.25, 0.125], image_std=[0.5, 0.5, 0.25])
PIXELS = dict(COLOURS, min_pixels=3136, max_pixels=784 * 784)
TYPES = ("f32", "f16", "bf16", "q8_0")


def siglip(tower, width=32, inner=48, patch=14, positions=4, out="out_proj", rows=False):
    """Tensors of SigLIP, as older versions of transformers saved them."""
    found = {f"{tower}embeddings.patch_embedding.weight":
             (width, 3 * patch * patch) if rows else (width, 3, patch, patch),
             f"{tower}embeddings.patch_embedding.bias": (width,),
             f"{tower}embeddings.position_embedding.weight": (positions, width),
             f"{tower}post_layernorm.weight": (width,), f"{tower}post_layernorm.bias": (width,)}
    for layer in range(4):
        block = f"{tower}encoder.layers.{layer}."
        for name, shape in {"self_attn.q_proj": (width, width), "self_attn.k_proj": (width, width),
                            "self_attn.v_proj": (width, width), f"self_attn.{out}": (width, width),
                            "mlp.fc1": (inner, width), "mlp.fc2": (width, inner),
                            "layer_norm1": (width,), "layer_norm2": (width,)}.items():
            found[f"{block}{name}.weight"] = shape
            found[f"{block}{name}.bias"] = shape[:1]
    return found


def linear(name, rows, columns, bias=True):
    return {f"{name}.weight": (rows, columns), **({f"{name}.bias": (rows,)} if bias else {})}


def norm(name, width, bias=True):
    return {f"{name}.weight": (width,), **({f"{name}.bias": (width,)} if bias else {})}


def whisper(mel=128, width=32, inner=48, positions=1500, layers=4):
    tower = {"audio_tower.conv1.weight": (width, mel, 3), "audio_tower.conv1.bias": (width,),
             "audio_tower.conv2.weight": (width, width, 3), "audio_tower.conv2.bias": (width,),
             "audio_tower.embed_positions.weight": (positions, width),
             **norm("audio_tower.layer_norm", width)}
    for layer in range(layers):
        block = f"audio_tower.layers.{layer}."
        tower |= {**linear(block + "self_attn.q_proj", width, width),
                  **linear(block + "self_attn.k_proj", width, width, False),
                  **linear(block + "self_attn.v_proj", width, width),
                  **linear(block + "self_attn.out_proj", width, width),
                  **linear(block + "fc1", inner, width), **linear(block + "fc2", width, inner),
                  **norm(block + "self_attn_layer_norm", width), **norm(block + "final_layer_norm", width)}
    return tower


def moonvit(width=32, inner=48, side=4, layers=4):
    tower = {"vision_tower.patch_embed.proj.weight": (width, 3, 14, 14),
             "vision_tower.patch_embed.proj.bias": (width,),
             "vision_tower.patch_embed.pos_emb.weight": (side, side, width),
             **norm("vision_tower.encoder.final_layernorm", width)}
    for layer in range(layers):
        block = f"vision_tower.encoder.blocks.{layer}."
        tower |= {**linear(block + "wqkv", 3 * width, width), **linear(block + "wo", width, width),
                  **linear(block + "mlp.fc0", inner, width), **linear(block + "mlp.fc1", width, inner),
                  **norm(block + "norm0", width), **norm(block + "norm1", width)}
    return tower


def intern(width=32, inner=48):
    tower = {"vision_model.embeddings.class_embedding": (1, 1, width),
             "vision_model.embeddings.position_embedding": (1, 5, width),
             "vision_model.embeddings.patch_embedding.weight": (width, 3, 14, 14),
             "vision_model.embeddings.patch_embedding.bias": (width,)}
    for layer in range(4):
        block = f"vision_model.encoder.layers.{layer}."
        tower |= {**linear(block + "attn.qkv", 3 * width, width), **linear(block + "attn.proj", width, width),
                  **linear(block + "mlp.fc1", inner, width), **linear(block + "mlp.fc2", width, inner),
                  **norm(block + "norm1", width), **norm(block + "norm2", width),
                  block + "ls1": (width,), block + "ls2": (width,)}
    return {**tower, **norm("mlp1.0", 4 * width), **linear("mlp1.1", 64, 4 * width),
            **linear("mlp1.3", 64, 64)}


def cog(width=32, inner=48, text=64, text_inner=96):
    tower = {"model.vision.patch_embedding.proj.weight": (width, 3, 14, 14),
             "model.vision.patch_embedding.proj.bias": (width,),
             "model.vision.patch_embedding.cls_embedding": (1, width),
             "model.vision.patch_embedding.position_embedding.weight": (5, width),
             "model.vision.boi": (1, 1, text), "model.vision.eoi": (1, 1, text),
             **linear("model.vision.linear_proj.linear_proj", text, width, False),
             **norm("model.vision.linear_proj.norm1", text),
             **linear("model.vision.linear_proj.gate_proj", text_inner, text, False),
             **linear("model.vision.linear_proj.dense_h_to_4h", text_inner, text, False),
             **linear("model.vision.linear_proj.dense_4h_to_h", text, text_inner, False)}
    for layer in range(4):
        block = f"model.vision.transformer.layers.{layer}."
        tower |= {**norm(block + "input_layernorm", width), **norm(block + "post_attention_layernorm", width),
                  **linear(block + "attention.query_key_value", 3 * width, width),
                  **linear(block + "attention.dense", width, width),
                  **linear(block + "mlp.fc1", inner, width), **linear(block + "mlp.fc2", width, inner)}
    return tower


def dots(width=32, inner=48):
    tower = {"vision_tower.patch_embed.patchifier.proj.weight": (width, 3, 14, 14),
             "vision_tower.patch_embed.patchifier.proj.bias": (width,),
             **norm("vision_tower.patch_embed.patchifier.norm", width, False),
             **norm("vision_tower.post_trunk_norm", width, False),
             **norm("vision_tower.merger.ln_q", width),
             **linear("vision_tower.merger.mlp.0", 4 * width, 4 * width),
             **linear("vision_tower.merger.mlp.2", 64, 4 * width)}
    for layer in range(4):
        block = f"vision_tower.blocks.{layer}."
        tower |= {**norm(block + "norm1", width, False), **norm(block + "norm2", width, False),
                  **linear(block + "attn.qkv", 3 * width, width, False),
                  **linear(block + "attn.proj", width, width, False),
                  **linear(block + "mlp.fc1", inner, width, False),
                  **linear(block + "mlp.fc2", width, inner, False),
                  **linear(block + "mlp.fc3", inner, width, False)}
    return tower


def qwen3(start="model.visual.", width=32, inner=48, patch=16, positions=16, layers=4, bias=True):
    """Qwen3-VL's encoder, without what is behind it."""
    tower = {start + "patch_embed.proj.weight": (width, 3, 2, patch, patch),
             **({start + "patch_embed.proj.bias": (width,)} if bias else {}),
             start + "pos_embed.weight": (positions, width)}
    for layer in range(layers):
        block = f"{start}blocks.{layer}."
        tower |= {**norm(block + "norm1", width), **norm(block + "norm2", width),
                  **linear(block + "attn.qkv", 3 * width, width), **linear(block + "attn.proj", width, width),
                  **linear(block + "mlp.linear_fc1", inner, width),
                  **linear(block + "mlp.linear_fc2", width, inner)}
    return tower


def qwen2(start="visual.", width=32, layers=4):
    """Qwen2-VL's encoder."""
    tower = {start + "patch_embed.proj.weight": (width, 3, 2, 14, 14), **norm(start + "merger.ln_q", width),
             **linear(start + "merger.mlp.0", 4 * width, 4 * width),
             **linear(start + "merger.mlp.2", 64, 4 * width)}
    for layer in range(layers):
        block = f"{start}blocks.{layer}."
        tower |= {**norm(block + "norm1", width), **norm(block + "norm2", width),
                  **linear(block + "attn.qkv", 3 * width, width), **linear(block + "attn.proj", width, width),
                  **linear(block + "mlp.fc1", 2 * width, width), **linear(block + "mlp.fc2", width, 2 * width)}
    return tower


def exaone(start="model.visual.", width=32, inner=48, layers=4):
    """EXAONE 4.5's encoder: Qwen2.5-VL's, whose heads share keys and values."""
    tower = {start + "patch_embed.proj.weight": (width, 3, 2, 14, 14), **norm(start + "merger.ln_q", width, False),
             **linear(start + "merger.mlp.0", 4 * width, 4 * width),
             **linear(start + "merger.mlp.2", 64, 4 * width)}
    for layer in range(layers):
        block = f"{start}blocks.{layer}."
        tower |= {**norm(block + "norm1", width, False), **norm(block + "norm2", width, False),
                  **linear(block + "attn.qkv", 2 * width, width), **linear(block + "attn.proj", width, width),
                  **linear(block + "mlp.gate_proj", inner, width), **linear(block + "mlp.up_proj", inner, width),
                  **linear(block + "mlp.down_proj", width, inner)}
    return tower


def glm5(start="model.visual.", width=32, inner=48, layers=4):
    """GLM-5.3's encoder and projector."""
    tower = {start + "patch_embed.proj.weight": (width, 3, 2, 14, 14), start + "patch_embed.proj.bias": (width,),
             **norm(start + "post_layernorm", width, False),
             start + "downsample.weight": (64, width, 2, 2), start + "downsample.bias": (64,),
             **linear(start + "merger.proj", 64, 64, False), **norm(start + "merger.post_projection_norm", 64),
             **linear(start + "merger.gate_proj", 80, 64, False), **linear(start + "merger.up_proj", 80, 64, False),
             **linear(start + "merger.down_proj", 64, 80, False)}
    for layer in range(layers):
        block = f"{start}blocks.{layer}."
        tower |= {**norm(block + "norm1", width, False), **norm(block + "norm2", width, False),
                  **linear(block + "attn.qkv", 3 * width, width), **linear(block + "attn.proj", width, width),
                  **norm(block + "attn.q_norm", width // 2, False), **norm(block + "attn.k_norm", width // 2, False),
                  **linear(block + "mlp.gate_proj", inner, width), **linear(block + "mlp.up_proj", inner, width),
                  **linear(block + "mlp.down_proj", width, inner)}
    return tower


def heard(tensors):
    """Whisper's encoder as Qwen's models have it: its positions are computed."""
    return {f"thinker.{name}".replace("audio_tower.layer_norm", "audio_tower.ln_post"): shape
            for name, shape in tensors.items() if "embed_positions" not in name and ".conv" not in name}


def omni3(width=32, inside=16):
    """Qwen3-Omni's encoder of sound."""
    start = "thinker.audio_tower."
    return {**heard(whisper()), start + "conv2d1.weight": (inside, 1, 3, 3), start + "conv2d1.bias": (inside,),
            start + "conv2d2.weight": (inside, inside, 3, 3), start + "conv2d2.bias": (inside,),
            start + "conv2d3.weight": (inside, inside, 3, 3), start + "conv2d3.bias": (inside,),
            **linear(start + "conv_out", width, inside * 16, False),
            **linear(start + "proj1", width, width), **linear(start + "proj2", 64, width)}


def omni2(width=32):
    """Both encoders of Qwen2.5-Omni."""
    start = "thinker.audio_tower."
    sound = {**heard(whisper()), **linear(start + "proj", 64, width), start + "audio_bos_eos_token.weight": (2, 64),
             start + "conv1.weight": (width, 128, 3), start + "conv1.bias": (width,),
             start + "conv2.weight": (width, width, 3), start + "conv2.bias": (width,)}
    sight = {name: shape for name, shape in exaone("thinker.visual.").items() if "qkv" not in name}
    for layer in range(4):
        for part in "qkv":
            sight |= linear(f"thinker.visual.blocks.{layer}.attn.{part}", width, width)
    return {**sound, **sight}


def mergers(start="thinker.visual.", width=32, text=64):
    """What is behind Qwen3-Omni's encoder of images."""
    found = {**norm(start + "merger.ln_q", width), **linear(start + "merger.mlp.0", 4 * width, 4 * width),
             **linear(start + "merger.mlp.2", text, 4 * width)}
    for number in range(2):
        merger = f"{start}merger_list.{number}."
        found |= {**norm(merger + "ln_q", 4 * width), **linear(merger + "mlp.0", 4 * width, 4 * width),
                  **linear(merger + "mlp.2", text, 4 * width)}
    return found


def step(width=32, inner=48, layers=4):
    """Step3-VL's encoder, of fewer and narrower layers."""
    tower = {"vision_model.conv1.weight": (width, 3, 14, 14), "vision_model.positional_embedding": (4, width),
             **norm("vision_model.ln_pre", width),
             "vision_model.vit_downsampler1.weight": (2 * width, width, 3, 3),
             "vision_model.vit_downsampler1.bias": (2 * width,),
             "vision_model.vit_downsampler2.weight": (4 * width, 2 * width, 3, 3),
             "vision_model.vit_downsampler2.bias": (4 * width,),
             **linear("vit_large_projector", 64, 4 * width, False)}
    for layer in range(layers):
        block = f"vision_model.transformer.resblocks.{layer}."
        tower |= {block + "attn.in_proj_weight": (3 * width, width), block + "attn.in_proj_bias": (3 * width,),
                  **linear(block + "attn.out_proj", width, width), **norm(block + "ln_1", width),
                  **norm(block + "ln_2", width), **linear(block + "mlp.c_fc", inner, width),
                  **linear(block + "mlp.c_proj", width, inner),
                  block + "ls_1.gamma": (width,), block + "ls_2.gamma": (width,)}
    return tower


def sam_and_clip(width=32, sam=16, layers=4):
    """Both encoders of DeepSeek-OCR. The sides of SAM's image and window are in its code."""
    start = "model.sam_model."
    tower = {start + "pos_embed": (1, 64, 64, sam), start + "patch_embed.proj.weight": (sam, 3, 16, 16),
             start + "patch_embed.proj.bias": (sam,), start + "neck.0.weight": (256, sam, 1, 1),
             **norm(start + "neck.1", 256), start + "neck.2.weight": (256, 256, 3, 3), **norm(start + "neck.3", 256),
             start + "net_2.weight": (24, 256, 3, 3), start + "net_3.weight": (40, 24, 3, 3)}
    for layer in range(2):
        block, distances = f"{start}blocks.{layer}.", 127 if layer == 1 else 27
        tower |= {**norm(block + "norm1", sam), **norm(block + "norm2", sam),
                  block + "attn.rel_pos_h": (distances, sam // 2), block + "attn.rel_pos_w": (distances, sam // 2),
                  **linear(block + "attn.qkv", 3 * sam, sam), **linear(block + "attn.proj", sam, sam),
                  **linear(block + "mlp.lin1", 4 * sam, sam), **linear(block + "mlp.lin2", sam, 4 * sam)}
    start = "model.vision_model."
    tower |= {start + "embeddings.class_embedding": (width,),
              start + "embeddings.patch_embedding.weight": (width, 3, 14, 14),
              start + "embeddings.position_embedding.weight": (257, width), **norm(start + "pre_layrnorm", width)}
    for layer in range(layers):
        block = f"{start}transformer.layers.{layer}."
        tower |= {**norm(block + "layer_norm1", width), **norm(block + "layer_norm2", width),
                  **linear(block + "self_attn.qkv_proj", 3 * width, width),
                  **linear(block + "self_attn.out_proj", width, width),
                  **linear(block + "mlp.fc1", 4 * width, width), **linear(block + "mlp.fc2", width, 4 * width)}
    return {**tower, **linear("model.projector.layers", 64, 40 + width), "model.image_newline": (64,),
            "model.view_seperator": (64,)}


def granite(width=32, inner=96, attention=32, wider=64, query=40, every=1):
    """Granite Speech's conformer and its transformer of queries."""
    tower = {**linear("encoder.input_linear", width, 20), **linear("encoder.out", 12, width),
             **linear("encoder.out_mid", width, 12), "projector.query": (1, 3, query),
             **norm("projector.qformer.layernorm", query), **linear("projector.linear", 64, query)}
    for layer in range(3):
        block = f"encoder.layers.{layer}."
        for part in ("ff1", "ff2"):
            tower |= {**norm(f"{block}{part}.pre_norm", width), **linear(f"{block}{part}.up_proj", inner, width),
                      **linear(f"{block}{part}.down_proj", width, inner)}
        tower |= {**norm(block + "attn.pre_norm", width), **linear(block + "attn.to_q", attention, width, False),
                  **linear(block + "attn.to_kv", 2 * attention, width, False),
                  **linear(block + "attn.to_out", width, attention), block + "attn.rel_pos_emb.weight": (49, 16),
                  **norm(block + "conv.norm", width), block + "conv.up_conv.weight": (2 * wider, width, 1),
                  block + "conv.up_conv.bias": (2 * wider,), block + "conv.depth_conv.conv.weight": (wider, 1, 5),
                  block + "conv.down_conv.weight": (width, wider, 1), block + "conv.down_conv.bias": (width,),
                  **norm(block + "conv.batch_norm", wider), block + "conv.batch_norm.running_mean": (wider,),
                  block + "conv.batch_norm.running_var": (wider,), block + "conv.batch_norm.num_batches_tracked": (),
                  **norm(block + "post_norm", width)}
    for layer in range(2):
        block = f"projector.qformer.encoder.layer.{layer}."
        seen = {"attention": query, "crossattention": 2 * width}
        for part in seen if layer % every == 0 else ("attention",):
            tower |= {**linear(f"{block}{part}.attention.query", query, query),
                      **linear(f"{block}{part}.attention.key", query, seen[part]),
                      **linear(f"{block}{part}.attention.value", query, seen[part]),
                      **linear(f"{block}{part}.output.dense", query, query),
                      **norm(f"{block}{part}.output.LayerNorm", query)}
        tower |= {**linear(block + "intermediate_query.dense", 48, query),
                  **linear(block + "output_query.dense", query, 48), **norm(block + "output_query.LayerNorm", query)}
    return tower


def minimax(width=160, inner=48, layers=4):
    """MiniMax M3's encoder and projector; its heads have 80 values."""
    start = "vision_tower.vision_model."
    tower = {name: shape for name, shape in siglip(start, width, inner).items() if "position" not in name}
    tower[start + "embeddings.patch_embedding.weight"] = (width, 3, 2, 14, 14)
    return {**tower, **norm(start + "pre_layrnorm", width), **linear("multi_modal_projector.linear_1", 96, width),
            **linear("multi_modal_projector.linear_2", 64, 96), **linear("patch_merge_mlp.linear_1", 80, 4 * 64),
            **linear("patch_merge_mlp.linear_2", 64, 80)}


def youtu(width=32):
    """Youtu-VL's encoder and projector."""
    tower = siglip("siglip2.vision_model.", width, patch=16, rows=True)
    return {**{name: shape for name, shape in tower.items() if "position" not in name},
            **norm("merger.ln_q", width, False), **linear("merger.mlp.0", 4 * width, 4 * width),
            **linear("merger.mlp.2", 64, 4 * width)}


SOUND = dict(d_model=32, encoder_ffn_dim=48, encoder_layers=4, encoder_attention_heads=2, num_mel_bins=128,
             max_source_positions=1500)
QWEN = dict(depth=4, hidden_size=32, num_heads=2, intermediate_size=48, in_channels=3, patch_size=16,
            spatial_merge_size=2, temporal_patch_size=2, num_position_embeddings=16)
SIZES = dict(hidden_size=32, intermediate_size=48, num_hidden_layers=4, num_attention_heads=2,
             image_size=28, patch_size=14)
TEXT = dict(model_type="llama", hidden_size=64, intermediate_size=96, num_hidden_layers=1,
            num_attention_heads=4, vocab_size=1024)
MOONVIT = dict(model_type="moonvit", patch_size=14, init_pos_emb_height=4, init_pos_emb_width=4,
               num_attention_heads=2, num_hidden_layers=4, hidden_size=32, intermediate_size=48,
               merge_kernel_size=[2, 2])

# name: (class, config.json, tensors), written as the authors publish them
BY_HAND = {
    "gemma3-old": ("Gemma3ForConditionalGeneration", dict(
        model_type="gemma3", text_config=dict(TEXT, model_type="gemma3_text"),
        vision_config=dict(SIZES, model_type="siglip_vision_model")), {
            **siglip("vision_tower.vision_model."),
            "multi_modal_projector.mm_input_projection_weight": (32, 64),
            "multi_modal_projector.mm_soft_emb_norm.weight": (32,)}),
    "internvl": ("InternVLChatModel", dict(
        model_type="internvl_chat", downsample_ratio=0.5, max_dynamic_patch=12, min_dynamic_patch=1,
        llm_config=dict(TEXT, architectures=["LlamaForCausalLM"]),
        vision_config=dict(SIZES, model_type="intern_vit_6b", architectures=["InternVisionModel"],
                           layer_norm_eps=1e-6, hidden_act="gelu")), intern()),
    "janus": ("JanusForConditionalGeneration", dict(
        model_type="janus", text_config=TEXT, vision_config=dict(
            SIZES, model_type="janus_vision_model", projection_dim=64, depth=3, mlp_ratio=1.5,
            hidden_act="gelu", num_channels=3)), {
            **siglip("model.vision_model.", out="projection_layer"),
            **linear("model.aligner.fc1", 64, 32), **linear("model.aligner.hidden_layers.0", 64, 64),
            **linear("model.aligner.hidden_layers.1", 64, 64)}),
    "kimi-vl": ("KimiVLForConditionalGeneration", dict(
        model_type="kimi_vl", text_config=TEXT, vision_config=MOONVIT), {
            **moonvit(), **norm("multi_modal_projector.pre_norm", 32),
            **linear("multi_modal_projector.linear_1", 128, 128),
            **linear("multi_modal_projector.linear_2", 64, 128)}),
    "kimi-k25": ("KimiK25ForConditionalGeneration", dict(
        model_type="kimi_k25", text_config=TEXT, vision_config=dict(
            model_type="moonvit3d", patch_size=14, init_pos_emb_height=4, init_pos_emb_width=4,
            init_pos_emb_time=4, vt_num_attention_heads=16, vt_num_hidden_layers=4, vt_hidden_size=128,
            vt_intermediate_size=48, merge_kernel_size=[2, 2], projector_ln_eps=1e-5,
            projector_hidden_act="gelu")), {
            **moonvit(width=128), **norm("mm_projector.pre_norm", 128),
            **linear("mm_projector.proj.0", 512, 512), **linear("mm_projector.proj.2", 64, 512)}),
    "glm5-moonvit": ("Glm5vForConditionalGeneration", dict(
        model_type="glm5v", text_config=TEXT, vision_config=dict(
            model_type="moonvit3d", patch_size=14, init_pos_emb_height=4, init_pos_emb_width=4,
            init_pos_emb_time=4, vt_num_attention_heads=16, vt_num_hidden_layers=4, vt_hidden_size=128,
            vt_intermediate_size=48, merge_kernel_size=[2, 2], projector_ln_eps=1e-5)), {
            **moonvit(width=128), **norm("mm_projector.pre_norm", 128),
            **linear("mm_projector.linear_1", 512, 512), **linear("mm_projector.linear_2", 64, 512)}),
    "glm5v": ("Glm5NextForConditionalGeneration", dict(
        model_type="glm5_next", text_config=dict(TEXT, rms_norm_eps=1e-5), vision_config=dict(
            model_type="glm5_next_vision", depth=4, hidden_size=32, num_heads=2, intermediate_size=48,
            out_hidden_size=64, in_channels=3, image_size=336, patch_size=14, spatial_merge_size=2,
            hidden_act="silu", rms_norm_eps=1e-5, swiglu_limit=10.0,
            projection_intermediate_size=80)), glm5()),
    "exaone4_5": ("Exaone4_5_ForConditionalGeneration", dict(
        model_type="exaone4_5", text_config=dict(TEXT, rms_norm_eps=1e-5), vision_config=dict(
            model_type="exaone4_5_vision", depth=4, hidden_size=32, num_heads=4, num_key_value_heads=2,
            intermediate_size=48, out_hidden_size=64, in_channels=3, patch_size=14, spatial_merge_size=2,
            window_size=112, fullatt_block_indexes=[1, 3], hidden_act="silu")), exaone()),
    "ling3vl": ("BailingMoeV3VLForConditionalGeneration", dict(
        model_type="bailing_moe_v3_vl", text_config=dict(TEXT, rms_norm_eps=1e-6), vision_config=dict(
            QWEN, out_hidden_size=128, disable_merger_proj=True)), {
            **qwen3("visual.", bias=False), **norm("visual.merger.norm", 32),
            **linear("linear_proj.0", 96, 128), **linear("linear_proj.2", 64, 96)}),
    "qwen4exp": ("Qwen4ExpForConditionalGeneration", dict(
        model_type="qwen4_exp", text_config=dict(TEXT, rms_norm_eps=1e-6), vision_config=dict(
            QWEN, model_type="qwen4_exp_vision", out_hidden_size=64)), {
            **qwen3(), **norm("model.visual.merger.norm", 32),
            **linear("model.visual.merger.linear_fc1", 128, 128),
            **linear("model.visual.merger.linear_fc2", 64, 128)}),
    "qwen2_5-omni": ("Qwen2_5OmniModel", dict(
        model_type="qwen2_5_omni", thinker_config=dict(
            model_type="qwen2_5_omni_thinker",
            text_config=dict(TEXT, model_type="qwen2_5_omni_text", num_key_value_heads=4),
            audio_config=dict(SOUND, model_type="qwen2_5_omni_audio_encoder", output_dim=64),
            vision_config=dict(model_type="qwen2_5_omni_vision_encoder", depth=4, hidden_size=32, num_heads=2,
                               intermediate_size=48, out_hidden_size=64, patch_size=14, spatial_merge_size=2,
                               fullatt_block_indexes=[1, 3]))), omni2()),
    "qwen3-omni": ("Qwen3OmniMoeForConditionalGeneration", dict(
        model_type="qwen3_omni_moe", thinker_config=dict(
            model_type="qwen3_omni_moe_thinker",
            text_config=dict(TEXT, model_type="qwen3_omni_moe_text", rms_norm_eps=1e-5, num_key_value_heads=4),
            audio_config=dict(SOUND, model_type="qwen3_omni_moe_audio_encoder", downsample_hidden_size=16,
                              output_dim=64),
            vision_config=dict(QWEN, model_type="qwen3_omni_moe_vision_encoder", out_hidden_size=64,
                               deepstack_visual_indexes=[1, 2]))), {
            **omni3(), **qwen3("thinker.visual."), **mergers()}),
    "qwen3-asr": ("Qwen3ASRForConditionalGeneration", dict(
        model_type="qwen3_asr", thinker_config=dict(
            model_type="qwen3_asr", text_config=dict(TEXT, model_type="qwen3"),
            audio_config=dict(SOUND, model_type="qwen3_asr_audio_encoder", downsample_hidden_size=16,
                              output_dim=64))), omni3()),
    "step3-vl": ("StepVLForConditionalGeneration", dict(
        model_type="step_robotics", understand_projector_stride=2, text_config=dict(TEXT, model_type="qwen3"),
        vision_config=dict(image_size=28, patch_size=14, width=32, layers=4, heads=2, mlp_ratio=1.5,
                           hidden_act="quick_gelu")), step()),
    "deepseek-ocr": ("DeepseekOCRForCausalLM", dict(
        model_type="deepseek_vl_v2", language_config=dict(TEXT, model_type="deepseek_v2"), hidden_size=64,
        num_hidden_layers=1, vision_config=dict(image_size=1024, mlp_ratio=3.7362, model_type="vision", width={
            "clip-l-14-224": dict(heads=2, image_size=224, layers=4, patch_size=14, width=32),
            "sam_vit_b": dict(downsample_channels=[24, 40], global_attn_indexes=[1], heads=2, layers=2,
                              width=16)})), sam_and_clip()),
    "granite-speech": ("GraniteSpeechPlusForConditionalGeneration", dict(
        model_type="granite_speech", text_config=dict(TEXT, model_type="granite"), window_size=15, downsample_rate=5,
        encoder_config=dict(model_type="granite_speech_encoder", hidden_dim=32, num_layers=3, num_heads=2, dim_head=16,
                            input_dim=20, output_dim=12, context_size=20, max_pos_emb=24, conv_kernel_size=5,
                            conv_expansion_factor=2, feedforward_mult=3, cat_hidden_layers=[1]),
        projector_config=dict(model_type="blip_2_qformer", hidden_size=40, encoder_hidden_size=64,
                              num_hidden_layers=2, num_attention_heads=4, intermediate_size=48,
                              cross_attention_frequency=1)), granite()),
    "minimax-m3": ("MiniMaxM3SparseForConditionalGeneration", dict(
        model_type="minimax_m3_vl", text_config=TEXT, vision_config=dict(
            SIZES, hidden_size=160, img_token_compression_config=dict(spatial_merge_size=2))), minimax()),
    "youtu-vl": ("YoutuVLForConditionalGeneration", dict(
        model_type="youtu_vl", hidden_size=64, num_hidden_layers=1, num_attention_heads=4, intermediate_size=96,
        vocab_size=1024, vision_config=dict(SIZES, model_type="siglip2_vision_model", patch_size=16, window_size=128,
                                            fullatt_block_indexes=[1, 3], spatial_merge_size=2)), youtu()),
    "sarashina2": ("Sarashina2VisionForCausalLM", dict(
        model_type="sarashina2_vision", text_config=TEXT, vision_config=dict(
            model_type="qwen2_vl", depth=4, embed_dim=32, hidden_size=64, num_heads=2, mlp_ratio=2,
            in_channels=3, patch_size=14, spatial_merge_size=2, temporal_patch_size=2)), qwen2()),
    "lfm2-vl": ("Lfm2VlForConditionalGeneration", dict(
        model_type="lfm2_vl", downsample_factor=2, projector_hidden_size=96, vision_feature_layer=-1,
        text_config=dict(TEXT, model_type="lfm2"), vision_config=dict(
            SIZES, model_type="siglip2_vision_model", patch_size=16, num_patches=16,
            layer_norm_eps=1e-6)), {
            **siglip("model.vision_tower.vision_model.", patch=16, positions=16, rows=True),
            **norm("model.multi_modal_projector.layer_norm", 128),
            **linear("model.multi_modal_projector.linear_1", 96, 128),
            **linear("model.multi_modal_projector.linear_2", 64, 96)}),
    "cogvlm": ("CogVLMForCausalLM", dict(
        model_type="cogvlm", hidden_size=64, intermediate_size=96, num_hidden_layers=1,
        num_attention_heads=4, vocab_size=1024, vision_config=dict(
            dropout_prob=0.0, hidden_act="gelu", in_channels=3, num_hidden_layers=4, hidden_size=32,
            patch_size=14, num_heads=2, intermediate_size=48, layer_norm_eps=1e-6, num_positions=5,
            image_size=28)), cog()),
    "ultravox": ("UltravoxModel", dict(
        model_type="ultravox", hidden_size=64, stack_factor=8, text_config=TEXT, audio_config=dict(
            model_type="whisper", d_model=32, encoder_ffn_dim=48, encoder_layers=4,
            encoder_attention_heads=2, num_mel_bins=128, max_source_positions=1500)), {
            **whisper(), **norm("multi_modal_projector.ln_pre", 256, False),
            **linear("multi_modal_projector.linear_1", 64, 256, False),
            **norm("multi_modal_projector.ln_mid", 32, False),
            **linear("multi_modal_projector.linear_2", 96, 32, False)}),
    "audio-flamingo3": ("AudioFlamingo3ForConditionalGeneration", dict(
        model_type="audioflamingo3", text_config=dict(TEXT, model_type="qwen2"), audio_config=dict(
            model_type="audioflamingo3_encoder", hidden_size=32, intermediate_size=48,
            num_hidden_layers=4, num_attention_heads=2, num_mel_bins=128, max_source_positions=1500)), {
            **whisper(), **linear("multi_modal_projector.linear_1", 64, 32),
            **linear("multi_modal_projector.linear_2", 64, 64)}),
    "lighton-ocr": ("LightOnOCRForConditionalGeneration", dict(
        model_type="lighton_ocr", spatial_merge_size=2, text_config=dict(TEXT, model_type="qwen3"),
        vision_config=dict(SIZES, model_type="pixtral", hidden_act="silu")), None),
    "dots-ocr": ("DotsOCRForCausalLM", dict(
        model_type="dots_ocr", hidden_size=64, num_hidden_layers=1, num_attention_heads=4,
        intermediate_size=96, vocab_size=1024, vision_config=dict(
            SIZES, model_type="dots_vit", embed_dim=32, spatial_merge_size=2, rms_norm_eps=1e-5)), dots()),
    "paddleocr-old": ("PaddleOCRVLForConditionalGeneration", dict(
        model_type="paddleocr_vl", hidden_size=64, num_hidden_layers=1, num_attention_heads=4,
        intermediate_size=96, vocab_size=1024, vision_config=dict(
            SIZES, model_type="paddleocr_vl", architectures=["PaddleOCRVisionModel"],
            spatial_merge_size=2, layer_norm_eps=1e-6)), {
            **siglip("visual.vision_model."), **norm("mlp_AR.pre_norm", 32),
            **linear("mlp_AR.linear_1", 128, 128), **linear("mlp_AR.linear_2", 64, 128)}),
}
# name: (that of architectures.py, what the preprocessor's file says)
MADE = {
    "gemma3": ("gemma3-vision", dict(COLOURS)),
    "smolvlm": ("smolvlm", dict(COLOURS, size=dict(longest_edge=56))),
    "mistral3": ("mistral3-vision", COLOURS),
    "llava-pixtral": ("llava-qwen2", COLOURS),
    "llama4": ("llama4-vision", COLOURS),
    "qwen2vl": ("qwen2vl", COLOURS),
    "qwen2_5vl": ("qwen2_5vl", COLOURS),
    "qwen3vl": ("qwen3vl", COLOURS),
    "qwen3vlmoe": ("qwen3vlmoe", COLOURS),
    "qwen35": ("qwen35", COLOURS),
    "glm4v": ("glm4v", COLOURS),
    "glm-ocr": ("glm_ocr", COLOURS),
    "hunyuan-vl": ("hunyuan-vl", PIXELS),
    "minicpmv4_6": ("minicpmv4_6", dict(COLOURS, scale_resolution=448, downsample_mode="16x")),
    "gemma4": ("gemma4", COLOURS),
    "gemma4-images": ("gemma4-images", COLOURS),
    "qwen2-audio": ("qwen2-audio", {}),
    "voxtral": ("voxtral", {}),
}
GEMMA4 = dict(
    text_config=dict(architectures.GEMMA4, layer_types=architectures.GEMMA4_TYPES, hidden_size_per_layer_input=0),
    vision_config=dict(hidden_size=32, intermediate_size=48, num_hidden_layers=4, num_attention_heads=2,
                       num_key_value_heads=2, head_dim=16, patch_size=4, position_embedding_size=10,
                       use_clipped_linears=True, standardize=True))
# Models of MADE that architectures.py has not: their encoders are those of the larger ones.
OWN = {
    "gemma4": ("Gemma4:ForConditionalGeneration", "gemma4", dict(GEMMA4, audio_config=dict(
        hidden_size=32, num_hidden_layers=4, num_attention_heads=2, subsampling_conv_channels=[16, 8],
        output_proj_dims=24))),
    "gemma4-images": ("Gemma4:ForConditionalGeneration", "gemma4", dict(GEMMA4, audio_config=None)),
}
# Which class the reference registers its converter under, where config.json names another.
AS = {"InternVLChatModel": "InternVisionModel"}
# Keys and tensors that we write and the reference does not: engines refuse files without it.
MORE = {"v.token_embd.img_break"}


def pixtral(tower, projector, **more):
    names = {f"{tower}patch_conv.weight": (32, 3, 14, 14), f"{tower}ln_pre.weight": (32,)}
    for layer in range(4):
        block = f"{tower}transformer.layers.{layer}."
        names |= {block + "attention_norm.weight": (32,), block + "ffn_norm.weight": (32,)}
        for part in "qkvo":
            names |= linear(f"{block}attention.{part}_proj", 32, 32, False)
        names |= {**linear(block + "feed_forward.gate_proj", 48, 32, False),
                  **linear(block + "feed_forward.up_proj", 48, 32, False),
                  **linear(block + "feed_forward.down_proj", 32, 48, False)}
    return {**names, **norm(projector + "norm", 32, False),
            **linear(projector + "patch_merger.merging_layer", 32, 128, False),
            **linear(projector + "linear_1", 64, 32, False), **linear(projector + "linear_2", 64, 64, False)}


BY_HAND["lighton-ocr"] = (*BY_HAND["lighton-ocr"][:2], pixtral(
    "model.vision_encoder.", "model.vision_projection."))


def make(case, folder):
    """Writes the checkpoint; whether its tensors are all of the projector."""
    import torch
    from safetensors import safe_open
    from safetensors.torch import save_file

    folder.mkdir(parents=True, exist_ok=True)
    if case in BY_HAND:
        name, config, shapes = BY_HAND[case]
        tensors = {key: torch.zeros(shape, dtype=torch.bfloat16 if shape else torch.int64)
                   for key, shape in shapes.items()}
        (folder / "config.json").write_text(json.dumps(dict(config, architectures=[name])))
        said = PIXELS
    else:
        made, said = MADE[case]
        kind, tokenizer, settings = (architectures.FAMILIES | OWN)[made]
        settings = copy.deepcopy(settings)
        for part in ("vision_config", "audio_config"):
            for key in ("num_hidden_layers", "depth", "encoder_layers"):
                if key in (settings.get(part) or {}):
                    # The reference maps `linear_2` only where there are more layers than two.
                    settings[part][key] = 4
        if case == "hunyuan-vl":
            settings["vision_config"]["max_image_size"] = 56
        if case == "qwen35":
            # As published: it has none, though its class knows them.
            settings["vision_config"]["deepstack_visual_indexes"] = []
        # The tokenizer is of no matter here, but for a family of tokens of its own.
        architectures.FAMILIES[case] = (kind, "bpe" if tokenizer == "glm" else tokenizer, settings)
        architectures.make(case, folder, False)
        with safe_open(folder / "model.safetensors", "pt") as weights:
            tensors = {key: weights.get_tensor(key) for key in weights.keys() if is_part(key)}
        if case == "gemma3":
            # The form in which all published checkpoints are.
            tensors = {key.replace("vision_tower.", "vision_tower.vision_model."): value
                       for key, value in tensors.items() if ".head." not in key}
        config = json.loads((folder / "config.json").read_text())
        if case == "qwen2_5vl":
            config["vision_config"]["fullatt_block_indexes"] = [1, 3]
        (folder / "config.json").write_text(json.dumps(config))
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    (folder / "preprocessor_config.json").write_text(json.dumps(said))
    if case in ("mistral3", "llava-pixtral"):
        path = folder / "tokenizer_config.json"
        settings = json.loads(path.read_text()) if path.exists() else {}
        settings.setdefault("added_tokens_decoder", {})["12"] = dict(content="[IMG_BREAK]", special=True)
        path.write_text(json.dumps(settings))
    return said


def is_part(name):
    parts = ("vision", "visual", "vit.", "audio_tower", "projector", "mlp_AR", "connector", "model.merger.",
             "embed_audio")
    return any(part in name for part in parts) or "embed_tokens" in name and "language_model" in name


def with_images_of_its_own_name(family):
    """The reference's class for Qwen3-Omni, which gives tensors of images a name that it does not know."""
    class Mended(family):
        @classmethod
        def filter_tensors(cls, item):
            return super().filter_tensors((item[0].replace("thinker.visual.", "visual."), item[1]))

    return Mended


@functools.cache
def step3_of_any_size():
    """The reference asserts the sizes of the one model: its file without assertions."""
    from conversion import step3

    source = Path(step3.__file__)
    exec(compile(source.read_text(), source, "exec", optimize=1), step3.__dict__)


def reference(folder, output, kind):
    import conversion
    import gguf

    conversion.load_all_models()
    config = conversion.ModelBase.load_hparams(folder, False)
    raw = json.loads((folder / "config.json").read_text())
    if raw["model_type"] in ("kimi_k25", "glm5_next", "qwen4_exp", "exaone4_5"):
        # The class in transformers has sizes under other names than those of the published file.
        config = raw
    if "layers" in raw.get("vision_config", {}):
        step3_of_any_size()
    name = conversion.get_model_architecture(raw, conversion.ModelType.MMPROJ)
    family = conversion.get_model_class(AS.get(name, name), mmproj=True)
    if name == "Qwen3OmniMoeForConditionalGeneration":
        family = with_images_of_its_own_name(family)
    types = dict(f32="ALL_F32", f16="MOSTLY_F16", bf16="MOSTLY_BF16", q8_0="MOSTLY_Q8_0")
    family(folder, getattr(gguf.LlamaFileType, types[kind]), output, hparams=config).write()


# Cases with tensors that are computed and not stored.
RECKONED = ("qwen2_5-omni", "qwen3-omni", "qwen3-asr", "gemma4", "granite-speech")
# What is computed, and how far PyTorch's functions are from what is rounded from double precision: its
# exponentials, logarithms and roots differ in the last place, and sines of moments far away by more.
COMPUTED = {"a.position_embd.weight": 2e-4, "per_dim_scale.weight": 2e-7, "conv_norm_var.weight": 2e-7,
            "conv_norm_var.bias": 2e-7}


def computed(found, expected, files):
    """Takes our values of what is computed, where they are those of the reference but for its rounding."""
    import gguf
    import numpy

    ours, theirs = ({tensor.name: tensor.data for tensor in gguf.GGUFReader(file).tensors} for file in files)
    for name in ours.keys() & theirs.keys():
        far = next((far for end, far in COMPUTED.items() if name.endswith(end)), None)
        if far and ours[name].dtype == numpy.float32 and numpy.allclose(ours[name], theirs[name], rtol=0, atol=far):
            expected[1][name] = found[1][name]


def snapshot(folder, said, layout, made, path):
    """Writes what the test suite needs to do the same without Python."""
    keys, tensors = made
    rows = lambda items: "{\n" + ",\n".join(
        f"    {json.dumps(key)}: {json.dumps(value)}" for key, value in items) + "\n  }"
    lines = ['"config": ' + (folder / "config.json").read_text(),
             '"preprocessor": ' + json.dumps(said), '"checkpoint": ' + rows(layout.items()),
             '"metadata": ' + rows((key, value[1]) for key, value in keys.items()
                                   if key in ("general.architecture", "general.type", "general.file_type")
                                   or not key.startswith("general.")),
             '"tensors": ' + rows(tensors.items())]
    path.write_text("{\n  " + ",\n  ".join(lines) + "\n}\n")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--binary", required=True, type=Path)
    parser.add_argument("--reference", required=True, type=Path)
    parser.add_argument("--keep", type=Path)
    parser.add_argument("--snapshots", type=Path)
    parser.add_argument("cases", nargs="*", default=[*MADE, *BY_HAND])
    options = parser.parse_args()
    sys.path[:0] = [str(options.reference), str(options.reference / "gguf-py")]
    logging.disable(logging.CRITICAL)
    failed = []
    with tempfile.TemporaryDirectory() as temporary:
        for case in options.cases:
            folder, problems, made = (options.keep or Path(temporary)) / case, [], {}
            try:
                said = make(case, folder)
                layout = architectures.regenerate(folder)
                for kind in TYPES:
                    ours, theirs = (folder.parent / f"{case}.{kind}.{whose}.gguf" for whose in ("ours", "theirs"))
                    reference(folder, theirs, kind)
                    run = subprocess.run([options.binary, "convert", folder, "--mmproj", "-o", ours, "-t", kind,
                                          "--force", "--quiet", "--like-reference"], capture_output=True, text=True)
                    if run.returncode:
                        problems.append(run.stderr.strip())
                        break
                    expected, found = architectures.describe(theirs), architectures.describe(ours)
                    made[kind] = found
                    if case in RECKONED:
                        computed(found, expected, (ours, theirs))
                    for name in MORE & found[1].keys() - expected[1].keys():
                        del found[1][name]
                        # The size is another with it.
                        expected[0].pop("general.size_label"), found[0].pop("general.size_label")
                    problems += [f"{kind}: {line}" for line in sorted(architectures.differences(found, expected))]
                    names = [list(part[1]) for part in (found, expected)]
                    if not problems and names[0] != names[1]:
                        problems.append(f"{kind}: tensors in another order")
            except Exception as error:  # One that fails must not hide the others.
                problems.append(f"{type(error).__name__}: {error}")
            if options.snapshots and not problems:
                again = architectures.describe(folder.parent / f"{case}.f16.ours.gguf")
                snapshot(folder, said, layout, again, options.snapshots / f"{case}.json")
            print(f"{case}: {'equal' if not problems else f'{len(problems)} differences'}", flush=True)
            for problem in problems[:10]:
                print("   ", problem[:500])
            failed += [case] if problems else []
    if failed:
        sys.exit(f"differ: {' '.join(failed)}")


if __name__ == "__main__":
    main()
