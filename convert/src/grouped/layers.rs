//! Which tensors are linear layers, and which of those engines fuse.

use gguf_model::{Place, TensorName};

/// What a tensor is, judged by its name and shape.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Role {
    /// A linear layer between embedding and output.
    Linear {
        /// Its place in the order of computation.
        order: Order,
        /// The layer and what of it engines load as one, if it is part of such.
        fused: Option<(Layer, Fusion)>,
    },
    /// The last linear layer.
    Output,
    /// The token embedding.
    Embedding,
    /// Carried over as it is.
    Other,
}

/// A place in the order of computation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Order {
    /// In a checkpoint: layer, row of the table, expert.
    Listed(u64, usize, u64),
    /// In a GGUF model.
    Placed(Place),
    /// After all others: the number of the tensor.
    Last(usize),
}

/// Whether it is a layer of a decoder behind an encoder, and its number.
type Layer = (bool, u64);

/// Layers that engines load as one matrix, which then has one scheme.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Fusion {
    /// Queries, keys and values.
    Qkv,
    /// Gate and up projection.
    GateUp,
    /// All experts of a layer.
    Experts,
}

const EXPERTS: Fusion = Fusion::Experts;

/// Names of linear layers within a transformer layer, in the order of computation, over all
/// families; `{}` is the number of an expert. A name stands for the same thing in all of them.
const LINEARS: &[(&str, Option<Fusion>)] = &[
    ("self_attn.q_proj", Some(Fusion::Qkv)),
    ("self_attn.k_proj", Some(Fusion::Qkv)),
    ("self_attn.v_proj", Some(Fusion::Qkv)),
    ("self_attn.q_a_proj", Some(Fusion::Qkv)),
    ("self_attn.q_b_proj", None),
    ("self_attn.kv_a_proj_with_mqa", Some(Fusion::Qkv)),
    ("self_attn.kv_b_proj", None),
    ("self_attn.qkv_proj", None),
    ("attn.Wqkv", None),
    ("self_attention.query_key_value", None),
    ("attention.query_key_value", None),
    ("self_attn.o_proj", None),
    ("self_attn.dense", None),
    ("self_attention.dense", None),
    ("attention.dense", None),
    ("attn.out_proj", None),
    ("attn.Wo", None),
    ("attn.attention.q_proj", Some(Fusion::Qkv)),
    ("attn.attention.k_proj", Some(Fusion::Qkv)),
    ("attn.attention.v_proj", Some(Fusion::Qkv)),
    ("attn.attention.out_proj", None),
    ("attn.q", Some(Fusion::Qkv)),
    ("attn.kv", Some(Fusion::Qkv)),
    ("attention.wqkv", None),
    ("attention.wo", None),
    ("norm_attn_norm.attn.Wqkv", None),
    ("norm_attn_norm.attn.out_proj", None),
    ("self_attn.W_pack", None),
    ("self_attn.out_proj", None),
    ("self_attn.linear_attn", None),
    ("conv.in_proj", None),
    ("conv.out_proj", None),
    ("mamba.in_proj", None),
    ("mamba.x_proj", None),
    ("mamba.dt_proj", None),
    ("mamba.out_proj", None),
    ("linear_attn.in_proj_qkv", Some(Fusion::Qkv)),
    ("linear_attn.in_proj_qkvz", Some(Fusion::Qkv)),
    ("linear_attn.in_proj_z", Some(Fusion::Qkv)),
    ("linear_attn.in_proj_b", Some(Fusion::Qkv)),
    ("linear_attn.in_proj_a", Some(Fusion::Qkv)),
    ("linear_attn.in_proj_ba", Some(Fusion::Qkv)),
    ("linear_attn.out_proj", None),
    ("per_layer_input_gate", None),
    ("per_layer_projection", None),
    ("laurel.linear_left", None),
    ("laurel.linear_right", None),
    ("self_attn.indexer.wq_b", None),
    ("self_attn.indexer.wk", None),
    ("eh_proj", None),
    ("self_attn.gate_proj", Some(Fusion::Qkv)),
    ("mlp.chunk_experts.{}.gate_proj", Some(EXPERTS)),
    ("mlp.chunk_experts.{}.up_proj", Some(EXPERTS)),
    ("mlp.chunk_experts.{}.down_proj", Some(EXPERTS)),
    ("block_sparse_moe.shared_experts.gate_proj", Some(Fusion::GateUp)),
    ("block_sparse_moe.shared_experts.up_proj", Some(Fusion::GateUp)),
    ("block_sparse_moe.shared_experts.down_proj", None),
    ("self_attn.b_proj", None),
    ("self_attn.f_a_proj", None),
    ("self_attn.f_b_proj", None),
    ("self_attn.g_a_proj", None),
    ("self_attn.g_b_proj", None),
    ("self_attn.g_proj", None),
    ("self_attn.linear_gate", None),
    ("self_attn.q_k_v_proj", None),
    ("attention.q_proj", Some(Fusion::Qkv)),
    ("attention.k_proj", Some(Fusion::Qkv)),
    ("attention.v_proj", Some(Fusion::Qkv)),
    ("attention.o_proj", None),
    ("attention.q_a_proj", Some(Fusion::Qkv)),
    ("attention.q_b_proj", None),
    ("attention.kv_a_proj_with_mqa", Some(Fusion::Qkv)),
    ("attention.kv_b_proj", None),
    ("attention.b_proj", None),
    ("attention.f_proj", None),
    ("attention.g_proj", None),
    ("share_expert.gate_proj", Some(Fusion::GateUp)),
    ("share_expert.up_proj", Some(Fusion::GateUp)),
    ("share_expert.down_proj", None),
    ("self_attn.index_k_proj", None),
    ("self_attn.index_q_proj", None),
    ("self_attn.output_gate", None),
    ("self_attn.language_expert_query_key_value", None),
    ("self_attn.language_expert_dense", None),
    ("self_attn.vision_expert_query_key_value", None),
    ("self_attn.vision_expert_dense", None),
    ("mixer.q_proj", Some(Fusion::Qkv)),
    ("mixer.k_proj", Some(Fusion::Qkv)),
    ("mixer.v_proj", Some(Fusion::Qkv)),
    ("mixer.o_proj", None),
    ("mixer.in_proj", None),
    ("mixer.out_proj", None),
    ("mixer.fc1_latent_proj", None),
    ("mixer.fc2_latent_proj", None),
    ("mixer.up_proj", None),
    ("mixer.down_proj", None),
    ("mixer.shared_experts.up_proj", None),
    ("mixer.shared_experts.down_proj", None),
    ("mlp.language_mlp.gate_proj", None),
    ("mlp.language_mlp.up_proj", None),
    ("mlp.language_mlp.down_proj", None),
    ("mlp.vision_mlp.gate_proj", None),
    ("mlp.vision_mlp.up_proj", None),
    ("mlp.vision_mlp.down_proj", None),
    ("mlp.gate_up_proj", None),
    ("mlp.gate_proj", Some(Fusion::GateUp)),
    ("mlp.up_proj", Some(Fusion::GateUp)),
    ("mlp.down_proj", None),
    ("mlp.fc1", None),
    ("mlp.fc2", None),
    ("mlp.c_fc", None),
    ("mlp.c_proj", None),
    ("mlp.Wi", None),
    ("mlp.Wo", None),
    ("ffn.up_proj", None),
    ("ffn.down_proj", None),
    ("mlp.dense_h_to_4h", None),
    ("mlp.dense_4h_to_h", None),
    ("feed_forward.gate_proj", Some(Fusion::GateUp)),
    ("feed_forward.up_proj", Some(Fusion::GateUp)),
    ("feed_forward.down_proj", None),
    ("feed_forward.w1", Some(Fusion::GateUp)),
    ("feed_forward.w3", Some(Fusion::GateUp)),
    ("feed_forward.w2", None),
    ("residual_mlp.w1", Some(Fusion::GateUp)),
    ("residual_mlp.w3", Some(Fusion::GateUp)),
    ("residual_mlp.w2", None),
    ("feed_forward.shared_expert.gate_proj", Some(Fusion::GateUp)),
    ("feed_forward.shared_expert.up_proj", Some(Fusion::GateUp)),
    ("feed_forward.shared_expert.down_proj", None),
    ("mlp.shared_mlp.gate_proj", Some(Fusion::GateUp)),
    ("mlp.shared_mlp.up_proj", Some(Fusion::GateUp)),
    ("mlp.shared_mlp.down_proj", None),
    ("mlp.shared_expert.gate_proj", Some(Fusion::GateUp)),
    ("mlp.shared_expert.up_proj", Some(Fusion::GateUp)),
    ("mlp.shared_expert.down_proj", None),
    ("mlp.shared_experts.gate_proj", Some(Fusion::GateUp)),
    ("mlp.shared_experts.up_proj", Some(Fusion::GateUp)),
    ("mlp.shared_experts.down_proj", None),
    ("shared_mlp.input_linear", None),
    ("shared_mlp.output_linear", None),
    ("block_sparse_moe.experts.{}.w1", Some(EXPERTS)),
    ("block_sparse_moe.experts.{}.w3", Some(EXPERTS)),
    ("block_sparse_moe.experts.{}.w2", Some(EXPERTS)),
    ("mlp.experts.{}.gate_proj", Some(EXPERTS)),
    ("mlp.experts.{}.up_proj", Some(EXPERTS)),
    ("mlp.experts.{}.down_proj", Some(EXPERTS)),
];

