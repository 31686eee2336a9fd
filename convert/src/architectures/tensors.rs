//! Tensors: names, shapes and order of a checkpoint to those of GGUF.

use std::{
    collections::{HashMap, HashSet},
    path::Path,
};

use gguf_io::{Checkpoint, CheckpointTensor, Dtype};
use quant_core::GgmlType;

use crate::{
    Config, Error, Result,
    model::{Piece, RowOrder, Tensor, TensorData},
};

use super::Architecture;

/// Layers beyond any model: a damaged config.json must not make us list a billion tensors.
const MOST_LAYERS: u64 = 10_000;

/// Keys of config.json that count the layers, as in [`super::parameters::COMMON`].
const LAYERS: &[&str] = &["n_layers", "num_hidden_layers", "n_layer", "num_layers"];

/// Buffers that old versions of transformers saved with the weights; nothing reads them.
const BUFFERS: [&str; 3] = [".attention.masked_bias", ".attention.bias", ".rotary_emb.inv_freq"];

/// A tensor, or one in each layer (and for each expert) of the checkpoint.
///
/// Names are written without `.weight` and `.bias`; `{}` stands for the number of the layer, a
/// second one for that of the expert.
#[derive(Clone, Copy, Debug)]
pub struct Rule {
    source: &'static str,
    target: &'static str,
    shape: &'static [Dim],
    rotary: Option<&'static str>,
    experts: Option<&'static str>,
    bias: Bias,
    presence: Presence,
}

/// A dimension: the product of these keys of config.json.
#[derive(Clone, Copy, Debug)]
pub struct Dim(pub &'static [&'static str]);

/// Whether a tensor has a bias beside its weight.
#[derive(Clone, Copy, Debug)]
enum Bias {
    Never,
    /// Expected where this key of config.json is true, taken along wherever it is.
    If(&'static str),
}

/// Whether a checkpoint may lack the tensor.
#[derive(Clone, Copy, Debug)]
enum Presence {
    Required,
    /// May be left out where this key of config.json is true.
    Unless(&'static str),
}

impl Rule {
    /// A weight of this shape, outermost dimension first, as Hugging Face and PyTorch write it.
    pub const fn new(source: &'static str, target: &'static str, shape: &'static [Dim]) -> Self {
        Self {
            source,
            target,
            shape,
            rotary: None,
            experts: None,
            bias: Bias::Never,
            presence: Presence::Required,
        }
    }

    /// Rows are in as many heads as `key` says, whose rotary halves GGUF keeps side by side.
    pub const fn rotary(mut self, key: &'static str) -> Self {
        self.rotary = Some(key);
        self
    }

    /// One tensor for each of as many experts as `key` says, stacked into one.
    pub const fn stacked(mut self, key: &'static str) -> Self {
        self.experts = Some(key);
        self
    }

    /// Has a bias if `key` is true.
    pub const fn bias_if(mut self, key: &'static str) -> Self {
        self.bias = Bias::If(key);
        self
    }

