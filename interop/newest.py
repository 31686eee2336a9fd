"""Tiny models of the newest families, by hand: as their authors publish them."""

from tiny import EXPERTS, FULL, HEAD_NORMS, LATENT, LAYER, SMALL, hand, llama, some, without

ATTENTION = LAYER + "self_attn."

FAMILIES = {}

# Types whose class in transformers gives keys other names than those that authors publish, and that the
# reference reads.
RENAMED = {"deepseek_v4", "step3p5", "step3p7", "mimo_v2_flash", "bailing_hybrid", "glm5_next", "hy_v4"}


def last(layer, width=64):
    """What a layer that predicts further tokens has beside an ordinary one."""
    return {f"model.layers.{layer}.eh_proj.weight": (width, 2 * width),
            **{f"model.layers.{layer}.{name}.weight": (width,) for name in ("enorm", "hnorm")}}


def mlp(name, layers, inner, hidden=64):
    """A gated feed-forward part of these layers."""
    return some(layers, {LAYER + name + ".gate_proj.weight": (inner, hidden),
                         LAYER + name + ".up_proj.weight": (inner, hidden),
                         LAYER + name + ".down_proj.weight": (hidden, inner)})


# Step 3.5: five layers, one of which predicts a further token. Attention with a sliding window has more heads.
STEP_HEADS = {0: 4, 1: 6, 2: 6, 3: 4, 4: 6}
STEP = {
    **without(llama(), "self_attn", "mlp.", "layernorm"),
    **some(range(5), {
        LAYER + "input_layernorm.weight": (64,), LAYER + "post_attention_layernorm.weight": (64,),
        ATTENTION + "q_proj.weight": lambda layer: (16 * STEP_HEADS[layer], 64),
        ATTENTION + "k_proj.weight": (32, 64), ATTENTION + "v_proj.weight": (32, 64),
        ATTENTION + "o_proj.weight": lambda layer: (64, 16 * STEP_HEADS[layer]),
        ATTENTION + "g_proj.weight": lambda layer: (STEP_HEADS[layer], 64),
        ATTENTION + "q_norm.weight": (16,), ATTENTION + "k_norm.weight": (16,)}),
    **mlp("mlp", [0, 4], 96),
    **mlp("share_expert", [1, 2, 3], 48),
    **some([1, 2, 3], {
        LAYER + "moe.gate.weight": (4, 64), LAYER + "moe.router_bias": (4,),
        LAYER + "moe.gate_proj.weight": (4, 32, 64), LAYER + "moe.up_proj.weight": (4, 32, 64),
        LAYER + "moe.down_proj.weight": (4, 64, 32)}),
    **last(4), "model.layers.4.transformer.shared_head.norm.weight": (64,),
    "model.layers.4.transformer.shared_head.output.weight": (1024, 64)}
STEP_TYPES = ["full_attention", "sliding_attention", "sliding_attention", "full_attention",
              "sliding_attention"]
STEP_CONFIG = dict(
    vocab_size=1024, hidden_size=64, intermediate_size=96, num_hidden_layers=4, num_attention_heads=4,
    num_attention_groups=2, head_dim=16, max_position_embeddings=256, layer_types=STEP_TYPES,
    partial_rotary_factors=[1.0 if kind == "sliding_attention" else 0.5 for kind in STEP_TYPES],
    attention_other_setting=dict(attention_type="sliding_attention", num_attention_heads=6,
                                 num_attention_groups=2, head_dim=16),
    rope_theta=[5e6, 1e4, 1e4, 5e6, 1e4], sliding_window=64, moe_layers_enum="1,2,3",
    moe_num_experts=4, moe_top_k=2, moe_intermediate_size=32, share_expert_dim=48,
    moe_router_activation="sigmoid", moe_router_scaling_factor=3.0, norm_expert_weight=True,
    num_nextn_predict_layers=1, swiglu_limits=[None, 7.0, 7.0, 0.0], use_head_wise_attn_gate=True,
    rope_scaling=dict(rope_type="llama3", factor=2.0, low_freq_factor=1.0, high_freq_factor=32.0,
                      original_max_position_embeddings=128))
