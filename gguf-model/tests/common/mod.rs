//! Small models of every architecture, made from the descriptions alone.
#![allow(dead_code, reason = "each test uses a part of it")]

use std::collections::{HashMap, HashSet};

use gguf_io::metadata::{Array, GgufString, Metadata, Value};
use gguf_model::{
    Architecture, Dimension, Expected, HyperParameters, Kind, Need, Report, Size, Slot, When, check,
};

/// A model without data.
#[derive(Clone)]
pub(crate) struct Model {
    pub(crate) what: String,
    pub(crate) architecture: &'static Architecture,
    pub(crate) metadata: Metadata,
    pub(crate) tensors: Vec<(String, Vec<u64>)>,
}

impl Model {
    pub(crate) fn report(&self) -> Report {
        check(&self.metadata, self.tensors.iter().map(|(n, s)| (n.as_str(), s.as_slice())))
    }

    pub(crate) fn key(&self, name: &str) -> String {
        format!("{}.{name}", self.architecture.name)
    }

    pub(crate) fn parameters(&self) -> HyperParameters {
        HyperParameters::read(&self.metadata, self.architecture).unwrap()
    }

    /// The tensors that a slot asks for, which need not be there.
    pub(crate) fn expected(&self) -> Vec<Expected> {
        self.architecture.tensors(&self.parameters()).collect()
    }

    /// The slot of each tensor, by its name.
    pub(crate) fn slots(&self) -> HashMap<String, &'static Slot> {
        let expected = self.expected();
        let all = expected.iter().flat_map(|e| names_of(e).into_iter().map(|name| (name, e.slot)));
        all.collect()
    }
}

fn mentions(size: Size, dimension: Dimension) -> bool {
    match size {
        Size::Of(other) => other == dimension,
        Size::Sum(parts) | Size::Product(parts) => {
            parts.iter().any(|part| mentions(*part, dimension))
        }
        Size::Difference(a, b) => mentions(*a, dimension) || mentions(*b, dimension),
        Size::Half(whole) => mentions(*whole, dimension),
        Size::Quotient(a, b) => mentions(*a, dimension) || mentions(*b, dimension),
        _ => false,
    }
}

pub(crate) fn uses(architecture: &Architecture, dimension: Dimension) -> bool {
    architecture.slots().any(|slot| slot.shape.iter().any(|size| mentions(*size, dimension)))
}

fn has(architecture: &Architecture, when: When) -> bool {
    architecture.slots().any(|slot| slot.when.contains(&when))
}