    /// May be absent if `key` is true.
    pub const fn unless(mut self, key: &'static str) -> Self {
        self.presence = Presence::Unless(key);
        self
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Part {
    Weight,
    Bias,
}

impl Part {
    const fn suffix(self) -> &'static str {
        match self {
            Self::Weight => ".weight",
            Self::Bias => ".bias",
        }
    }
}

/// One source tensor: its rule, part and the numbers in its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Slot {
    rule: usize,
    part: Part,
    layer: u64,
    expert: u64,
}

/// The number of layers.
///
/// # Errors
/// If config.json has none or more than any model has.
pub fn layers(config: &Config) -> Result<u64> {
    let key = config.alias(LAYERS).unwrap_or("num_hidden_layers");
    match config.require(key)? {
        layers if layers <= MOST_LAYERS => Ok(layers),
        absurd => Err(config.wrong(key, &absurd.to_string(), &format!("at most {MOST_LAYERS}"))),
    }
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
    checkpoint: &Checkpoint,
    dir: &Path,
) -> Result<Vec<Tensor>> {
    let mapping =
        Mapping { rules: architecture.tensors, layers: layers(config)?, config, dir, checkpoint };
    let names = mapping.names();
    let mut seen = HashSet::new();
    let mut stacks = HashMap::new();
    let mut outputs = Vec::new();
    let mut unknown = Vec::new();
    for (position, (name, source)) in in_order(checkpoint).into_iter().enumerate() {
        if BUFFERS.iter().any(|buffer| name.ends_with(buffer)) {
            tracing::debug!(name, "buffer left out");
            continue;
        }
        let (pattern, layer, expert) = split_numbers(name);
        let Some(&(rule, part)) = names.get(&pattern) else {
            unknown.push((name, source));
            continue;
        };
        let slot = Slot { rule, part, layer, expert };
        let (rule, shape) = mapping.check(slot, name, source)?;
        seen.insert(slot);
        let piece = mapping.piece(name, source)?;
        if rule.experts.is_some() {
            let stack: &mut Stack = stacks.entry((slot.rule, part, layer)).or_default();
            stack.position = stack.position.max(position);
            stack.shape = shape;
            stack.pieces.push((expert, piece));
        } else {
            let tensor = mapping.tensor(slot, shape, vec![piece])?;
            outputs.push((position, slot.rule, tensor));
        }
    }
    mapping.refuse_unknown(architecture, &unknown)?;
    mapping.refuse_missing(&seen)?;
    // The reference converter holds the experts of a layer back until it has them all.
    let mut last: HashMap<u64, usize> = HashMap::new();
    for ((_, _, layer), stack) in &stacks {
        let last = last.entry(*layer).or_default();
        *last = (*last).max(stack.position);
    }
    for ((rule, part, layer), mut stack) in stacks {
        stack.pieces.sort_by_key(|(expert, _)| *expert);
        let mut shape = vec![stack.pieces.len() as u64];
        shape.append(&mut stack.shape);
        let pieces = stack.pieces.into_iter().map(|(_, piece)| piece).collect();
        let slot = Slot { rule, part, layer, expert: 0 };
        let position = last.get(&layer).copied().unwrap_or(stack.position);
        outputs.push((position, rule, mapping.tensor(slot, shape, pieces)?));
    }
    outputs.sort_by_key(|(position, rule, _)| (*position, *rule));
    Ok(outputs.into_iter().map(|(_, _, tensor)| tensor).collect())
}

/// The tensors of one stack, not yet in the order of their experts.
#[derive(Debug, Default)]
struct Stack {
    position: usize,
    shape: Vec<u64>,
    pieces: Vec<(u64, Piece)>,
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

/// A name with `{}` for its first two numbers, and the numbers.
fn split_numbers(name: &str) -> (String, u64, u64) {
    let mut numbers = [0; 2];
    let mut free = numbers.iter_mut();
    let parts: Vec<&str> = name
        .split('.')
        .map(|part| {
            let canonical = part.parse::<u64>().ok().filter(|n| n.to_string() == part);
            match canonical.and_then(|number| Some((number, free.next()?))) {
                Some((number, place)) => {
                    *place = number;
                    "{}"
                }
                None => part,
            }
        })
        .collect();
    let [layer, expert] = numbers;
    (parts.join("."), layer, expert)
}

struct Mapping<'a> {
    rules: &'static [Rule],
    layers: u64,
    config: &'a Config,
    dir: &'a Path,
    checkpoint: &'a Checkpoint,
}

impl Mapping<'_> {
    /// All names there can be, with `{}` for numbers.
    fn names(&self) -> HashMap<String, (usize, Part)> {
        let mut names = HashMap::new();
        for (i, rule) in self.rules.iter().enumerate() {
            for part in [Part::Weight, Part::Bias] {
                if part == Part::Weight || matches!(rule.bias, Bias::If(_)) {
                    names.insert(format!("{}{}", rule.source, part.suffix()), (i, part));
                }
            }
        }
        names
    }

    fn rule(&self, slot: Slot) -> Result<&'static Rule> {
        let rule = self.rules.get(slot.rule);
        rule.ok_or_else(|| self.wrong("", "no rule", "a rule", ""))
    }

    /// The name of a source tensor.
    fn source(&self, slot: Slot) -> Result<String> {
        let rule = self.rule(slot)?;
        Ok(numbered(rule.source, slot.layer, slot.expert) + slot.part.suffix())
    }

