//! What a tensor is for, and whether it may be quantized, judged by its name and shape.

/// The part a tensor plays, as far as the mixes care.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Role {
    TokenEmbedding,
    Output,
    AttnQ,
    AttnK,
    AttnV,
    AttnQkv,
    AttnKvB,
    AttnOutput,
    FfnUp,
    FfnGate,
    FfnDown,
    Other,
}

enum Name {
    Is(&'static str),
    Has(&'static str),
}

impl Name {
    fn matches(&self, name: &str) -> bool {
        match self {
            Self::Is(whole) => name == *whole,
            Self::Has(part) => name.contains(part),
        }
    }
}

/// Names and the roles they tell; the first match counts.
const ROLES: &[(Name, Role)] = &[
    (Name::Is("output.weight"), Role::Output),
    (Name::Is("token_embd.weight"), Role::TokenEmbedding),
    (Name::Is(PER_LAYER_EMBEDDING), Role::TokenEmbedding),
    (Name::Has("attn_qkv.weight"), Role::AttnQkv),
    (Name::Has("attn_kv_b.weight"), Role::AttnKvB),
    (Name::Has("attn_v.weight"), Role::AttnV),
    (Name::Has("attn_k.weight"), Role::AttnK),
    (Name::Has("attn_q.weight"), Role::AttnQ),
    (Name::Has("attn_output.weight"), Role::AttnOutput),
    (Name::Has("ffn_up"), Role::FfnUp),
    (Name::Has("ffn_gate"), Role::FfnGate),
    (Name::Has("ffn_down"), Role::FfnDown),
];

/// A second embedding table, which `--tensor-type` may name even when the first has its option.
pub(super) const PER_LAYER_EMBEDDING: &str = "per_layer_token_embd.weight";

impl Role {
    pub(crate) fn of(name: &str) -> Self {
        ROLES
            .iter()
            .find(|(pattern, _)| pattern.matches(name))
            .map_or(Self::Other, |&(_, role)| role)
    }

    /// Roles whose tensors the mixes number in output order. Tensors like `attn_v`, the most
    /// sensitive part of attention, share one count.
    pub(super) fn counter(self) -> Option<Counter> {
        match self {
            Self::AttnV | Self::AttnQkv | Self::AttnKvB => Some(Counter::AttnV),
            Self::FfnUp => Some(Counter::FfnUp),
            Self::FfnGate => Some(Counter::FfnGate),
            Self::FfnDown => Some(Counter::FfnDown),
            _ => None,
        }
    }
}

/// Which running number tells a tensor's place among its like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Counter {
    AttnV,
    FfnUp,
    FfnGate,
    FfnDown,
}

/// Weights that stay as they are: small, or ruined by quantization.
const KEPT: &[Name] = &[
    Name::Has("_norm.weight"),
    // The routers of experts, and a table of expert indices.
    Name::Has("ffn_gate_inp.weight"),
    Name::Has("ffn_gate_tid2eid.weight"),
    // Gemma 3n: tiny matrices, and a projection that is not worth it.
    Name::Has("altup"),
    Name::Has("laurel"),
    Name::Has("per_layer_model_proj"),
    // BERT: positions and token types.
    Name::Is("position_embd.weight"),
    Name::Is("token_types.weight"),
    // Short convolutions of state-space models.
    Name::Has("ssm_conv1d"),
    Name::Has("shortconv.conv.weight"),
    // MiniMax: the indexer's projections are tiny.
    Name::Has("indexer.k_proj.weight"),
    Name::Has("indexer.q_proj.weight"),
    // RWKV: two-dimensional, but small.
    Name::Has("time_mix_first.weight"),
    Name::Has("time_mix_w0.weight"),
    Name::Has("time_mix_w1.weight"),
    Name::Has("time_mix_w2.weight"),
    Name::Has("time_mix_v0.weight"),
    Name::Has("time_mix_v1.weight"),
    Name::Has("time_mix_v2.weight"),
    Name::Has("time_mix_a0.weight"),
    Name::Has("time_mix_a1.weight"),
    Name::Has("time_mix_a2.weight"),
    Name::Has("time_mix_g1.weight"),
    Name::Has("time_mix_g2.weight"),
    Name::Has("time_mix_decay_w1.weight"),
    Name::Has("time_mix_decay_w2.weight"),
    Name::Has("time_mix_lerp_fused.weight"),
    // T5: relative position bias.
    Name::Has("attn_rel_b.weight"),
    // Vision and audio towers.
    Name::Has(".position_embd"),
    Name::Has("sam.pos_embd"),
    Name::Has("sam.neck."),
    Name::Has("sam.net_"),
    Name::Has(".rel_pos"),
    Name::Has(".patch_embd"),
    Name::Has(".patch_merger"),
    Name::Has("a.rvq.codebook"),
    Name::Has("mm.a.code_embd"),
];

/// Weights that stay as they are in one architecture only.
const KEPT_IN_ARCH: &[(&str, &[Name])] = &[(
    "glm5-next",
    &[
        Name::Has("hc_"),
        Name::Has("indexer.attn_q_b"),
        Name::Has("indexer.attn_k"),
        Name::Has("indexer.proj"),
        Name::Has("indexer_compressor_gate"),
        Name::Has("indexer_compressor_ape"),
        Name::Has("ssm_f_a.weight"),
        Name::Has("ssm_f_b.weight"),
        Name::Has("ssm_g_a.weight"),
        Name::Has("ssm_g_b.weight"),
        Name::Has("ssm_beta.weight"),
        Name::Has("attn_kv_a_mqa.weight"),
        Name::Has("attn_k_b.weight"),
        Name::Has("attn_v_b.weight"),
    ],
)];

/// Whether a tensor may be given another type at all.
pub(super) fn is_quantizable(name: &str, shape: &[u64], arch: &str) -> bool {
    // Trailing dimensions of one do not count: ggml cannot tell [n, 1] from [n].
    let is_matrix = shape.iter().skip(1).any(|&n| n > 1);
    let is_kept = |names: &[Name]| names.iter().any(|kept| kept.matches(name));
    is_matrix
        && name.ends_with("weight")
        && !is_kept(KEPT)
        && !KEPT_IN_ARCH.iter().any(|(owner, names)| *owner == arch && is_kept(names))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_matrices_of_weights_are_quantized() {
        let ok = |name, shape: &[u64]| is_quantizable(name, shape, "llama");
        assert!(ok("blk.0.attn_q.weight", &[256, 256]));
        assert!(ok("blk.0.ffn_up_exps.weight", &[256, 1, 4]));
        assert!(!ok("blk.0.attn_q.weight", &[256]));
        assert!(!ok("blk.0.attn_q.weight", &[256, 1, 1]));
        assert!(!ok("blk.0.attn_q.weight", &[]));
        assert!(!ok("blk.0.attn_q.bias", &[256, 256]));
        assert!(!ok("blk.0.attn_q_norm.weight", &[256, 256]));
        assert!(!ok("blk.0.ffn_gate_inp.weight", &[256, 4]));
        assert!(ok("blk.0.ffn_gate_inp_shexp.weight", &[256, 4]));
        assert!(
            ok("v.position_embd_x.weight", &[256, 4]) != ok("position_embd_x.weight", &[256, 4])
        );
    }

    #[test]
    fn exclusions_of_one_architecture_stay_there() {
        let name = "blk.0.attn_k_b.weight";
        assert!(is_quantizable(name, &[256, 256], "deepseek2"));
        assert!(!is_quantizable(name, &[256, 256], "glm5-next"));
    }

    #[test]
    fn the_whole_name_decides_for_embedding_and_output() {
        assert_eq!(Role::of("output.weight"), Role::Output);
        assert_eq!(Role::of("cls.output.weight"), Role::Other);
        assert_eq!(Role::of("blk.1.attn_output.weight"), Role::AttnOutput);
        assert_eq!(Role::of("blk.1.ffn_down_exps.weight"), Role::FfnDown);
        assert_eq!(Role::of("blk.1.attn_q_a.weight"), Role::Other);
    }
}
