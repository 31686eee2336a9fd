//! Tensors: names, shapes and order of a checkpoint to those of GGUF.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    path::Path,
};

use gguf_io::{Checkpoint, CheckpointTensor, metadata::Value};
use quant_weights::{Purpose, Weights};

use crate::{Config, Result, model::Tensor};

pub(crate) use super::layers::layers;
pub(super) use super::layers::{LAYERS, all_layers};
pub use super::rule::{Dim, Layers, Rule, Step, Target};

use super::{
    family::Architecture,
    mapping::{HELP, Mapping, Slot, Taken},
    names::{own_name, split_numbers},
};

/// Buffers that old versions of transformers saved with the weights; nothing reads them.
const BUFFERS: [&str; 6] = [
    ".attention.masked_bias",
    ".attention.bias",
    ".rotary_emb.inv_freq",
    ".attn.masked_bias",
    ".attn.bias",
    "embeddings.position_ids",
];

/// The tensors of the output, and what of the checkpoint is not among them.
#[derive(Debug)]
pub struct Mapped {
    /// In the order the reference converter writes them.
    pub tensors: Vec<Tensor>,
    /// Which tensors of the checkpoint they are made of.
    pub sources: Vec<Source>,
    /// Tensors of the checkpoint that have no place in the output, with the reason.
    pub left_out: Vec<(String, &'static str)>,
    /// Values that become keys: an array with a value for each layer, or one number.
    pub values: Vec<(&'static str, Value)>,
    /// The name of the head that predicts tokens, if the checkpoint lacks it.
    pub absent_head: Option<&'static str>,
}

/// A tensor of the checkpoint, and one of the output that is made of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Source {
    /// Its name in the checkpoint.
    pub name: String,
    /// The name in the output. A tensor that is taken apart is the source of several.
    pub tensor: String,
    /// Which matrix of that it is, for experts that are stacked.
    pub matrix: usize,
}

/// The tensors of the output, in the order the reference converter writes them: file by file, in
/// each file by name; a stack of experts where the last tensor of its layer's experts is.
///
/// # Errors
/// If a tensor is missing, has no place in the architecture, or another shape than config.json
/// calls for, or a type that is not read.
pub fn map(
    architecture: &Architecture,
    config: &Config,
    weights: &Weights,
    dir: &Path,
) -> Result<Mapped> {
    let checkpoint = weights.checkpoint();
    let mapping = Mapping::new(architecture, config, weights, dir)?;
    let (names, misfits) = (mapping.names(), mapping.misfits());
    let mut seen = HashSet::new();
    let mut copied = HashSet::new();
    let mut stacks = HashMap::new();
    let mut values: BTreeMap<&str, Vec<(Option<u64>, f32)>> = BTreeMap::new();
    let (mut outputs, mut sources) = (Vec::new(), Vec::new());
    let mut unknown = Vec::new();
    let mut left_out = Vec::new();
    for (position, (name, source)) in in_order(checkpoint).into_iter().enumerate() {
        if BUFFERS.iter().any(|buffer| name.ends_with(buffer)) {
            tracing::debug!(name, "buffer left out");
            continue;
        }
        match weights.purpose(name) {
            Purpose::Scale => continue,
            Purpose::LeftOut(reason) => {
                left_out.push((name.to_owned(), reason));
                continue;
            }
            _ => {}
        }
        let found = mapping.find(&names, name);
        let Some(((first, part), layer, expert)) = found else {
            if mapping.is_scales(&split_numbers(&own_name(architecture, config, name)).0) {
                continue;
            }
            match mapping.other_part(name) {
                Some(reason) => left_out.push((name.to_owned(), reason)),
                None => unknown.push((name, source)),
            }
            continue;
        };
        let rule = mapping.fitting(first, &misfits);
        let slot = Slot { rule, part, layer, expert };
        if let Some(reason) = mapping.leaves_out(slot)? {
            left_out.push((name.to_owned(), reason));
            continue;
        }
        let key = mapping.rule(slot)?.key;
        if key.is_none() {
            let rule = mapping.check(slot, name, source)?;
            if rule.copies && !copied.insert((rule.first_target(), part, layer)) {
                left_out.push((name.to_owned(), "the same weights are there under another name"));
                continue;
            }
        }
        if !seen.insert(slot) {
            let expected = "one tensor for each place in the model";
            return Err(mapping.wrong(name, "a second one under another name", expected, HELP));
        }
        if let Some(key) = key {
            let value = mapping.value(name, source)?;
            let place = if mapping.rule(slot)?.source.contains("{}") { Some(layer) } else { None };
            values.entry(key).or_default().push((place, value));
            continue;
        }
        let pieces = mapping.pieces(slot, name, source)?;
        if mapping.rule(slot)?.experts.is_some() {
            let stack: &mut Stack<'_> = stacks.entry((slot.rule, part, layer)).or_default();
            stack.position = stack.position.max(position);
            stack.experts.push((expert, name, pieces));
        } else {
            for (i, taken) in pieces.into_iter().enumerate() {
                let tensor = mapping.tensor(slot, i, taken)?;
                let (name, made) = (name.to_owned(), tensor.name.clone());
                sources.push(Source { name, tensor: made, matrix: 0 });
                outputs.push(((position, slot.rule, i), tensor));
            }
        }
    }
    mapping.refuse_unknown(&unknown)?;
    mapping.refuse_missing(&seen)?;
    // The reference converter holds the experts of a layer back until it has them all.
    let mut last: HashMap<u64, usize> = HashMap::new();
    for ((_, _, layer), stack) in &stacks {
        let last = last.entry(*layer).or_default();
        *last = (*last).max(stack.position);
    }
    for ((rule, part, layer), stack) in stacks {
        let position = last.get(&layer).copied().unwrap_or(stack.position);
        let slot = Slot { rule, part, layer, expert: 0 };
        let (names, stacked) = stack.stacked();
        for (i, taken) in stacked.into_iter().enumerate() {
            let tensor = mapping.tensor(slot, i, taken)?;
            sources.extend(names.iter().enumerate().map(|(matrix, name)| Source {
                name: (*name).to_owned(),
                tensor: tensor.name.clone(),
                matrix,
            }));
            outputs.push(((position, rule, i), tensor));
        }
    }
    outputs.sort_by_key(|(place, _)| *place);
    let tensors = outputs.into_iter().map(|(_, tensor)| tensor).collect();
    let by_layer = |mut values: Vec<(Option<u64>, f32)>| -> Value {
        values.sort_by_key(|(layer, _)| *layer);
        match values.as_slice() {
            [(None, value)] => (*value).into(),
            _ => values.into_iter().map(|(_, value)| value).collect::<Vec<f32>>().into(),
        }
    };
    let values = values.into_iter().map(|(key, values)| (key, by_layer(values))).collect();
    Ok(Mapped { tensors, sources, left_out, values, absent_head: mapping.absent_head(&seen) })
}

/// The tensors of one stack, not yet in the order of their experts.
#[derive(Debug, Default)]
struct Stack<'a> {
    position: usize,
    /// Number, name in the checkpoint, and what each target takes of it.
    experts: Vec<(u64, &'a str, Vec<Taken>)>,
}

impl<'a> Stack<'a> {
    /// The names in the order of the experts, and one for each target, experts outermost.
    fn stacked(mut self) -> (Vec<&'a str>, Vec<Taken>) {
        self.experts.sort_by_key(|(expert, ..)| *expert);
        let count = self.experts.len() as u64;
        let names = self.experts.iter().map(|(_, name, _)| *name).collect();
        let mut stacked: Vec<Taken> = Vec::new();
        for (.., targets) in self.experts {
            for (i, taken) in targets.into_iter().enumerate() {
                match stacked.get_mut(i) {
                    Some(stack) => stack.pieces.extend(taken.pieces),
                    None => {
                        let mut shape = vec![count];
                        shape.extend(taken.shape);
                        stacked.push(Taken { shape, pieces: taken.pieces });
                    }
                }
            }
        }
        (names, stacked)
    }
}

/// Tensors by the name of their file, then by their own.
fn in_order(checkpoint: &Checkpoint) -> Vec<(&str, &CheckpointTensor)> {
    let mut tensors: Vec<_> =
        checkpoint.tensors.iter().map(|(name, tensor)| (name.as_str(), tensor)).collect();
    let file =
        |tensor: &CheckpointTensor| checkpoint.files.get(tensor.file).map(|file| file.path());
    tensors.sort_by(|(a, x), (b, y)| file(x).cmp(&file(y)).then(a.cmp(b)));
    tensors
}