    /// The shape config.json calls for, outermost first.
    fn shape(&self, slot: Slot) -> Result<Vec<u64>> {
        let rule = self.rule(slot)?;
        let dims = match slot.part {
            Part::Weight => rule.shape,
            // One value for each row.
            Part::Bias => rule.shape.get(..1).unwrap_or_default(),
        };
        dims.iter()
            .map(|Dim(keys)| {
                keys.iter().try_fold(1u64, |product, key| {
                    let factor = self.config.require(key)?;
                    product.checked_mul(factor).ok_or_else(|| {
                        self.config.wrong(key, &factor.to_string(), "a number of a possible size")
                    })
                })
            })
            .collect()
    }

    /// Checks a tensor's numbers and shape.
    fn check(
        &self,
        slot: Slot,
        name: &str,
        source: &CheckpointTensor,
    ) -> Result<(&'static Rule, Vec<u64>)> {
        const HELP: &str = "config.json and the weights are not of the same model";
        let rule = self.rule(slot)?;
        let bounds = [
            (rule.source.contains("{}"), "layer", slot.layer, self.layers),
            (rule.experts.is_some(), "expert", slot.expert, self.experts(rule)?),
        ];
        for (_, what, number, count) in bounds.into_iter().filter(|bound| bound.0) {
            if number >= count {
                let expected = format!("{what}s 0 to {} by config.json", count.saturating_sub(1));
                return Err(self.wrong(name, &format!("{what} {number}"), &expected, HELP));
            }
        }
        let shape = self.shape(slot)?;
        if source.shape != shape {
            let expected = format!("{shape:?} by config.json ({})", self.reason(rule, slot.part));
            return Err(self.wrong(
                name,
                &format!("shape {}", Shape(&source.shape)),
                &expected,
                HELP,
            ));
        }
        Ok((rule, shape))
    }

    /// The keys that a shape comes from, with their values.
    fn reason(&self, rule: &Rule, part: Part) -> String {
        let dims = match part {
            Part::Weight => rule.shape,
            Part::Bias => rule.shape.get(..1).unwrap_or_default(),
        };
        let mut keys: Vec<&str> = dims.iter().flat_map(|dim| dim.0).copied().collect();
        keys.dedup();
        keys.iter()
            .map(|key| match self.config.require(key) {
                Ok(value) => format!("{key} {value}"),
                Err(_) => (*key).to_owned(),
            })
            .collect::<Vec<_>>()
            .join(", ")
    }

    /// Experts of a stack; 1 where there is none.
    fn experts(&self, rule: &Rule) -> Result<u64> {
        rule.experts.map_or(Ok(1), |key| self.config.require(key))
    }

    fn piece(&self, name: &str, source: &CheckpointTensor) -> Result<Piece> {
        Ok(Piece {
            file: source.file,
            offset: source.offset,
            bytes: source.bytes,
            ty: self.weight_type(name, source.dtype)?,
        })
    }

    fn weight_type(&self, name: &str, dtype: Dtype) -> Result<GgmlType> {
        let help = match dtype {
            Dtype::F32 => return Ok(GgmlType::F32),
            Dtype::F16 => return Ok(GgmlType::F16),
            Dtype::BF16 => return Ok(GgmlType::BF16),
            Dtype::F64 | Dtype::F8E4M3 | Dtype::F8E5M2 => {
                "this type is not read yet; save the checkpoint as BF16 first"
            }
            _ => "an already quantized checkpoint cannot be converted; take the original one",
        };
        Err(self.wrong(name, &format!("type {dtype}"), "F32, F16 or BF16", help))
    }

    /// An output tensor of a shape given outermost first.
    fn tensor(&self, slot: Slot, mut shape: Vec<u64>, pieces: Vec<Piece>) -> Result<Tensor> {
        let rule = self.rule(slot)?;
        let rows = match rule.rotary {
            None => RowOrder::Stored,
            Some(key) => {
                let (rows, heads) =
                    (shape.first().copied().unwrap_or(0), self.config.require(key)?);
                let head_rows = rows / heads;
                if rows % heads != 0 || head_rows % 2 != 0 {
                    let found = format!("{heads} heads of {head_rows} rows");
                    let name = self.source(slot)?;
                    return Err(self.wrong(
                        &name,
                        &found,
                        "heads of an even number of rows",
                        "check head_dim in config.json",
                    ));
                }
                RowOrder::Rotary { head_rows }
            }
        };
        shape.reverse();
        Ok(Tensor {
            name: numbered(rule.target, slot.layer, 0) + slot.part.suffix(),
            shape,
            data: TensorData::Stored { pieces, rows },
        })
    }

