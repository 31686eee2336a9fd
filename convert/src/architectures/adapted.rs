//! A LoRA adapter's pairs of thin matrices, named, split and re-ordered as the weights that they are
//! added to.
//!
//! What a family does to a weight of `rows × columns` it does to the product of the pair: what concerns
//! the rows is done to one matrix, what concerns the columns to the other.

use std::collections::{BTreeMap, HashMap};

use gguf_io::{CheckpointTensor, Dtype, message::Shape};
use quant_core::GgmlType;
use quant_weights::Weights;

use crate::{
    Config, Result,
    model::{ElementMap, Piece, Tensor, TensorData, View},
};

use super::{
    Architecture,
    mapping::{Mapping, Part, Slot, Taken},
    rule::{Change, Presence, Step, no_rule, take},
};

const MERGE: &str =
    "merge the adapter into its base model (merge_and_unload of peft), and convert that";
const OTHER_BASE: &str = "the adapter was made for another base model";

/// A pair of thin matrices, as PEFT stores it.
#[derive(Clone, Debug)]
pub(crate) struct Pair {
    /// `rank × inputs`.
    pub(crate) a: CheckpointTensor,
    /// `outputs × rank`.
    pub(crate) b: CheckpointTensor,
    /// Whether it belongs to an embedding, whose table has a row for each input.
    pub(crate) embedding: bool,
    /// What its product is multiplied by, beside the scale of the whole adapter.
    pub(crate) factor: f32,
}

/// The type of floats that matrices are stored in, if it is one that is read.
pub(crate) fn float(dtype: Dtype) -> Option<GgmlType> {
    match dtype {
        Dtype::F32 => Some(GgmlType::F32),
        Dtype::F16 => Some(GgmlType::F16),
        Dtype::BF16 => Some(GgmlType::BF16),
        _ => None,
    }
}

/// The tensors of an adapter.
#[derive(Debug)]
pub(crate) struct Adapted {
    /// In the order the reference converter writes them.
    pub(crate) tensors: Vec<Tensor>,
    /// Names and shapes of the weights that they are for, without values.
    pub(crate) targets: Vec<Tensor>,
    /// Tensors that have no place in the output, with the reason.
    pub(crate) left_out: Vec<(String, &'static str)>,
}

/// Which of the two matrices an axis of their product is an axis of.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Side {
    /// Inputs: `a`.
    In,
    /// Outputs: `b`.
    Out,
}

/// A pair on its way.
#[derive(Clone)]
struct Thin {
    /// The axes of the product, outermost first.
    axes: Vec<Side>,
    /// The first matrix: its rank, then the axes of its side.
    a: View,
    /// The second: the axes of its side, then its rank.
    b: View,
}

/// The two matrices of a target: `rank × columns` and `rows × rank`.
struct Made {
    rows: (Side, View, Vec<u64>),
    columns: (Side, View, Vec<u64>),
}

/// Two matrices to be stacked, for each expert.
type Experts = Vec<(u64, Vec<(Tensor, Tensor)>)>;

