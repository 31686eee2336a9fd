//! The first stage: which tensors there are, under which names, in which types.

use std::sync::{Arc, atomic::AtomicU64};

use quant_core::GgmlType;

use super::given::Given;
use crate::{
    Control, Result, Search,
    carry::{Sample, is_coded},
    grouped::{self, Scheme},
    importance,
    job::{Form, Groups, Job},
    model::{Model, Origin, Tensor},
    options::Split,
    recipe::{self, Assignment, FileType, TensorFacts},
};

/// A tensor of the output.
#[derive(Debug)]
pub(super) struct Assigned {
    /// Its name there.
    pub(super) name: String,
    /// Its type there.
    pub(super) ty: GgmlType,
    pub(super) job: Job,
    /// The type the recipe asked for, if the tensor's rows do not fit its blocks.
    pub(super) wanted: Option<GgmlType>,
    /// Whether it is quantized to what the recipe says, and no option names its type.
    pub(super) is_free: bool,
    /// Whether an importance matrix was given that has no entry for this tensor.
    pub(super) without_importance: bool,
    /// Whether the type needs importance and there is none.
    pub(super) lacks_importance: bool,
}

/// What the stage decides.
#[derive(Debug)]
pub(super) struct Assignments {
    /// In the order they are written in.
    pub(super) tensors: Vec<Assigned>,
    /// What files of these types are called; `None` for what the input is.
    pub(super) file_type: Option<FileType>,
    /// Whether most of it is in NVFP4, which no recipe makes.
    pub(super) is_nvfp4: bool,
    /// Whether tensors, or the choice of layers, depend on importance.
    pub(super) uses_importance: bool,
}

/// The tensors that stay, and their names in the output.
type Kept = Vec<(usize, String)>;

pub(super) fn assign(given: &Given<'_>, control: Control<'_>) -> Result<Assignments> {
    let Given { model, options, .. } = *given;
    let kept = kept(given);
    let mut request = options.request.clone();
    if let Some(grouped) = &options.grouped {
        // What GGUF files of these blocks are called; which tensors get them is chosen below.
        let eight_bits = grouped.ty.bits() == 8;
        request.file_type = Some(if eight_bits { FileType::Q8_0 } else { FileType::Q4_0 });
    }
    let samples = samples(given, &kept, request.file_type)?;
    let keeps_types = request.file_type.is_none();
    if keeps_types && model.origin == Origin::Checkpoint {
        // Codes are of no precision.
        let is_float = |t: &&Tensor| !is_coded(t) && t.source_type() != GgmlType::I32;
        let floats = model.tensors.iter().filter(is_float);
        let types = floats.map(|t| (&t.shape[..], t.source_type()));
        request.file_type = Some(FileType::detect(types));
    }
    let tensor_facts: Vec<_> = kept
        .iter()
        .map(|(i, name)| (&model.tensors[*i], name))
        .map(|(t, name)| TensorFacts { name, shape: &t.shape, ty: kept_type(model, t) })
        .collect();
    let mut assignments =
        recipe::assign(given.facts, &tensor_facts, &request, given.importance.is_some())?;
    let carried = carry_over(given, &kept, &mut assignments);
    let carries = carry_codes(&samples, keeps_types, &mut assignments);
    let has_nvfp4 = assignments.iter().any(|assignment| assignment.ty == GgmlType::NVFP4);
    let is_nvfp4 = carried && has_nvfp4 && request.file_type.is_some_and(|ty| !ty.is_quantized());
    let mut assigned = Assignments {
        tensors: Vec::with_capacity(kept.len()),
        file_type: match request.file_type {
            // Floats around such blocks make the kind of file that has them.
            Some(FileType::F32 | FileType::F16 | FileType::BF16) if carried => {
                (!is_nvfp4).then_some(FileType::MXFP4_MOE)
            }
            other if keeps_types => of_codes(given, &kept, &assignments, &carries).or(other),
            other => other,
        },
        is_nvfp4,
        uses_importance: false,
    };
    let forms = match &options.grouped {
        None => assignments.iter().map(|a| Form::Ggml(a.ty)).collect(),
        Some(grouped) => {
            groups(given, &kept, &assignments, grouped, control, &mut assigned.uses_importance)?
        }
    };
    let inexact_scales = Arc::default();
    let tensors = kept.into_iter().zip(&assignments).zip(forms).zip(carries);
    for ((((i, name), assignment), form), carries) in tensors {
        let carries = carries.then(|| Arc::clone(&inexact_scales));
        let tensor = assigned_tensor(given, (i, name), assignment, form, carries)?;
        assigned.uses_importance |= tensor.job.importance.is_some();
        assigned.tensors.push(tensor);
    }
    Ok(assigned)
}

