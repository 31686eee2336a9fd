//! The engine that evaluates the mixes, tensor by tensor.

use std::cell::Cell;

use quant_core::{GgmlType, formats::Importance, importance_use};

use super::{
    Assignment, AwkwardReason, AwkwardShape, Error, FileType, ModelFacts, Request, TensorFacts,
    mixes::{CORRECTIONS, Cond, FALLBACKS, Files, LOW, MIXES, NEED_IMATRIX, Roles, Rule, Then},
    order::scan_layer,
    role::{Counter, PER_LAYER_EMBEDDING, Role, is_quantizable},
    unused::{self, Used},
};

/// Chooses the type of every tensor. Options that no tensor took its type from are warned of: the
/// reference accepts them without a word.
///
/// `tensors` are all tensors of the output, sorted by [`output_order`](super::output_order), with
/// the types they are kept in if they are not quantized: the stored ones of a GGUF file, F32 for
/// a checkpoint. The answer is in the same order. `has_imatrix` says whether there is an importance
/// matrix, whatever tensors it covers: some recipes choose other types then.
///
/// # Errors
/// [`Error::AwkwardShapes`] lists every tensor for which no type remains,
/// [`Error::NoLayer`] names a feed-forward tensor whose layer is unknown, [`Error::MissingKey`] the
/// number of layers if a type depends on it.
pub fn assign(
    facts: &ModelFacts,
    tensors: &[TensorFacts<'_>],
    request: &Request,
    has_imatrix: bool,
) -> Result<Vec<Assignment>, Error> {
    let mut engine = Engine {
        facts,
        request,
        has_imatrix,
        used: Used::default(),
        tied: !tensors.iter().any(|t| Role::of(t.name) == Role::Output),
        attn_v_total: tensors
            .iter()
            .filter(|t| Role::of(t.name).counter() == Some(Counter::AttnV))
            .fold(0u64, |n, _| n.saturating_add(1)),
        seen: [0; 4],
        asked_for_layers: Cell::new(false),
    };
    let mut awkward = Vec::new();
    let mut assignments = Vec::with_capacity(tensors.len());
    for tensor in tensors {
        if !engine.may_quantize(tensor) {
            assignments.push(Assignment::kept(tensor.ty));
            continue;
        }
        engine.used.any = true;
        let choice = engine.choose(tensor)?;
        let fitted = match choice {
            Choice::Kept => {
                assignments.push(Assignment::kept(tensor.ty));
                continue;
            }
            Choice::Named(ty, option) => named(tensor, ty, option),
            Choice::Matched(ty) | Choice::Recipe(ty) => fit(tensor, ty, request.strict),
        };
        match fitted {
            Ok((ty, wanted)) => assignments.push(Assignment {
                ty,
                wanted,
                requires_imatrix: requires_imatrix(tensor.name, ty, request.file_type),
                quantizable: true,
                asked: !matches!(choice, Choice::Recipe(_)),
            }),
            Err(shape) => awkward.push(shape),
        }
    }
    if !awkward.is_empty() {
        return Err(Error::AwkwardShapes { tensors: awkward });
    }
    if engine.asked_for_layers.get()
        && let Some(missing) = facts.layers_missing()
    {
        return Err(missing);
    }
    let Engine { used, tied, .. } = engine;
    unused::warn(facts, tensors, request, &used, tied);
    Ok(assignments)
}

/// How a type came about decides what happens if the shape does not suit it.
enum Choice {
    /// The tensor keeps the type it has: there is no recipe, and no option names the tensor.
    Kept,
    /// An option named it outright: there is no fallback.
    Named(GgmlType, &'static str),
    /// A pattern named it; it may fall back.
    Matched(GgmlType),
    /// The recipe chose it; it may fall back.
    Recipe(GgmlType),
}

/// The state of one pass over the tensors.
struct Engine<'a> {
    facts: &'a ModelFacts,
    request: &'a Request,
    has_imatrix: bool,
    /// Which options have had a say.
    used: Used,
    /// No output of its own: the embedding doubles as one.
    tied: bool,
    attn_v_total: u64,
    /// Tensors met so far, by [`Counter`].
    seen: [u64; 4],
    /// Whether a type depended on how many layers the model has.
    asked_for_layers: Cell<bool>,
}

/// What a rule is evaluated against.
struct Subject<'a> {
    tensor: &'a TensorFacts<'a>,
    role: Role,
    place: u64,
    places: u64,
    file_type: FileType,
}