/// Maps the pairs of an adapter. `weights` has a tensor for each pair, under the name and in the shape
/// of the weight that it is for, and the whole vectors of the adapter.
///
/// # Errors
/// If the base model has no such weight, or one of another shape, or it is kept in a way that no pair
/// can be.
pub(crate) fn map(
    architecture: &Architecture,
    config: &Config,
    weights: &Weights,
    pairs: &HashMap<String, Pair>,
    dir: &std::path::Path,
) -> Result<Adapted> {
    let checkpoint = weights.checkpoint();
    let mapping = Mapping::new(architecture, config, weights, dir)?;
    let (names, misfits) = (mapping.names(), mapping.misfits());
    let mut left_out = Vec::new();
    // Vectors come first, then pairs; a stack of experts is where its layer's last one is.
    let mut outputs: Vec<((bool, usize, usize), Vec<Tensor>)> = Vec::new();
    let mut stacks: BTreeMap<(u64, usize), Experts> = BTreeMap::new();
    let mut last: HashMap<u64, usize> = HashMap::new();
    for (position, (name, source)) in checkpoint.tensors.iter().enumerate() {
        let Some(((first, part), layer, expert)) = mapping.find(&names, name) else {
            if let Some(reason) = mapping.other_part(name) {
                left_out.push((name.clone(), reason));
                continue;
            }
            let expected = format!("a weight of {}", architecture.name);
            return Err(mapping.wrong(name, "no such weight in the base", &expected, OTHER_BASE));
        };
        let slot = Slot { rule: mapping.fitting(first, &misfits), part, layer, expert };
        let rule = mapping.rule(slot)?;
        let shared = matches!(rule.presence, Presence::Head | Presence::HeadUnless(..))
            && config.flag("tie_word_embeddings")?;
        if shared || mapping.leaves_out(slot)?.is_some() || rule.key.is_some() {
            let found = match shared {
                true => "a change of the output, which shares the embedding's weights",
                false => "a change of what the GGUF file of the base does not have as a tensor",
            };
            return Err(mapping.wrong(name, found, "changes of weights by themselves", MERGE));
        }
        let Some(pair) = pairs.get(name) else {
            mapping.check(slot, name, source)?;
            let mut taken = mapping.pieces(slot, name, source)?.into_iter();
            let vector = taken.next().ok_or_else(|| no_rule(config))?;
            outputs.push(((false, position, 0), vec![mapping.tensor(slot, 0, vector)?]));
            continue;
        };
        let mut source = source.clone();
        let swapped = pair.embedding || rule.transposed;
        if rule.transposed && !pair.embedding {
            source.shape.reverse();
        }
        let rule = mapping.check(slot, name, &source)?;
        let layer_of = rule.source.contains("{}").then_some(layer);
        let thin = Thin::new(pair, swapped).ok_or_else(|| no_rule(config))?;
        let misfit = |found: &str| {
            mapping.wrong(name, found, "a weight whose rows and columns stay apart", MERGE)
        };
        let factor = factor(&mapping, rule.map, pair.factor)?.ok_or_else(|| {
            misfit("a weight to which the GGUF file of the base has a number added")
        })?;
        let heads = rule.heads.map_or(Ok(1), |heads| heads.size_in(config, layer_of))?;
        let mut made = Vec::new();
        for (i, target) in rule.targets().iter().enumerate() {
            let mut parts: Vec<Made> = Vec::new();
            for head in 0..heads {
                let head = (rule.heads.is_some()).then_some((head, heads));
                for steps in target.parts {
                    let part = thin
                        .clone()
                        .of_head(head)
                        .map(|thin| thin.steps(steps, config, layer_of))
                        .transpose()?
                        .flatten();
                    parts.push(part.ok_or_else(|| {
                        misfit("a weight whose rows and columns the GGUF file of the base mixes")
                    })?);
                }
            }
            let base = mapping.tensor(slot, i, Taken::default())?.name;
            let tensors = tensors(&base, pair, parts, factor);
            made.push(tensors.ok_or_else(|| misfit("a weight that is put together anew"))?);
        }
        if rule.experts.is_some() {
            last.entry(layer).and_modify(|at| *at = position).or_insert(position);
            stacks.entry((layer, slot.rule)).or_default().push((expert, made));
        } else {
            for (i, (a, b)) in made.into_iter().enumerate() {
                outputs.push(((true, position, i), vec![a, b]));
            }
        }
    }
    for ((layer, rule), experts) in stacks {
        let position = last.get(&layer).copied().unwrap_or_default();
        let slot = Slot { rule, part: Part::Weight, layer, expert: 0 };
        let stacked = stack(&mapping, slot, experts)?;
        outputs.push(((true, position, rule), stacked));
    }
    outputs.sort_by_key(|(place, _)| *place);
    let tensors: Vec<_> = outputs.into_iter().flat_map(|(_, tensors)| tensors).collect();
    let targets = tensors.iter().zip(tensors.iter().skip(1)).filter_map(|(a, b)| target(a, b));
    let whole = tensors.iter().filter(|tensor| !tensor.name.contains(".lora_"));
    let targets = targets.chain(whole.cloned()).collect();
    Ok(Adapted { tensors, targets, left_out })
}

/// What the second matrix is multiplied by; nothing fits if something else than that is done to the
/// weight.
fn factor(mapping: &Mapping<'_>, map: Change, factor: f32) -> Result<Option<ElementMap>> {
    let given = match map {
        Change::None => ElementMap::Same,
        Change::With(map) => map(mapping.config)?,
        Change::Times(keys) => {
            let number = |i: usize| {
                let number = keys.get(i).map(|key| mapping.config.number(key)).transpose()?;
                Ok::<_, crate::Error>(number.flatten().map_or(1.0, |number| number as f32))
            };
            ElementMap::Times(number(0)?, number(1)?)
        }
        Change::Plus(_)
        | Change::Exp
        | Change::NegativeExp
        | Change::Softplus
        | Change::Centred
        | Change::TurnedBack(_) => return Ok(None),
    };
    Ok(match given {
        ElementMap::Same if factor == 1.0 => Some(ElementMap::Same),
        ElementMap::Same => Some(ElementMap::Times(factor, 1.0)),
        ElementMap::Times(a, b) => Some(ElementMap::Times(a * factor, b)),
        _ => None,
    })
}