/// Metadata of a small model whose sizes differ from each other.
fn metadata(architecture: &'static Architecture) -> Metadata {
    let mut metadata = Metadata::new();
    let mut set = |key: &str, value: Value| {
        metadata.insert(format!("{}.{key}", architecture.name), value);
    };
    for (key, value) in [
        ("block_count", 3u32),
        ("context_length", 56),
        ("embedding_length", 48),
        ("feed_forward_length", 80),
        ("attention.head_count", 4),
    ] {
        set(key, value.into());
    }
    let is_t5 = uses(architecture, Dimension::RelativeBuckets);
    // Norms as wide as all queries fit no fewer keys.
    let wide = |slot: &Slot| {
        slot.name.contains("attn_k_norm") && slot.shape == [Size::Of(Dimension::Embedding)]
    };
    if uses(architecture, Dimension::KvHeads) && !is_t5 && !architecture.slots().any(wide) {
        set("attention.head_count_kv", 2u32.into());
    }
    // Heads that are not as wide as the model together.
    let output = architecture.slots().find(|slot| slot.name.ends_with(".attn_output"));
    if is_t5 || output.is_some_and(|slot| mentions(slot.shape[0], Dimension::Key)) {
        set("attention.key_length", 16u32.into());
        set("attention.value_length", 16u32.into());
    }
    if architecture.slots().any(|slot| slot.name == "blk.{}.ffn_gate_exps" && slot.when.is_empty())
        || has(architecture, When::AfterLeading)
        || has(architecture, When::EveryStep)
        || architecture.keys().any(|key| key.name == "expert_count" && key.required)
        || uses(architecture, Dimension::ExpertLatent)
    {
        set("expert_count", 6u32.into());
        set("expert_used_count", 2u32.into());
    }
    for key in architecture.keys() {
        let number: u32 = match key.name {
            "leading_dense_block_count" => 1,
            "expert_feed_forward_length" => 36,
            "expert_shared_count" => 2,
            "attention.q_lora_rank" => 24,
            "attention.kv_lora_rank" => 28,
            "attention.key_length_mla" => 20,
            "attention.value_length_mla" => 12,
            "attention.relative_buckets_count" => 32,
            "attention.sliding_window" => 64,
            "decoder_block_count" => 2,
            "full_attention_interval" => 2,
            "attention.indexer.top_k" if key.required => 5,
            "attention.indexer.block_size" | "attention.indexer.local_blocks" => 7,
            "attention.indexer.kpool" => 9,
            "hyper_connection.count" => 4,
            "hyper_connection.sinkhorn_iterations" => 11,
            "kda.head_dim" => 18,
            "expert_chunk_feed_forward_length" => 22,
            "experts_per_group" => 2,
            "attention.indexer.head_count" => 3,
            "attention.indexer.key_length" => 14,
            "attention.shared_kv_layers" => 1,
            "embedding_length_per_layer_input" => 6,
            "attention.key_length_swa" | "attention.value_length_swa" if key.required => 12,
            "embedding_length_out" if key.required => 52,
            "expert_gating_func" if key.kind == Kind::Integer(4, 4) => 4,
            "expert_gating_func" => 2,
            "attention.output_group_count" => 2,
            "attention.output_lora_rank" => 10,
            "hash_layer_count" => 1,
            "hrm.layers_per_stack" | "hrm.h_cycles" => 1,
            "hrm.l_cycles" => 2,
            "ssm.conv_kernel" => 4,
            // Of delta nets the state is as wide as a head's values.
            "ssm.inner_size" if uses(architecture, Dimension::SsmInner) => 96,
            "ssm.inner_size" => 192,
            "ssm.state_size" => 16,
            "ssm.time_step_rank" => 12,
            "ssm.group_count" => 2,
            "shortconv.l_cache" => 3,
            "moe_latent_size" => 28,
            "interleave_moe_layer_step" => 2,
            "dense_2_feat_in" | "dense_3_feat_out" => 48,
            "dense_2_feat_out" | "dense_3_feat_in" => 72,
            _ => {
                match key.kind {
                    Kind::Positive | Kind::Float if key.required => set(key.name, 1e-5f32.into()),
                    Kind::Pattern if key.required => {
                        set(key.name, vec![true, false, true].into());
                    }
                    Kind::Bool if key.required => set(key.name, true.into()),
                    Kind::Sections if key.required => set(key.name, vec![3i32, 3, 2, 0].into()),
                    _ => {}
                }
                continue;
            }
        };
        set(key.name, number.into());
    }
    if has(architecture, When::Compressed(4)) {
        set("attention.compress_ratios", vec![0i32, 4, 128].into());
    }
    let is_compressed = uses(architecture, Dimension::KvRank);
    if is_compressed && architecture.name != "deepseek2" {
        set("attention.key_length", 20u32.into());
        set("rope.dimension_count", 8u32.into());
    }
    // Layers of several kinds: without anything, with attention, with a feed-forward part.
    if has(architecture, When::NoAttention) || has(architecture, When::NeitherPart) {
        set("attention.head_count_kv", vec![0i32, 2, 0].into());
    }
    if has(architecture, When::NeitherPart) {
        set("feed_forward_length", vec![0i32, 0, 80].into());
    }
    if uses(architecture, Dimension::KvRank) {
        // Compressed, it has one head of keys: of the compressed size and the part that RoPE turns.
        let heads = match has(architecture, When::NoAttention) {
            true => vec![0i32, 1, 0].into(),
            false => 1u32.into(),
        };
        set("attention.head_count_kv", heads);
        set("attention.key_length", 36u32.into());
        set("attention.value_length", 28u32.into());
        set("rope.dimension_count", 8u32.into());
    }
    let tokens = (0..40).map(|i| GgufString::from(format!("t{i}"))).collect();
    metadata.insert("general.architecture", architecture.name);
    metadata.insert("tokenizer.ggml.model", "llama");
    metadata.insert("tokenizer.ggml.tokens", Value::Array(Array::String(tokens)));
    metadata.insert("tokenizer.ggml.scores", vec![0f32; 40]);
    metadata.insert("tokenizer.ggml.token_type", vec![1i32; 40]);
    if uses(architecture, Dimension::TokenTypes) {
        metadata.insert("tokenizer.ggml.token_type_count", 2u32);
    }
    metadata
}

