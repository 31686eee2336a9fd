"""Compares conversions with the reference converter's, one tiny random checkpoint per family.

    python interop/architectures.py --binary target/release/quantwright --reference LLAMA_CPP [family…]

LLAMA_CPP is a source folder of llama.cpp, such as the one inside llama-cpp-python's source
distribution. Needs torch (CPU is enough), transformers, safetensors, sentencepiece and numpy.
Each checkpoint is made by transformers with random weights and a tokenizer of the fixtures, then
converted to F32 by both. Every tensor (name, type, shape, SHA-256) and every metadata key (type,
value) is compared. The reference knows no BPE vocabulary of ours: its pre-tokenizer is named.
With --load, a Python that has llama-cpp-python loads each result and evaluates three tokens, or
embeds a text with an encoder; with --quantize its llama.cpp quantizes each result, and the file is
to equal, byte for byte, what quantwright makes of the checkpoint.
"""

import argparse
import functools
import hashlib
import json
import logging
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import newest
from tiny import EXPERTS, FULL, HEAD_NORMS, LATENT, LAYER, SMALL, hand, llama, some, without

# Where tokenizers.py would hide the package of that name.
sys.path = [path for path in sys.path if Path(path).resolve() != Path(__file__).resolve().parent]

FIXTURES = Path(__file__).resolve().parent.parent / "fixtures"
PRE = "llama-bpe"

ENCODER = {key: value for key, value in SMALL.items() if key != "num_key_value_heads"}
RANKED = {0: "contradiction", 1: "neutral", 2: "entailment"}
ROBERTA = dict(ENCODER, max_position_embeddings=258, type_vocab_size=1, pad_token_id=1,
               bos_token_id=0, eos_token_id=2)

DISTILLED = dict(vocab_size=1024, dim=64, hidden_dim=96, n_layers=3, n_heads=4,
                 max_position_embeddings=256)
# As published: transformers itself no longer writes the last two keys.
MODERN = dict(ENCODER, num_hidden_layers=4, local_attention=64, pad_token_id=0, bos_token_id=1,
              eos_token_id=2, cls_token_id=1, sep_token_id=2, layer_norm_eps=1e-5,
              global_attn_every_n_layers=3)

# Encoders of images and sound, whose tensors are left out.
PIXTRAL = dict(hidden_size=32, intermediate_size=48, num_hidden_layers=1, num_attention_heads=2,
               image_size=28, patch_size=14, model_type="pixtral")
AUDIO = dict(hidden_size=32, intermediate_size=48, num_hidden_layers=1, num_attention_heads=2)
QWEN3_VISION = dict(depth=3, hidden_size=32, num_heads=2, out_hidden_size=64, intermediate_size=48,
                    num_position_embeddings=16, deepstack_visual_indexes=[0, 1])

# Delta nets in all but one layer, which has attention.
LINEAR = dict(SMALL, head_dim=32, linear_conv_kernel_dim=4, linear_key_head_dim=16,
              linear_value_head_dim=16, linear_num_key_heads=2, linear_num_value_heads=4,
              layer_types=["linear_attention", "full_attention", "linear_attention"])
LINEAR_MOE = dict(LINEAR, moe_intermediate_size=32, shared_expert_intermediate_size=48,
                  num_experts=4, num_experts_per_tok=2)
QWEN35 = dict(rope_parameters=dict(rope_type="default", rope_theta=1e7, partial_rotary_factor=0.25,
                                   mrope_section=[2, 1, 1]))
GEMMA4 = dict(SMALL, num_hidden_layers=2, head_dim=16, global_head_dim=32, sliding_window=64)
GEMMA4_TYPES = ["sliding_attention", "full_attention"]
GEMMA4_EXPERTS = dict(hidden_size_per_layer_input=0, attention_k_eq_v=True, enable_moe_block=True,
                      num_global_key_value_heads=1, num_experts=4, top_k_experts=2,
                      moe_intermediate_size=24, layer_types=GEMMA4_TYPES)

# As published; the class in transformers knows no other way and does not save it.
SIGMOID = dict(scoring_func="sigmoid")

GLM = dict(SMALL, vocab_size=1040, pad_token_id=0, eos_token_id=1)
GLM_MOE = dict(GLM, head_dim=16, moe_intermediate_size=32, n_routed_experts=4,
               num_experts_per_tok=2, n_shared_experts=1, first_k_dense_replace=1)
GLM_VISION = dict(depth=1, hidden_size=32, num_heads=2, out_hidden_size=64, intermediate_size=48,
                  image_size=28)


def qwen_mtp(tensors):
    """The shapes of a layer that predicts further tokens, as Qwen publishes it: with attention."""
    text = next(key for key in tensors if key.endswith("layers.1.self_attn.q_proj.weight"))
    base = text.removesuffix("self_attn.q_proj.weight")
    hidden = tensors[text].shape[1]
    layer = {"mtp.layers.0." + key.removeprefix(base): tensor.shape
             for key, tensor in tensors.items() if key.startswith(base)}
    return {**layer, "mtp.fc.weight": (hidden, 2 * hidden), "mtp.norm.weight": (hidden,),
            "mtp.pre_fc_norm_embedding.weight": (hidden,),
            "mtp.pre_fc_norm_hidden.weight": (hidden,)}


def last_mtp(tensors):
    """The shapes of a layer that predicts further tokens, numbered on: as the last one."""
    last = next(key for key in tensors if ".layers.2.input_layernorm." in key)
    base, hidden = last.removesuffix("input_layernorm.weight"), tensors[last].shape[0]
    further = base.replace(".layers.2.", ".layers.3.")
    vocabulary = next(tensor.shape[0] for key, tensor in tensors.items() if "embed_tokens" in key)
    layer = {further + key.removeprefix(base): tensor.shape
             for key, tensor in tensors.items() if key.startswith(base)}
    return {**layer, further + "eh_proj.weight": (hidden, 2 * hidden),
            **{f"{further}{name}.weight": (hidden,) for name in ("enorm", "hnorm", "shared_head.norm")},
            further + "embed_tokens.weight": (vocabulary, hidden),
            further + "shared_head.head.weight": (vocabulary, hidden)}


# name: (configuration class or that and the model's, tokenizer, settings)
FAMILIES = {
    "llama": ("Llama", "bpe", SMALL),
    "llama-biases": ("Llama", "bpe", dict(SMALL, attention_bias=True, mlp_bias=True, head_dim=32)),
    "mistral": ("Mistral", "bpe", SMALL),
    "mixtral": ("Mixtral", "bpe", dict(SMALL, num_local_experts=4)),
    "qwen2": ("Qwen2", "qwen", SMALL),
    "qwen3": ("Qwen3", "qwen", dict(SMALL, head_dim=32)),
    "qwen2moe": ("Qwen2Moe", "qwen", dict(
        SMALL, moe_intermediate_size=32, shared_expert_intermediate_size=64, num_experts=4,
        num_experts_per_tok=2)),
    "qwen3moe": ("Qwen3Moe", "qwen", dict(
        SMALL, moe_intermediate_size=32, num_experts=4, num_experts_per_tok=2, head_dim=32)),
    "phi2": ("Phi", "bpe", dict(SMALL, num_key_value_heads=4, intermediate_size=256)),
    "phi3": ("Phi3", "spm", dict(SMALL, pad_token_id=0, bos_token_id=1, eos_token_id=2)),
    "phi3-long": ("Phi3", "spm", dict(
        SMALL, pad_token_id=0, bos_token_id=1, eos_token_id=2, max_position_embeddings=512,
        original_max_position_embeddings=128, rope_parameters=dict(
            rope_type="longrope", rope_theta=10000.0,
            long_factor=[1.0 + i for i in range(8)], short_factor=[1.0 + i / 8 for i in range(8)]))),
    "gemma": ("Gemma", "spm", dict(SMALL, head_dim=32)),
    "gemma2": ("Gemma2", "spm", dict(SMALL, head_dim=32, sliding_window=64)),
    "gemma3": ("Gemma3Text", "spm", dict(SMALL, head_dim=32, sliding_window=64)),
    "gemma3-vision": ("Gemma3", "spm", dict(
        text_config=dict(SMALL, head_dim=32, sliding_window=64),
        vision_config=dict(hidden_size=32, intermediate_size=48, num_hidden_layers=1,
                           num_attention_heads=2, image_size=28, patch_size=14))),
    "gpt2": ("GPT2", "bpe", dict(vocab_size=1024, n_embd=64, n_layer=2, n_head=4, n_positions=128,
                                 n_ctx=128)),
    "gptneox": ("GPTNeoX", "bpe", dict(SMALL)),
    "starcoder2": ("Starcoder2", "bpe", SMALL),
    "stablelm": ("StableLm", "bpe", dict(SMALL, use_qkv_bias=True)),
    # The reference loses the norms of heads (qk_layernorm) on its way: no comparison.
    "stablelm-parallel": ("StableLm", "bpe", dict(SMALL, use_parallel_residual=True)),
    "olmo2": ("Olmo2", "bpe", SMALL),
    "olmo3": ("Olmo3", "bpe", dict(SMALL, sliding_window=64)),
    "granite": ("Granite", "bpe", dict(SMALL, embedding_multiplier=12.0, logits_scaling=8.0)),
    "granitemoe": ("GraniteMoe", "bpe", dict(SMALL, num_local_experts=4)),
    "granitemoe-shared": ("GraniteMoeShared", "bpe", dict(
        SMALL, num_local_experts=4, shared_intermediate_size=48)),
    "falcon": ("Falcon", "bpe", dict(vocab_size=1024, hidden_size=64, num_hidden_layers=2,
                                     num_attention_heads=4, multi_query=True,
                                     num_kv_heads=1)),
    "falcon-groups": ("Falcon", "bpe", dict(
        vocab_size=1024, hidden_size=64, num_hidden_layers=2, num_attention_heads=4,
        num_kv_heads=2, new_decoder_architecture=True)),
    "gpt_oss": ("GptOss", "bpe", dict(SMALL, num_local_experts=4, num_experts_per_tok=2,
                                      head_dim=16, sliding_window=64)),
    "gpt_oss-mxfp4": ("GptOss", "bpe", dict(SMALL, num_local_experts=4, num_experts_per_tok=2,
                                            head_dim=16, sliding_window=64)),
    "deepseek2": ("DeepseekV2", "bpe", dict(LATENT, q_lora_rank=24)),
    "deepseek2-lite": ("DeepseekV2", "bpe", dict(LATENT, q_lora_rank=None)),
    "deepseek3": ("DeepseekV3", "bpe", dict(LATENT, q_lora_rank=24, published=SIGMOID)),
    "deepseek3-fp8": ("DeepseekV3", "bpe", dict(LATENT, q_lora_rank=24, published=SIGMOID)),
    "llama-fp8-channel": ("Llama", "bpe", SMALL),
    "llama-fp8-tensor": ("Llama", "bpe", SMALL),
    "llama-f64": ("Llama", "bpe", SMALL),
    "cohere": ("Cohere", "bpe", SMALL),
    "cohere-norms": ("Cohere", "bpe", dict(SMALL, use_qk_norm=True)),
    "cohere2": ("Cohere2", "bpe", dict(SMALL, sliding_window=64, rotary_pct=1.0)),
    "olmoe": ("Olmoe", "bpe", dict(SMALL, num_key_value_heads=4, num_experts=4,
                                   num_experts_per_tok=2)),
    "olmo": ("Olmo", "bpe", dict(SMALL, clip_qkv=8.0)),
    "seed_oss": ("SeedOss", "bpe", dict(SMALL, head_dim=32)),
    "arcee": ("Arcee", "bpe", SMALL),
    "llama3-scaled": ("Llama", "bpe", dict(SMALL, rope_parameters=dict(
        rope_type="llama3", rope_theta=500000.0, factor=8.0, low_freq_factor=1.0,
        high_freq_factor=4.0, original_max_position_embeddings=64))),
    "qwen2-yarn": ("Qwen2", "qwen", dict(SMALL, rope_parameters=dict(
        rope_type="yarn", rope_theta=10000.0, factor=4.0,
        original_max_position_embeddings=64))),
    "smollm3": ("SmolLM3", "bpe", dict(SMALL, pad_token_id=0)),
    "bloom": ("Bloom", "bpe", dict(vocab_size=1024, hidden_size=64, n_layer=2, n_head=4)),
    "starcoder": ("GPTBigCode", "bpe", dict(vocab_size=1024, n_embd=64, n_layer=2, n_head=4,
                                            n_positions=128)),
    "mpt": ("Mpt", "bpe", dict(vocab_size=1024, d_model=64, n_layers=2, n_heads=4,
                               max_seq_len=128)),
    "nemotron": ("Nemotron", "spm", SMALL),
    "exaone4": ("Exaone4", "bpe", dict(SMALL, sliding_window=64, num_hidden_layers=4)),
    "ernie4_5": ("Ernie4_5", "spm", dict(SMALL, head_dim=32)),
    "dots1": ("Dots1", "bpe", dict(
        SMALL, num_key_value_heads=4, n_routed_experts=4, num_experts_per_tok=2, moe_intermediate_size=32,
        n_shared_experts=1, first_k_dense_replace=1, n_group=1, topk_group=1,
        scoring_func="sigmoid")),
    "ministral3": ("Ministral3", "bpe", dict(SMALL, head_dim=32)),
    "mistral3-vision": ("Mistral3", "bpe", dict(
        text_config=dict(SMALL, head_dim=32, model_type="mistral"),
        vision_config=dict(hidden_size=32, intermediate_size=48, num_hidden_layers=1,
                           num_attention_heads=2, image_size=28, patch_size=14,
                           model_type="pixtral"))),
    "bert": ("Bert:Model", "wordpiece", ENCODER),
    "bert-words": ("Bert:ForMaskedLM", "wordpiece", ENCODER),
    "bert-classes": ("Bert:ForSequenceClassification", "wordpiece", dict(ENCODER, id2label=RANKED)),
    "bert-unnamed": ("Bert:ForSequenceClassification", "wordpiece", ENCODER),
    "distilbert": ("DistilBert:Model", "wordpiece", DISTILLED),
    "distilbert-words": ("DistilBert:ForMaskedLM", "wordpiece", DISTILLED),
    "distilbert-classes": ("DistilBert:ForSequenceClassification", "wordpiece", dict(
        DISTILLED, id2label={0: "NEGATIVE", 1: "POSITIVE"})),
    "roberta": ("Roberta:Model", "bpe", ROBERTA),
    "roberta-classes": ("Roberta:ForSequenceClassification", "bpe", dict(ROBERTA, id2label=RANKED)),
    "xlm-roberta": ("XLMRoberta:Model", "unigram", ROBERTA),
    "xlm-roberta-rank": ("XLMRoberta:ForSequenceClassification", "unigram", dict(
        ROBERTA, id2label={0: "LABEL_0"})),
    "nomic-bert": ("NomicBert:Model", "wordpiece", dict(ENCODER, max_position_embeddings=8192)),
    "qwen3-embedding": ("Qwen3:Model", "qwen", dict(SMALL, head_dim=32)),
    "qwen2-embedding": ("Qwen2:Model", "qwen", SMALL),
    "llama-embedding": ("Llama:Model", "bpe", SMALL),
    "gemma-embedding": ("Gemma3Text:Model", "spm", dict(
        SMALL, model_class="Gemma3TextModel", head_dim=32, query_pre_attn_scalar=32, sliding_window=64,
        use_bidirectional_attention=True)),
    "llama-embed": ("Llama:Model", "bpe", dict(SMALL, architectures=["LlamaBidirectionalModel"])),
    "bloom-bare": ("Bloom:Model", "bpe", dict(vocab_size=1024, hidden_size=64, n_layer=2, n_head=4)),
    "kormo": ("Llama:ForCausalLM", "bpe", dict(SMALL, architectures=["KORMoForCausalLM"])),
    "smolvlm": ("SmolVLM:ForConditionalGeneration", "spm", dict(
        text_config=dict(SMALL, model_type="llama", architectures=["VLlama3ForCausalLM"],
                         pad_token_id=0),
        vision_config=dict(hidden_size=32, intermediate_size=48, num_hidden_layers=1,
                           num_attention_heads=2, image_size=28, patch_size=14))),
    "llava-mistral": ("Llava:ForConditionalGeneration", "bpe", dict(
        text_config=dict(SMALL, model_type="mistral", head_dim=32), vision_config=PIXTRAL)),
    "llava-qwen2": ("Llava:ForConditionalGeneration", "qwen", dict(
        text_config=dict(SMALL, model_type="qwen2", architectures=["Qwen2ForCausalLM"]),
        vision_config=PIXTRAL)),
    "voxtral": ("Voxtral:ForConditionalGeneration", "bpe", dict(
        text_config=dict(SMALL, model_type="llama"), audio_config=AUDIO)),
    "qwen2-audio": ("Qwen2Audio:ForConditionalGeneration", "qwen", dict(
        text_config=dict(SMALL, model_type="qwen2"), audio_config=dict(
            AUDIO, encoder_layers=1, encoder_attention_heads=2, encoder_ffn_dim=48, d_model=32))),
    "qwen2vl": ("Qwen2VL:ForConditionalGeneration", "qwen", dict(
        text_config=dict(SMALL, rope_parameters=dict(
            rope_type="default", rope_theta=1e6, mrope_section=[2, 3, 3])),
        vision_config=dict(depth=1, embed_dim=32, num_heads=2, hidden_size=64, mlp_ratio=2))),
    "qwen2_5vl": ("Qwen2_5_VL:ForConditionalGeneration", "qwen", dict(
        text_config=dict(SMALL, rope_parameters=dict(
            rope_type="default", rope_theta=1e6, mrope_section=[2, 3, 3])),
        vision_config=dict(depth=1, hidden_size=32, num_heads=2, out_hidden_size=64,
                           intermediate_size=48))),
    "qwen3vl": ("Qwen3VL:ForConditionalGeneration", "qwen", dict(
        text_config=dict(SMALL, head_dim=32, rope_parameters=dict(
            rope_type="default", rope_theta=5e6, mrope_section=[6, 5, 5])),
        vision_config=QWEN3_VISION)),
    "qwen3vlmoe": ("Qwen3VLMoe:ForConditionalGeneration", "qwen", dict(
        text_config=dict(SMALL, head_dim=32, moe_intermediate_size=48, num_experts=4,
                         num_experts_per_tok=2, rope_parameters=dict(
                             rope_type="default", rope_theta=5e6, mrope_section=[6, 5, 5])),
        vision_config=QWEN3_VISION)),
    "modern-bert": ("ModernBert:Model", "bpe", MODERN),
    "modern-bert-words": ("ModernBert:ForMaskedLM", "bpe", MODERN),
    "modern-bert-classes": ("ModernBert:ForSequenceClassification", "bpe", dict(
        MODERN, id2label=RANKED, classifier_pooling="mean")),
}