FAMILIES["step35"] = ("", "bpe", hand("step3p5", "Step3p5ForCausalLM", STEP, config=STEP_CONFIG))
FAMILIES["step37"] = ("", "bpe", hand("step3p7", "Step3p7ForConditionalGeneration", {
    **{name.replace("model.", "model.language_model.", 1): shape for name, shape in STEP.items()},
    "model.vision_model.patch_embed.weight": (8, 8)}, config=dict(
        text_config=dict(STEP_CONFIG, model_type="step3p5"), vision_config=dict(width=8),
        num_hidden_layers=4)))
FAMILIES["step3vl"] = ("", "qwen", hand("step_robotics", "StepVLForConditionalGeneration", {
    **{name.replace("model.", "model.language_model.", 1): shape
       for name, shape in {**llama(), **HEAD_NORMS}.items()},
    "vision_model.conv1.weight": (8, 3, 2, 2)}, config=dict(
        text_config=dict(SMALL, model_type="qwen3", head_dim=16, rms_norm_eps=1e-6,
                         rope_theta=1e6, architectures=["Qwen3ForCausalLM"]),
        vision_config=dict(width=8), num_hidden_layers=3)))

# MiMo V2: two layers with a sliding window and more heads of keys; three layers predict further tokens.
MIMO_KEYS = {0: 1, 1: 2, 2: 2}
MIMO_FURTHER = "model.mtp.layers.{}."
MIMO = {
    **without(llama(), "self_attn", "mlp."), **mlp("mlp", [0], 96),
    ATTENTION + "o_proj.weight": (64, 32),
    **some([1, 2], {**EXPERTS, LAYER + "mlp.gate.e_score_correction_bias": (4,),
                    ATTENTION + "attention_sink_bias": (4,)}),
    **some(range(3), {MIMO_FURTHER + name: shape for name, shape in {
        "input_layernorm.weight": (64,), "pre_mlp_layernorm.weight": (64,),
        "final_layernorm.weight": (64,), "enorm.weight": (64,), "hnorm.weight": (64,),
        "eh_proj.weight": (64, 128), "self_attn.attention_sink_bias": (4,),
        "self_attn.q_proj.weight": (64, 64), "self_attn.k_proj.weight": (32, 64),
        "self_attn.v_proj.weight": (16, 64), "self_attn.o_proj.weight": (64, 32),
        "mlp.gate_proj.weight": (96, 64), "mlp.up_proj.weight": (96, 64),
        "mlp.down_proj.weight": (64, 96)}.items()})}
MIMO_CONFIG = dict(
    vocab_size=1024, hidden_size=64, intermediate_size=96, num_hidden_layers=3, num_attention_heads=4,
    num_key_value_heads=1, swa_num_attention_heads=4, swa_num_key_value_heads=2, head_dim=16, v_head_dim=8,
    swa_head_dim=16, swa_v_head_dim=8, max_position_embeddings=256, hybrid_layer_pattern=[0, 1, 1],
    moe_layer_freq=[0, 1, 1], n_routed_experts=4, num_experts_per_tok=2, moe_intermediate_size=32,
    partial_rotary_factor=0.5, layernorm_epsilon=1e-5, rope_theta=5e6, swa_rope_theta=1e4,
    sliding_window=64, sliding_window_size=64, topk_method="noaux_tc", scoring_func="sigmoid",
    n_group=1, topk_group=1, norm_topk_prob=True, attention_value_scale=0.707, attention_bias=False)