impl Thin {
    fn new(pair: &Pair, swapped: bool) -> Option<Self> {
        let axes = if swapped { [Side::In, Side::Out] } else { [Side::Out, Side::In] };
        let (a, b) = (View::whole(&pair.a.shape)?, View::whole(&pair.b.shape)?);
        Some(Self { axes: axes.to_vec(), a, b })
    }

    /// The axis of its own matrix that an axis of the product is.
    fn place(&self, axis: usize) -> Option<(Side, usize)> {
        let side = *self.axes.get(axis)?;
        let before = self.axes.iter().take(axis).filter(|other| **other == side).count();
        // The first axis of `a` is the rank.
        Some((side, before + usize::from(side == Side::In)))
    }

    /// One head's share of the first axis.
    fn of_head(self, head: Option<(u64, u64)>) -> Option<Self> {
        let Some((head, heads)) = head else { return Some(self) };
        let (side, axis) = self.place(0)?;
        let share = |view: View| {
            let rows = view.shape().get(axis)?.checked_div(heads)?;
            view.narrow(axis, head.checked_mul(rows)?, rows)
        };
        self.changed(side, share)
    }

    fn changed(mut self, side: Side, change: impl FnOnce(View) -> Option<View>) -> Option<Self> {
        match side {
            Side::In => self.a = change(self.a)?,
            Side::Out => self.b = change(self.b)?,
        }
        Some(self)
    }

    /// Takes a family's steps; none if they mix rows and columns.
    fn steps(
        mut self,
        steps: &[Step],
        config: &Config,
        layer: Option<u64>,
    ) -> Result<Option<Made>> {
        for step in steps {
            let Some(taken) = self.step(*step, config, layer)? else { return Ok(None) };
            self = taken;
        }
        Ok(self.made(steps))
    }

    fn step(mut self, step: Step, config: &Config, layer: Option<u64>) -> Result<Option<Self>> {
        let axis = match step {
            Step::Unfold(axis, _) | Step::EverySecond(axis, _) | Step::Narrow { axis, .. } => axis,
            Step::Fold(..) => return Ok(Some(self)),
            Step::Swap(first, second) => {
                let (Some((side, a)), Some((other, b))) = (self.place(first), self.place(second))
                else {
                    return Ok(None);
                };
                if side == other {
                    return Ok(self.changed(side, |view| view.swap(a, b)));
                }
                // Between two sides, a whole matrix may be transposed.
                if self.axes.len() != 2 {
                    return Ok(None);
                }
                self.axes.swap(first, second);
                return Ok(Some(self));
            }
        };
        let Some((side, own)) = self.place(axis) else { return Ok(None) };
        let step = match step {
            Step::Unfold(_, dims) => {
                let more = std::iter::repeat_n(side, dims.len());
                self.axes.splice(axis..axis, more);
                Step::Unfold(own, dims)
            }
            Step::EverySecond(_, first) => Step::EverySecond(own, first),
            Step::Narrow { from, len, .. } => Step::Narrow { axis: own, from, len },
            other => other,
        };
        let view = if side == Side::In { &self.a } else { &self.b }.clone();
        let taken = take(view, step, config, layer)?.ok();
        Ok(taken.and_then(|taken| self.changed(side, |_| Some(taken))))
    }

    /// Rows and columns, if there are two dimensions at the end, one of each side.
    fn made(self, steps: &[Step]) -> Option<Made> {
        let rows = *self.axes.first()?;
        let columns = *self.axes.last()?;
        let at = self.axes.iter().position(|side| *side == columns)?;
        let apart = rows != columns && self.axes.iter().skip(at).all(|side| *side == columns);
        // Dimensions as the steps leave them.
        let mut counts = vec![1usize; self.axes.len()];
        for step in steps {
            if let Step::Fold(axis, count) = *step {
                let end = axis.saturating_add(count).min(counts.len());
                let folded = counts.get(axis..end)?.iter().sum();
                counts.splice(axis..end, [folded]);
            }
        }
        let [first, _] = counts.as_slice() else { return None };
        (apart && *first == at).then_some(())?;
        let matrix = |side: Side, rank_first: bool| {
            let mut view = if side == Side::In { self.a.clone() } else { self.b.clone() };
            let len = view.shape().len();
            match (side, rank_first) {
                (Side::In, false) => {
                    for axis in 1..len {
                        view = view.swap(axis.checked_sub(1)?, axis)?;
                    }
                }
                (Side::Out, true) => {
                    for axis in (1..len).rev() {
                        view = view.swap(axis.checked_sub(1)?, axis)?;
                    }
                }
                _ => {}
            }
            let shape = view.shape();
            let (rank, others): (u64, Vec<u64>) = match rank_first {
                true => (*shape.first()?, shape.get(1..)?.to_vec()),
                false => (*shape.last()?, shape.get(..len.checked_sub(1)?)?.to_vec()),
            };
            let count = others.iter().try_fold(1u64, |n, len| n.checked_mul(*len))?;
            let shape = if rank_first { vec![rank, count] } else { vec![count, rank] };
            Some((side, view, shape))
        };
        Some(Made { rows: matrix(rows, false)?, columns: matrix(columns, true)? })
    }
}