# Encoders and decoders.
T5 = dict(vocab_size=1024, d_model=64, d_kv=16, d_ff=96, num_layers=2, num_heads=4,
          decoder_start_token_id=0)
FAMILIES.update({
    "t5": ("T5:ForConditionalGeneration", "t5", T5),
    "t5-gated": ("T5:ForConditionalGeneration", "t5", dict(
        T5, d_kv=24, num_decoder_layers=1, feed_forward_proj="gated-gelu",
        tie_word_embeddings=False)),
    "umt5": ("UMT5:ForConditionalGeneration", "t5", dict(T5, feed_forward_proj="gated-gelu")),
    "mt5": ("MT5:ForConditionalGeneration", "t5", T5),
    "t5-encoder": ("T5:EncoderModel", "t5", T5),
})

LFM2 = dict(SMALL, layer_types=["conv", "full_attention", "conv"], block_multiple_of=8,
            block_auto_adjust_ff_dim=True, pad_token_id=0, conv_L_cache=3)
GPT = "transformer.h.{}."

# Models of 2024 to 2026, most without a class in transformers.
FAMILIES.update({
    "minicpm": ("", "spm", hand("minicpm", "MiniCPMForCausalLM", llama(), more=dict(
        scale_emb=12, scale_depth=1.4, dim_model_base=32))),
    "minicpm3": ("MiniCPM3", "spm", dict(
        FULL, q_lora_rank=24, kv_lora_rank=32, qk_nope_head_dim=16, qk_rope_head_dim=8,
        v_head_dim=16)),
    "plm": ("", "bpe", hand("plm", "PLMForCausalLM", {
        **without(llama(), "self_attn", "gate_proj", "lm_head"),
        LAYER + "self_attn.q_proj.weight": (96, 64),
        LAYER + "self_attn.kv_a_proj_with_mqa.weight": (40, 64),
        LAYER + "self_attn.kv_a_layernorm.weight": (32,),
        LAYER + "self_attn.kv_b_proj.weight": (128, 32),
        LAYER + "self_attn.o_proj.weight": (64, 64)}, more=dict(
            num_key_value_heads=4, kv_lora_rank=32, qk_nope_head_dim=16, qk_rope_head_dim=8,
            v_head_dim=16, tie_word_embeddings=True))),
    "phimoe": ("Phimoe", "spm", dict(SMALL, num_local_experts=4, num_experts_per_tok=2,
                                     attention_bias=True, lm_head_bias=True, pad_token_id=0,
                                     architectures=["PhiMoEForCausalLM"],
                                     original_max_position_embeddings=256)),
    "ernie4_5-moe": ("Ernie4_5_Moe", "spm", dict(
        SMALL, moe_intermediate_size=48, moe_k=2, moe_num_experts=4, moe_num_shared_experts=1,
        moe_layer_start_index=1, moe_layer_interval=1, moe_layer_end_index=2, head_dim=16,
        pad_token_id=0, bos_token_id=1, eos_token_id=2)),
    "paddleocr": ("PaddleOCRVL:ForConditionalGeneration", "spm", dict(
        text_config=dict(SMALL, head_dim=32, rope_parameters=dict(
            rope_type="default", rope_theta=5e5, mrope_section=[4, 6, 6])),
        vision_config=dict(hidden_size=32, intermediate_size=48, num_hidden_layers=1,
                           num_attention_heads=2, image_size=28, patch_size=14))),
    "exaone": ("", "bpe", hand("exaone", "ExaoneForCausalLM", {
        "transformer.wte.weight": (1024, 64), "lm_head.weight": (1024, 64),
        "transformer.ln_f.weight": (64,), GPT + "ln_1.weight": (64,), GPT + "ln_2.weight": (64,),
        GPT + "attn.attention.q_proj.weight": (64, 64), GPT + "attn.attention.k_proj.weight": (32, 64),
        GPT + "attn.attention.v_proj.weight": (32, 64), GPT + "attn.attention.out_proj.weight": (64, 64),
        GPT + "mlp.c_fc_0.weight": (96, 64), GPT + "mlp.c_fc_1.weight": (96, 64),
        GPT + "mlp.c_proj.weight": (64, 96)}, config=dict(
            vocab_size=1024, hidden_size=64, intermediate_size=96, num_layers=3,
            num_attention_heads=4, num_key_value_heads=2, max_position_embeddings=256, head_dim=16,
            # Its graph wants the second, which the published files leave out.
            layer_norm_epsilon=1e-5, rms_norm_eps=1e-5, rope_theta=1e6,
            activation_function="silu"))),
    "internlm2": ("", "spm", hand("internlm2", "InternLM2ForCausalLM", {
        "model.tok_embeddings.weight": (1024, 64), "output.weight": (1024, 64),
        "model.norm.weight": (64,), LAYER + "attention_norm.weight": (64,),
        LAYER + "ffn_norm.weight": (64,), LAYER + "attention.wqkv.weight": (128, 64),
        LAYER + "attention.wo.weight": (64, 64), LAYER + "feed_forward.w1.weight": (96, 64),
        LAYER + "feed_forward.w2.weight": (64, 96), LAYER + "feed_forward.w3.weight": (96, 64)},
        more=dict(bos_token_id=1, eos_token_id=2))),
    "internlm3": ("", "spm", hand("internlm3", "InternLM3ForCausalLM", {
        **llama(), LAYER + "self_attn.q_proj.bias": (64,), LAYER + "self_attn.k_proj.bias": (32,),
        LAYER + "self_attn.v_proj.bias": (32,)}, more=dict(qkv_bias=True, head_dim=16))),
    "baichuan": ("", "spm", hand("baichuan", "BaichuanForCausalLM", {
        **without(llama(), "_proj.weight"), LAYER + "self_attn.W_pack.weight": (192, 64),
        LAYER + "self_attn.o_proj.weight": (64, 64), LAYER + "mlp.gate_proj.weight": (96, 64),
        LAYER + "mlp.up_proj.weight": (96, 64), LAYER + "mlp.down_proj.weight": (64, 96)},
        config={key: value for key, value in FULL.items() if key != "num_key_value_heads"})),
    "orion": ("", "spm", hand("orion", "OrionForCausalLM", {
        **llama(), "model.norm.bias": (64,), LAYER + "input_layernorm.bias": (64,),
        LAYER + "post_attention_layernorm.bias": (64,)})),
    "jais2": ("Jais2", "bpe", SMALL),
    "codeshell": ("", "bpe", hand("codeshell", "CodeShellForCausalLM", {
        "transformer.wte.weight": (1024, 64), "lm_head.weight": (1024, 64),
        **{f"transformer.{name}.{part}": (64,) for part in ("weight", "bias")
           for name in ("ln_f", "h.{}.ln_1", "h.{}.ln_2")},
        GPT + "attn.c_attn.weight": (128, 64), GPT + "attn.c_attn.bias": (128,),
        GPT + "attn.c_proj.weight": (64, 64), GPT + "attn.c_proj.bias": (64,),
        GPT + "mlp.c_fc.weight": (256, 64), GPT + "mlp.c_fc.bias": (256,),
        GPT + "mlp.c_proj.weight": (64, 256), GPT + "mlp.c_proj.bias": (64,)}, config=dict(
            vocab_size=1024, n_positions=256, n_embd=64, n_layer=3, n_head=4, num_query_groups=2,
            layer_norm_epsilon=1e-5))),
    "maincoder": ("", "bpe", hand("maincoder", "MaincoderForCausalLM", {**llama(), **HEAD_NORMS},
                                  more=dict(head_dim=16))),
    "nanbeige": ("", "spm", hand("nanbeige", "NanbeigeForCausalLM", llama(), more=dict(
        num_loops=2, skip_loop_final_norm=True))),
    "pangu": ("", "spm", hand("PanguEmbedded", "PanguEmbeddedForCausalLM", {
        **llama(), LAYER + "self_attn.q_proj.bias": (64,), LAYER + "self_attn.k_proj.bias": (32,),
        LAYER + "self_attn.v_proj.bias": (32,), LAYER + "self_attn.o_proj.bias": (64,)},
        more=dict(bias=True))),
    "dream": ("", "qwen", hand("Dream", "DreamModel", {
        **llama(), LAYER + "self_attn.q_proj.bias": (64,), LAYER + "self_attn.k_proj.bias": (32,),
        LAYER + "self_attn.v_proj.bias": (32,)}, more=dict(mask_token_id=1000))),
    "llada": ("", "bpe", hand("llada", "LLaDAModelLM", {
        "model.transformer.wte.weight": (1024, 64), "model.transformer.ff_out.weight": (1024, 64),
        "model.transformer.ln_f.weight": (64,),
        **{"model.transformer.blocks.{}." + name + ".weight": shape for name, shape in dict(
            attn_norm=(64,), ff_norm=(64,), q_proj=(64, 64), k_proj=(64, 64), v_proj=(64, 64),
            attn_out=(64, 64), ff_proj=(96, 64), up_proj=(96, 64), ff_out=(64, 96)).items()}},
        config=dict(vocab_size=1024, d_model=64, mlp_hidden_size=96, n_layers=3, n_heads=4,
                    n_kv_heads=4, max_sequence_length=256, rms_norm_eps=1e-5, rope_theta=5e5))),
    "llada-moe": ("", "bpe", hand("llada", "LLaDAMoEModelLM", {
        **without(llama(keys=64), "mlp."), **EXPERTS, **HEAD_NORMS}, config=FULL, experts=4, more=dict(
            num_experts=4, num_experts_per_tok=2, expert_intermediate_size=32, rope_theta=5e4,
            intermediate_size=96))),
    "rnd1": ("", "qwen", hand("rnd1", "RND1", {
        **without(llama(), "mlp."), **EXPERTS, **HEAD_NORMS}, experts=4, more=dict(
            num_experts=4, num_experts_per_tok=2, moe_intermediate_size=32, head_dim=16,
            mask_token_id=1000))),
    "sarashina2": ("", "spm", hand("sarashina2_vision", "Sarashina2VisionForCausalLM", {
        **{"llm." + name: shape for name, shape in llama().items()}, "norm.weight": (64,),
        "visual.merger.weight": (8, 8)}, config=dict(
            text_config=dict(SMALL, rms_norm_eps=1e-5, model_type="llama", head_dim=16,
                             rope_theta=10000.0), vision_config={},
            num_hidden_layers=3))),
    "llama4": ("Llama4Text:ForCausalLM", "bpe", dict(
        SMALL, model_class="Llama4ForCausalLM", intermediate_size=48, intermediate_size_mlp=96,
        head_dim=16, num_hidden_layers=4, num_local_experts=4, interleave_moe_layer_step=2)),
    "llama4-vision": ("Llama4:ForConditionalGeneration", "bpe", dict(
        text_config=dict(SMALL, intermediate_size=48, intermediate_size_mlp=96, head_dim=16,
                         num_local_experts=4, num_hidden_layers=4),
        vision_config=dict(hidden_size=32, intermediate_size=48, num_hidden_layers=1,
                           num_attention_heads=2, image_size=28, patch_size=14,
                           vision_output_dim=32, projector_input_dim=32, projector_output_dim=32))),
    "lfm2": ("Lfm2", "bpe", LFM2),
    "lfm2-embedding": ("Lfm2:Model", "bpe", LFM2),
    "lfm2moe": ("Lfm2Moe", "bpe", dict(
        SMALL, moe_intermediate_size=32, num_dense_layers=1, num_experts=4, num_experts_per_tok=2,
        layer_types=["conv", "full_attention", "conv"], pad_token_id=0, conv_L_cache=3)),
})