FAMILIES["mimo2"] = ("", "qwen", hand("mimo_v2_flash", "MiMoV2FlashForCausalLM", {
    **MIMO, **some(range(3), {
        ATTENTION + "q_proj.weight": (64, 64),
        ATTENTION + "k_proj.weight": lambda layer: (16 * MIMO_KEYS[layer], 64),
        ATTENTION + "v_proj.weight": lambda layer: (8 * MIMO_KEYS[layer], 64)})},
    config=MIMO_CONFIG, experts=4))
FAMILIES["mimo2-fused"] = ("", "qwen", hand("mimo_v2", "MiMoV2ForCausalLM", {
    **without(MIMO, "q_proj", "k_proj", "v_proj"),
    **some(range(3), {
        ATTENTION + "qkv_proj.weight": lambda layer: (64 + 24 * MIMO_KEYS[layer], 64),
        MIMO_FURTHER + "self_attn.qkv_proj.weight": (112, 64)})}, config=MIMO_CONFIG, experts=4))


# Kimi's delta attention: each family has its own gates beside.
def delta(layers, heads=4, size=16, width=64):
    """What all families with it have in these layers."""
    return some(layers, {ATTENTION + name: shape for name, shape in {
        "q_proj.weight": (heads * size, width), "k_proj.weight": (heads * size, width),
        "v_proj.weight": (heads * size, width), "o_proj.weight": (width, heads * size),
        "q_conv1d.weight": (heads * size, 1, 4), "k_conv1d.weight": (heads * size, 1, 4),
        "v_conv1d.weight": (heads * size, 1, 4), "b_proj.weight": (heads, width),
        "o_norm.weight": (size,), "dt_bias": (heads * size,), "A_log": (heads,)}.items()})


def latent(layers, rope=8, output="o_proj", heads=4, width=64):
    """Compressed queries, keys and values."""
    return some(layers, {ATTENTION + name + ".weight": shape for name, shape in {
        "q_a_proj": (24, width), "q_a_layernorm": (24,), "q_b_proj": (heads * (16 + rope), 24),
        "kv_a_proj_with_mqa": (32 + rope, width), "kv_a_layernorm": (32,),
        "kv_b_proj": (heads * 40, 32), output: (width, heads * 24)}.items()})


BAILING3 = {
    "model.word_embeddings.weight": (1024, 64), "lm_head.weight": (1024, 64), "model.norm.weight": (64,),
    **some(range(4), {LAYER + "input_layernorm.weight": (64,),
                      LAYER + "post_attention_layernorm.weight": (64,)}),
    **{name.replace("self_attn", "attention"): shape for name, shape in {
        **delta([0]), **some([0], {ATTENTION + "f_proj.weight": (64, 64)}), **latent([1, 2, 3], output="dense"),
        **{ATTENTION + "g_proj.weight": dict(
            layers=range(4), shape=lambda layer: (4 if layer else 64, 64))}}.items()},
    **mlp("mlp", [0], 96), **mlp("mlp.shared_experts", [1, 2, 3], 32),
    **some([1, 2, 3], {**EXPERTS, LAYER + "mlp.gate.expert_bias": (4,)}),
    **last(3), "model.layers.3.final_layernorm.weight": (64,)}
BAILING3_CONFIG = dict(
    LATENT, q_lora_rank=24, head_dim=16, num_experts=4, num_shared_experts=1, rms_norm_eps=1e-6, rope_theta=6e6,
    short_conv_kernel_size=4, layer_group_size=2, no_kda_lora=True, kda_safe_gate=True,
    kda_lower_bound=-5.0, gated_attention_proj_granularity_type="head_wise",
    moe_shared_expert_intermediate_size=32, routed_scaling_factor=2.5, norm_topk_prob=True,
    score_function="sigmoid", expert_swiglu_limit_list=[None, 7.0, 7.0],
    share_expert_swiglu_limit_list=[0.0, 5.0, 7.0], num_nextn_predict_layers=1)
for key in ("n_routed_experts", "n_shared_experts"):
    del BAILING3_CONFIG[key]