/// The tensors that stay, in the order in which recipes number them. They are sorted by their names
/// before pruning, which keeps layers in order.
fn kept(given: &Given<'_>) -> Kept {
    let Given { model, options, pruning, .. } = *given;
    let mut order: Vec<usize> = (0..model.tensors.len()).collect();
    if options.split == Some(Split::Keep) && model.origin == Origin::Gguf {
        // llama-quantize then takes them, and counts them for its mixes, as they are stored.
        order.sort_by_key(|&i| model.tensors[i].place());
    } else {
        order
            .sort_by(|&a, &b| recipe::output_order(&model.tensors[a].name, &model.tensors[b].name));
    }
    let kept = order.into_iter().filter_map(|i| {
        let name = &model.tensors[i].name;
        let renamed = pruning.map_or(Some(name.clone()), |pruning| pruning.rename(name))?;
        Some((i, renamed))
    });
    kept.collect()
}

/// Blocks that a checkpoint came with are carried over, whatever the rest becomes, as the reference
/// converter does; quantizing them again has to be asked for. Returns whether there are such.
fn carry_over(given: &Given<'_>, kept: &Kept, assignments: &mut [Assignment]) -> bool {
    let Given { model, options, .. } = *given;
    let mut carried = false;
    if model.origin == Origin::Checkpoint && !options.allow_requantize {
        for ((i, _), assignment) in kept.iter().zip(assignments) {
            let source = model.tensors[*i].source_type();
            // Another type that an option names for it is no matter of the recipe: refused later.
            let asked = assignment.asked && assignment.ty != source;
            if source.is_quantized() && !asked {
                carried = true;
                assignment.ty = source;
                assignment.requires_imatrix = false;
                assignment.wanted = None;
            }
        }
    }
    carried
}

/// The codes of tensors, where codes may become blocks as they are.
fn samples(
    given: &Given<'_>,
    kept: &Kept,
    file_type: Option<FileType>,
) -> Result<Vec<Option<Sample>>> {
    let Given { model, options, .. } = *given;
    let has_blocks = [None, Some(FileType::Q4_0), Some(FileType::Q4_1), Some(FileType::Q8_0)];
    let asked = |ty| options.request.overrides.iter().any(|rule| rule.ty == ty);
    let wanted = has_blocks.contains(&file_type)
        || [GgmlType::Q4_0, GgmlType::Q4_1, GgmlType::Q8_0].into_iter().any(asked);
    if options.like_reference || options.grouped.is_some() || !wanted {
        return Ok(kept.iter().map(|_| None).collect());
    }
    kept.iter().map(|(i, _)| Sample::read(model, &model.tensors[*i])).collect()
}

/// Codes become blocks as they are where the type of their tensor has such blocks; where tensors keep
/// what they have, they get that type. Returns for which tensors.
fn carry_codes(
    samples: &[Option<Sample>],
    keeps_types: bool,
    assignments: &mut [Assignment],
) -> Vec<bool> {
    let carries = samples.iter().zip(assignments).map(|(sample, assignment)| {
        let Some(sample) = sample.as_ref().filter(|_| assignment.quantizable) else { return false };
        if keeps_types && !assignment.asked {
            let Some(ty) = sample.natural_type() else { return false };
            assignment.ty = ty;
            assignment.wanted = None;
        }
        sample.fits(assignment.ty)
    });
    carries.collect()
}