HYBRID = dict(SMALL, shared_intermediate_size=48, num_experts_per_tok=2, mamba_n_heads=8,
              mamba_n_groups=2, mamba_d_state=16, mamba_d_head=16, mamba_d_conv=4, mamba_expand=2,
              pad_token_id=0, layer_types=["mamba", "attention", "mamba"],
              published=dict(layer_types=["mamba", "attention", "mamba"]))

# State space models and hybrids of them.
FAMILIES.update({
    "mamba": ("Mamba", "bpe", dict(vocab_size=1024, hidden_size=64, state_size=8,
                                   num_hidden_layers=2, pad_token_id=0)),
    "mamba-original": ("", "bpe", dict(config=dict(
        architectures=["MambaLMHeadModel"], d_model=64, n_layer=2, vocab_size=1021, ssm_cfg={},
        rms_norm=True, pad_vocab_size_multiple=8), tensors={
            "backbone.embedding.weight": (1024, 64), "backbone.norm_f.weight": (64,),
            "backbone.layers.{}.norm.weight": (64,),
            **{"backbone.layers.{}.mixer." + name: shape for name, shape in {
                "in_proj.weight": (256, 64), "conv1d.weight": (128, 1, 4), "conv1d.bias": (128,),
                "x_proj.weight": (36, 128), "dt_proj.weight": (128, 4), "dt_proj.bias": (128,),
                "A_log": (128, 16), "D": (128,), "out_proj.weight": (64, 128)}.items()}})),
    "falcon-mamba": ("FalconMamba", "bpe", dict(
        vocab_size=1024, hidden_size=64, state_size=8, num_hidden_layers=2, pad_token_id=0,
        tie_word_embeddings=False)),
    "mamba2": ("Mamba2", "bpe", dict(
        vocab_size=1024, hidden_size=64, num_heads=8, head_dim=16, state_size=16, n_groups=2,
        num_hidden_layers=2, pad_token_id=0, bos_token_id=0, eos_token_id=0)),
    "granitehybrid": ("GraniteMoeHybrid", "bpe", dict(HYBRID, num_local_experts=4)),
    "granitehybrid-dense": ("GraniteMoeHybrid", "bpe", dict(
        HYBRID, num_local_experts=0, num_experts_per_tok=0, shared_intermediate_size=96)),
    "granite-all-attention": ("GraniteMoeHybrid", "bpe", dict(
        HYBRID, num_local_experts=0, num_experts_per_tok=0, shared_intermediate_size=96, layer_types=["attention"] * 3,
        published=dict(layer_types=["attention"] * 3))),
    "bamba": ("Bamba", "bpe", dict(SMALL, attn_layer_indices=[1], mamba_n_heads=8, mamba_n_groups=2,
                                   mamba_d_state=16, mamba_d_head=16, mamba_d_conv=4,
                                   mamba_expand=2, pad_token_id=0)),
})
FAMILIES.update({
    "qwen3next": ("Qwen3Next", "qwen", LINEAR_MOE),
    "qwen35": ("Qwen3_5:ForConditionalGeneration", "qwen", dict(
        text_config=dict(LINEAR, **QWEN35, mtp_num_hidden_layers=1), vision_config=QWEN3_VISION)),
    "minicpmv4_6": ("MiniCPMV4_6:ForConditionalGeneration", "qwen", dict(
        text_config=dict(LINEAR, **QWEN35), vision_config=dict(
            hidden_size=32, intermediate_size=48, num_hidden_layers=1, num_attention_heads=2,
            image_size=28, patch_size=14))),
    "qwen35-text": ("Qwen3_5Text:", "qwen", dict(
        LINEAR, model_class="Qwen3_5ForCausalLM", mtp_num_hidden_layers=1)),
    # Layers have vectors for fewer tokens than there are. Those that borrow keys and values have their own
    # as published, which llama.cpp wants; transformers no longer saves them.
    "gemma3n": ("Gemma3nText:", "spm", dict(
        SMALL, head_dim=16, sliding_window=64, num_kv_shared_layers=0, layer_types=[
            "sliding_attention", "full_attention", "sliding_attention"],
        # A share of 0 becomes minus infinity, which a snapshot in JSON cannot hold.
        activation_sparsity_pattern=[0.75, 0.25, 0.5], hidden_size_per_layer_input=16, vocab_size_per_layer_input=1000,
        model_class="Gemma3nForCausalLM")),
    "gemma4": ("Gemma4Text:", "gemma4", dict(GEMMA4, num_hidden_layers=4, model_class="Gemma4ForCausalLM",
        hidden_size_per_layer_input=8, vocab_size_per_layer_input=1024, num_kv_shared_layers=2,
        layer_types=["sliding_attention", "full_attention"] * 2, use_double_wide_mlp=True,
        final_logit_softcapping=30.0)),
    "gemma4-experts": ("Gemma4:ForConditionalGeneration", "gemma4", dict(
        text_config=dict(GEMMA4, **GEMMA4_EXPERTS), audio_config=None, vision_config=dict(
            hidden_size=32, intermediate_size=48, num_hidden_layers=1, num_attention_heads=2,
            num_key_value_heads=2, head_dim=16, global_head_dim=16))),
    "gemma4-unified": ("Gemma4Unified:ForConditionalGeneration", "gemma4", dict(
        text_config=dict(GEMMA4, moe_intermediate_size=None, layer_types=GEMMA4_TYPES),
        vision_config=dict(mm_embed_dim=32, mm_posemb_size=8, output_proj_dims=32),
        audio_config=dict(audio_embed_dim=32))),
    "gemma4-assistant": ("Gemma4Text:", "gemma4", dict(
        GEMMA4, hidden_size_per_layer_input=0, vocab_size_per_layer_input=0, layer_types=GEMMA4_TYPES,
        model_class="Gemma4ForCausalLM")),
    # Of these the reference reads neither context nor epsilon: the values that it takes for them.
    "glm": ("Glm", "glm", dict(GLM, head_dim=16, max_position_embeddings=64, rms_norm_eps=1e-5)),
    "chatglm": ("Glm", "glm", dict(GLM, head_dim=16, attention_bias=True)),
    "glm4": ("Glm4", "glm", dict(GLM, head_dim=16)),
    "glm4v": ("Glm4v:ForConditionalGeneration", "glm", dict(
        text_config=dict(GLM, rope_parameters=dict(
            rope_type="default", rope_theta=1e4, partial_rotary_factor=0.5,
            mrope_section=[2, 1, 1])), vision_config=GLM_VISION)),
    "glm_ocr": ("GlmOcr:ForConditionalGeneration", "glm", dict(
        text_config=dict(GLM, num_nextn_predict_layers=1, rope_parameters=dict(
            rope_type="default", rope_theta=1e4, partial_rotary_factor=1.0,
            mrope_section=[4, 2, 2])), vision_config=GLM_VISION)),
    "glm4moe": ("Glm4Moe", "glm", dict(GLM_MOE, use_qk_norm=True, num_nextn_predict_layers=1)),
    "glm4vmoe": ("Glm4vMoe:ForConditionalGeneration", "glm", dict(
        text_config=dict(GLM_MOE, attention_bias=True, rope_parameters=dict(
            rope_type="default", rope_theta=1e4, partial_rotary_factor=0.5,
            mrope_section=[2, 1, 1])), vision_config=GLM_VISION)),
    "solar": ("SolarOpen", "glm", dict(
        GLM_MOE, first_k_dense_replace=None, rope_parameters=dict(
            rope_type="default", rope_theta=1e6, partial_rotary_factor=1.0))),
    "glm4moelite": ("Glm4MoeLite", "glm", dict(
        LATENT, vocab_size=1040, q_lora_rank=24, num_nextn_predict_layers=1,
        published=SIGMOID)),
    "glm-dsa": ("GlmMoeDsa", "glm", dict(
        LATENT, vocab_size=1040, q_lora_rank=24, num_nextn_predict_layers=1, index_n_heads=2,
        index_head_dim=64, index_topk=8, indexer_types=["full", "shared", "full"])),
    "deepseek32": ("DeepseekV32", "glm", dict(
        LATENT, vocab_size=1040, q_lora_rank=24, num_nextn_predict_layers=1, index_n_heads=2,
        index_head_dim=64, index_topk=8, scoring_func="sigmoid")),
    "youtu": ("Youtu", "bpe", {key: value for key, value in dict(LATENT, q_lora_rank=24).items()
                               if "expert" not in key and key not in (
                                   "moe_intermediate_size", "first_k_dense_replace", "n_group",
                                   "topk_group")}),
    "kimi-k25": ("DeepseekV3", "bpe", dict(LATENT, q_lora_rank=24, published=SIGMOID)),
    "afmoe": ("Afmoe", "bpe", dict(
        SMALL, head_dim=16, moe_intermediate_size=32, num_experts=4, num_experts_per_tok=2,
        num_shared_experts=1, num_dense_layers=1, sliding_window=64)),
    "cohere2moe": ("Cohere2Moe", "bpe", dict(
        SMALL, head_dim=16, num_experts=4, num_experts_per_tok=2, num_shared_experts=2,
        sliding_window=64, eos_token_id=1, prefix_dense_intermediate_size=80,
        mlp_layer_types=["dense", "sparse", "sparse"])),
    "mellum": ("Mellum", "bpe", dict(
        SMALL, head_dim=16, num_local_experts=4, num_experts_per_tok=2, moe_intermediate_size=32,
        sliding_window=64, layer_types=["full_attention", "sliding_attention", "full_attention"])),
    "minimax-m2": ("MiniMaxM2", "bpe", dict(
        SMALL, head_dim=32, num_local_experts=4, num_experts_per_tok=2, rotary_dim=16,
        bos_token_id=0, eos_token_id=1, scoring_func="sigmoid")),
    "smallthinker": ("Mixtral", "bpe", dict(SMALL, head_dim=16, num_local_experts=4)),
    "deepseek": ("Glm4Moe", "bpe", dict(
        SMALL, num_key_value_heads=4, moe_intermediate_size=32, n_routed_experts=4,
        num_experts_per_tok=2, n_shared_experts=2, first_k_dense_replace=1,
        num_nextn_predict_layers=0)),
    "bailingmoe": ("Glm4Moe", "bpe", dict(
        SMALL, head_dim=32, moe_intermediate_size=32, n_routed_experts=4, num_experts_per_tok=2,
        n_shared_experts=2, first_k_dense_replace=0, num_nextn_predict_layers=0)),
    "bailingmoe2": ("Glm4Moe", "bpe", dict(
        SMALL, head_dim=16, moe_intermediate_size=32, n_routed_experts=4, num_experts_per_tok=2,
        n_shared_experts=1, first_k_dense_replace=1, num_nextn_predict_layers=1, use_qk_norm=True)),
    "qwen3omni": ("Qwen3Moe", "qwen", dict(
        SMALL, moe_intermediate_size=32, num_experts=4, num_experts_per_tok=2, head_dim=32)),
    "qwen3asr": ("Qwen3", "qwen", dict(SMALL, head_dim=32)),
    "kimi-linear": ("KimiLinear", "bpe", dict(
        SMALL, num_key_value_heads=4, pad_token_id=0, bos_token_id=0, eos_token_id=1, kv_lora_rank=32,
        q_lora_rank=None, qk_nope_head_dim=16, qk_rope_head_dim=8, v_head_dim=20,
        moe_intermediate_size=32, num_experts=4, num_experts_per_token=2, num_shared_experts=1,
        first_k_dense_replace=1, moe_router_activation_func="sigmoid", linear_attn_config=dict(
            full_attn_layers=[3], kda_layers=[1, 2], head_dim=16, num_heads=4,
            short_conv_kernel_size=4))),
    "grovemoe": ("Qwen3Moe", "qwen", dict(
        SMALL, moe_intermediate_size=32, num_experts=4, num_experts_per_tok=2, head_dim=32)),
    "minimax-m3": ("MiniMaxM2", "bpe", dict(
        SMALL, head_dim=32, num_local_experts=4, num_experts_per_tok=2, rotary_dim=16,
        bos_token_id=0, eos_token_id=1, scoring_func="sigmoid")),
    "deepseek-ocr": ("Glm4Moe", "bpe", dict(
        SMALL, num_key_value_heads=4, moe_intermediate_size=32, n_routed_experts=4,
        num_experts_per_tok=2, n_shared_experts=2, first_k_dense_replace=1,
        num_nextn_predict_layers=0)),
    "qwen35moe": ("Qwen3_5Moe:ForConditionalGeneration", "qwen", dict(
        text_config=dict(LINEAR_MOE, **QWEN35, mtp_num_hidden_layers=1),
        vision_config=QWEN3_VISION)),
})