FAMILIES["bailingmoe3"] = ("", "bpe", hand(
    "bailing_hybrid", "BailingMoeV3ForCausalLM", BAILING3, config=BAILING3_CONFIG, experts=4))
FAMILIES["bailingmoe3-vision"] = ("", "bpe", hand(
    "bailing_moe_v3_vl", "BailingMoeV3VLForConditionalGeneration", {
        **BAILING3, "visual.merger.norm.weight": (8,), "linear_proj.0.weight": (64, 8),
        "linear_proj.0.bias": (64,)}, experts=4, config=dict(
            text_config=dict(BAILING3_CONFIG, mrope_section=[2, 1, 1]), vision_config={},
            num_hidden_layers=3)))

# GLM-5.3: a layer with a state, two with attention, of which the second takes the choice of the first, and
# one that predicts a further token.
INDEXER = {ATTENTION + "indexer." + name: shape for name, shape in {
    "wq_b.weight": (32, 24), "wk.weight": (16, 64), "k_norm.weight": (16,), "k_norm.bias": (16,),
    "weights_proj.weight": (2, 64)}.items()}


def streams(layers, names, hidden=64):
    """Matrices that mix streams of states: their sizes by the end of their names."""
    return some(layers, {LAYER + name + end: shape for name in names
                         for end, shape in (("fn", (24, 4 * hidden)), ("base", (24,)), ("scale", (3,)))})


GLM5 = {
    **without(llama(), "self_attn", "mlp.", "layernorm"),
    **some(range(4), {LAYER + "input_layernorm.weight": (64,),
                      LAYER + "post_attention_layernorm.weight": (64,)}),
    **delta([0]), **some([0], {ATTENTION + name + ".weight": shape for name, shape in {
        "f_a_proj": (16, 64), "f_b_proj": (64, 16), "g_a_proj": (16, 64), "g_b_proj": (64, 16)}.items()}),
    **latent([1, 2, 3], rope=0),
    **some(range(4), {ATTENTION + "o_proj.weight": lambda layer: (64, 96 if layer else 64)}),
    **some([1, 3], {**INDEXER, ATTENTION + "indexer.index_kpool_compress_gate": (16, 64),
                    ATTENTION + "indexer.index_kpool_compress_ape": (4, 16)}),
    **streams(range(3), ("hc_attn_", "hc_ffn_")),
    **mlp("mlp", [0], 96), **mlp("mlp.shared_experts", [1, 2, 3], 32),
    **some([1, 2, 3], {**EXPERTS, LAYER + "mlp.gate.e_score_correction_bias": (4,)}),
    **last(3), "model.layers.3.shared_head.norm.weight": (64,)}
FAMILIES["glm5-next"] = ("", "glm", hand("glm5_next", "Glm5NextForConditionalGeneration", {
    **{name.replace("model.", "model.language_model.", 1): shape
       for name, shape in {**GLM5, "model.embed_tokens.weight": (1040, 64)}.items()},
    "lm_head.weight": (1040, 64), "model.visual.merger.weight": (8, 8)}, experts=4, config=dict(
        num_hidden_layers=3, vision_config=dict(hidden_size=8), text_config=dict(
            LATENT, vocab_size=1040, model_type="glm5_next_text", q_lora_rank=24, qk_rope_head_dim=0,
            rms_norm_eps=1e-5, mla_use_nope=True, routed_scaling_factor=2.5, norm_topk_prob=True,
            layer_types=["linear_attention", "full_attention", "full_attention"],
            linear_attn_config=dict(num_heads=4, head_dim=16, short_conv_kernel_size=4,
                                    gate_lower_bound=-5.0),
            index_n_heads=2, index_head_dim=16, index_topk=8, index_kpool=4,
            indexer_types=["full", "full", "shared"], mhc=True, hc_mult=4, hc_sinkhorn_iters=20,
            hc_eps=1e-6, swiglu_limit=10.0, num_nextn_predict_layers=1))))