    fn refuse_unknown(
        &self,
        architecture: &Architecture,
        unknown: &[(&str, &CheckpointTensor)],
    ) -> Result<()> {
        let [(name, tensor), more @ ..] = unknown else {
            return Ok(());
        };
        let more = match more.len() {
            0 => String::new(),
            n => format!(" (and {n} more such tensors)"),
        };
        let found = format!("shape {}{more}", Shape(&tensor.shape));
        let expected =
            format!("only tensors that architecture {} has a place for", architecture.name);
        Err(self.wrong(
            name,
            &found,
            &expected,
            "the weights would be lost: convert with a version that knows this model",
        ))
    }

    /// Finds the first missing tensor. At most one more slot is tried than there are tensors.
    fn refuse_missing(&self, seen: &HashSet<Slot>) -> Result<()> {
        let (mut missing, mut first) = (0u64, None);
        for (i, rule) in self.rules.iter().enumerate() {
            let weight = match rule.presence {
                Presence::Required => true,
                Presence::Unless(key) => !self.config.flag(key)?,
            };
            let bias = match rule.bias {
                Bias::Never => false,
                Bias::If(key) => self.config.flag(key)?,
            };
            let layers = if rule.source.contains("{}") { self.layers } else { 1 };
            let experts = self.experts(rule)?;
            for (part, expected) in [(Part::Weight, weight), (Part::Bias, bias)] {
                if !expected {
                    continue;
                }
                let found = seen.iter().filter(|slot| slot.rule == i && slot.part == part).count();
                let here = layers.saturating_mul(experts).saturating_sub(found as u64);
                missing = missing.saturating_add(here);
                if here > 0 && first.is_none() {
                    first = (0..layers)
                        .flat_map(|layer| (0..experts).map(move |expert| (layer, expert)))
                        .map(|(layer, expert)| Slot { rule: i, part, layer, expert })
                        .find(|slot| !seen.contains(slot));
                }
            }
        }
        let Some(slot) = first else {
            return Ok(());
        };
        let found = match missing {
            0 | 1 => "no such tensor".to_owned(),
            n => format!("no such tensor (and {} more are missing)", n - 1),
        };
        let expected = format!("one of shape {:?} by config.json", self.shape(slot)?);
        Err(self.wrong(
            &self.source(slot)?,
            &found,
            &expected,
            "the checkpoint is incomplete or config.json is of another model",
        ))
    }

    fn wrong(&self, name: &str, found: &str, expected: &str, help: &'static str) -> Error {
        let file = self
            .checkpoint
            .tensors
            .get(name)
            .and_then(|tensor| self.checkpoint.files.get(tensor.file));
        Error::Weights {
            path: file.map_or(self.dir, |file| file.path()).to_path_buf(),
            name: name.to_owned(),
            found: found.to_owned(),
            expected: expected.to_owned(),
            help,
        }
    }
}

/// A pattern with its `{}` replaced, the layer first.
fn numbered(pattern: &str, layer: u64, expert: u64) -> String {
    pattern.replacen("{}", &layer.to_string(), 1).replacen("{}", &expert.to_string(), 1)
}

/// A shape from a file, of any length.
struct Shape<'a>(&'a [u64]);

impl std::fmt::Display for Shape<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.0.get(..8) {
            Some(start) if self.0.len() > 8 => write!(f, "{start:?} and more dimensions"),
            _ => write!(f, "{:?}", self.0),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_split_from_names() {
        assert_eq!(split_numbers("a.12.b.3.c"), ("a.{}.b.{}.c".into(), 12, 3));
        assert_eq!(split_numbers("a.b"), ("a.b".into(), 0, 0));
        // Not numbers as they are written: a name of its own, not layer 1 again.
        for odd in ["a.01.b", "a.+1.b", "a.-1.b", "a.99999999999999999999.b"] {
            assert_eq!(split_numbers(odd), (odd.into(), 0, 0));
        }
        assert_eq!(split_numbers("1.2.3").0, "{}.{}.3");
    }

    #[test]
    fn patterns_take_their_numbers_back() {
        let name = "model.layers.4.experts.7.w1";
        let (pattern, layer, expert) = split_numbers(name);
        assert_eq!(numbered(&pattern, layer, expert), name);
    }
}
