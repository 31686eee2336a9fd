//! Pixtral, as LLaVA, Mistral 3 and LightOnOCR have it: rotary positions in two dimensions.

use std::path::Path;

use serde_json::Value;

use super::{Encoder, Projector, nothing, shared::*};
use crate::{
    Error, Result,
    architectures::{
        Architecture, Default, ModelDefaults,
        parameters::{self, Constant, Parameter},
        tensors::{Dim, Rule, Step},
    },
    json::{self, Object},
};

pub(super) const PIXTRAL: Projector = Projector {
    classes: &["LlavaForConditionalGeneration", "Mistral3ForConditionalGeneration"],
    name: "pixtral",
    encoders: &[Encoder {
        config: &["vision_config"],
        starts: &[
            "vision_tower.",
            "multi_modal_projector.",
            "embed_tokens.",
            "language_model.embed_tokens.",
            "language_model.model.embed_tokens.",
        ],
        prepare: find_break,
        family: &Architecture {
            parameters: &[VISION, &[TYPE, EPSILON, ACTIVATION, MERGE]],
            tensors: &[TOWER, PROJECTION, BREAK],
            ..FAMILY
        },
    }],
    types: &[],
};

pub(super) const LIGHTON_OCR: Projector = Projector {
    classes: &["LightOnOCRForConditionalGeneration", "LightOnOcrForConditionalGeneration"],
    name: "lightonocr",
    encoders: &[Encoder {
        config: &["vision_config"],
        starts: &[
            "vision_tower.",
            "vision_encoder.",
            "multi_modal_projector.",
            "vision_projection.",
        ],
        prepare: nothing,
        family: &Architecture {
            parameters: &[
                VISION,
                &[
                    Parameter::Constant("projector_type", Constant::Text("lightonocr")),
                    EPSILON,
                    ACTIVATION,
                    MERGE,
                ],
            ],
            tensors: &[TOWER, PROJECTION],
            ..FAMILY
        },
    }],
    types: &[],
};

const TYPE: Parameter = Parameter::Constant("projector_type", Constant::Text("pixtral"));

/// Patches that are put together, in both directions, where they are.
const MERGE: Parameter = parameters::count("vision.spatial_merge_size", &[MERGED]);
const MERGED: &str = "patches put together";

const DEFAULTS: &[Default] = &[
    count("hidden_size", 1024),
    count("intermediate_size", 4096),
    count("num_hidden_layers", 24),
    count("num_attention_heads", 16),
    count("num_channels", 3),
    count("image_size", 1024),
    count("patch_size", 16),
    text("hidden_act", "gelu"),
    // Nowhere in a file, but in the code of the model.
    number("layer_norm_eps", 1e-5),
    same(MERGED, "whole spatial_merge_size"),
    with(MERGED, |config| {
        let merges = config.get("whole model_type").and_then(Value::as_str) != Some("llava");
        Ok(merges.then(|| 2.into()))
    }),
];

const FAMILY: Architecture = Architecture {
    defaults: &[ModelDefaults { model_type: "pixtral", values: &[DEFAULTS], in_wrapper: &[] }],
    wrappers: &[
        "model.vision_tower.",
        "vision_tower.",
        "model.vision_encoder.",
        "vision_encoder.",
        "model.",
    ],
    rename: |_, name| {
        let rest = name.strip_prefix("vision_projection.")?;
        Some(format!("multi_modal_projector.{rest}"))
    },
    check: |config| match config.get("model_type").and_then(Value::as_str) {
        Some("pixtral") => Ok(()),
        other => {
            let found =
                other.map_or_else(|| "missing".into(), |other| json::describe(&other.into()));
            Err(config.wrong(
                "vision_config.model_type",
                &found,
                "pixtral, the only encoder that is \
                converted of these models",
            ))
        }
    },
    ..CLIP
};

/// Hugging Face keeps the two halves of a rotary pair half a head apart, GGUF side by side.
const ROTARY: &[&[Step]] = &[&[Step::Unfold(0, &[HEADS, TWO]), Step::Swap(1, 2), Step::Fold(0, 3)]];