/// What the layers are in before their number.
const STACKS: &[&str] = &[
    "model.layers.",
    "transformer.h.",
    "transformer.blocks.",
    "gpt_neox.layers.",
    "model.language_model.layers.",
    "language_model.model.layers.",
];

const EMBEDDINGS: &[&str] = &[
    "model.embed_tokens.weight",
    "transformer.wte.weight",
    "transformer.word_embeddings.weight",
    "gpt_neox.embed_in.weight",
    "model.language_model.embed_tokens.weight",
    "language_model.model.embed_tokens.weight",
];

const OUTPUTS: &[&str] = &["lm_head.weight", "embed_out.weight", "language_model.lm_head.weight"];

/// The number of the layer that a tensor is in, and its name there.
pub(crate) fn in_layer(name: &str) -> Option<(&str, &str)> {
    STACKS.iter().find_map(|stack| name.strip_prefix(stack))?.split_once('.')
}

impl Role {
    /// The role of a tensor.
    pub(crate) fn of(name: &str, dimensions: usize) -> Self {
        if dimensions != 2 {
            return Self::Other;
        }
        if EMBEDDINGS.contains(&name) {
            return Self::Embedding;
        }
        if OUTPUTS.contains(&name) {
            return Self::Output;
        }
        Self::linear(name).unwrap_or(Self::Other)
    }