# Layers that predict further tokens, which transformers does not make: what they are copies of.
PREDICTS = {**dict.fromkeys(("glm_ocr", "glm4moe", "glm4moelite", "glm-dsa", "deepseek32"), last_mtp),
            "qwen3next": qwen_mtp, "qwen35": qwen_mtp, "qwen35-text": qwen_mtp,
            "qwen35moe": qwen_mtp}

BERT_LAYER = "encoder.layer.{}."
BERT = {"embeddings.word_embeddings.weight": (1024, 64), "embeddings.token_type_embeddings.weight": (2, 64),
        **{"embeddings.LayerNorm." + part: (64,) for part in ("weight", "bias")}}
NEO_LAYER = "transformer_encoder.{}."
NEO = {"encoder.weight": (1024, 64), "layer_norm.weight": (64,), NEO_LAYER + "attention_norm.weight": (64,),
       NEO_LAYER + "qkv.weight": (192, 64), NEO_LAYER + "wo.weight": (64, 64),
       NEO_LAYER + "ffn_norm.weight": (64,), NEO_LAYER + "ffn.w12.weight": (128, 64),
       NEO_LAYER + "ffn.w3.weight": (64, 64)}
NEO_CONFIG = dict(vocab_size=1024, hidden_size=64, intermediate_size=96, num_hidden_layers=3,
                  num_attention_heads=4, max_length=256, norm_eps=1e-6, pad_token_id=0)

# Encoders.
FAMILIES.update({
    "jina-bert-v2": ("", "wordpiece", hand("bert", "JinaBertModel", {
        **BERT, **{BERT_LAYER + f"{name}.{part}": shape if part == "weight" else shape[:1]
                   for part in ("weight", "bias") for name, shape in {
                       "attention.self.query": (64, 64), "attention.self.key": (64, 64),
                       "attention.self.value": (64, 64), "attention.output.dense": (64, 64),
                       "attention.output.LayerNorm": (64,), "mlp.wo": (64, 96),
                       "mlp.layernorm": (64,)}.items()},
        BERT_LAYER + "mlp.gated_layers.weight": (192, 64)}, config=dict(
            ENCODER, type_vocab_size=2, layer_norm_eps=1e-12, position_embedding_type="alibi"))),
    "eurobert": ("EuroBert:Model", "bpe", dict(SMALL, classifier_pooling="mean", pad_token_id=0, bos_token_id=1, eos_token_id=2)),
    "neobert": ("", "wordpiece", hand("neobert", "NeoBERT", NEO, config=NEO_CONFIG)),
    "neobert-words": ("", "wordpiece", hand("neobert", "NeoBERTLMHead", {
        **{"model." + name: shape for name, shape in NEO.items()}, "decoder.weight": (1024, 64),
        "decoder.bias": (1024,)}, config=NEO_CONFIG)),
    "neobert-classes": ("", "wordpiece", hand("neobert", "NeoBERTForSequenceClassification", {
        **{"model." + name: shape for name, shape in NEO.items()}, "dense.weight": (64, 64),
        "dense.bias": (64,), "classifier.weight": (3, 64), "classifier.bias": (3,)},
        config=dict(NEO_CONFIG, id2label=RANKED))),
    "hunyuan-dense": ("HunYuanDenseV1", "bpe", dict(SMALL, head_dim=16, pad_token_id=0)),
    "hunyuan-dense-long": ("HunYuanDenseV1", "bpe", dict(
        SMALL, head_dim=16, pad_token_id=0, max_position_embeddings=32768, rope_parameters=dict(
            rope_type="dynamic", rope_theta=10000.0, alpha=50.0, factor=1.0))),
    "hunyuan-moe": ("HunYuanMoEV1", "bpe", dict(
        SMALL, head_dim=16, pad_token_id=0, num_experts=4, published=dict(
            moe_intermediate_size=[96] * 3, moe_topk=[2] * 3, num_shared_expert=[1] * 3))),
    "hunyuan-vl": ("HunYuanVL:ForConditionalGeneration", "bpe", dict(
        text_config=dict(SMALL, head_dim=16, pad_token_id=0, rope_parameters=dict(
            rope_type="dynamic", rope_theta=10000.0, alpha=1000.0, factor=1.0,
            mrope_section=[2, 2, 2, 2])),
        vision_config=dict(hidden_size=32, intermediate_size=48, num_hidden_layers=1,
                           num_attention_heads=2, out_hidden_size=64, patch_size=14))),
})


def exaone_mtp(tensors):
    """The shapes of a layer of EXAONE that predicts further tokens: one without experts."""
    base = "model.layers.0."
    layer = {"mtp.layers.0." + key.removeprefix(base): tensor.shape
             for key, tensor in tensors.items() if key.startswith(base)}
    return {**layer, "mtp.fc.weight": (64, 128), "mtp.norm.weight": (64,),
            "mtp.pre_fc_norm_embedding.weight": (64,), "mtp.pre_fc_norm_hidden.weight": (64,)}


FAMILIES.update({
    "exaone-moe": ("ExaoneMoe", "bpe", dict(
        SMALL, head_dim=16, moe_intermediate_size=32, num_experts=4, num_experts_per_tok=2,
        sliding_window=64, num_hidden_layers=4, first_k_dense_replace=1, pad_token_id=0,
        bos_token_id=1, eos_token_id=2,
        published=dict(scoring_func="sigmoid", num_nextn_predict_layers=1))),
    "exaone4_5": ("", "bpe", hand("exaone4_5", "Exaone4_5_ForConditionalGeneration", {
        **without(llama(norms=False), "zzz"), **HEAD_NORMS,
        LAYER + "post_attention_layernorm.weight": (64,),
        LAYER + "post_feedforward_layernorm.weight": (64,)}, config=dict(
            num_hidden_layers=4, vision_config={}, text_config=dict(
                SMALL, num_hidden_layers=4, rms_norm_eps=1e-5, rope_theta=1e6, head_dim=16,
                model_type="exaone4_5_text", sliding_window=64, num_nextn_predict_layers=1,
                layer_types=["sliding_attention"] * 3 + ["full_attention"])))),
})
PREDICTS.update({"exaone-moe": exaone_mtp, "exaone4_5": exaone_mtp})

MIXER = "backbone.layers.{}.mixer."


NEMOTRON_H = {
    "backbone.embeddings.weight": (1024, 64), "lm_head.weight": (1024, 64),
    "backbone.norm_f.weight": (64,), "backbone.layers.{}.norm.weight": (64,),
    **some([0], {MIXER + "A_log": (8,), MIXER + "D": (8,), MIXER + "dt_bias": (8,),
                 MIXER + "conv1d.weight": (192, 1, 4), MIXER + "conv1d.bias": (192,),
                 MIXER + "in_proj.weight": (328, 64), MIXER + "norm.weight": (128,),
                 MIXER + "out_proj.weight": (64, 128)}),
    **some([1], {MIXER + "q_proj.weight": (64, 64), MIXER + "k_proj.weight": (32, 64),
                 MIXER + "v_proj.weight": (32, 64), MIXER + "o_proj.weight": (64, 64)})}
NEMOTRON_H_CONFIG = dict(
    SMALL, mamba_num_heads=8, mamba_head_dim=16, n_groups=2, ssm_state_size=16, conv_kernel=4,
    layer_norm_epsilon=1e-5, rms_norm_eps=1e-5)

NEMOTRON_EXPERTS = {
    "gate.weight": (4, 64), "gate.e_score_correction_bias": (4,), "experts.{}.up_proj.weight": (32, 24),
    "experts.{}.down_proj.weight": (24, 32), "fc1_latent_proj.weight": (24, 64),
    "fc2_latent_proj.weight": (64, 24), "shared_experts.up_proj.weight": (48, 64),
    "shared_experts.down_proj.weight": (64, 48)}
NEMOTRON_MOE_CONFIG = dict(
    NEMOTRON_H_CONFIG, head_dim=16, hybrid_override_pattern="M*E", n_routed_experts=4,
    num_experts_per_tok=2, moe_intermediate_size=32, n_shared_experts=1,
    moe_shared_expert_intermediate_size=48, norm_topk_prob=True, moe_latent_size=24,
    routed_scaling_factor=2.5, n_group=1, topk_group=1)


def puzzle(shape):
    """The shape of a matrix of an expert, by the width that its layer has."""
    return lambda layer: tuple(48 if layer == 3 and size == 32 else size for size in shape)


# Hybrids and mixtures.
FAMILIES.update({
    "nemotron-h": ("", "bpe", hand("nemotron_h", "NemotronHForCausalLM", {
        **NEMOTRON_H, **some([2], {MIXER + "up_proj.weight": (96, 64),
                                   MIXER + "down_proj.weight": (64, 96)})},
        config=dict(NEMOTRON_H_CONFIG, attention_head_dim=16, hybrid_override_pattern="M*-"))),
    "nemotron-h-moe": ("", "bpe", hand("nemotron_h", "NemotronHForCausalLM", {
        **NEMOTRON_H, **some([2], {MIXER + name: shape for name, shape in NEMOTRON_EXPERTS.items()})},
        experts=4, config=NEMOTRON_MOE_CONFIG)),
    # A layer that predicts a further token, in two parts.
    "nemotron-h-mtp": ("", "bpe", hand("nemotron_h", "NemotronHForCausalLM", {
        **NEMOTRON_H, **some([2], {MIXER + name: shape for name, shape in NEMOTRON_EXPERTS.items()}),
        **{"mtp.layers.0." + name: shape for name, shape in {
            "enorm.weight": (64,), "hnorm.weight": (64,), "eh_proj.weight": (64, 128),
            "norm.weight": (64,), "mixer.q_proj.weight": (64, 64), "mixer.k_proj.weight": (32, 64),
            "mixer.v_proj.weight": (32, 64), "mixer.o_proj.weight": (64, 64)}.items()},
        **{f"mtp.layers.1.mixer.{name.replace('{}', str(expert))}": shape for expert in range(4)
           for name, shape in NEMOTRON_EXPERTS.items()},
        "mtp.layers.1.norm.weight": (64,), "mtp.layers.1.final_layernorm.weight": (64,)},
        experts=4, config=dict(NEMOTRON_MOE_CONFIG, num_nextn_predict_layers=1))),
    # Each layer is described by itself; experts of layers differ in width and number.
    "nemotron-puzzle": ("", "bpe", hand("nemotron_h_puzzle", "NemotronHPuzzleForCausalLM", {
        **{name.replace("backbone", "model"): shape for name, shape in NEMOTRON_H.items()},
        **{name.replace("backbone", "model"): shape for name, shape in some([2, 3], {
            MIXER + name: puzzle(shape) if "experts.{}" in name else shape
            for name, shape in NEMOTRON_EXPERTS.items()}).items()},
        "mtp.layers.0.enorm.weight": (64,)}, experts=4, config=dict(
            {key: value for key, value in NEMOTRON_MOE_CONFIG.items()
             if key not in ("hybrid_override_pattern", "num_experts_per_tok", "moe_intermediate_size")},
            num_hidden_layers=4, block_configs=[
                dict(block_type="mamba"), dict(block_type="attention"),
                dict(block_type="moe", moe_intermediate_size=32, num_experts_per_tok=2),
                dict(block_type="moe", moe_intermediate_size=48, num_experts_per_tok=3)]))),
    "jamba": ("Jamba", "spm", dict(
        SMALL, num_experts=4, num_experts_per_tok=2, attn_layer_period=2, attn_layer_offset=1,
        expert_layer_period=2, expert_layer_offset=1, mamba_d_state=8, use_mamba_kernels=False,
        pad_token_id=0)),
    "granite-swa": ("GraniteSWA", "bpe", dict(SMALL, num_hidden_layers=4, sliding_window=64)),
    "granitemoe-swa": ("GraniteMoeSWA", "bpe", dict(
        SMALL, num_hidden_layers=4, num_local_experts=4, shared_intermediate_size=48)),
    "granite-speech": ("GraniteSpeech:ForConditionalGeneration", "bpe", dict(
        text_config=dict(SMALL, model_type="granite", architectures=["GraniteForCausalLM"]),
        encoder_config=dict(hidden_dim=32, input_dim=16, num_layers=1, num_heads=2, dim_head=16,
                            output_dim=16, context_size=16, max_pos_emb=16),
        projector_config=dict(model_type="blip_2_qformer", hidden_size=32, intermediate_size=48,
                              num_hidden_layers=1, num_attention_heads=2,
                              encoder_hidden_size=32))),
    "hy_v3": ("HYV3", "bpe", dict(
        SMALL, num_hidden_layers=2, router_scaling_factor=2.5, num_experts=4, num_experts_per_tok=2, head_dim=16,
        moe_intermediate_size=32)),
})