impl Engine<'_> {
    fn may_quantize(&mut self, tensor: &TensorFacts<'_>) -> bool {
        let quantizable = is_quantizable(tensor.name, tensor.shape, &self.facts.arch);
        let left = self.request.leave_output_tensor && Role::of(tensor.name) == Role::Output;
        self.used.leave_output |= left && quantizable && !self.would_be_left(tensor);
        quantizable && !left
    }

    /// Whether the output is of the type of a file of floats, and no option gives it another one.
    fn would_be_left(&self, tensor: &TensorFacts<'_>) -> bool {
        let request = self.request;
        request.file_type.is_some_and(|ty| !ty.is_quantized() && ty.base() == tensor.ty)
            && request.output_tensor_type.is_none()
            && !request.overrides.iter().any(|o| o.matches(tensor.name))
    }

    fn choose(&mut self, tensor: &TensorFacts<'_>) -> Result<Choice, Error> {
        let role = Role::of(tensor.name);
        let mut overrides = self.request.overrides.iter().enumerate();
        let by_pattern = overrides.find(|(_, o)| o.matches(tensor.name));

        match role {
            Role::TokenEmbedding => {
                // A pattern may single out the per-layer table, which is large.
                let singled_out = by_pattern.is_some() && tensor.name == PER_LAYER_EMBEDDING;
                if let Some(ty) = self.request.token_embedding_type
                    && !singled_out
                {
                    self.used.embedding_type = true;
                    return Ok(Choice::Named(ty, "`token_embedding_type`"));
                }
            }
            Role::Output => {
                if let Some(ty) = self.request.output_tensor_type {
                    self.used.output_type = true;
                    return Ok(Choice::Named(ty, "`output_tensor_type`"));
                }
            }
            _ => {}
        }

        if let Some((number, by_pattern)) = by_pattern {
            self.used.overrides.insert(number);
            return Ok(Choice::Matched(by_pattern.ty));
        }
        let Some(file_type) = self.request.file_type else { return Ok(Choice::Kept) };
        let base = file_type.base();
        if !base.is_quantized() {
            return Ok(Choice::Recipe(base));
        }
        if self.request.pure {
            self.used.pure = true;
            return Ok(Choice::Recipe(base));
        }
        self.mix(file_type, tensor, role).map(Choice::Recipe)
    }

    /// Consults the tables. Only tensors that come here are counted: a tensor that an option
    /// takes out of the mix moves the places of those after it, as in the reference.
    fn mix(
        &mut self,
        file_type: FileType,
        tensor: &TensorFacts<'_>,
        role: Role,
    ) -> Result<GgmlType, Error> {
        let role = match role {
            Role::TokenEmbedding if self.tied => {
                if let Some(ty) = self.request.output_tensor_type {
                    self.used.output_type = true;
                    return Ok(ty);
                }
                Role::Output
            }
            other => other,
        };
        let (place, places) = self.place(file_type, tensor.name, role)?;
        let subject = Subject { tensor, role, place, places, file_type };
        let base = file_type.base();
        let resolve = |then: &Then| match then {
            Then::Base => base,
            Then::Type(ty) => *ty,
        };
        let mut ty = MIXES
            .iter()
            .find(|rule| self.applies(rule, &subject, base))
            .map_or(base, |rule| resolve(&rule.then));
        for rule in CORRECTIONS {
            if self.applies(rule, &subject, ty) {
                ty = resolve(&rule.then);
            }
        }
        Ok(ty)
    }

    /// The tensor's number among its like, and how many there are; advances the count.
    fn place(&mut self, file_type: FileType, name: &str, role: Role) -> Result<(u64, u64), Error> {
        let Some(counter) = role.counter() else {
            return Ok((0, 0));
        };
        let counted = self.seen.get_mut(counter as usize).map_or(0, |seen| {
            let counted = *seen;
            *seen = seen.saturating_add(1);
            counted
        });
        if counter == Counter::AttnV {
            return Ok((counted, self.attn_v_total));
        }
        let layers = self.facts.layers;
        if layers == 0 {
            return Ok((counted, 0));
        }
        // Where a layer has several tensors of a role (separate or shared experts), counting
        // does not find the layer; the name does. The low recipes and MXFP4 never look at it.
        let by_name =
            self.facts.experts > 1 && file_type != FileType::MXFP4_MOE && !LOW.contains(&file_type);
        let place = if by_name {
            scan_layer(name)
                .and_then(|layer| u32::try_from(layer).ok())
                .filter(|layer| *layer < layers)
                .map(u64::from)
                .ok_or_else(|| Error::NoLayer { tensor: name.into(), layers })?
        } else {
            counted
        };
        Ok((place, layers.into()))
    }

    fn applies(&self, rule: &Rule, subject: &Subject<'_>, chosen: GgmlType) -> bool {
        let role = match rule.roles {
            Roles::Any => true,
            Roles::Of(roles) => roles.contains(&subject.role),
        };
        let file = match rule.files {
            Files::Any => true,
            Files::Of(files) => files.contains(&subject.file_type),
            Files::Not(files) => !files.contains(&subject.file_type),
        };
        role && file && rule.when.iter().all(|&cond| self.holds(cond, subject, chosen))
    }

    fn holds(&self, cond: Cond, subject: &Subject<'_>, chosen: GgmlType) -> bool {
        let (i, n) = (subject.place, subject.places);
        let eighth = n / 8;
        // n is at most the number of tensors, so this is exact.
        let last_eighth = n.saturating_mul(7) / 8;
        let by_layer = match cond {
            // Values are counted by themselves.
            Cond::FirstEighth
            | Cond::FirstSixteenth
            | Cond::MiddleThreeQuarters
            | Cond::MoreBits => {
                subject.role.counter().is_some_and(|counter| counter != Counter::AttnV)
            }
            Cond::Class70B => self.facts.may_be_70b(),
            _ => false,
        };
        if by_layer {
            self.asked_for_layers.set(true);
        }
        match cond {
            Cond::FirstEighth => i < eighth,
            Cond::FirstSixteenth => i < n / 16,
            Cond::MiddleThreeQuarters => (eighth..last_eighth).contains(&i),
            Cond::MoreBits => i < eighth || i >= last_eighth || i.saturating_sub(eighth) % 3 == 2,
            Cond::Below(limit) => i < limit,
            Cond::Gqa4 => self.facts.heads_per_kv() >= 4,
            Cond::Class70B => self.facts.is_70b(),
            Cond::Experts8 => self.facts.experts == 8,
            Cond::Experts4OrMore => self.facts.experts >= 4,
            Cond::Stacked => subject.tensor.shape.get(2).is_some_and(|&n| n > 1),
            Cond::Imatrix => self.has_imatrix,
            Cond::NoImatrix => !self.has_imatrix,
            Cond::Arch(arch) => self.facts.arch == arch,
            Cond::NotArch(arch) => self.facts.arch != arch,
            Cond::Named(parts) => parts.iter().any(|part| subject.tensor.name.contains(part)),
            Cond::RowNotWhole => !divides(subject.file_type.base(), subject.tensor.row_len()),
            Cond::Chosen(types) => types.contains(&chosen),
        }
    }
}

