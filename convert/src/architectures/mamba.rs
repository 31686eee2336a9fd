//! Mamba and Mamba 2, and the parts that hybrids take from them.

use serde_json::Value;

use super::{
    Architecture, BASE, Default, Fill,
    parameters::{self, Constant, FILE_TYPE, Parameter},
    shared::*,
    tensors::{Dim, Rule, Step},
};
use crate::{Config, Result, tokenizer::Kind};

pub(super) const MAMBA: Architecture = Architecture {
    name: "mamba",
    classes: &["MambaForCausalLM", "MambaLMHeadModel", "FalconMambaForCausalLM"],
    defaults: &[
        model("mamba", &[GIVEN, &[flag("tie_word_embeddings", true)]]),
        model("falcon_mamba", &[GIVEN, &[flag("tie_word_embeddings", true)]]),
    ],
    parameters: &[
        FIRST,
        &[
            parameters::required("ssm.conv_kernel", &["conv_kernel"]),
            parameters::required("ssm.inner_size", &[INNER_KEY]),
            parameters::required("ssm.state_size", &[STATE_KEY]),
            parameters::required("ssm.time_step_rank", &["time_step_rank"]),
            parameters::required_number(
                "attention.layer_norm_rms_epsilon",
                &["layer_norm_epsilon"],
            ),
            Parameter::With(|config, keys| {
                let ty = config.get("model_type").and_then(Value::as_str);
                keys.set("ssm.dt_b_c_rms", ty == Some("falcon_mamba"));
                Ok(())
            }),
        ],
        FILE_TYPE,
    ],
    prefix: "backbone.",
    tensors: &[
        ENDS,
        &[
            Rule::new("backbone.layers.{}.norm", "blk.{}.attn_norm", &[HIDDEN]),
            Rule::new(
                "backbone.layers.{}.mixer.in_proj",
                "blk.{}.ssm_in",
                &[Dim::Product(&[Dim::Number(2), Dim::Key(INNER_KEY)]), HIDDEN],
            )
            .maybe_bias(),
            Rule::new(
                "backbone.layers.{}.mixer.conv1d",
                "blk.{}.ssm_conv1d",
                &[INNER, Dim::Number(1), CONV],
            )
            .parts(FLAT)
            .bias(),
            Rule::new("backbone.layers.{}.mixer.x_proj", "blk.{}.ssm_x", &[X, INNER]),
            Rule::new("backbone.layers.{}.mixer.dt_proj", "blk.{}.ssm_dt", &[INNER, RANK]).bias(),
            Rule::exact("backbone.layers.{}.mixer.A_log", "blk.{}.ssm_a", &[INNER, STATE])
                .negative_exp(),
            Rule::exact("backbone.layers.{}.mixer.D", "blk.{}.ssm_d", &[INNER]),
            Rule::new("backbone.layers.{}.mixer.out_proj", "blk.{}.ssm_out", &[HIDDEN, INNER])
                .maybe_bias(),
        ],
    ],
    check: |config| {
        let (inner, hidden) = (INNER.size(config)?, HIDDEN.size(config)?);
        if hidden.checked_mul(2) == Some(inner) {
            return Ok(());
        }
        // What llama.cpp asks for.
        Err(config.wrong("intermediate_size", &inner.to_string(), "twice hidden_size"))
    },
    tokenizers: &[Kind::ByteLevel, Kind::SentencePiece],
    ..BASE
};