DECI_BLOCKS = [
    dict(attention=dict(n_heads_in_group=2, replace_with_linear=False), ffn=dict(ffn_mult=1.5)),
    dict(attention=dict(n_heads_in_group=None, replace_with_linear=True), ffn=dict(ffn_mult=7.0)),
    dict(attention=dict(n_heads_in_group=4, replace_with_linear=False), ffn=dict(ffn_mult=None)),
    dict(attention=dict(n_heads_in_group=None, replace_with_linear=False), ffn=dict(ffn_mult=2.0)),
]


def deci_width(layer):
    return 512 if layer == 1 else 256


# Older models, and layers of several sizes.
FAMILIES.update({
    "deci": ("", "bpe", hand("nemotron-nas", "DeciLMForCausalLM", {
        "model.embed_tokens.weight": (1024, 64), "lm_head.weight": (1024, 64), "model.norm.weight": (64,),
        **some([0, 1, 2], {LAYER + "input_layernorm.weight": (64,)}),
        **some([1], {LAYER + "self_attn.linear_attn.weight": (64, 64)}),
        **some([0, 2], {LAYER + "self_attn.q_proj.weight": (64, 64),
                        LAYER + "self_attn.o_proj.weight": (64, 64),
                        LAYER + "self_attn.k_proj.weight": lambda layer: (16 if layer else 32, 64),
                        LAYER + "self_attn.v_proj.weight": lambda layer: (16 if layer else 32, 64)}),
        **some([0, 1, 3], {LAYER + "post_attention_layernorm.weight": (64,),
                           LAYER + "mlp.gate_proj.weight": lambda layer: (deci_width(layer), 64),
                           LAYER + "mlp.up_proj.weight": lambda layer: (deci_width(layer), 64),
                           LAYER + "mlp.down_proj.weight": lambda layer: (64, deci_width(layer))})},
        config=dict(vocab_size=1024, hidden_size=64, num_hidden_layers=4, num_attention_heads=4,
                    num_key_value_heads=None, intermediate_size=None, max_position_embeddings=256,
                    rms_norm_eps=1e-5, rope_theta=5e5, block_configs=DECI_BLOCKS))),
    "deci-7b": ("", "bpe", hand("deci", "DeciLMForCausalLM", {
        **llama(), LAYER + "self_attn.k_proj.weight": lambda layer: (64 if layer else 32, 64),
        LAYER + "self_attn.v_proj.weight": lambda layer: (64 if layer else 32, 64)}, more=dict(
            num_key_value_heads=4, num_key_value_heads_per_layer=[2, 4, 4]))),
    "openelm": ("", "spm", hand("openelm", "OpenELMForCausalLM", {
        "transformer.token_embeddings.weight": (1024, 64), "transformer.norm.weight": (64,),
        **{"transformer.layers.{}." + name + ".weight": shape for name, shape in {
            "attn_norm": (64,), "ffn_norm": (64,), "attn.q_norm": (16,), "attn.k_norm": (16,),
            "attn.qkv_proj": lambda layer: (((4, 4, 6)[layer] + 2 * (1, 2, 2)[layer]) * 16, 64),
            "attn.out_proj": lambda layer: (64, (4, 4, 6)[layer] * 16),
            "ffn.proj_1": lambda layer: (2 * (64, 128, 160)[layer], 64),
            "ffn.proj_2": lambda layer: (64, (64, 128, 160)[layer])}.items()}}, config=dict(
                vocab_size=1024, model_dim=64, num_transformer_layers=3, head_dim=16,
                num_kv_heads=[1, 2, 2], num_query_heads=[4, 4, 6], ffn_multipliers=[1.0, 1.75, 2.4],
                ffn_dim_divisor=32, max_context_length=256, rope_freq_constant=10000))),
    "arctic": ("", "spm", hand("arctic", "ArcticForCausalLM", {
        **without(llama(), "mlp."), LAYER + "residual_layernorm.weight": (64,),
        **{LAYER + f"residual_mlp.w{i}.weight": (64, 64) for i in (1, 2, 3)},
        LAYER + "block_sparse_moe.gate.weight": (4, 64),
        LAYER + "block_sparse_moe.experts.{}.w1.weight": (96, 64),
        LAYER + "block_sparse_moe.experts.{}.w2.weight": (64, 96),
        LAYER + "block_sparse_moe.experts.{}.w3.weight": (96, 64)}, experts=4, more=dict(
            num_local_experts=4, num_experts_per_tok=2))),
    "dbrx": ("Dbrx", "bpe", dict(
        vocab_size=1024, d_model=64, n_heads=4, n_layers=3, max_seq_len=256, pad_token_id=0,
        attn_config=dict(kv_n_heads=2, clip_qkv=8.0, rope_theta=5e5),
        ffn_config=dict(ffn_hidden_size=96, moe_num_experts=4, moe_top_k=2))),
    "refact": ("", "bpe", hand("gpt_refact", "GPTRefactForCausalLM", {
        "transformer.wte.weight": (1024, 64), "lm_head.weight": (1024, 64), "transformer.ln_f.weight": (64,),
        GPT + "ln_1.weight": (64,), GPT + "ln_2.weight": (64,), GPT + "attn.q.weight": (64, 64),
        GPT + "attn.kv.weight": (32, 64), GPT + "attn.c_proj.weight": (64, 64),
        GPT + "mlp.gate_up_proj.weight": (512, 64), GPT + "mlp.c_proj.weight": (64, 256)}, config=dict(
            vocab_size=1024, n_embd=64, n_layer=3, n_head=4, n_positions=256,
            layer_norm_epsilon=1e-5))),
})

FAMILIES.update({
    "muse-glimmer": ("MuseGlimmer:ForConditionalGeneration", "bpe", dict(
        text_config=dict(SMALL, num_hidden_layers=5, head_dim=16, sliding_window=64, qk_scale_factor=3.5),
        vision_config=dict(hidden_size=32, intermediate_size=48, num_hidden_layers=1,
                           num_attention_heads=2, pos_emb_height=4, pos_emb_width=4),
        out_hidden_size=128, projector_hidden_size=48)),
    "apertus": ("Apertus", "bpe", dict(SMALL, pad_token_id=0)),
    "falcon-h1": ("FalconH1", "bpe", dict(
        SMALL, num_hidden_layers=2, mamba_d_ssm=128, mamba_n_heads=8, mamba_d_head=16,
        mamba_n_groups=2, mamba_d_state=16, head_dim=16, pad_token_id=0, mamba_rms_norm=True,
        ssm_multipliers=[0.5, 1.25, 0.75, 0.875, 1.5], mlp_multipliers=[0.7, 1.3],
        ssm_in_multiplier=1.1, ssm_out_multiplier=0.9, attention_in_multiplier=1.2,
        attention_out_multiplier=0.6, key_multiplier=0.3, embedding_multiplier=5.6,
        lm_head_multiplier=0.02)),
})

FAMILIES.update(newest.FAMILIES)

# Wide enough for blocks of 256 values, to quantize; the test suite has no use for them.
WIDE = dict(hidden_size=256, intermediate_size=512, num_hidden_layers=8)
FAMILIES.update({f"{name}-wide": (*FAMILIES[name][:2], dict(FAMILIES[name][2], **WIDE))
                 for name in ("bert", "xlm-roberta-rank", "nomic-bert", "modern-bert")})

# The same models with config.json as older versions of transformers wrote it and authors publish it.
FAMILIES.update({f"{name}-hub": FAMILIES[name] for name in (
    "llama3-scaled", "mistral", "mixtral", "qwen2-yarn", "qwen3", "qwen3moe", "phi2", "phi3-long", "gemma",
    "gemma2", "gemma3", "gemma3-vision", "gptneox", "starcoder2", "stablelm", "olmo2", "olmo3",
    "granite", "granitemoe", "falcon-groups", "gpt_oss-mxfp4", "deepseek2", "deepseek3", "cohere", "cohere2", "olmoe",
    "smollm3", "seed_oss", "arcee", "gpt2", "bloom", "starcoder", "nemotron", "exaone4", "ernie4_5",
    "dots1", "bert", "distilbert", "roberta", "xlm-roberta", "modern-bert")})

# llama.cpp does not load a classifier whose classes have no names, the reference's own neither.
# Drafting assistants and draft models run beside the model they draft for.
# PLM's cache of keys does not take these sizes: ggml asserts; why has not been looked into.
NOT_LOADED = {"bert-unnamed", "gemma4-assistant", "plm"}

# llama.cpp tells these models by their number of layers: it loads no smaller ones.
# Of gemma-embedding it evaluates none whose layers are all sliding: every sixth is not.
LAYERS = {"deepseek2-lite": 27, "cohere-norms": 64, "exaone4": 30, "exaone4-hub": 30,
          "gemma-embedding": 6}

# It knows no other size of the vectors for each layer.
SIZES = {"gemma3n": dict(hidden_size_per_layer_input=256)}

TOKENIZERS = {"spm": "tiny-llama2", "gemma4": "tiny-llama2", "bpe": "tiny-llama3",
              "glm": "tiny-llama3", "qwen": "tiny-qwen2", "wordpiece": "tokenizers/bert",
              "unigram": "tokenizers/xlm-roberta",
              # Trained on the spot: see train_unigram. The suite has no use for the tokens.
              "t5": "tokenizers/xlm-roberta"}

# Sentence encoders come with files that say how the states of tokens become one.
POOLING = {"qwen3-embedding": {"pooling_mode_lasttoken": True},
           "qwen2-embedding": {"pooling_mode": "lasttoken"},
           "gemma-embedding": {"pooling_mode_mean_tokens": True},
           "bert": {"pooling_mode_cls_token": True, "pooling_mode_mean_tokens": False},
           "distilbert": {"pooling_mode": "mean"},
           "roberta": {"pooling_mode_cls_token": False, "pooling_mode_mean_tokens": True},
           "xlm-roberta": {"pooling_mode_lasttoken": True},
           "modern-bert": {"pooling_mode_mean_tokens": True},
           "lfm2-embedding": {"pooling_mode_cls_token": True}}

CAUSAL = {"GPT2": "GPT2LMHeadModel", "Gemma3Text": "Gemma3ForCausalLM",
          "Gemma3": "Gemma3ForConditionalGeneration",
          "Mistral3": "Mistral3ForConditionalGeneration"}


def make(name, folder, to_load):
    """Writes the checkpoint of a family."""
    import torch
    import transformers

    kind, tokenizer, settings = FAMILIES[name]
    if tokenizer == "t5":
        train_unigram(folder)
    if not kind:
        return by_hand(name, folder, tokenizer, settings, to_load)
    kind, _, model_class = kind.partition(":")
    if to_load and name in LAYERS:
        settings = dict(settings, num_hidden_layers=LAYERS[name])
    settings = dict(settings, **(SIZES.get(name, {}) if to_load else {}))
    published = settings.pop("architectures", None)
    bare = settings.pop("model_class", None)
    changed = settings.pop("published", None)
    config = getattr(transformers, kind + "Config")(**settings)
    torch.manual_seed(hash_of(name))
    model_class = bare or (
        kind + model_class if model_class else CAUSAL.get(kind, kind + "ForCausalLM"))
    model = getattr(transformers, model_class)(config)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(torch.randn(parameter.shape) * 0.1)
    half = name in ("gemma", "phi2", "gpt2")
    model.to(torch.float16 if half else torch.bfloat16).save_pretrained(folder)
    source = FIXTURES / TOKENIZERS.get(tokenizer, "")
    if tokenizer != "t5":
        for file in source.glob("*token*"):
            shutil.copy(file, folder)
    drop_counters(folder)
    if published:
        publish(folder, published)
    if changed:
        # As authors publish it, where transformers has changed it since.
        path = folder / "config.json"
        path.write_text(json.dumps(dict(json.loads(path.read_text()), **changed)))
    for special in ("fp8", "mxfp4", "f64"):
        if special in name:
            requantize(folder, name)
    if name.removesuffix("-hub") in POOLING:
        pool(folder, POOLING[name.removesuffix("-hub")])
    if name.startswith("nomic-bert"):
        publish_nomic(folder)
    if name == "qwen3vlmoe":
        store_by_columns(folder)
    if tokenizer == "gemma4":
        for tokens in folder.glob("*token*"):
            tokens.unlink()
        transformers.AutoTokenizer.from_pretrained(source).save_pretrained(folder)
    if tokenizer == "glm":
        add_tokens(folder, source)
    if name in BY_HAND:
        BY_HAND[name](folder)
    if name.removesuffix("-hub") in PREDICTS:
        predict(folder, PREDICTS[name.removesuffix("-hub")])
    if name == "modern-bert-words":
        drop(folder, "decoder.bias")  # The reference stops at it.
    if name.endswith("-hub"):
        rewrite(folder, config)


