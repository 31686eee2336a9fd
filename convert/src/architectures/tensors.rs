//! Tensors: names, shapes and order of a checkpoint to those of GGUF.

use std::{
    borrow::Cow,
    collections::{BTreeMap, HashMap, HashSet},
    path::Path,
};

use gguf_io::{Checkpoint, CheckpointTensor, Dtype, message::Shape};
use quant_weights::{Problem, Purpose, Weights, mxfp4_shape};

use crate::{
    Config, Error, Result,
    model::{ElementMap, Encoding, Piece, Tensor, TensorData, View},
};

pub use super::rule::{Dim, Layers, Rule, Step, Target};

use super::{
    Architecture,
    rule::{Bias, Change, Presence, no_rule, take},
};

/// Layers beyond any model: a damaged config.json must not make us list a billion tensors.
const MOST_LAYERS: u64 = 10_000;

/// Keys of config.json that count the layers, as in [`super::parameters::COMMON`].
pub(super) const LAYERS: &[&str] = &["n_layers", "num_hidden_layers", "n_layer", "num_layers"];

/// Buffers that old versions of transformers saved with the weights; nothing reads them.
const BUFFERS: [&str; 6] = [
    ".attention.masked_bias",
    ".attention.bias",
    ".rotary_emb.inv_freq",
    ".attn.masked_bias",
    ".attn.bias",
    "embeddings.position_ids",
];

/// What the names of tensors begin with or hold that belong to other parts of a multimodal model
/// than the text model.
const OTHER_PARTS: (&[&str], &[&str]) = (
    &[
        "mlp1",
        "mlp_AR.",
        "encoder.",
        "vit.",
        "vpm.",
        "siglip2.",
        "conformer.",
        "merger.",
        "resampler.",
        "sound_encoder.",
        "sound_projection.",
        "speech_embeddings.",
    ],
    &[
        "visual.",
        "vision.",
        "audio.",
        "talker.",
        "token2wav.",
        "code2wav.",
        "vision_",
        "audio_",
        "projector.",
        "pre_mm_projector_norm",
        "image_newline",
        "view_seperator",
        "patch_embed",
        "patch_merger.",
        "patch_merge_mlp.",
        "model.connector.",
        "sam_model.",
        "qwen2_model.",
    ],
);

const HELP: &str = "config.json and the weights are not of the same model";

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Part {
    Weight,
    Bias,
}

impl Part {
    const fn suffix(self, exact: bool) -> &'static str {
        match self {
            _ if exact => "",
            Self::Weight => ".weight",
            Self::Bias => ".bias",
        }
    }
}

/// One source tensor: its rule, part and the numbers in its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Slot {
    pub(super) rule: usize,
    pub(super) part: Part,
    pub(super) layer: u64,
    pub(super) expert: u64,
}