pub(super) const MAMBA2: Architecture = Architecture {
    name: "mamba2",
    classes: &["Mamba2ForCausalLM"],
    defaults: &[model(
        "mamba2",
        &[
            NAMES,
            &[
                count("expand", 2),
                count("head_dim", 64),
                count("n_groups", 8),
                count("state_size", 128),
                count("conv_kernel", 4),
                number("layer_norm_epsilon", 1e-5),
                default(PADDING, Fill::Given("pad_vocab_size_multiple")),
                count(PADDING, 16),
                default(
                    INNER_KEY,
                    Fill::With(|config| {
                        Ok(Some(
                            Dim::Product(&[Dim::Key("expand"), Dim::Key("hidden_size")])
                                .size(config)?
                                .into(),
                        ))
                    }),
                ),
                default(STATE_KEY, Fill::Given("state_size")),
                default(GROUPS_KEY, Fill::Given("n_groups")),
                default(HEADS_KEY, Fill::Quotient(INNER_KEY, "head_dim")),
            ],
            PADDED,
        ],
    )],
    parameters: &[
        FIRST,
        &[
            parameters::required("ssm.conv_kernel", &["conv_kernel"]),
            parameters::required("ssm.inner_size", &[INNER_KEY]),
            parameters::required("ssm.state_size", &[STATE_KEY]),
            parameters::required("ssm.time_step_rank", &[HEADS_KEY]),
            parameters::required("ssm.group_count", &[GROUPS_KEY]),
            parameters::required_number(
                "attention.layer_norm_rms_epsilon",
                &["layer_norm_epsilon"],
            ),
        ],
        FILE_TYPE,
    ],
    prefix: "backbone.",
    wrappers: &["model."],
    tensors: &[
        ENDS,
        &[Rule::new("backbone.layers.{}.norm", "blk.{}.attn_norm", &[HIDDEN])],
        mixer!("backbone.layers.{}.mixer", "conv_kernel", |_, _| true),
    ],
    tokenizers: &[Kind::SentencePiece, Kind::ByteLevel],
    ..BASE
};

pub(super) const INNER_KEY: &str = "values inside a state space model";
pub(super) const STATE_KEY: &str = "values of its state";
pub(super) const GROUPS_KEY: &str = "groups of its heads";
pub(super) const HEADS_KEY: &str = "heads of a state space model";
const X: Dim = Dim::Sum(&[RANK, STATE, STATE]);
pub(super) const PADDING: &str = "tokens are a multiple of";

const INNER: Dim = Dim::Key(INNER_KEY);
const STATE: Dim = Dim::Key(STATE_KEY);
const CONV: Dim = Dim::Key("conv_kernel");
const RANK: Dim = Dim::Key("time_step_rank");
const GROUP_STATE: Dim = Dim::Product(&[Dim::Key(GROUPS_KEY), Dim::Key(STATE_KEY)]);
const MIXER_HEADS: Dim = Dim::Key(HEADS_KEY);
/// What Mamba 2 convolves: values, inputs and outputs of the state.
pub(super) const CONVOLVED: Dim = Dim::Sum(&[INNER, GROUP_STATE, GROUP_STATE]);
/// What goes into Mamba 2: gates, what it convolves, and time steps.
pub(super) const PROJECTED: Dim = Dim::Sum(&[INNER, CONVOLVED, MIXER_HEADS]);

/// The dimension of one that PyTorch's convolutions have in the middle.
pub(super) const FLAT: &[&[Step]] = &[&[Step::Fold(1, 2)]];

/// Mamba 2's parts below this name, in the layers that have them. The second is the key for how many
/// tokens the convolution looks at.
macro_rules! mixer {
    ($name:literal, $kernel:literal, $layers:expr) => {
        &[
            Rule::new(concat!($name, ".in_proj"), "blk.{}.ssm_in", &[PROJECTED, HIDDEN])
                .maybe_bias()
                .in_layers($layers),
            Rule::new(
                concat!($name, ".conv1d"),
                "blk.{}.ssm_conv1d",
                &[CONVOLVED, Dim::Number(1), Dim::Key($kernel)],
            )
            .parts(FLAT)
            .maybe_bias()
            .in_layers($layers),
            Rule::exact(concat!($name, ".dt_bias"), "blk.{}.ssm_dt.bias", &[Dim::Key(HEADS_KEY)])
                .in_layers($layers),
            Rule::exact(concat!($name, ".A_log"), "blk.{}.ssm_a", &[Dim::Key(HEADS_KEY)])
                .parts(&[&[Step::Unfold(0, &[Dim::Key(HEADS_KEY)])]])
                .negative_exp()
                .in_layers($layers),
            Rule::exact(concat!($name, ".D"), "blk.{}.ssm_d", &[Dim::Key(HEADS_KEY)])
                .parts(&[&[Step::Unfold(0, &[Dim::Key(HEADS_KEY)])]])
                .in_layers($layers),
            Rule::new(concat!($name, ".norm"), "blk.{}.ssm_norm", &[Dim::Key(INNER_KEY)])
                .parts(&[&[Step::Unfold(0, &[Dim::Key(GROUPS_KEY)])]])
                .in_layers($layers),
            Rule::new(
                concat!($name, ".out_proj"),
                "blk.{}.ssm_out",
                &[HIDDEN, Dim::Key(INNER_KEY)],
            )
            .maybe_bias()
            .in_layers($layers),
        ]
    };
}
pub(super) use mixer;