def pool(folder, settings):
    """Adds what sentence-transformers keeps beside a model."""
    (folder / "1_Pooling").mkdir(exist_ok=True)
    (folder / "1_Pooling" / "config.json").write_text(json.dumps(settings))
    modules = [{"idx": i, "name": str(i), "path": path, "type": f"sentence_transformers.models.{kind}"}
               for i, (path, kind) in enumerate([("", "Transformer"), ("1_Pooling", "Pooling")])]
    (folder / "modules.json").write_text(json.dumps(modules))


def publish(folder, classes):
    """Gives a checkpoint the class, and the names of tensors, of code that transformers lacks."""
    from safetensors.torch import load_file, save_file

    path = folder / "config.json"
    config = json.loads(path.read_text())
    config["architectures"] = classes
    path.write_text(json.dumps(config))
    if classes == ["KORMoForCausalLM"]:
        tensors = {name.replace("input_layernorm", "pre_attention_layernorm").replace(
            "post_attention_layernorm", "pre_mlp_layernorm"): tensor
            for name, tensor in load_file(folder / "model.safetensors").items()}
        save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})


def store_by_columns(folder):
    """Stores experts as the published files have them, which transformers no longer does."""
    from safetensors.torch import load_file, save_file

    path = folder / "model.safetensors"
    tensors = {name: tensor.transpose(1, 2).contiguous() if ".experts." in name else tensor
               for name, tensor in load_file(path).items()}
    save_file(tensors, path, metadata={"format": "pt"})


def add_tokens(folder, source):
    """Adds the tokens that GLM's tokenizers have, by which the reference finds their roles."""
    import transformers

    tokens = transformers.AutoTokenizer.from_pretrained(source)
    tokens.add_tokens(["<|endoftext|>", "[gMASK]", "<|user|>", "<|observation|>", "<unk>",
                       "<|startoftext|>"], special_tokens=True)
    tokens.save_pretrained(folder)
    path = folder / "tokenizer_config.json"
    path.write_text(json.dumps(dict(json.loads(path.read_text()), add_bos_token=True)))


def chatglm(folder):
    """The names of the first published files."""
    import torch
    from safetensors.torch import load_file, save_file

    path = folder / "model.safetensors"
    tensors, out = load_file(path), {}
    for key, tensor in tensors.items():
        for now, then in (("model.embed_tokens", "transformer.embedding.word_embeddings"),
                          ("model.norm", "transformer.encoder.final_layernorm"),
                          ("lm_head", "transformer.output_layer"),
                          ("model.layers.", "transformer.encoder.layers."),
                          ("self_attn.o_proj", "self_attention.dense"),
                          ("mlp.gate_up_proj", "mlp.dense_h_to_4h"),
                          ("mlp.down_proj", "mlp.dense_4h_to_h")):
            key = key.replace(now, then)
        if "self_attn.q_proj" in key:
            old = next(name for name, other in tensors.items() if other is tensor)
            parts = [tensors[old.replace("q_proj", part)] for part in ("q_proj", "k_proj", "v_proj")]
            out[key.replace("self_attn.q_proj", "self_attention.query_key_value")] = torch.cat(parts)
        elif "_proj" not in key:
            out[key] = tensor
    save_file(out, path, metadata={"format": "pt"})
    path = folder / "config.json"
    config = json.loads(path.read_text())
    kept = dict(architectures=["ChatGLMModel"], model_type="chatglm", num_layers=3,
                padded_vocab_size=config["vocab_size"], vocab_size=config["vocab_size"],
                hidden_size=64, ffn_hidden_size=96, num_attention_heads=4,
                multi_query_attention=True, multi_query_group_num=2, seq_length=256,
                layernorm_epsilon=1.5625e-7, add_qkv_bias=True, kv_channels=16, rope_ratio=500,
                pad_token_id=0, eos_token_id=[1])
    path.write_text(json.dumps(kept))


def rewritten(change, settings):
    """Gives tensors other names or shapes, and config.json other keys."""
    def by_hand(folder):
        from safetensors.torch import load_file, save_file

        path = folder / "model.safetensors"
        tensors = change(load_file(path))
        tensors = {key: tensor.contiguous().clone() for key, tensor in tensors.items()}
        save_file(tensors, path, metadata={"format": "pt"})
        path = folder / "config.json"
        config = {**json.loads(path.read_text()), **settings}
        path.write_text(json.dumps({key: value for key, value in config.items()
                                    if value != "absent"}))
    return by_hand


def renamed(tensors, *pairs):
    out = {}
    for key, tensor in tensors.items():
        for old, new in pairs:
            key = key.replace(old, new)
        out[key] = tensor
    return out


def smallthinker(tensors):
    return renamed(tensors, ("block_sparse_moe.gate.", "block_sparse_moe.primary_router."),
                   (".w1.", ".gate."), (".w2.", ".down."), (".w3.", ".up."))


def grovemoe(tensors):
    import torch

    for layer in range(3):
        tensors[f"model.layers.{layer}.mlp.gate.expert_bias"] = torch.zeros(4)
        for expert in range(2):
            for part, shape in (("gate", (32, 64)), ("up", (32, 64)), ("down", (64, 32))):
                name = f"model.layers.{layer}.mlp.chunk_experts.{expert}.{part}_proj.weight"
                tensors[name] = (torch.randn(shape) * 0.1).bfloat16()
    return tensors


def minimax_m3(tensors):
    import torch

    out, shapes = {}, {}
    for key, tensor in tensors.items():
        if ".layers.0.block_sparse_moe" not in key:
            out[key] = tensor[:32] if key.endswith(("q_norm.weight", "k_norm.weight")) else tensor
    for part, shape in (("gate", (80, 64)), ("up", (80, 64)), ("down", (64, 80))):
        shapes[f"model.layers.0.mlp.{part}_proj.weight"] = shape
    for layer in (1, 2):
        base = f"model.layers.{layer}."
        for part, shape in (("gate", (96, 64)), ("up", (96, 64)), ("down", (64, 96))):
            shapes[f"{base}block_sparse_moe.shared_experts.{part}_proj.weight"] = shape
        for part, shape in (("q_proj", (32, 64)), ("k_proj", (16, 64)), ("q_norm", (16,)),
                            ("k_norm", (16,))):
            shapes[f"{base}self_attn.index_{part}.weight"] = shape
    out.update({key: (torch.randn(shape) * 0.1).bfloat16() for key, shape in shapes.items()})
    return out


def deepseek_ocr(folder):
    """The published layout: a text model with a class of its own inside."""
    rewritten(uncorrected, {})(folder)
    path = folder / "config.json"
    text = dict(json.loads(path.read_text()), architectures=["DeepseekV2ForCausalLM"],
                model_type="deepseek_v2", use_mla=False, kv_lora_rank=None, q_lora_rank=None,
                qk_nope_head_dim=0, qk_rope_head_dim=0, v_head_dim=0, head_dim=16)
    path.write_text(json.dumps(dict(
        architectures=["DeepseekOCRForCausalLM"], model_type="deepseek_vl_v2",
        language_config=text, vision_config=dict(width=dict(sam_vit_b={})))))


def uncorrected(tensors):
    return {key: tensor for key, tensor in tensors.items() if "correction_bias" not in key}


def bailing(tensors):
    import torch

    out = {}
    for key, tensor in tensors.items():
        if "self_attn.q_proj.weight" in key:
            base = key.removesuffix("self_attn.q_proj.weight")
            out[base + "attention.query_key_value.weight"] = torch.cat(
                [tensors[f"{base}self_attn.{part}_proj.weight"] for part in "qkv"])
        elif "self_attn.k_proj" not in key and "self_attn.v_proj" not in key:
            out[key] = tensor
    return renamed(out, ("model.embed_tokens.", "model.word_embeddings."),
                   ("self_attn.o_proj", "attention.dense"),
                   ("self_attn.q_norm", "attention.query_layernorm"),
                   ("self_attn.k_norm", "attention.key_layernorm"))


def bailing2(tensors):
    further = last_mtp(tensors)
    for key, shape in further.items():
        if "embed_tokens" not in key and "shared_head" not in key:
            tensors[key] = tensors["model.norm.weight"].new_ones(shape)
    tensors["model.layers.3.final_layernorm.weight"] = tensors["model.norm.weight"].clone()
    return renamed(bailing(tensors), ("mlp.gate.e_score_correction_bias", "mlp.gate.expert_bias"))


def speaking(folder, architecture, text_type):
    """Makes a model the part that thinks of one that speaks."""
    from safetensors.torch import load_file, save_file

    path = folder / "model.safetensors"
    tensors = {"thinker." + key: tensor for key, tensor in load_file(path).items()}
    save_file(tensors, path, metadata={"format": "pt"})
    path = folder / "config.json"
    text = dict(json.loads(path.read_text()), model_type=text_type)
    text["rope_parameters"] = dict(text["rope_parameters"], mrope_section=[6, 5, 5])
    del text["architectures"]
    path.write_text(json.dumps(dict(
        architectures=[architecture], model_type="of_hand",
        thinker_config=dict(text_config=text, vision_config=dict(hidden_size=4)))))


def wrap(folder, architecture, text_type):
    """Makes a model the text model of one that sees."""
    import torch
    from safetensors.torch import load_file, save_file

    path = folder / "model.safetensors"
    tensors = {"language_model." + key: tensor for key, tensor in load_file(path).items()}
    tensors["vision_tower.patch_embed.proj.weight"] = torch.ones(4, 4).bfloat16()
    save_file(tensors, path, metadata={"format": "pt"})
    path = folder / "config.json"
    text = dict(json.loads(path.read_text()), model_type=text_type)
    del text["architectures"]
    path.write_text(json.dumps(dict(
        architectures=[architecture], model_type="of_hand", text_config=text,
        vision_config=dict(hidden_size=4))))


def gemma4_assistant(folder):
    """What transformers 5.23 cannot make: a model without keys, which reads those of another."""
    import torch
    from safetensors.torch import load_file, save_file

    path = folder / "model.safetensors"
    tensors = {key: tensor for key, tensor in load_file(path).items()
               if ".k_" not in key and ".v_" not in key}
    tensors["pre_projection.weight"] = (torch.randn(64, 192) * 0.1).bfloat16()
    tensors["post_projection.weight"] = (torch.randn(96, 64) * 0.1).bfloat16()
    save_file(tensors, path, metadata={"format": "pt"})
    path = folder / "config.json"
    text = json.loads(path.read_text())
    del text["architectures"]
    text["num_kv_shared_layers"] = text["num_hidden_layers"]
    path.write_text(json.dumps(dict(
        architectures=["Gemma4AssistantForCausalLM"], model_type="gemma4_assistant",
        backbone_hidden_size=96, tie_word_embeddings=True, text_config=text)))


BY_HAND = {
    "smallthinker": rewritten(smallthinker, dict(
        architectures=["SmallThinkerForCausalLM"], model_type="smallthinker", num_local_experts="absent",
        num_experts_per_tok="absent", moe_num_primary_experts=4, moe_num_active_primary_experts=2,
        moe_ffn_hidden_size=96, sliding_window_layout=[0, 1, 1], sliding_window_size=64,
        moe_primary_router_apply_softmax=False)),
    "deepseek": rewritten(uncorrected, dict(
        architectures=["DeepseekForCausalLM"], model_type="deepseek")),
    "bailingmoe": rewritten(lambda tensors: uncorrected(bailing(tensors)), dict(
        architectures=["BailingMoeForCausalLM"], model_type="bailing_moe", num_experts=4,
        num_shared_experts=2, n_routed_experts="absent", n_shared_experts="absent",
        n_group="absent", topk_group="absent")),
    "bailingmoe2": rewritten(bailing2, dict(
        architectures=["BailingMoeV2ForCausalLM"], model_type="bailing_moe", num_experts=4,
        num_shared_experts=1, n_routed_experts="absent", n_shared_experts="absent",
        score_function="sigmoid", routed_scaling_factor=2.5)),
    "kimi-linear": rewritten(lambda tensors: renamed(
        tensors, (".layers.0.block_sparse_moe.", ".layers.0.mlp.")), {}),
    "grovemoe": rewritten(grovemoe, dict(
        architectures=["GroveMoeForCausalLM"], model_type="grove_moe")),
    "minimax-m3": rewritten(minimax_m3, dict(
        architectures=["MiniMaxM3SparseForCausalLM"], model_type="minimax_m3",
        dense_intermediate_size=80, n_shared_experts=1, routed_scaling_factor=2.0,
        moe_layer_freq=[0, 1, 1], sparse_attention_config=dict(
            sparse_num_index_heads=2, sparse_index_dim=16, sparse_topk_blocks=4,
            sparse_block_size=16, sparse_local_block=1))),
    "deepseek-ocr": deepseek_ocr,
    "qwen3omni": lambda folder: speaking(
        folder, "Qwen3OmniMoeForConditionalGeneration", "qwen3_omni_moe_text"),
    "qwen3asr": lambda folder: speaking(
        folder, "Qwen3ASRForConditionalGeneration", "qwen3_asr_text"),
    "kimi-k25": lambda folder: wrap(folder, "KimiK25ForConditionalGeneration", "kimi_k2"),
           "chatglm": chatglm, "gemma4-assistant": gemma4_assistant}