FAMILIES["hy_v4"] = ("", "bpe", hand("hy_v4", "HYV4ForCausalLM", {
    **without(llama(), "self_attn", "mlp."), **latent(range(3)),
    **{"model.hc_head.hc_head_" + name: shape for name, shape in (
        ("fn", (4, 256)), ("base", (4,)), ("scale", (1,)))},
    **some(range(3), {
        LAYER + f"hc_{part}_layer.hc_pre.hc_{name}": shape for part in ("attn", "mlp")
        for name, shape in (("fn", (8, 256)), ("base", (8,)), ("scale", (2,)))}),
    **some(range(3), {ATTENTION + "learnable_sink_param": (4,),
                      ATTENTION + "linear_gate.weight": (96, 64)}),
    **some([0, 1], INDEXER), **mlp("mlp", [0], 96), **mlp("mlp.shared_experts", [1, 2], 32),
    **some([1, 2], {LAYER + "mlp.gate.weight": (4, 64), LAYER + "mlp.gate.e_score_correction_bias": (4,),
                    LAYER + "mlp.experts.gate_up_proj": (4, 64, 64),
                    LAYER + "mlp.experts.down_proj": (4, 64, 32)}),
    "model.mtp_layers.0.enorm.weight": (64,)}, config=dict(
        LATENT, q_lora_rank=24, rms_norm_eps=1e-5, rope_theta=1e4, routed_scaling_factor=2.827,
        norm_topk_prob=True, indexer_types=["full", "full", "shared"], index_n_heads=2, index_head_dim=16,
        index_topk=8, hc_mult=4, hc_magnitude=2.0, hc_eps=1e-6, swiglu_limit=10.0,
        mlp_layer_types=["dense", "sparse", "sparse"], num_nextn_predict_layers=1)))

SLIDING = dict(sliding_window=64, layer_types=["sliding_attention", "full_attention", "sliding_attention"])
FAMILIES["spark2_5"] = ("", "bpe", hand("spark2_5", "Spark2_5ForCausalLM", {
    **without(llama(), "q_proj", "k_proj", "v_proj"),
    ATTENTION + "q_k_v_proj.weight": (128, 64), ATTENTION + "g_proj.weight": (4, 64)}, config=dict(
        SMALL, rms_norm_eps=1e-6, head_dim=16, **SLIDING, gate_attn_act_mode="sigmoid",
        headwise_attn_output_gate=True, hidden_act="gelu", rope_parameters=dict(
            full_attention=dict(rope_type="default", rope_theta=1e6, partial_rotary_factor=0.5),
            sliding_attention=dict(rope_type="default", rope_theta=1e4, partial_rotary_factor=1.0)))))
FAMILIES["maple"] = ("", "bpe", hand("maple", "MapleForCausalLM", {
    **without(llama(), "mlp."), **EXPERTS, **HEAD_NORMS}, experts=4, config=dict(
        SMALL, rms_norm_eps=1e-6, rope_theta=1e4, head_dim=16, **SLIDING, hidden_act="silu",
        num_shared_experts=0, norm_topk_prob=True, nope_on_global_attention=True, num_experts=4,
        num_experts_per_tok=2, moe_intermediate_size=32)))

# Laguna: heads by the kind of attention; one line with a gate for each head, one with a gate for each value.
LAGUNA_HEADS = [4, 6, 6]
LAGUNA = {
    **without(llama(), "self_attn", "mlp."), **HEAD_NORMS,
    **some(range(3), {
        ATTENTION + "q_proj.weight": lambda layer: (16 * LAGUNA_HEADS[layer], 64),
        ATTENTION + "k_proj.weight": (32, 64), ATTENTION + "v_proj.weight": (32, 64),
        ATTENTION + "o_proj.weight": lambda layer: (64, 16 * LAGUNA_HEADS[layer])}),
    **mlp("mlp", [0], 96), **mlp("mlp.shared_expert", [1, 2], 48),
    **some([1, 2], {**EXPERTS, LAYER + "mlp.experts.e_score_correction_bias": (4,)})}
