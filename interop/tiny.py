"""What the tiny models of several scripts have in common."""

# What every model has unless its family says otherwise.
SMALL = dict(vocab_size=1024, hidden_size=64, intermediate_size=96, num_hidden_layers=3,
             num_attention_heads=4, num_key_value_heads=2, max_position_embeddings=256)
LATENT = dict(SMALL, num_key_value_heads=4, moe_intermediate_size=32, kv_lora_rank=32,
              qk_nope_head_dim=16, qk_rope_head_dim=8, v_head_dim=24, n_routed_experts=4,
              num_experts_per_tok=2, n_shared_experts=1, first_k_dense_replace=1,
              n_group=1, topk_group=1)


def llama(norms=True, heads="self_attn", hidden=64, inner=96, queries=64, keys=32):
    """Names and shapes of Llama's tensors, on which many models by hand are based."""
    layer = "model.layers.{}."
    names = {"model.embed_tokens.weight": (1024, hidden), "lm_head.weight": (1024, hidden),
             "model.norm.weight": (hidden,),
             layer + heads + ".q_proj.weight": (queries, hidden),
             layer + heads + ".k_proj.weight": (keys, hidden),
             layer + heads + ".v_proj.weight": (keys, hidden),
             layer + heads + ".o_proj.weight": (hidden, queries),
             layer + "mlp.gate_proj.weight": (inner, hidden),
             layer + "mlp.up_proj.weight": (inner, hidden),
             layer + "mlp.down_proj.weight": (hidden, inner)}
    if norms:
        names.update({layer + "input_layernorm.weight": (hidden,),
                      layer + "post_attention_layernorm.weight": (hidden,)})
    return names


def without(names, *parts):
    """These tensors but for those with one of the parts in their names."""
    return {name: shape for name, shape in names.items() if not any(part in name for part in parts)}


def hand(model_type, model_class, tensors, config=None, **settings):
    """A model by hand: its class, tensors and settings beside the usual."""
    base = dict(SMALL, rms_norm_eps=1e-5, rope_theta=10000.0) if config is None else config
    return dict(config=dict(base, architectures=[model_class], model_type=model_type,
                            **settings.pop("more", {})), tensors=tensors, **settings)


EXPERTS = {"model.layers.{}.mlp.gate.weight": (4, 64),
           "model.layers.{}.mlp.experts.{}.gate_proj.weight": (32, 64),
           "model.layers.{}.mlp.experts.{}.up_proj.weight": (32, 64),
           "model.layers.{}.mlp.experts.{}.down_proj.weight": (64, 32)}
HEAD_NORMS = {"model.layers.{}.self_attn.q_norm.weight": (16,),
              "model.layers.{}.self_attn.k_norm.weight": (16,)}
FULL = dict(SMALL, num_key_value_heads=4, rms_norm_eps=1e-5)
LAYER = "model.layers.{}."


def some(layers, shapes):
    """Tensors of these layers alone."""
    return {name: dict(layers=layers, shape=shape) for name, shape in shapes.items()}