/// What a file is called most of whose codes were carried to blocks of a type.
fn of_codes(
    given: &Given<'_>,
    kept: &Kept,
    assignments: &[Assignment],
    carries: &[bool],
) -> Option<FileType> {
    let carried = || {
        let tensors = kept.iter().zip(assignments).zip(carries).filter(|(_, carries)| **carries);
        tensors.map(|(((i, _), assignment), _)| (assignment.ty, *i))
    };
    let elements = |ty| {
        let of_type = carried().filter(|(other, _)| *other == ty);
        of_type.map(|(_, i)| given.model.tensors[i].elements()).fold(0, u64::saturating_add)
    };
    let file_types = [FileType::Q4_0, FileType::Q4_1, FileType::Q8_0];
    let most = file_types.into_iter().max_by_key(|file_type| elements(file_type.base()));
    most.filter(|file_type| elements(file_type.base()) > 0)
}

/// What each tensor becomes where grouped integers are asked for.
fn groups(
    given: &Given<'_>,
    kept: &Kept,
    assignments: &[Assignment],
    grouped: &grouped::Options,
    control: Control<'_>,
    uses_importance: &mut bool,
) -> Result<Vec<Form>> {
    let Given { model, options, .. } = *given;
    let mut choices = Vec::with_capacity(kept.len());
    for (&(i, _), assignment) in kept.iter().zip(assignments) {
        let (tensor, quantizable) = (&model.tensors[i], assignment.quantizable);
        let squares = match given.importance {
            Some(importance) if quantizable && importance::used_by(grouped) => {
                importance.of(&tensor.name, &tensor.shape)?
            }
            _ => None,
        };
        *uses_importance |= squares.is_some();
        let kept = if quantizable { tensor.source_type() } else { assignment.ty };
        choices.push(grouped::Choice { tensor: i, quantizable, kept, squares });
    }
    let schemes = grouped::plan(model, &choices, grouped, &options.running(), control)?;
    let form = |(scheme, ty)| match scheme {
        Scheme::Keep => Form::Ggml(ty),
        Scheme::Groups { ty: group, len, .. } => {
            Form::Blocks { groups: Groups { ty: group, len }, ty }
        }
    };
    Ok(schemes.into_iter().map(form).collect())
}

fn assigned_tensor(
    given: &Given<'_>,
    (index, name): (usize, String),
    assignment: &Assignment,
    form: Form,
    carries: Option<Arc<AtomicU64>>,
) -> Result<Assigned> {
    let Given { model, options, importance, .. } = *given;
    let tensor = &model.tensors[index];
    let grouped = options.grouped.as_ref();
    let refine = grouped.is_some_and(|grouped| grouped.refine);
    // Groups use importance for a better scale only.
    let (ty, searches) = match form {
        Form::Ggml(ty) => (ty, importance::bends(ty)),
        Form::Blocks { ty, .. } => (ty, refine),
        Form::Packed { .. } => (assignment.ty, refine),
    };
    let changes = ty != tensor.source_type() && carries.is_none();
    let uses_importance = assignment.quantizable && changes && searches;
    let weights = match importance {
        Some(importance) if uses_importance => importance.of(&tensor.name, &tensor.shape)?,
        _ => None,
    };
    if let (Some(weights), Form::Ggml(_)) = (weights, form) {
        importance::warn_of_zeros(tensor, ty, weights);
    }
    let is_wanted = importance.is_some_and(|importance| importance.is_wanted(&tensor.name));
    Ok(Assigned {
        name,
        ty,
        is_free: assignment.quantizable && !assignment.asked && grouped.is_none(),
        wanted: assignment.wanted.filter(|_| grouped.is_none()),
        without_importance: is_wanted && uses_importance && weights.is_none(),
        lacks_importance: assignment.requires_imatrix
            && changes
            && weights.is_none()
            && grouped.is_none(),
        job: Job {
            tensor: index,
            form,
            carries,
            importance: weights.map(Into::into),
            refine,
            search: match form {
                Form::Ggml(ty) if ty != tensor.source_type() => options.search.of(ty),
                _ => Search::Reference,
            },
        },
    })
}

/// The type a tensor has where no recipe applies: in a checkpoint that is what the reference's
/// lossless conversion would hold.
fn kept_type(model: &Model, tensor: &Tensor) -> GgmlType {
    match model.origin {
        // Tables of numbers, which are no weights, stay what they are.
        Origin::Checkpoint if tensor.source_type() == GgmlType::I32 => GgmlType::I32,
        Origin::Checkpoint if !tensor.source_type().is_quantized() => GgmlType::F32,
        // Blocks of a checkpoint, such as MXFP4, are carried over.
        _ => tensor.source_type(),
    }
}