LAGUNA_CONFIG = dict(
    SMALL, rms_norm_eps=1e-6, head_dim=16, num_attention_heads_per_layer=LAGUNA_HEADS, num_experts=4,
    num_experts_per_tok=2, moe_intermediate_size=32, shared_expert_intermediate_size=48,
    moe_routed_scaling_factor=2.5, mlp_layer_types=["dense", "sparse", "sparse"], sliding_window=64,
    layer_types=["full_attention", "sliding_attention", "sliding_attention"], bos_token_id=2,
    eos_token_id=[2, 24], rope_parameters=dict(
        full_attention=dict(rope_type="yarn", rope_theta=5e5, factor=4.0, partial_rotary_factor=0.5,
                            original_max_position_embeddings=64),
        sliding_attention=dict(rope_type="default", rope_theta=1e4, partial_rotary_factor=1.0)))
FAMILIES["laguna"] = ("", "bpe", hand("laguna", "LagunaForCausalLM", {
    **LAGUNA, **some(range(3), {ATTENTION + "g_proj.weight": lambda layer: (LAGUNA_HEADS[layer], 64)})},
    experts=4, config=dict(LAGUNA_CONFIG, gating=True)))
FAMILIES["laguna-values"] = ("", "bpe", hand("laguna", "LagunaForCausalLM", {
    **LAGUNA, **some(range(3), {
        ATTENTION + "g_proj.weight": lambda layer: (16 * LAGUNA_HEADS[layer], 64)})},
    experts=4, config=dict(LAGUNA_CONFIG, gating="per-element")))

# Ling 2.0's graph by Sarvam: corrections of scores are centred when they are read.
SARVAM = {name.replace("self_attn", "attention"): shape for name, shape in {
    "model.word_embeddings.weight": (1024, 64), "lm_head.weight": (1024, 64), "model.norm.weight": (64,),
    LAYER + "input_layernorm.weight": (64,), LAYER + "post_attention_layernorm.weight": (64,),
    ATTENTION + "query_key_value.weight": (128, 64), ATTENTION + "dense.weight": (64, 64),
    ATTENTION + "query_layernorm.weight": (16,), ATTENTION + "key_layernorm.weight": (16,),
    **mlp("mlp", [0], 96), **mlp("mlp.shared_experts", [1, 2], 32),
    **some([1, 2], {**EXPERTS, LAYER + "mlp.gate.expert_bias": (4,)})}.items()}
FAMILIES["sarvam"] = ("", "bpe", hand("sarvam_moe", "SarvamMoEForCausalLM", SARVAM, experts=4, config=dict(
    SMALL, rms_norm_eps=1e-6, rope_theta=1e6, head_dim=16, num_experts=4, num_experts_per_tok=2,
    moe_intermediate_size=32, num_shared_experts=1, first_k_dense_replace=1, norm_topk_prob=True,
    routed_scaling_factor=2.5, score_function="sigmoid", n_group=1, topk_group=1)))

# CogVLM: a second set of matrices for images in each layer.
FAMILIES["cogvlm"] = ("", "spm", hand("cogvlm", "CogVLMForCausalLM", {
    **without(llama(), "self_attn", "mlp."),
    **{LAYER + f"self_attn.{kind}_expert_{name}.weight": shape for kind in ("language", "vision")
       for name, shape in (("query_key_value", (192, 64)), ("dense", (64, 64)))},
    **{LAYER + f"mlp.{kind}_mlp.{name}_proj.weight": shape for kind in ("language", "vision")
       for name, shape in (("gate", (96, 64)), ("up", (96, 64)), ("down", (64, 96)))},
    "model.vision.boi": (1, 1, 64)}, config=dict(FULL, vision_config=dict(hidden_size=4))))