/// The tensors of the output, and what of the checkpoint is not among them.
#[derive(Debug)]
pub struct Mapped {
    /// In the order the reference converter writes them.
    pub tensors: Vec<Tensor>,
    /// Which tensors of the checkpoint they are made of.
    pub sources: Vec<Source>,
    /// Tensors of the checkpoint that have no place in the output, with the reason.
    pub left_out: Vec<(String, &'static str)>,
    /// Values that become keys: an array each, with a value for each layer.
    pub values: Vec<(&'static str, Vec<f32>)>,
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

/// The number of layers that predict the next token.
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

/// The number of layers of the output, with those that predict further tokens.
///
/// # Errors
/// As [`layers`].
pub(super) fn all_layers(config: &Config) -> Result<u64> {
    let further = config.further_layers();
    Ok(layers(config)?.saturating_add(further.min(MOST_LAYERS)))
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
    let mapping = Mapping {
        architecture,
        rules: architecture.tensors.iter().copied().flatten().collect(),
        layers: all_layers(config)?,
        config,
        dir,
        checkpoint,
        weights,
    };
    let (names, misfits) = (mapping.names(), mapping.misfits());
    let mut seen = HashSet::new();
    let mut copied = HashSet::new();
    let mut stacks = HashMap::new();
    let mut values: BTreeMap<&str, Vec<(u64, f32)>> = BTreeMap::new();
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
            values.entry(key).or_default().push((layer, value));
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
    let by_layer = |mut values: Vec<(u64, f32)>| {
        values.sort_by_key(|(layer, _)| *layer);
        values.into_iter().map(|(_, value)| value).collect()
    };
    let values = values.into_iter().map(|(key, values)| (key, by_layer(values))).collect();
    Ok(Mapped { tensors, sources, left_out, values, absent_head: mapping.absent_head(&seen) })
}

/// What one output tensor takes: its shape, outermost first, and where from.
#[derive(Debug, Default)]
pub(super) struct Taken {
    pub(super) shape: Vec<u64>,
    pub(super) pieces: Vec<Piece>,
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

/// What multimodal models put into the names of their text model's tensors.
const TEXT_MODEL: [&str; 3] = ["language_model.", "text_model.", "thinker."];

/// Strips what wrappers put around the names of a text model or an encoder, and maps old endings to
/// those of today.
pub(super) fn own_name<'n>(
    architecture: &Architecture,
    config: &Config,
    name: &'n str,
) -> Cow<'n, str> {
    let mut name = Cow::Borrowed(name);
    // Some checkpoints of text models keep the name that they had in a multimodal one.
    for part in TEXT_MODEL.iter().take(if config.is_wrapper() { TEXT_MODEL.len() } else { 1 }) {
        if name.contains(part) {
            name = name.replace(part, "").into();
        }
    }
    if let Some(bare) = architecture.wrappers.iter().find_map(|w| name.strip_prefix(w)) {
        name = bare.to_owned().into();
    }
    if let Some(other) = (architecture.rename)(config, &name) {
        name = other.into();
    }
    let renamed = architecture
        .endings
        .iter()
        .find_map(|(old, today)| Some(format!("{}{today}", name.strip_suffix(old)?)));
    renamed.map_or(name, Cow::Owned)
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
pub(super) fn split_numbers(name: &str) -> (String, u64, u64) {
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

/// A name with `{}` for its first number alone, and the number.
fn split_number(name: &str) -> (String, u64) {
    let (pattern, layer, expert) = split_numbers(name);
    // The second one goes back to its place.
    match pattern.match_indices("{}").nth(1) {
        Some((at, mark)) => {
            let mut whole = pattern.clone();
            whole.replace_range(at..at + mark.len(), &expert.to_string());
            (whole, layer)
        }
        None => (pattern, layer),
    }
}

/// Names of a checkpoint's tensors with `{}` for numbers: the rule for each, and the part.
pub(super) type Names = HashMap<String, (usize, Part)>;

pub(super) struct Mapping<'a> {
    pub(super) architecture: &'a Architecture,
    pub(super) rules: Vec<&'static Rule>,
    pub(super) layers: u64,
    pub(super) config: &'a Config,
    pub(super) dir: &'a Path,
    pub(super) checkpoint: &'a Checkpoint,
    pub(super) weights: &'a Weights,
}

impl Mapping<'_> {
    /// All names there can be, with `{}` for numbers.
    pub(super) fn names(&self) -> Names {
        let mut names = Names::new();
        for (i, rule) in self.rules.iter().enumerate() {
            for part in [Part::Weight, Part::Bias] {
                if part == Part::Bias && (rule.exact || matches!(rule.bias, Bias::Never)) {
                    continue;
                }
                let name = format!("{}{}", rule.source, part.suffix(rule.exact));
                // Of two rules for one name that which applies to this model counts.
                let taken = names.get(&name).and_then(|(other, _)| self.rules.get(*other));
                if taken.is_none_or(|other| !self.applies(other)) {
                    names.insert(name, (i, part));
                }
            }
        }
        names
    }

    /// Which of [these names](Self::names) a name of the checkpoint is, with its numbers.
    pub(super) fn find(&self, names: &Names, name: &str) -> Option<((usize, Part), u64, u64)> {
        let own = own_name(self.architecture, self.config, name);
        let prefixed = |pattern: &str| names.get(&format!("{}{pattern}", self.architecture.prefix));
        let find = |pattern: &str| names.get(pattern).or_else(|| prefixed(pattern)).copied();
        let (pattern, layer, expert) = split_numbers(&own);
        // Of several numbers the first may be the only one that counts: T5's layers have parts with
        // numbers.
        find(&pattern).map(|found| (found, layer, expert)).or_else(|| {
            let (pattern, layer) = split_number(&own);
            find(&pattern).map(|found| (found, layer, 0))
        })
    }

    /// Whether the model has the tensor at all, by config.json.
    pub(super) fn applies(&self, rule: &Rule) -> bool {
        match rule.presence {
            Presence::With(key) => self.config.get(key).is_some(),
            Presence::Without(key) => self.config.get(key).is_none(),
            Presence::If(key) => self.config.flag(key).unwrap_or(false),
            Presence::When(holds) => holds(self.config).unwrap_or(false),
            _ => true,
        }
    }

    pub(super) fn rule(&self, slot: Slot) -> Result<&'static Rule> {
        self.rules.get(slot.rule).copied().ok_or_else(|| no_rule(self.config))
    }

    /// The name of a source tensor.
    pub(super) fn source(&self, slot: Slot) -> Result<String> {
        let rule = self.rule(slot)?;
        Ok(numbered(rule.source, slot.layer, slot.expert) + slot.part.suffix(rule.exact))
    }

    fn dims(&self, rule: &Rule, part: Part) -> &'static [Dim] {
        match part {
            Part::Weight => rule.shape,
            // One value for each row of the output.
            Part::Bias if rule.transposed => rule.shape.get(1..2).unwrap_or_default(),
            Part::Bias => rule.shape.get(..1).unwrap_or_default(),
        }
    }