fn divides(ty: GgmlType, row_len: u64) -> bool {
    row_len.is_multiple_of(ty.block_len() as u64)
}

type Fitted = Result<(GgmlType, Option<GgmlType>), AwkwardShape>;

/// The type an option named, if the shape suits it.
///
/// The reference applies no fallback here and cuts such rows short or aborts: nothing to equal.
fn named(tensor: &TensorFacts<'_>, ty: GgmlType, option: &'static str) -> Fitted {
    if divides(ty, tensor.row_len()) {
        return Ok((ty, None));
    }
    Err(tensor.awkward(ty, AwkwardReason::Named(option)))
}

/// The type, or what it falls back to if the row is not a whole number of its blocks.
fn fit(tensor: &TensorFacts<'_>, ty: GgmlType, strict: bool) -> Fitted {
    let row_len = tensor.row_len();
    if divides(ty, row_len) {
        return Ok((ty, None));
    }
    let smaller = FALLBACKS.iter().find(|(from, _)| *from == ty).map(|&(_, to)| to);
    let other = match smaller {
        Some(smaller) if divides(smaller, row_len) => smaller,
        Some(_) => GgmlType::F16,
        // Blocks are as small as they get.
        None if ty.block_len() <= 32 => GgmlType::F16,
        None => return Err(tensor.awkward(ty, AwkwardReason::NoFallback)),
    };
    if strict {
        return Err(tensor.awkward(ty, AwkwardReason::Strict(other)));
    }
    Ok((other, Some(ty)))
}

/// Whether layers are not given a type without importance, whatever the recipe.
pub(crate) fn needs_importance(ty: GgmlType) -> bool {
    requires_imatrix("", ty, None)
}

/// Embedding and output are exempt where the quantizer can do without; the reference aborts where it
/// cannot.
fn requires_imatrix(name: &str, ty: GgmlType, file_type: Option<FileType>) -> bool {
    let exempt = matches!(Role::of(name), Role::TokenEmbedding | Role::Output);
    let mut listed = NEED_IMATRIX.iter();
    importance_use(ty) == Some(Importance::Needed)
        || !exempt
            && listed.any(|&(needy, only)| needy == ty && (only.is_none() || only == file_type))
}