# MiniMax-Text-01: one layer in eight has attention; the last tokens have no embedding.
LIGHTNING = [0, 1, 2, 3, 4, 5, 6]
FAMILIES["minimax-01"] = ("", "bpe", hand("minimax_text_01", "MiniMaxText01ForCausalLM", {
    **without(llama(), "self_attn", "mlp."),
    **some([7], {ATTENTION + "q_proj.weight": (64, 64), ATTENTION + "k_proj.weight": (32, 64),
                 ATTENTION + "v_proj.weight": (32, 64), ATTENTION + "o_proj.weight": (64, 64)}),
    **some(LIGHTNING, {
        ATTENTION + "qkv_proj.weight": (192, 64), ATTENTION + "output_gate.weight": (64, 64),
        ATTENTION + "norm.weight": (64,), ATTENTION + "out_proj.weight": (64, 64)}),
    LAYER + "block_sparse_moe.gate.weight": (4, 64),
    LAYER + "block_sparse_moe.experts.{}.w1.weight": (96, 64),
    LAYER + "block_sparse_moe.experts.{}.w2.weight": (64, 96),
    LAYER + "block_sparse_moe.experts.{}.w3.weight": (96, 64)}, experts=4, config=dict(
        SMALL, num_hidden_layers=8, rms_norm_eps=1e-5, rope_theta=1e7, head_dim=16, rotary_dim=8,
        num_local_experts=4, num_experts_per_tok=2, attn_type_list=[0] * 7 + [1],
        **{f"layernorm_{part}_{end}": 3.5 if end == "alpha" else 1.0
           for part in ("full_attention", "linear_attention", "mlp") for end in ("alpha", "beta")})))

# HRM-Text: two stacks of two layers, run through six times.
FAMILIES["hrm_text"] = ("", "bpe", hand("hrm_text", "HrmTextForCausalLM", {
    "model.embed_tokens.weight": (1024, 64), "lm_head.weight": (1024, 64), "model.z_L_init": (64,),
    **{f"model.{stack}_module.layers.{{}}.{name}.weight": dict(layers=range(2), shape=shape)
       for stack in "LH" for name, shape in {
           "attn.gqkv_proj": (256, 64), "attn.o_proj": (64, 64), "mlp.gate_up_proj": (192, 64),
           "mlp.down_proj": (64, 96)}.items()}}, config=dict(
        FULL, num_hidden_layers=12, num_layers_per_stack=2, H_cycles=2, L_cycles=2, head_dim=16,
        embedding_scale=50.0, rope_theta=1e4, prefix_lm=True)))

# Talkie: gains in place of the weights of norms.
BLOCK = "model.blocks.{}."
FAMILIES["talkie"] = ("", "bpe", hand("talkie", "TalkieForCausalLM", {
    "model.embed.weight": (1024, 64), "lm_head": (1024, 64), "lm_head_gain.w_g": (1,),
    BLOCK + "attn.attn_query.weight": (64, 64), BLOCK + "attn.attn_key.weight": (64, 64),
    BLOCK + "attn.attn_value.weight": (64, 64), BLOCK + "attn.attn_resid.weight": (64, 64),
    BLOCK + "attn.head_gain.head_g": (4,), BLOCK + "attn_gain.a_g": (1,), BLOCK + "mlp_gain.a_g": (1,),
    BLOCK + "embed_skip.a_g": (1,), BLOCK + "mlp.mlp_gate.weight": (96, 64),
    BLOCK + "mlp.mlp_linear.weight": (96, 64), BLOCK + "mlp.mlp_resid.weight": (64, 96)},
    config=dict(without(FULL, "rms_norm_eps"), head_dim=16, rope_theta=1e6)))