/// What a model may have besides what it must.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Choice {
    /// Nothing.
    Least,
    /// Everything that takes no other's place.
    Most,
    /// Everything, and the forms that take others' place.
    Other,
    /// Everything, and what decides beside the usual forms.
    Beside,
}

/// Patterns of tensors on which others depend.
fn deciding(architecture: &Architecture) -> HashSet<&'static str> {
    architecture
        .slots()
        .filter_map(|slot| match slot.need {
            Need::Unless(p) | Need::OptionalUnless(p) | Need::With(p) | Need::OptionalWith(p) => {
                Some(p)
            }
            _ => None,
        })
        .collect()
}

/// The names of what a slot asks for in a layer: one for each expert, where they are apart.
fn names_of(expected: &Expected) -> Vec<String> {
    let name = expected.name();
    if expected.slot.name.matches("{}").count() < 2 {
        return vec![name];
    }
    let parts: Vec<_> = name.rsplitn(3, '.').collect();
    (0..6).map(|i| format!("{}.{i}.{}", parts[2], parts[0])).collect()
}

/// Fills in the tensors.
fn with_tensors(mut model: Model, choice: Choice) -> Model {
    let deciding = deciding(model.architecture);
    let decides = |e: &Expected| deciding.iter().any(|pattern| e.beside(pattern) == e.name());
    let expected = model.expected();
    let takes = |e: &Expected, names: &HashSet<String>| match e.slot.need {
        Need::Required => true,
        Need::Optional | Need::Sparse => choice != Choice::Least,
        Need::Unless(other) => !names.contains(&e.beside(other)),
        Need::OptionalUnless(other) => choice != Choice::Least && !names.contains(&e.beside(other)),
        Need::With(other) => names.contains(&e.beside(other)),
        Need::OptionalWith(other) => choice != Choice::Least && names.contains(&e.beside(other)),
        _ => panic!("{:?}", e.slot.need),
    };
    // First what others depend on: where a form may be chosen the other one, then what remains.
    let mut names = HashSet::new();
    let is_with = |e: &Expected| matches!(e.slot.need, Need::OptionalWith(_));
    let is_unless = |e: &Expected| matches!(e.slot.need, Need::Unless(_));
    for e in expected.iter().filter(|e| decides(e) && !is_unless(e) && !is_with(e)) {
        if choice == Choice::Other || e.slot.need == Need::Required {
            names.insert(e.name());
        }
    }
    for e in expected.iter().filter(|e| decides(e) && (is_unless(e) || is_with(e))) {
        if takes(e, &names) && (is_unless(e) || matches!(choice, Choice::Other | Choice::Beside)) {
            names.insert(e.name());
        }
    }
    for e in expected.iter() {
        let taken = if decides(e) { names.contains(&e.name()) } else { takes(e, &names) };
        if taken {
            let shape: Vec<u64> = e.shape.iter().map(|n| n.unwrap()).collect();
            model.tensors.extend(names_of(e).into_iter().map(|name| (name, shape.clone())));
        }
    }
    model
}

/// Adds a layer like the one with attention to each list of a model's layers.
fn lengthen(metadata: &mut Metadata) {
    let lists = metadata.iter().filter_map(|(key, value)| match value {
        Value::Array(Array::Int32(list)) if list.len() == 3 => {
            let longer: Vec<i32> = list.iter().copied().chain([list[1]]).collect();
            Some((key.to_owned(), Value::from(longer)))
        }
        Value::Array(Array::Bool(list)) if list.len() == 3 => {
            let longer: Vec<bool> = list.iter().copied().chain([list[1]]).collect();
            Some((key.to_owned(), Value::from(longer)))
        }
        _ => None,
    });
    for (key, value) in lists.collect::<Vec<_>>() {
        metadata.insert(key, value);
    }
}

