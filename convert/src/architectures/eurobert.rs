//! EuroBERT and Jina's embedding models of the fifth generation: Llama's parts, attention in both
//! directions.

use super::{
    Architecture, BASE, encoder,
    parameters::{COMMON, Constant, FILE_TYPE, KEY_LENGTHS, Parameter},
    shared::*,
    tensors::Rule,
};
use crate::tokenizer::Kind;

pub(super) const EUROBERT: Architecture = Architecture {
    name: "eurobert",
    classes: &["EuroBertModel", "JinaEmbeddingsV5Model"],
    defaults: &[model(
        "eurobert",
        &[
            &[count("max_position_embeddings", 8192), number("rms_norm_eps", 1e-5)],
            &[number("rope_theta", 250_000.0)],
            SAME_HEADS,
        ],
    )],
    parameters: &[
        COMMON,
        KEY_LENGTHS,
        FILE_TYPE,
        &[
            Parameter::Constant("attention.causal", Constant::Flag(false)),
            Parameter::Constant("rope.scaling.type", Constant::Text("none")),
            Parameter::With(encoder::pooling),
            Parameter::Global("tokenizer.ggml.add_bos_token", Constant::Flag(false)),
        ],
    ],
    tensors: &[
        &[Rule::new("model.embed_tokens", "token_embd", &[VOCAB, HIDDEN])],
        OUTPUT_NORM,
        NORMS,
        ATTENTION,
        GATED_MLP,
    ],
    check: check_heads,
    tokenizers: &[Kind::ByteLevel],
    ..BASE
};