const TOWER: &[Rule] = &[
    Rule::new("patch_conv", "v.patch_embd", &[WIDTH, CHANNELS, PATCH, PATCH]),
    Rule::new("ln_pre", "v.pre_ln", &[WIDTH]),
    Rule::new("transformer.layers.{}.attention_norm", "v.blk.{}.ln1", &[WIDTH]),
    Rule::new("transformer.layers.{}.ffn_norm", "v.blk.{}.ln2", &[WIDTH]),
    Rule::new("transformer.layers.{}.attention.q_proj", "v.blk.{}.attn_q", &[WIDTH, WIDTH])
        .parts(ROTARY),
    Rule::new("transformer.layers.{}.attention.k_proj", "v.blk.{}.attn_k", &[WIDTH, WIDTH])
        .parts(ROTARY),
    Rule::new("transformer.layers.{}.attention.v_proj", "v.blk.{}.attn_v", &[WIDTH, WIDTH]),
    Rule::new("transformer.layers.{}.attention.o_proj", "v.blk.{}.attn_out", &[WIDTH, WIDTH]),
    Rule::new("transformer.layers.{}.feed_forward.gate_proj", "v.blk.{}.ffn_gate", &[INNER, WIDTH]),
    Rule::new("transformer.layers.{}.feed_forward.up_proj", "v.blk.{}.ffn_up", &[INNER, WIDTH]),
    Rule::new("transformer.layers.{}.feed_forward.down_proj", "v.blk.{}.ffn_down", &[WIDTH, INNER]),
];

const PROJECTION: &[Rule] = &[
    Rule::new("multi_modal_projector.norm", "mm.input_norm", &[WIDTH]).optional(),
    Rule::new(
        "multi_modal_projector.patch_merger.merging_layer",
        "mm.patch_merger",
        &[WIDTH, Dim::Product(&[WIDTH, Dim::Key(MERGED), Dim::Key(MERGED)])],
    )
    .optional(),
    Rule::new("multi_modal_projector.linear_1", "mm.1", &[TEXT_WIDTH, WIDTH]).maybe_bias(),
    Rule::new("multi_modal_projector.linear_2", "mm.2", &[TEXT_WIDTH, TEXT_WIDTH]).maybe_bias(),
];

/// The number of the token between two rows of patches.
const BREAK_ID: &str = "number of [IMG_BREAK]";

/// The embedding of that token. Engines refuse a file without it; the reference's converter leaves it
/// out where the text model's names begin with `language_model.`, as they do in published models.
const BREAK: &[Rule] = &[Rule::exact(
    "embed_tokens.weight",
    "v.token_embd.img_break",
    &[Dim::Key("text vocab_size"), TEXT_WIDTH],
)
.parts(&[&[
    Step::Narrow { axis: 0, from: Some(Dim::Key(BREAK_ID)), len: Dim::Number(1) },
    Step::Fold(0, 2),
]])];

/// What is read of tokenizer.json; its vocabulary is not kept.
#[derive(serde::Deserialize)]
struct Added {
    #[serde(default)]
    added_tokens: Vec<Token>,
}

#[derive(serde::Deserialize)]
struct Token {
    id: u64,
    content: String,
}

/// Finds the number of `[IMG_BREAK]` in the tokenizer's files.
fn find_break(dir: &Path, part: &mut Object) -> Result<()> {
    const TOKEN: &str = "[IMG_BREAK]";
    let settings = json::read_optional(&dir.join("tokenizer_config.json"))?.unwrap_or_default();
    let is_break = |token: &Value| token.get("content").and_then(Value::as_str) == Some(TOKEN);
    let added = settings.get("added_tokens_decoder").and_then(Value::as_object);
    let mut id = added.and_then(|added| {
        added.iter().find(|(_, token)| is_break(token)).and_then(|(id, _)| id.parse::<u64>().ok())
    });
    let path = dir.join("tokenizer.json");
    if id.is_none() && path.is_file() {
        let file: Added = json::parse(&path, &json::read_bytes(&path, json::TOKENIZER)?)?;
        id = file.added_tokens.iter().find(|token| token.content == TOKEN).map(|token| token.id);
    }
    let Some(id) = id.filter(|id| *id > 0) else {
        return Err(Error::Tokenizer {
            path: dir.to_path_buf(),
            place: "added tokens".into(),
            found: format!("no token {TOKEN}"),
            expected: format!("{TOKEN}, whose embedding stands between rows of an image"),
            help: "put the tokenizer's files of the same model beside the weights",
        });
    };
    part.insert(BREAK_ID.into(), id.into());
    Ok(())
}