# DeepSeek V4: a layer that sees a window, one that takes four tokens together, one that takes 128; a table of
# tokens routes the first.
V4 = "layers.{}."
V4_ATTENTION = V4 + "attn."
FAMILIES["deepseek4"] = ("", "bpe", hand("deepseek_v4", "DeepseekV4ForCausalLM", {
    "embed.weight": (1024, 64), "norm.weight": (64,), "head.weight": (1024, 64),
    "hc_head_fn": (4, 256), "hc_head_base": (4,), "hc_head_scale": (1,),
    **{V4 + name: shape for name, shape in {
        "attn_norm.weight": (64,), "ffn_norm.weight": (64,), "attn.attn_sink": (4,),
        "attn.wq_a.weight": (32, 64), "attn.q_norm.weight": (32,), "attn.wq_b.weight": (128, 32),
        "attn.wkv.weight": (32, 64), "attn.kv_norm.weight": (32,), "attn.wo_a.weight": (16, 64),
        "attn.wo_b.weight": (64, 16), "hc_attn_fn": (24, 256), "hc_attn_base": (24,),
        "hc_attn_scale": (3,), "hc_ffn_fn": (24, 256), "hc_ffn_base": (24,), "hc_ffn_scale": (3,),
        "ffn.gate.weight": (4, 64), "ffn.gate.bias": (4,), "ffn.experts.{}.w1.weight": (32, 64),
        "ffn.experts.{}.w2.weight": (64, 32), "ffn.experts.{}.w3.weight": (32, 64),
        "ffn.shared_experts.w1.weight": (32, 64), "ffn.shared_experts.w2.weight": (64, 32),
        "ffn.shared_experts.w3.weight": (32, 64)}.items()},
    **some([0], {V4 + "ffn.gate.tid2eid": (1024, 2)}),
    **some([1, 2], {V4_ATTENTION + "compressor." + name: shape for name, shape in {
        "ape": lambda layer: (4, 64) if layer == 1 else (128, 32),
        "wkv.weight": lambda layer: (64 if layer == 1 else 32, 64),
        "wgate.weight": lambda layer: (64 if layer == 1 else 32, 64), "norm.weight": (32,)}.items()}),
    **some([1], {V4_ATTENTION + "indexer." + name: shape for name, shape in {
        "wq_b.weight": (32, 32), "weights_proj.weight": (2, 64), "compressor.ape": (4, 32),
        "compressor.wkv.weight": (32, 64), "compressor.wgate.weight": (32, 64),
        "compressor.norm.weight": (16,)}.items()}),
    "mtp.0.enorm.weight": (64,)}, experts=4, config=dict(
        vocab_size=1024, hidden_size=64, moe_intermediate_size=32, num_hidden_layers=3,
        num_attention_heads=4, num_key_value_heads=1, head_dim=32, q_lora_rank=32, qk_rope_head_dim=16,
        num_experts_per_tok=2, n_routed_experts=4, n_shared_experts=1, scoring_func="sqrtsoftplus",
        norm_topk_prob=True, routed_scaling_factor=1.5, max_position_embeddings=256, rope_theta=1e4,
        rope_scaling=dict(type="yarn", factor=4, original_max_position_embeddings=64, beta_fast=32,
                          beta_slow=1), compress_ratios=[0, 4, 128, 0], compress_rope_theta=160000.0,
        hc_mult=4, hc_sinkhorn_iters=20, hc_eps=1e-6, num_hash_layers=1, swiglu_limit=10.0,
        sliding_window=64, o_groups=2, o_lora_rank=8, index_n_heads=2, index_head_dim=16, index_topk=8,
        rms_norm_eps=1e-6, num_nextn_predict_layers=1, tie_word_embeddings=False,
        expert_dtype="fp4", quantization_config=dict(
            quant_method="fp8", fmt="e4m3", scale_fmt="ue8m0", activation_scheme="dynamic",
            weight_block_size=[128, 128]))))