/// Models of an architecture whose heads together are not as wide as the model; none if its
/// description says that they have to be.
pub(crate) fn other_heads(architecture: &'static Architecture) -> Vec<Model> {
    let mut metadata = metadata(architecture);
    let is_compressed = uses(architecture, Dimension::KvRank);
    for (name, value) in [
        ("attention.key_length", 20u32),
        ("attention.value_length", 20),
        ("attention.value_length_mla", 10),
    ] {
        if name.ends_with("_mla") == is_compressed {
            metadata.insert(format!("{}.{name}", architecture.name), value);
        }
    }
    if let Err(problems) = HyperParameters::read(&metadata, architecture) {
        let fills = |problem: &gguf_model::Problem| problem.message.contains("embedding_length 48");
        assert!(problems.iter().any(fills), "{}: {problems:?}", architecture.name);
        return Vec::new();
    }
    let choices = [Choice::Least, Choice::Most, Choice::Other];
    let model = |choice: Choice| {
        let what = format!("{} (other heads, {choice:?})", architecture.name);
        let metadata = metadata.clone();
        with_tensors(Model { what, architecture, metadata, tensors: Vec::new() }, choice)
    };
    choices.map(model).into()
}

/// Every architecture in every variant that its description tells apart.
pub(crate) fn models() -> Vec<Model> {
    let mut models = Vec::new();
    for &architecture in gguf_model::ALL {
        let mut variants = vec![("plain", metadata(architecture))];
        let mut vary = |what, when: When, keys: &[(&str, Value)]| {
            if has(architecture, when) {
                let mut changed = metadata(architecture);
                for (key, value) in keys {
                    changed.insert(format!("{}.{key}", architecture.name), value.clone());
                }
                if when == When::Further {
                    lengthen(&mut changed);
                }
                variants.push((what, changed));
            }
        };
        let experts = [("expert_count", 6u32.into()), ("expert_used_count", 2u32.into())];
        vary("experts", When::Experts, &experts);
        let [count, used] = experts;
        let shared = ("expert_shared_feed_forward_length", 44u32.into());
        vary("shared experts", When::SharedExperts, &[count, used, shared]);
        vary("longrope", When::LongRope, &[("rope.scaling.type", "longrope".into())]);
        vary("uncompressed queries", When::NoQueryRank, &[("attention.q_lora_rank", 0u32.into())]);
        let of_heads = [
            ("attention.key_length_mla", 0u32.into()),
            ("attention.value_length_mla", 0u32.into()),
            ("attention.head_count_kv", 4u32.into()),
            ("attention.key_length", 20u32.into()),
            ("attention.value_length", 12u32.into()),
        ];
        vary("no latent attention", When::NotLatent, &of_heads);
        let further = [("block_count", 4u32.into()), ("nextn_predict_layers", 1u32.into())];
        vary("further tokens", When::Further, &further);
        vary("another width", When::EmbeddingOut, &[("embedding_length_out", 72u32.into())]);
        vary("many layers", When::LayersFrom(64), &[("block_count", 64u32.into())]);
        for (variant, metadata) in variants {
            for choice in [Choice::Least, Choice::Most, Choice::Other, Choice::Beside] {
                let what = format!("{} ({variant}, {choice:?})", architecture.name);
                let tensors = Vec::new();
                let model = Model { what, architecture, metadata: metadata.clone(), tensors };
                let model = with_tensors(model, choice);
                // Mostly there is nothing of that kind.
                let most = models.len().checked_sub(2).and_then(|at| models.get(at));
                let is_known = |most: &Model| most.tensors == model.tensors;
                if choice != Choice::Beside || !most.is_some_and(is_known) {
                    models.push(model);
                }
            }
        }
    }
    models
}
