//! What the rules of a family say of each tensor of a checkpoint.

use std::{collections::HashMap, path::Path};

use gguf_io::{Checkpoint, CheckpointTensor, Dtype, message::Shape};
use quant_core::GgmlType;
use quant_kernels::Kernels;
use quant_weights::{MXFP4_BYTES, Problem, TensorReader, Weights, mxfp4_shape, numbers};

use crate::{
    Config, Error, Result,
    model::{ElementMap, Encoding, Piece, Tensor, TensorData, View},
};

use super::{
    family::Architecture,
    layers::all_layers,
    names::{numbered, own_name, split_number, split_numbers},
    rule::{Bias, Change, Dim, Presence, Rule, Step, no_rule, take},
};

/// What the names of tensors begin with or hold that belong to other parts of a multimodal model
/// than the text model.
const OTHER_PARTS: (&[&str], &[&str]) = (
    &[
        "mlp1",
        "mlp_AR.",
        "mm_whisper_embeddings.",
        "patch_merger.",
        "pre_mm_projector_norm",
        "vision_encoder.",
        "vision_language_adapter.",
        "encoder.",
        "vit.",
        "vpm.",
        "siglip2.",
        "conformer.",
        "merger.",
        "model.merger.",
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

pub(super) const HELP: &str = "config.json and the weights are not of the same model";

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

/// Whether a tensor holds codes in place of values.
fn is_codes(source: &CheckpointTensor) -> bool {
    matches!(source.dtype, Dtype::U8 | Dtype::I8)
}

/// The name of what belongs to a tensor in the checkpoint, which may have it behind a prefix that the
/// names of the rules lack: those of the tensor and of what belongs to it differ in their ends.
fn beside(stored: &str, tensor: &str, other: &str) -> Option<String> {
    let common = tensor.bytes().zip(other.bytes()).take_while(|(a, b)| a == b).count();
    let start = stored.strip_suffix(tensor.get(common..)?)?;
    Some(format!("{start}{}", other.get(common..)?))
}

/// The shape of a tensor; a single value without axes is a vector of one.
fn axes(source: &CheckpointTensor) -> &[u64] {
    if source.shape.is_empty() { &[1] } else { &source.shape }
}

/// What one output tensor takes: its shape, outermost first, and where from.
#[derive(Debug, Default)]
pub(super) struct Taken {
    pub(super) shape: Vec<u64>,
    pub(super) pieces: Vec<Piece>,
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

impl<'a> Mapping<'a> {
    /// Of the weights of a model that lies in a folder.
    ///
    /// # Errors
    /// As [`all_layers`].
    pub(super) fn new(
        architecture: &'a Architecture,
        config: &'a Config,
        weights: &'a Weights,
        dir: &'a Path,
    ) -> Result<Self> {
        Ok(Self {
            architecture,
            rules: architecture.tensors.iter().copied().flatten().collect(),
            layers: all_layers(config)?,
            config,
            dir,
            checkpoint: weights.checkpoint(),
            weights,
        })
    }

    /// All names there can be, with `{}` for numbers.
    pub(super) fn names(&self) -> Names {
        let mut names = Names::new();
        for (i, rule) in self.rules.iter().enumerate() {
            if matches!(rule.presence, Presence::LeftOut(_)) {
                // Some such names end otherwise than those of weights and biases.
                names.insert(rule.source.to_owned(), (i, Part::Weight));
            }
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
            let own = own_name(self.architecture, self.config, name);
            let (_, layer, _) = split_numbers(&own);
            if own.starts_with("model.layers.") && layer >= self.layers {
                return self.architecture.beyond;
            }
        }
        let (starts, parts) = OTHER_PARTS;
        let other = starts.iter().any(|start| name.starts_with(start))
            || parts.iter().any(|part| name.contains(part));
        (self.config.is_wrapper() && other).then_some(REASON)
    }

    /// Whether a name is that of scales that a rule takes along.
    pub(super) fn is_scales(&self, pattern: &str) -> bool {
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
        if rule.scales.is_some() && is_codes(source) {
            shape = mxfp4_shape(&shape, source.shape.len());
        }
        if axes(source) != shape {
            let expected = format!("{shape:?} by config.json ({})", self.reason(rule, slot));
            let found = format!("shape {}", Shape(&source.shape));
            return Err(self.wrong(name, &found, &expected, HELP));
        }
        Ok(rule)
    }

    /// The one value that a tensor holds.
    pub(super) fn value(&self, name: &str, source: &CheckpointTensor) -> Result<f32> {
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
        let encoding = match rule.scales.filter(|_| is_codes(source)) {
            _ if rule.numbers => numbers(source).map_err(wrong)?,
            Some(scales) => {
                let own = numbered(scales, slot.layer, slot.expert);
                let beside = beside(name, &self.source(slot)?, &own);
                let is_there = |name: &String| self.checkpoint.tensors.contains_key(name);
                let scales = beside.filter(is_there).unwrap_or(own);
                self.weights.mxfp4(source, &scales).map_err(wrong)?
            }
            None => self.weights.encoding(name, source).map_err(wrong)?,
        };
        // Values are counted in blocks where they are stored in blocks.
        let mut shape = axes(source).to_vec();
        let block = if matches!(encoding, Encoding::Mxfp4 { .. }) {
            if shape.len() > rule.shape.len() {
                shape.pop();
            } else if let Some(row) = shape.last_mut() {
                *row /= MXFP4_BYTES;
            }
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

    /// The values of a tensor less their mean, rounded as its type rounds.
    fn centred(&self, tensor: &Tensor) -> Result<Vec<f32>> {
        let round: fn(f32) -> f32 = match tensor.source_type() {
            GgmlType::F16 => |value| half::f16::from_f32(value).to_f32(),
            GgmlType::BF16 => |value| half::bf16::from_f32(value).to_f32(),
            _ => |value| value,
        };
        let mut reader = TensorReader::new(&self.checkpoint.files, Kernels::default());
        let values = reader.values(tensor, 0..tensor.elements())?;
        let sum: f64 = values.iter().copied().map(f64::from).sum();
        let mean = round((sum / values.len().max(1) as f64) as f32);
        Ok(values.iter().map(|value| round(value - mean)).collect())
    }

    /// An output tensor.
    pub(super) fn tensor(&self, slot: Slot, target: usize, taken: Taken) -> Result<Tensor> {
        let rule = self.rule(slot)?;
        let target = rule.targets().get(target).ok_or_else(|| no_rule(self.config))?;
        let map = match rule.map {
            _ if slot.part == Part::Bias => ElementMap::Same,
            Change::None | Change::Centred => ElementMap::Same,
            Change::TurnedBack(head) => ElementMap::LaterHalfNegative(head.size(self.config)?),
            Change::Plus(more) => ElementMap::Plus(more),
            Change::Exp => ElementMap::Exp,
            Change::NegativeExp => ElementMap::NegativeExp,
            Change::Softplus => ElementMap::Softplus,
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
        let mut tensor = Tensor {
            name: numbered(target.name, slot.layer, 0) + slot.part.suffix(rule.exact),
            shape,
            data: TensorData::Stored { pieces, map },
        };
        if matches!(rule.map, Change::Centred) {
            tensor.data = TensorData::Computed(self.centred(&tensor)?);
        }
        Ok(tensor)
    }
}