/// Names that sizes have in the files of the authors.
const NAMES: &[Default] = &[
    default("hidden_size", Fill::Given("d_model")),
    default("conv_kernel", Fill::Given("d_conv")),
    default("state_size", Fill::Given("d_state")),
    default("time_step_rank", Fill::Given("dt_rank")),
    default("intermediate_size", Fill::Given("d_inner")),
    default("layer_norm_epsilon", Fill::Given("rms_norm_eps")),
];

const GIVEN: &[Default] = &[
    default("hidden_size", Fill::Given("d_model")),
    default("conv_kernel", Fill::Given("d_conv")),
    count("conv_kernel", 4),
    default("state_size", Fill::Given("d_state")),
    count("state_size", 16),
    default("intermediate_size", Fill::Given("d_inner")),
    default(
        "intermediate_size",
        Fill::With(|config| {
            Ok(Some(Dim::Product(&[Dim::Number(2), Dim::Key("hidden_size")]).size(config)?.into()))
        }),
    ),
    default("time_step_rank", Fill::Given("dt_rank")),
    default(
        "time_step_rank",
        Fill::With(|config| Ok(Some(HIDDEN.size(config)?.div_ceil(16).into()))),
    ),
    default("layer_norm_epsilon", Fill::Given("rms_norm_eps")),
    number("layer_norm_epsilon", 1e-5),
    default(INNER_KEY, Fill::Given("intermediate_size")),
    default(STATE_KEY, Fill::Given("state_size")),
    default(PADDING, Fill::Given("pad_vocab_size_multiple")),
    count(PADDING, 8),
    replaced("vocab_size", Fill::With(padded)),
];

/// The tokens are filled up to a multiple, as the embeddings are.
pub(super) const PADDED: &[Default] = &[replaced("vocab_size", Fill::With(padded))];

fn padded(config: &Config) -> Result<Option<Value>> {
    let (tokens, multiple) = (VOCAB.size(config)?, config.require(PADDING)?);
    Ok(Some(tokens.div_ceil(multiple).saturating_mul(multiple).into()))
}

/// What every state space model says that has no attention.
const FIRST: &[Parameter] = &[
    Parameter::Constant("context_length", Constant::Count(1 << 20)),
    parameters::required("embedding_length", &["hidden_size"]),
    Parameter::Constant("feed_forward_length", Constant::Count(0)),
    Parameter::Constant("attention.head_count", Constant::Count(0)),
    parameters::required("block_count", super::tensors::LAYERS),
];

const ENDS: &[Rule] = &[
    Rule::new("backbone.embeddings", "token_embd", &[VOCAB, HIDDEN]).any_of(),
    Rule::new("backbone.embedding", "token_embd", &[VOCAB, HIDDEN]).optional().any_of(),
    Rule::new("backbone.norm_f", "output_norm", &[HIDDEN]),
    Rule::new("lm_head", "output", &[VOCAB, HIDDEN])
        .head_unless("tie_word_embeddings", "the output is the token embedding"),
];