def deepseek4(folder):
    """Stores the weights as published: experts in MXFP4, most other matrices in FP8, a table of numbers."""
    import torch
    from safetensors.torch import load_file, save_file

    path, out = folder / "model.safetensors", {}
    for key, tensor in load_file(path).items():
        scale = key.removesuffix(".weight") + ".scale"
        exponents = lambda *shape: torch.randint(120, 128, shape).to(torch.uint8).view(torch.float8_e8m0fnu)
        if ".experts." in key:
            rows, columns = tensor.shape
            out[key] = torch.randint(-128, 128, (rows, columns // 2)).to(torch.int8)
            out[scale] = exponents(rows, columns // 32)
        elif key.endswith("tid2eid"):
            out[key] = torch.randint(0, 4, tensor.shape)
        elif re.search(r"\.w(q_a|q_b|kv|o_a|o_b|[123])\.weight$", key) and "compressor" not in key:
            out[key] = (tensor.float() * 100).to(torch.float8_e4m3fn)
            out[scale] = exponents(*(-(-size // 128) for size in tensor.shape))
        else:
            out[key] = tensor
    save_file(out, path, metadata={"format": "pt"})


def zero_last(folder):
    """Takes the embeddings of tokens that the vocabulary does not have, and lists the only file."""
    from safetensors.torch import load_file, save_file

    path = folder / "model.safetensors"
    tensors = load_file(path)
    tensors["model.embed_tokens.weight"][-5:] = 0
    save_file(tensors, path, metadata={"format": "pt"})
    (folder / "model.safetensors.index.json").write_text(json.dumps(dict(
        metadata={}, weight_map=dict.fromkeys(tensors, path.name))))


# What is done to models by hand, so that they are stored as published.
PUBLISHED = {"deepseek4": deepseek4, "minimax-01": zero_last}


def predict(folder, further):
    """Adds layers that predict further tokens."""
    import torch
    from safetensors.torch import load_file, save_file

    path = folder / "model.safetensors"
    tensors = load_file(path)
    more = further(tensors)
    for key, shape in more.items():
        tensors[key] = (torch.randn(shape) * 0.1).bfloat16()
    save_file(tensors, path, metadata={"format": "pt"})


def drop_counters(folder):
    """Takes out what encoders of sound count while they are trained."""
    from safetensors.torch import load_file, save_file

    path = folder / "model.safetensors"
    tensors = load_file(path)
    kept = {name: tensor for name, tensor in tensors.items() if tensor.is_floating_point()}
    if len(kept) < len(tensors):
        save_file(kept, path, metadata={"format": "pt"})


def drop(folder, name):
    """Takes a tensor out of a checkpoint."""
    from safetensors.torch import load_file, save_file

    path = folder / "model.safetensors"
    tensors = load_file(path)
    del tensors[name]
    save_file(tensors, path, metadata={"format": "pt"})


def by_hand(name, folder, tokenizer, settings, to_load):
    """Writes a checkpoint of a class that transformers has not: these settings and tensors. In names
    the first {} is a layer, the second an expert; a name may be followed by the layers that have it."""
    import torch
    from safetensors.torch import save_file

    config, shapes = settings["config"], settings["tensors"]
    if to_load and name in LAYERS:
        config = dict(config, num_hidden_layers=LAYERS[name])
    count = next(config[key] for key in LAYER_COUNTS if key in config)
    tensors = {}
    torch.manual_seed(hash_of(name))
    for pattern, shape in shapes.items():
        layers = range(count) if "{}" in pattern else range(1)
        if isinstance(shape, dict):
            layers, shape = shape["layers"], shape["shape"]
        for layer in layers:
            size = shape(layer) if callable(shape) else shape
            experts = range(settings.get("experts", 1)) if pattern.count("{}") > 1 else range(1)
            for expert in experts:
                key = pattern.replace("{}", str(layer), 1).replace("{}", str(expert), 1)
                whole = key.endswith(("A_log", "dt_bias"))
                values = torch.randn(size) * 0.1
                tensors[key] = values if whole else values.bfloat16()
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    (folder / "config.json").write_text(json.dumps(config))
    if tokenizer in TOKENIZERS:
        for file in (FIXTURES / TOKENIZERS[tokenizer]).glob("*token*"):
            shutil.copy(file, folder)
    if tokenizer == "glm":
        add_tokens(folder, FIXTURES / TOKENIZERS[tokenizer])
    if name in POOLING:
        pool(folder, POOLING[name])
    if name in PREDICTS:
        predict(folder, PREDICTS[name])
    if name in PUBLISHED:
        PUBLISHED[name](folder)


LAYER_COUNTS = ("num_hidden_layers", "n_layer", "n_layers", "num_layers", "num_transformer_layers")


def train_unigram(folder):
    """A small unigram model, as T5's kind of checkpoint has it."""
    import sentencepiece

    text = [line for path in sorted((FIXTURES / "text").glob("*.txt"))
            for line in path.read_text(errors="replace").splitlines() if line.strip()][:4000]
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(text), model_prefix=str(folder / "spiece"), vocab_size=1000,
        model_type="unigram", hard_vocab_limit=False, pad_id=0, eos_id=1, unk_id=2, bos_id=-1,
        minloglevel=2)
    (folder / "spiece.vocab").unlink()
    (folder / "tokenizer_config.json").write_text(json.dumps(dict(
        tokenizer_class="T5Tokenizer", eos_token="</s>", unk_token="<unk>", pad_token="<pad>")))


def publish_nomic(folder):
    """Brings names and settings to those of the published models, which transformers has changed."""
    import torch
    from safetensors.torch import save_file

    config = json.loads((folder / "config.json").read_text())
    width, inner, layers = (config[key] for key in (
        "hidden_size", "intermediate_size", "num_hidden_layers"))
    names = {"embeddings.word_embeddings.weight": (config["vocab_size"], width),
             "embeddings.token_type_embeddings.weight": (config["type_vocab_size"], width),
             "emb_ln.weight": (width,), "emb_ln.bias": (width,)}
    for layer in range(layers):
        block = f"encoder.layers.{layer}."
        names.update({block + "attn.Wqkv.weight": (3 * width, width),
                      block + "attn.out_proj.weight": (width, width),
                      block + "mlp.fc11.weight": (inner, width),
                      block + "mlp.fc12.weight": (inner, width),
                      block + "mlp.fc2.weight": (width, inner)})
        names.update({f"{block}norm{i}.{part}": (width,)
                      for i in (1, 2) for part in ("weight", "bias")})
    tensors = {key: (torch.randn(shape) * 0.1).bfloat16() for key, shape in names.items()}
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    published = dict(
        architectures=["NomicBertModel"], model_type="nomic_bert", vocab_size=config["vocab_size"],
        type_vocab_size=2, n_embd=width, n_inner=inner, n_layer=layers,
        n_head=config["num_attention_heads"], n_positions=8192, max_trained_positions=2048,
        layer_norm_epsilon=1e-12, rotary_emb_base=1000, rotary_emb_fraction=1.0,
        rotary_emb_interleaved=False, rotary_emb_scale_base=None, activation_function="swiglu",
        causal=False, qkv_proj_bias=False, mlp_fc1_bias=False, mlp_fc2_bias=False, prenorm=False,
        use_rms_norm=False, pad_vocab_size_multiple=64)
    (folder / "config.json").write_text(json.dumps(published))


def regenerate(folder):
    """Replaces all values by those that the test suite generates, and returns their layout."""
    import struct

    import numpy

    path = folder / "model.safetensors"
    raw = path.read_bytes()
    length = struct.unpack("<Q", raw[:8])[0]
    header = json.loads(raw[8:8 + length])
    data = bytearray(raw[8 + length:])
    layout = {}
    for name, entry in header.items():
        if name == "__metadata__":
            continue
        start, end = entry["data_offsets"]
        bits, keep, base, mask, shift = KINDS[entry["dtype"]]
        count = (end - start) * 8 // bits
        with numpy.errstate(over="ignore"):
            z = numpy.uint64(int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "little"))
            z = z + numpy.arange(1, count + 1, dtype=numpy.uint64) * numpy.uint64(0x9E3779B97F4A7C15)
            z = (z ^ (z >> numpy.uint64(30))) * numpy.uint64(0xBF58476D1CE4E5B9)
            z = (z ^ (z >> numpy.uint64(27))) * numpy.uint64(0x94D049BB133111EB)
            z = z ^ (z >> numpy.uint64(31))
            z = (z & numpy.uint64(keep)) | (
                numpy.uint64(base) + ((z >> numpy.uint64(shift)) & numpy.uint64(mask)))
        if name.endswith("running_var"):
            # A variance is not negative.
            z = z & numpy.uint64((1 << (bits - 1)) - 1)
        data[start:end] = z.astype(f"<u{bits // 8}").tobytes()
        layout[name] = [entry["dtype"], entry["shape"]]
    path.write_bytes(raw[:8 + length] + bytes(data))
    return layout


# Bits of a value, those kept of a random number, what is added, its random bits and their place.
KINDS = {
    "F64": (64, 1 << 63, 0x3FB0 << 48, (1 << 52) - 1, 8),
    "F32": (32, 1 << 31, 0x3D000000, 0x7FFFFF, 32),
    "F16": (16, 1 << 15, 0x2400, 0x7FF, 16),
    "BF16": (16, 1 << 15, 0x3C00, 0x1FF, 16),
    "F8_E4M3": (8, 1 << 7, 0x20, 0x1F, 8),
    "U8": (8, 0, 0x40, 0x3F, 8),
    "I8": (8, 0, 0x40, 0x3F, 8),
    "F8_E8M0": (8, 0, 0x78, 0x07, 8),
    "I64": (64, 0, 0, 3, 32),
}


def snapshot(name, folder, theirs, path):
    """Writes what the test suite needs to do the same without Python."""
    layout = regenerate(folder)
    reference(folder, theirs, pre_tokenizer(name))
    keys, tensors = describe(theirs)
    tensors = exponentials(folder, tensors, theirs)
    kept = {key: value for key, value in keys.items()
            if key == "general.architecture" or not key.startswith(("general.", "tokenizer."))}
    config = json.loads((folder / "config.json").read_text())
    lines = [
        '"config": ' + json.dumps(config),
        '"tokenizer": ' + json.dumps(TOKENIZERS[FAMILIES[name][1]]),
        '"pooling": ' + json.dumps(POOLING.get(name.removesuffix("-hub"))),
        '"checkpoint": {\n' + ",\n".join(
            f"    {json.dumps(key)}: {json.dumps(value)}" for key, value in layout.items()) + "\n  }",
        '"metadata": {\n' + ",\n".join(
            f"    {json.dumps(key)}: {json.dumps(value[1])}" for key, value in kept.items()) + "\n  }",
        '"tensors": {\n' + ",\n".join(
            f"    {json.dumps(key)}: {json.dumps(value)}" for key, value in tensors.items()) + "\n  }",
    ]
    path.write_text("{\n  " + ",\n  ".join(lines) + "\n}\n")


def rewrite(folder, config):
    """Brings config.json to its older form, without what its class assumes anyway."""
    path = folder / "config.json"
    whole = json.loads(path.read_text())
    text = whole.get("text_config", whole)
    defaults = type(getattr(config, "text_config", config))().to_dict()
    rope = text.pop("rope_parameters", None) or {}
    if "full_attention" in rope:
        text["rope_theta"] = rope["full_attention"]["rope_theta"]
        if text["model_type"].startswith("gemma3"):
            text["rope_local_base_freq"] = rope["sliding_attention"]["rope_theta"]
        rope = {}
    partial = rope.pop("partial_rotary_factor", None)
    if partial is not None:
        text["rotary_pct" if text["model_type"] == "gpt_neox" else "partial_rotary_factor"] = partial
    if "rope_theta" in rope:
        text["rope_theta"] = rope.pop("rope_theta")
    if rope.get("rope_type", "default") != "default":
        if rope["rope_type"] != "llama3":
            rope["type"] = rope.pop("rope_type")
        text["rope_scaling"] = rope
    whole["torch_dtype"] = whole.pop("dtype", None)
    for key, value in list(text.items()):
        if key in defaults and defaults[key] == value and key not in ("model_type", "architectures"):
            del text[key]
    path.write_text(json.dumps(whole))


def hash_of(name):
    return int.from_bytes(hashlib.sha256(name.encode()).digest()[:4], "little")


def requantize(folder, name):
    """Stores the weights as the variant in the name has them."""
    import torch
    from safetensors.torch import load_file, save_file

    path = folder / "model.safetensors"
    tensors = load_file(path)
    config = json.loads((folder / "config.json").read_text())
    out = {}
    generator = torch.Generator().manual_seed(hash_of(name))
    for key, value in tensors.items():
        linear = key.endswith("_proj.weight")
        if name.endswith("f64"):
            out[key] = value.double() * 1.0000001
        elif "mxfp4" in name and key.endswith(("experts.down_proj", "experts.gate_up_proj")):
            experts, columns, rows = value.shape
            shape = (experts, rows, columns // 32)
            out[key + "_blocks"] = torch.randint(0, 256, shape + (16,), generator=generator).to(torch.uint8)
            out[key + "_scales"] = torch.randint(110, 130, shape, generator=generator).to(torch.uint8)
        elif "fp8" in name and linear:
            out[key] = (value.float() * 100).to(torch.float8_e4m3fn)
            if "channel" in name:
                out[key + "_scale"] = torch.rand(value.shape[0], 1, generator=generator).bfloat16()
            elif "tensor" in name:
                out[key + "_scale_inv"] = torch.rand((), generator=generator)
            else:
                blocks = [-(-size // 16) for size in value.shape]
                out[key + "_scale_inv"] = torch.rand(blocks, generator=generator)
        else:
            out[key] = value
    if "channel" in name:
        weights = dict(type="float", num_bits=8, strategy="channel")
        config["quantization_config"] = dict(
            quant_method="compressed-tensors", format="float-quantized",
            config_groups=dict(group_0=dict(weights=weights, targets=["Linear"])))
    elif "tensor" in name:
        config["quantization_config"] = dict(quant_method="fp8")
    elif "fp8" in name:
        config["quantization_config"] = dict(quant_method="fp8", weight_block_size=[16, 16])
    elif "mxfp4" in name:
        config["quantization_config"] = dict(quant_method="mxfp4")
    save_file(out, path, metadata={"format": "pt"})
    (folder / "config.json").write_text(json.dumps(config))


def reference(folder, output, pre):
    """Converts with the reference."""
    import conversion
    import gguf

    conversion.load_all_models()
    # Making the map of an architecture with names of its own changes the map of all others.
    gguf.TensorNameMap.block_mappings_cfg = dict(names_of_all())
    config = conversion.ModelBase.load_hparams(folder, False)
    if config.get("model_type") in ("nomic_bert", "granitemoehybrid", "nemotron_h", *newest.RENAMED):
        # The class in transformers fills in sizes, or kinds of layers, under names of its own.
        config = json.loads((folder / "config.json").read_text())
    # These keys were in config.json before transformers moved them; the reference still looks there.
    raw = json.loads((folder / "config.json").read_text())
    moved = {"rotary_pct": (raw.get("rope_parameters") or {}).get(
        "partial_rotary_factor", raw.get("rotary_pct", 0.25))} \
        if raw.get("model_type") == "gpt_neox" else {}
    architecture = conversion.get_model_architecture(config, conversion.ModelType.TEXT)
    # The class of the published files; transformers has it under another name.
    architecture = {"MptForCausalLM": "MPTForCausalLM", "PhimoeForCausalLM": "PhiMoEForCausalLM"}.get(
        architecture, architecture)
    family = conversion.get_model_class(architecture)
    if architecture == "DeciLMForCausalLM":
        # As it does for a vocabulary of the size of Llama 3's.
        family.set_vocab = family._set_vocab_gpt2
    if architecture == "HunYuanMoEV1ForCausalLM":
        # It reads the authors' own kind of tokenizer, with their code; this one has tokenizer.json.
        family.set_vocab = family._set_vocab_gpt2
    if architecture == "BaichuanForCausalLM":
        mend_baichuan(family)
    if architecture == "MiniCPMV4_6ForConditionalGeneration":
        # It drops the tensors of layers that predict further tokens, but counts the layers.
        family.no_mtp = True
    conversion.TextModel.get_vocab_base_pre = lambda self, tokenizer: pre
    if architecture == "DeepseekV32ForCausalLM":
        # It asks for a flag that this class of tokenizer does not have.
        family.set_vocab = conversion.TextModel._set_vocab_gpt2
    if architecture == "CogVLMForCausalLM":
        # It takes the second set of matrices for a part of the encoder, and llama.cpp loads no file without.
        family.filter_tensors = classmethod(
            lambda cls, item: None if item[0].startswith("model.vision.") else item)
    if architecture == "DeepseekV4ForCausalLM":
        # What it stores in FP8 it writes as Q8_0 whatever is asked for.
        family.tensor_force_quant = conversion.TextModel.tensor_force_quant
    instance = family(folder, gguf.LlamaFileType.ALL_F32, output, hparams={**config, **moved})
    if architecture == "DeepseekV4ForCausalLM":
        # Its own chat template, in the place of the one that published files lack.
        instance.gguf_writer.kv_data[0].pop("tokenizer.chat_template", None)
    instance.write()


@functools.cache
def names_of_all():
    """The reference's names of tensors, as they are before any family is converted."""
    import gguf

    return dict(gguf.TensorNameMap.block_mappings_cfg)


def mend_baichuan(family):
    """The reference's method calls itself without end, for every tensor but one of a layer."""
    import gguf

    def modify(self, data, name, layer):
        heads = self.hparams["num_attention_heads"]
        if not name.endswith("W_pack.weight"):
            return [(self.map_tensor_name(name), data)]
        names = [self.format_tensor_name(part, layer) for part in (
            gguf.MODEL_TENSOR.ATTN_Q, gguf.MODEL_TENSOR.ATTN_K, gguf.MODEL_TENSOR.ATTN_V)]
        return list(zip(names, [self._reverse_hf_permute_part(data, 0, heads, heads),
                                self._reverse_hf_permute_part(data, 1, heads, heads),
                                self._reverse_hf_part(data, 2)]))

    family.modify_tensors = modify


def pre_tokenizer(name):
    """The name of a vocabulary's pre-tokenizer; there is none to choose but for byte-level BPE."""
    return PRE if FAMILIES[name][1] in ("bpe", "qwen", "glm") else "default"


# Written always; the reference leaves it out for GPT-NeoX.
EXPECTED = {"general.file_type"}
# Put at the end by llama-quantize, whose place in the chain this project takes too.
MOVED = ("general.file_type", "general.quantization_version")


LOAD = """
import sys
from llama_cpp import Llama
embedding = sys.argv[2] == "True"
model = Llama(sys.argv[1], n_ctx=64, verbose=True, embedding=embedding)
if embedding:
    found = model.embed("the model")
    found = found[0] if isinstance(found[0], list) else found
    assert len(found) and all(abs(x) < 1e9 for x in found) and any(found), found
elif sys.argv[3] == "True":
    model.eval([1, 5, 7])
"""


# The decoders of these want what their encoders have made of another text: they are loaded only.
TWO_PARTS = ("t5", "t5-gated", "umt5", "mt5")
# llama.cpp keeps no states for these, which fill in masked tokens: they are loaded only.
FILLING = ("dream", "llada", "llada-moe", "rnd1")
# Encoders by hand, which have no class of transformers to tell them by.
ENCODERS = ("jina-bert-v2", "neobert", "neobert-words", "neobert-classes")


def load(python, path, embedding, evaluate):
    """What llama.cpp says against the file."""
    run = subprocess.run([python, "-c", LOAD, path, str(embedding), str(evaluate)], capture_output=True, text=True, errors="replace")
    if run.returncode:
        said = [line for line in run.stderr.splitlines() if "error" in line.lower()]
        yield f"not loaded: {(said or run.stderr.splitlines())[:1]}"


QUANTIZE = """
import ctypes, sys
import llama_cpp
params = llama_cpp.llama_model_quantize_default_params()
params.ftype = int(sys.argv[3])
params.nthread = 2
source, output = (path.encode() for path in sys.argv[1:3])
sys.exit(llama_cpp.llama_model_quantize(source, output, ctypes.byref(params)))
"""

# As --type has it, and llama.cpp's number for it.
TYPES = {"Q4_K_M": 15, "Q8_0": 7}


def quantize(python, command, path):
    """How files of both that are quantized differ."""
    for name, number in TYPES.items():
        ours, theirs = (path.with_suffix(f".{name}.{whose}") for whose in ("ours", "theirs"))
        run = subprocess.run([*command, "-o", ours, "-t", name], capture_output=True, text=True)
        made = subprocess.run([python, "-c", QUANTIZE, path, theirs, str(number)], capture_output=True)
        if run.returncode or made.returncode:
            yield f"{name}: {run.stderr or made.stderr[-300:]}"
        elif ours.read_bytes() != theirs.read_bytes():
            yield f"{name}: the files differ"
        for file in (ours, theirs):
            file.unlink(missing_ok=True)


def describe(path):
    import gguf
    import numpy

    reader = gguf.GGUFReader(path)
    keys = {}
    for key, field in reader.fields.items():
        if not key.startswith("GGUF."):
            value = field.contents()
            if isinstance(value, list) and len(value) > 64:
                value = hashlib.sha256(repr(value).encode()).hexdigest()
            keys[key] = ([ty.name for ty in field.types], value)
    tensors = {}
    for tensor in reader.tensors:
        data = numpy.ascontiguousarray(tensor.data).tobytes()
        shape = [int(n) for n in tensor.shape]
        # llama-quantize, whose place in the chain this project takes, does not write these.
        while len(shape) > 1 and shape[-1] == 1:
            shape.pop()
        tensors[tensor.name] = (tensor.tensor_type.name, shape, hashlib.sha256(data).hexdigest())
    return keys, tensors


def exponentials(folder, tensors, path):
    """The decays of state space models as they are rounded from double precision. PyTorch's, which the
    reference takes, differ by a unit in the last place at times; by more is a difference."""
    import gguf
    import numpy
    from safetensors.torch import load_file

    stored = {}
    for file in folder.glob("*.safetensors"):
        stored.update({name: tensor for name, tensor in load_file(file).items()
                       if name.endswith(".A_log") and str(tensor.dtype) != "torch.float16"})
    for tensor in gguf.GGUFReader(path).tensors:
        if not tensor.name.endswith(".ssm_a"):
            continue
        layer = tensor.name.split(".")[1]
        source = [value for name, value in stored.items() if f".{layer}." in name]
        if len(source) != 1:
            continue
        right = (-numpy.exp(source[0].double().numpy())).astype("<f4").ravel()
        theirs = numpy.ascontiguousarray(tensor.data).view("<i4").ravel()
        # Some models have heads in another order: the same values, each beside its own.
        ordered = numpy.empty_like(right)
        ordered[numpy.argsort(theirs.view("<f4"), kind="stable")] = numpy.sort(right)
        right = ordered
        if numpy.abs(right.view("<i4") - theirs).max() <= 1:
            kind, shape, _ = tensors[tensor.name]
            tensors[tensor.name] = (kind, shape, hashlib.sha256(right.tobytes()).hexdigest())
    return tensors


def differences(found, expected):
    for what, ours, theirs in zip(("key", "tensor"), found, expected):
        for name in theirs.keys() - ours.keys():
            yield f"missing {what} {name}: {theirs[name]}"
        for name in ours.keys() - theirs.keys() - EXPECTED:
            yield f"extra {what} {name}: {ours[name]}"
        for name in ours.keys() & theirs.keys():
            if ours[name] != theirs[name]:
                yield f"{what} {name}: {ours[name]}, expected {theirs[name]}"
    order = [[key for key in keys if key not in MOVED] for keys in (found[0], expected[0])]
    if order[0] != order[1] and found[0].keys() == expected[0].keys():
        yield f"keys in another order: {order[0]}, expected {order[1]}"


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--binary", required=True, type=Path)
    parser.add_argument("--reference", required=True, type=Path)
    parser.add_argument("--keep", type=Path, help="keep checkpoints and conversions in this folder")
    parser.add_argument("--snapshots", type=Path, help="renew the snapshots of the test suite in this folder")
    parser.add_argument("--load", type=Path, help="a Python with llama-cpp-python, to load the results")
    parser.add_argument("--quantize", action="store_true",
                        help="compare files of Q4_K_M and Q8_0 with llama.cpp's; needs --load")
    parser.add_argument("families", nargs="*", default=list(FAMILIES))
    options = parser.parse_args()
    sys.path[:0] = [str(options.reference), str(options.reference / "gguf-py")]
    logging.disable(logging.WARNING)

    failed = []
    with tempfile.TemporaryDirectory() as temporary:
        root = options.keep or Path(temporary)
        for name in options.families:
            # The name of the model too: llama.cpp wants <|endoftext|> in one called phi3.
            folder = root / name.replace("phi3", "phi-three")
            folder.mkdir(parents=True, exist_ok=True)
            ours, theirs = root / f"{name}.ours.gguf", root / f"{name}.theirs.gguf"
            try:
                make(name, folder, bool(options.load))
                if options.snapshots and not name.endswith("-wide"):
                    path = options.snapshots / f"{name}.json"
                    snapshot(name, folder, theirs, path)
                else:
                    reference(folder, theirs, pre_tokenizer(name))
                command = [options.binary, "convert", folder, "--force", "--quiet", "--like-reference"]
                if pre_tokenizer(name) == PRE:
                    command += ["--pre-tokenizer", PRE]
                run = subprocess.run([*command, "-o", ours, "-t", "f32"], capture_output=True, text=True)
                if run.returncode:
                    problems = [run.stderr.strip()]
                else:
                    expected = describe(theirs)
                    exponentials(folder, expected[1], theirs)
                    problems = sorted(differences(describe(ours), expected))
                    if options.load and name not in NOT_LOADED:
                        embedding = name in ENCODERS or (
                            ":" in FAMILIES[name][0] and name not in TWO_PARTS)
                        problems += load(options.load, ours, embedding, name not in TWO_PARTS + FILLING)
                    # llama.cpp refuses to quantize what is quantized already.
                    if options.load and options.quantize and "mxfp4" not in name:
                        problems += quantize(options.load, command, ours)
            except Exception as error:  # A family that fails must not hide the others.
                problems = [f"{type(error).__name__}: {error}"]
            print(f"{name}: {'equal' if not problems else f'{len(problems)} differences'}", flush=True)
            for problem in problems[:12]:
                print("   ", problem[:600])
            if problems:
                failed.append(name)
    if failed:
        sys.exit(f"differ: {' '.join(failed)}")


if __name__ == "__main__":
    main()