/// The two tensors for a weight, made of parts one after the other along its rows.
fn tensors(base: &str, pair: &Pair, parts: Vec<Made>, map: ElementMap) -> Option<(Tensor, Tensor)> {
    let tensor = |suffix: &str, matrices: Vec<(Side, View, Vec<u64>)>| {
        let mut shape: Vec<u64> = Vec::new();
        let mut pieces = Vec::new();
        let side = matrices.first()?.0;
        for (side, view, own) in matrices {
            match shape.first_mut() {
                None => shape = own,
                Some(rows) => *rows = rows.checked_add(*own.first()?)?,
            }
            let source = if side == Side::In { &pair.a } else { &pair.b };
            let encoding = quant_weights::Encoding::Ggml(float(source.dtype)?);
            pieces.push(Piece { file: source.file, offset: source.offset, encoding, view });
        }
        shape.reverse();
        let map = if side == Side::Out { map } else { ElementMap::Same };
        Some(Tensor {
            name: format!("{base}.lora_{suffix}"),
            shape,
            data: TensorData::Stored { pieces, map },
        })
    };
    let mut columns = parts.first()?.columns.clone();
    let same = |part: &Made| (&part.columns.1, &part.columns.2) == (&columns.1, &columns.2);
    parts.iter().all(same).then_some(())?;
    let mut rows: Vec<_> = parts.into_iter().map(|part| part.rows).collect();
    if base != "token_embd.weight" {
        return Some((tensor("a", vec![columns])?, tensor("b", rows)?));
    }
    // Engines look rows of the table up in the one, and multiply them by the other.
    columns.1 = columns.1.swap(0, 1)?;
    columns.2.reverse();
    Some((tensor("a", std::mem::take(&mut rows))?, tensor("b", vec![columns])?))
}

/// The matrices of all experts of a layer, each kind in one tensor.
fn stack(mapping: &Mapping<'_>, slot: Slot, mut experts: Experts) -> Result<Vec<Tensor>> {
    experts.sort_by_key(|(expert, _)| *expert);
    let count = mapping.experts(mapping.rule(slot)?)?;
    let missing = (0..count)
        .zip(experts.iter().map(|(expert, _)| Some(*expert)).chain(std::iter::repeat(None)));
    if let Some((expert, _)) = missing.into_iter().find(|(wanted, found)| Some(*wanted) != *found) {
        let name = mapping.source(Slot { expert, ..slot })?;
        let expected = format!("a pair for each of {count} experts");
        return Err(mapping.wrong(&name, "no pair for this expert", &expected, MERGE));
    }
    let mut stacked: Vec<Tensor> = Vec::new();
    for (expert, made) in experts {
        for (i, tensor) in made.into_iter().flat_map(|(a, b)| [a, b]).enumerate() {
            let Some(all) = stacked.get_mut(i) else {
                let mut tensor = tensor;
                tensor.shape.push(count);
                stacked.push(tensor);
                continue;
            };
            if all.shape.get(..2) != Some(tensor.shape.as_slice()) || map_of(all) != map_of(&tensor)
            {
                let name = mapping.source(Slot { expert, ..slot })?;
                let found = format!("matrices of the shape {}", Shape(&tensor.shape));
                let expected = "the same rank and scale for all experts of a layer";
                return Err(mapping.wrong(&name, &found, expected, MERGE));
            }
            let (TensorData::Stored { pieces, .. }, TensorData::Stored { pieces: more, .. }) =
                (&mut all.data, tensor.data)
            else {
                return Err(no_rule(mapping.config));
            };
            pieces.extend(more);
        }
    }
    Ok(stacked)
}

fn map_of(tensor: &Tensor) -> Option<ElementMap> {
    match &tensor.data {
        TensorData::Stored { map, .. } => Some(*map),
        TensorData::Computed(_) => None,
    }
}

/// The weight that a pair of tensors is for.
fn target(a: &Tensor, b: &Tensor) -> Option<Tensor> {
    let name = a.name.strip_suffix(".lora_a")?;
    (b.name.strip_suffix(".lora_b")? == name).then_some(())?;
    // As the reference counts them.
    let mut shape = b.shape.clone();
    *shape.first_mut()? = *a.shape.first()?;
    Some(Tensor { name: name.into(), shape, data: TensorData::Computed(Vec::new()) })
}