    /// The shape config.json calls for, outermost first.
    pub(super) fn shape(&self, slot: Slot) -> Result<Vec<u64>> {
        let rule = self.rule(slot)?;
        let layer = rule.source.contains("{}").then_some(slot.layer);
        self.dims(rule, slot.part).iter().map(|dim| dim.size_in(self.config, layer)).collect()
    }

    /// Why a tensor is no part of the output, if so.
    pub(super) fn leaves_out(&self, slot: Slot) -> Result<Option<&'static str>> {
        let rule = self.rule(slot)?;
        match rule.presence {
            Presence::LeftOut(reason) => return Ok(Some(reason)),
            Presence::HeadUnless(key, reason) if self.config.flag(key)? => return Ok(Some(reason)),
            _ => {}
        }
        Ok(self
            .architecture
            .beyond
            .filter(|_| rule.source.contains("{}") && slot.layer >= self.layers))
    }

    /// Why a tensor that no rule is for is no part of the output, if so.
    pub(super) fn other_part(&self, name: &str) -> Option<&'static str> {
        const REASON: &str = "they belong to another part than the text model";
        if self.architecture.beyond.is_some() {
            let (_, layer, _) = split_numbers(name);
            if name.starts_with("model.layers.") && layer >= self.layers {
                return self.architecture.beyond;
            }
        }
        let (starts, parts) = OTHER_PARTS;
        let other = starts.iter().any(|start| name.starts_with(start))
            || parts.iter().any(|part| name.contains(part));
        (self.config.is_wrapper() && other).then_some(REASON)
    }

    /// Whether a name is that of scales that a rule takes along.
    fn is_scales(&self, pattern: &str) -> bool {
        self.rules.iter().any(|rule| rule.scales == Some(pattern))
    }

    /// Checks a tensor's numbers and shape.
    pub(super) fn check(
        &self,
        slot: Slot,
        name: &str,
        source: &CheckpointTensor,
    ) -> Result<&'static Rule> {
        let rule = self.rule(slot)?;
        let bounds = [
            (rule.source.contains("{}"), "layer", slot.layer, self.layers_of(rule)?),
            (rule.experts.is_some(), "expert", slot.expert, self.experts(rule)?),
        ];
        for (_, what, number, count) in bounds.into_iter().filter(|bound| bound.0) {
            if number >= count {
                let expected = format!("{what}s 0 to {} by config.json", count.saturating_sub(1));
                return Err(self.wrong(name, &format!("{what} {number}"), &expected, HELP));
            }
        }
        let mut shape = self.shape(slot)?;
        if rule.scales.is_some() {
            shape = mxfp4_shape(&shape);
        }
        if source.shape != shape {
            let expected = format!("{shape:?} by config.json ({})", self.reason(rule, slot));
            let found = format!("shape {}", Shape(&source.shape));
            return Err(self.wrong(name, &found, &expected, HELP));
        }
        Ok(rule)
    }

    /// The one value that a tensor holds.
    fn value(&self, name: &str, source: &CheckpointTensor) -> Result<f32> {
        let wrong = |found: &str| {
            self.wrong(name, found, "one value of F32, F16 or BF16 that is finite", HELP)
        };
        if source.shape.iter().product::<u64>() != 1 {
            return Err(wrong(&format!("shape {}", Shape(&source.shape))));
        }
        let file = self.checkpoint.files.get(source.file).ok_or_else(|| no_rule(self.config))?;
        let mut bytes = [0; 4];
        let len = usize::try_from(source.bytes).unwrap_or(usize::MAX);
        let Some(stored) = bytes.get_mut(..len) else { return Err(wrong(source.dtype.name())) };
        file.read_exact_at(stored, source.offset)?;
        let [a, b, c, d] = bytes;
        let value = match source.dtype {
            Dtype::F32 => f32::from_le_bytes([a, b, c, d]),
            Dtype::F16 => half::f16::from_le_bytes([a, b]).to_f32(),
            Dtype::BF16 => half::bf16::from_le_bytes([a, b]).to_f32(),
            other => return Err(wrong(other.name())),
        };
        if value.is_finite() { Ok(value) } else { Err(wrong(&value.to_string())) }
    }

    /// The keys that a shape comes from, with their values.
    fn reason(&self, rule: &Rule, slot: Slot) -> String {
        let layer = rule.source.contains("{}").then_some(slot.layer);
        let dims = self.dims(rule, slot.part);
        let mut reasons: Vec<String> = Vec::new();
        for reason in dims.iter().flat_map(|dim| dim.reasons(self.config, layer)) {
            if !reasons.contains(&reason) {
                reasons.push(reason);
            }
        }
        reasons.join(", ")
    }

    /// How many layers may have it.
    pub(super) fn layers_of(&self, rule: &Rule) -> Result<u64> {
        match rule.count {
            Some(key) => Ok(self.config.whole(key)?.unwrap_or(self.layers)),
            None => Ok(self.layers),
        }
    }

    /// Experts of a stack; 1 where there is none.
    pub(super) fn experts(&self, rule: &Rule) -> Result<u64> {
        rule.experts.map_or(Ok(1), |key| self.config.require(key))
    }

    /// What each target takes of a source tensor.
    pub(super) fn pieces(
        &self,
        slot: Slot,
        name: &str,
        source: &CheckpointTensor,
    ) -> Result<Vec<Taken>> {
        let rule = self.rule(slot)?;
        let layer = rule.source.contains("{}").then_some(slot.layer);
        let wrong =
            |problem: Problem| self.wrong(name, &problem.found, &problem.expected, problem.help);
        let misfit = |found: &str| {
            let expected = "a shape that the architecture's transforms divide";
            self.wrong(name, found, expected, HELP)
        };
        let encoding = match rule.scales {
            Some(scales) => {
                let scales = numbered(scales, slot.layer, slot.expert);
                self.weights.mxfp4(source, &scales).map_err(wrong)?
            }
            None => self.weights.encoding(name, source).map_err(wrong)?,
        };
        // Values are counted in blocks where they are stored in blocks.
        let mut shape = source.shape.clone();
        let block = if matches!(encoding, Encoding::Mxfp4 { .. }) {
            shape.pop();
            encoding.ty().block_len() as u64
        } else {
            1
        };
        let whole = View::whole(&shape).ok_or_else(|| misfit("a shape of too many values"))?;
        let heads = rule.heads.map_or(Ok(1), |heads| heads.size_in(self.config, layer))?;
        let rows = shape.first().copied().unwrap_or(0).checked_div(heads).unwrap_or(0);
        rule.targets()
            .iter()
            .map(|target| {
                let mut taken: Option<Taken> = None;
                for (head, steps) in
                    (0..heads).flat_map(|head| target.parts.iter().map(move |steps| (head, steps)))
                {
                    // A bias of a transposed matrix is a row of it already.
                    let steps =
                        if rule.transposed && slot.part == Part::Bias { &[][..] } else { steps };
                    let Some(of_head) = whole.clone().narrow(0, head.saturating_mul(rows), rows)
                    else {
                        return Err(misfit("rows that its heads do not divide"));
                    };
                    let whole = if rule.heads.is_some() { &of_head } else { &whole };
                    let (view, mut shape) =
                        self.part(whole, steps, layer)?.map_err(|found| misfit(&found))?;
                    if let Some(row) = shape.last_mut() {
                        *row = row.saturating_mul(block);
                    }
                    let piece = Piece {
                        file: source.file,
                        offset: source.offset,
                        encoding: encoding.clone(),
                        view,
                    };
                    match &mut taken {
                        None => taken = Some(Taken { shape, pieces: vec![piece] }),
                        Some(taken) => {
                            if let (Some(rows), Some(more)) =
                                (taken.shape.first_mut(), shape.first())
                            {
                                *rows = rows.saturating_add(*more);
                            }
                            taken.pieces.push(piece);
                        }
                    }
                }
                taken.ok_or_else(|| no_rule(self.config))
            })
            .collect()
    }

    /// A view, and the shape it is counted as.
    fn part(
        &self,
        whole: &View,
        steps: &[Step],
        layer: Option<u64>,
    ) -> Result<Result<(View, Vec<u64>), String>> {
        let mut view = whole.clone();
        for step in steps {
            match take(view, *step, self.config, layer)? {
                Ok(taken) => view = taken,
                Err(problem) => return Ok(Err(problem)),
            }
        }
        let mut shape = view.shape();
        for step in steps {
            // A bias has none of the axes after the first.
            if let Step::Fold(axis, count) = *step
                && axis < shape.len()
            {
                let end = axis.saturating_add(count).min(shape.len());
                let folded = shape.get(axis..end).unwrap_or_default().iter().product();
                shape.splice(axis.min(end)..end, [folded]);
            }
        }
        Ok(Ok((view, shape)))
    }

    /// An output tensor.
    pub(super) fn tensor(&self, slot: Slot, target: usize, taken: Taken) -> Result<Tensor> {
        let rule = self.rule(slot)?;
        let target = rule.targets().get(target).ok_or_else(|| no_rule(self.config))?;
        let map = match rule.map {
            _ if slot.part == Part::Bias => ElementMap::Same,
            Change::None => ElementMap::Same,
            Change::Plus(more) => ElementMap::Plus(more),
            Change::NegativeExp => ElementMap::NegativeExp,
            Change::With(map) => map(self.config)?,
            Change::Times(keys) => {
                let factor = |i: usize| {
                    let number = keys.get(i).map(|key| self.config.number(key)).transpose()?;
                    Ok::<_, Error>(number.flatten().map_or(1.0, |number| number as f32))
                };
                ElementMap::Times(factor(0)?, factor(1)?)
            }
        };
        let Taken { mut shape, pieces } = taken;
        shape.reverse();
        Ok(Tensor {
            name: numbered(target.name, slot.layer, 0) + slot.part.suffix(rule.exact),
            shape,
            data: TensorData::Stored { pieces, map },
        })
    }
}

/// A pattern with its `{}` replaced, the layer first.
fn numbered(pattern: &str, layer: u64, expert: u64) -> String {
    pattern.replacen("{}", &layer.to_string(), 1).replacen("{}", &expert.to_string(), 1)
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