    fn linear(name: &str) -> Option<Self> {
        let module = name.strip_suffix(".weight")?;
        let (layer, rest) = in_layer(module)?;
        // GPT-2 stores these by columns: no linear layer of transformers, and no engine unpacks it.
        if module.starts_with("transformer.h.") && rest.starts_with("mlp.c_") {
            return None;
        }
        let layer = layer.parse().ok()?;
        let known = LINEARS.iter().enumerate().find_map(|(place, (pattern, fusion))| {
            let expert = match pattern.split_once("{}") {
                None => (rest == *pattern).then_some(0),
                Some((before, after)) => {
                    rest.strip_prefix(before)?.strip_suffix(after)?.parse().ok()
                }
            }?;
            let fused = fusion.map(|fusion| ((false, layer), fusion));
            Some(Self::Linear { order: Order::Listed(layer, place, expert), fused })
        });
        // Experts under any other name are fused all the same.
        known.or_else(|| {
            let (_, expert) = rest.split_once(".experts.")?;
            let expert = expert.split_once('.')?.0.parse().ok()?;
            let order = Order::Listed(layer, LINEARS.len(), expert);
            Some(Self::Linear { order, fused: Some(((false, layer), EXPERTS)) })
        })
    }

    /// The role of a tensor of a GGUF model, the `nth` of it.
    pub(crate) fn of_gguf(architecture: &str, nth: usize, name: &str, quantizable: bool) -> Self {
        let parsed = TensorName::parse(name);
        if !quantizable {
            return Self::Other;
        }
        if parsed.is_token_embedding() {
            return Self::Embedding;
        }
        if parsed.is_output() {
            return Self::Output;
        }
        // What no architecture has stands by itself, behind the layers.
        let Some(place) = parsed.place(architecture) else {
            return Self::Linear { order: Order::Last(nth), fused: None };
        };
        let fusion = match parsed.kind {
            "attn_q" | "attn_k" | "attn_v" => Some(Fusion::Qkv),
            "ffn_gate" | "ffn_up" => Some(Fusion::GateUp),
            _ if parsed.is_expert_stack() => Some(EXPERTS),
            _ => None,
        };
        let fused = fusion.map(|fusion| (place.layer(), fusion));
        Self::Linear { order: Order::Placed(place), fused }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn layers_are_known_by_name_and_shape() {
        let role = |name| Role::of(name, 2);
        let order = |name| match role(name) {
            Role::Linear { order, .. } => order,
            other => panic!("{name} is {other:?}"),
        };
        assert!(
            order("model.layers.0.mlp.down_proj.weight")
                < order("model.layers.1.self_attn.q_proj.weight")
        );
        assert!(
            order("model.layers.3.self_attn.q_proj.weight")
                < order("model.layers.3.mlp.fc1.weight")
        );
        let fused = |name| match role(name) {
            Role::Linear { fused, .. } => fused,
            other => panic!("{name} is {other:?}"),
        };
        let q = fused("model.layers.7.self_attn.q_proj.weight");
        assert_eq!(q, fused("model.layers.7.self_attn.v_proj.weight"));
        assert_ne!(q, fused("model.layers.8.self_attn.v_proj.weight"));
        assert_ne!(q, fused("model.layers.7.self_attn.o_proj.weight"));
        assert_eq!(
            fused("model.layers.0.block_sparse_moe.experts.0.w1.weight"),
            fused("model.layers.0.block_sparse_moe.experts.3.w2.weight")
        );
        assert_eq!(
            fused("model.layers.0.block_sparse_moe.experts.0.w1.weight"),
            fused("model.layers.0.feed_forward.experts.12.linear_v.weight")
        );
        assert_eq!(role("model.embed_tokens.weight"), Role::Embedding);
        assert_eq!(role("lm_head.weight"), Role::Output);
        for other in [
            "model.layers.0.self_attn.q_proj.bias",
            "model.layers.0.block_sparse_moe.gate.weight",
            "model.layers.x.mlp.fc1.weight",
            "model.norm.weight",
            "transformer.h.0.mlp.c_fc.weight",
        ] {
            assert_eq!(role(other), Role::Other, "{other}");
        }
        assert_eq!(Role::of("model.layers.0.self_attn.q_proj.weight", 3), Role::Other);
    }

    /// A decoder's layers are not the encoder's, and what no family fuses stands alone.
    #[test]
    fn gguf_tensors_are_fused_as_their_architecture_has_them() {
        let linear = |arch, nth, name| match Role::of_gguf(arch, nth, name, true) {
            Role::Linear { order, fused } => (order, fused),
            other => panic!("{name} is {other:?}"),
        };
        let fused = |arch, name| linear(arch, 0, name).1;
        let encoder = fused("t5", "enc.blk.0.attn_q.weight");
        assert!(encoder.is_some());
        assert_eq!(encoder, fused("t5", "enc.blk.0.attn_v.weight"));
        assert_ne!(encoder, fused("t5", "enc.blk.1.attn_q.weight"));
        assert_ne!(encoder, fused("t5", "dec.blk.0.attn_q.weight"));
        assert_eq!(fused("qwen3moe", "blk.2.ffn_up_exps.weight").unwrap().1, EXPERTS);
        for (arch, a, b) in [
            ("qwen3next", "blk.0.ssm_out.weight", "blk.0.attn_gate.weight"),
            ("deepseek2", "blk.0.attn_q_b.weight", "blk.0.attn_kv_b.weight"),
            ("new", "blk.0.colour.weight", "blk.0.taste.weight"),
            ("new", "first.weight", "second.weight"),
        ] {
            let (a, b) = (linear(arch, 0, a), linear(arch, 1, b));
            assert_eq!((a.1, b.1), (None, None));
            assert_ne!(a.0, b.0);
        }
        assert_eq!(Role::of_gguf("llama", 0, "token_embd.weight", true), Role::Embedding);
        assert_eq!(Role::of_gguf("llama", 0, "output.weight", true), Role::Output);
        assert_eq!(Role::of_gguf("llama", 0, "blk.0.attn_q.weight", false), Role::Other);
    }

    #[test]
    fn the_matrices_of_every_family_are_known() {
        // Routers are small, and engines want them whole; norms of heads have two dimensions.
        let others = [
            "gate.weight",
            "gate.wg.weight",
            "router.weight",
            "router.layer.weight",
            "router.proj.weight",
            "weights_proj.weight",
            // How Gemma 3n's streams mix: some numbers.
            "_coefs.weight",
            "embed_tokens.weight",
            "shared_head.head.weight",
            "shared_head.output.weight",
            "_norm.weight",
        ];
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/families");
        // A published package has no checkpoints.
        let Ok(entries) = std::fs::read_dir(folder) else { return };
        let mut families = 0;
        for entry in entries {
            let path = entry.unwrap().path();
            let family: serde_json::Value =
                serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
            families += 1;
            for (name, stored) in family["checkpoint"].as_object().unwrap() {
                let columns = name.starts_with("transformer.h.") && name.contains(".c_");
                let routed = others.iter().any(|other| name.ends_with(other));
                let dimensions = stored[1].as_array().unwrap().len();
                let Some((_, rest)) = in_layer(name) else { continue };
                if dimensions == 2 && rest.ends_with(".weight") && !columns && !routed {
                    let role = Role::of(name, dimensions);
                    assert!(matches!(role, Role::Linear { .. }), "{}: {name}", path.display());
                }
            }
        }
        assert!(families > 20);
    }
}
