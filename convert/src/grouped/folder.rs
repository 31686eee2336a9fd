//! The plan of a Hugging Face folder in the pack-quantized layout of compressed-tensors.

use std::path::{Path, PathBuf};

use quant_core::{GgmlType, grouped::ScaleType};

use super::{
    Backup, Options as Grouped, Refusal, Scheme,
    assign::assign,
    experts, header,
    layers::{Role, in_layer},
    layout::FolderLayout,
    names::GgufNames,
    scheme::{Candidate, Rest},
    source,
    texts::{self, Modules},
    unused,
};
use crate::{
    Config, Control, Error, Options, Result, Search,
    error::Shown,
    importance::{Importance, used_by},
    job::{Form, Groups, Job},
    model::{Model, Tensor},
    options::{Running, preference},
    packed,
};

/// A folder that is ready to be written.
#[derive(Debug)]
#[must_use = "nothing is written until it is told to"]
pub struct FolderPlan {
    pub(super) dir: PathBuf,
    pub(super) model: Model,
    schemes: Vec<Scheme>,
    /// What is done to each tensor of the checkpoint.
    pub(super) jobs: Vec<Job>,
    pub(super) layout: FolderLayout,
    /// Files made here, by name.
    pub(super) texts: Vec<(String, Vec<u8>)>,
    /// Files that are copied as they are, by name.
    pub(super) copies: Vec<String>,
    options: Grouped,
    pub(super) running: Running,
}

/// A weight of the plan, as a whole.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct FolderTensor<'a> {
    /// Its name in the checkpoint.
    pub name: &'a str,
    /// Dimensions, innermost first.
    pub shape: &'a [u64],
    /// What it is stored as, in capitals, e.g. `INT4_SYM` or `BF16`.
    pub ty: String,
    /// Bytes of its data, scales and zero points included.
    pub bytes: u64,
}

impl FolderPlan {
    /// Plans a folder, of the grouped integers that the options ask for. Reads weights only if the
    /// ratio is less than 1.
    ///
    /// # Errors
    /// Whatever is wrong with the checkpoint, and whatever the options ask that it does not allow;
    /// [`Error::Grouped`] if they ask for no grouped integers.
    pub fn new(dir: impl AsRef<Path>, options: &Options, control: Control<'_>) -> Result<Self> {
        let dir = &crate::locate(dir.as_ref(), options)?;
        Self::of_folder(dir, options, control)
            .map_err(|error| crate::neighbours::explain(dir, error))
    }

    fn of_folder(dir: &Path, options: &Options, control: Control<'_>) -> Result<Self> {
        let Some(grouped) = &options.grouped else {
            return Err(Error::Grouped {
                problem: "a folder is asked for, but no type of grouped integers".into(),
                refusal: Refusal::NoType,
            });
        };
        if options.shard.is_some() {
            return Err(Error::Grouped {
                problem: "one shard is asked for, but a folder is complete or absent".into(),
                refusal: Refusal::NoShard,
            });
        }
        if !dir.is_dir() {
            // What is not there at all is no file either.
            if options.elsewhere.is_empty() {
                gguf_io::SourceFile::open(dir)?;
            }
            return Err(Error::Grouped {
                problem: format!("{}: is not the folder of a checkpoint", crate::error::Shown(dir)),
                refusal: Refusal::NoCheckpoint,
            });
        }
        let config = Config::read(dir)?;
        let preference = preference(options.like_reference);
        let weights = packed::open(dir, &options.elsewhere, &config, preference, &options.limits)?;
        let names = header::Names { wrapper: config.is_wrapper() };
        let gguf = GgufNames::new(dir, config, &weights)?;
        let importance = Importance::open(options)?.filter(|importance| !importance.is_empty());
        let model = source::model(weights)?;
        if let Some(importance) = &importance {
            importance.warn_of_strays(gguf.all());
        }

        // The first stage: the scheme of each tensor.
        let roles: Vec<_> = model.tensors.iter().map(role).collect();
        let importance = importance.as_ref().filter(|_| used_by(grouped));
        let squares_of = |(tensor, role): (&Tensor, &Role)| match importance {
            Some(importance) if *role != Role::Other => gguf.importance(importance, tensor),
            _ => Ok(None),
        };
        let squares: Vec<_> =
            model.tensors.iter().zip(&roles).map(squares_of).collect::<Result<_>>()?;
        let informed = squares.iter().any(Option::is_some);
        let candidates: Vec<_> = roles
            .iter()
            .zip(&squares)
            .enumerate()
            .map(|(tensor, (role, squares))| Candidate {
                tensor,
                role: role.clone(),
                squares: *squares,
            })
            .collect();
        let backup = grouped.backup.unwrap_or(Backup::Int8Sym).ty();
        let rest = Rest { backup, ends: None, experts_as_one: true };
        let schemes = assign(&model, &candidates, grouped, rest, &options.running(), control)?;
        unused::warn(&model, &candidates, grouped, rest, &schemes, false);
        if !schemes.iter().any(|scheme| matches!(scheme, Scheme::Groups { .. })) {
            return Err(Error::Grouped {
                problem: format!("{}: no layer would be quantized", Shown(dir)),
                refusal: Refusal::NoLayer,
            });
        }
        experts::check(&model, &roles, &schemes)?;
        warn_of_kept(&model, &roles);
        let jobs: Vec<_> = model
            .tensors
            .iter()
            .enumerate()
            .map(|(i, tensor)| job(i, tensor, schemes[i], squares[i], grouped.refine))
            .collect();

        // The second and third: what is said of them, and where they are.
        let layout = FolderLayout::new(&model, &jobs, options.split)?;
        let modules = Modules::new(&model, &roles, &schemes, names);
        let plan = Self {
            dir: dir.to_path_buf(),
            texts: texts::descriptions(dir, &modules, &layout)?,
            copies: texts::copied(dir)?,
            model,
            schemes,
            jobs,
            layout,
            options: *grouped,
            running: options.running(),
        };
        let tensors = plan.tensors().map(|tensor| (tensor.name, tensor.bytes));
        unused::warn_in_folder(tensors, plan.layout.files.len(), options, informed);
        Ok(plan)
    }

    /// The weights, in the order of the checkpoint.
    pub fn tensors(&self) -> impl ExactSizeIterator<Item = FolderTensor<'_>> {
        let tensors = self.model.tensors.iter().zip(&self.schemes).zip(self.layout.by_tensor());
        tensors.map(|((tensor, scheme), parts)| FolderTensor {
            name: &tensor.name,
            shape: &tensor.shape,
            ty: match scheme {
                Scheme::Keep => source::dtype(tensor.source_type()).into(),
                Scheme::Groups { ty, .. } => ty.name().to_uppercase(),
            },
            bytes: parts.iter().map(|placed| placed.entry.bytes).sum(),
        })
    }

    /// The scheme of each weight, in the order of [`tensors`](Self::tensors).
    pub fn schemes(&self) -> impl ExactSizeIterator<Item = Scheme> {
        self.schemes.iter().copied()
    }

    /// The options it was made with.
    pub fn options(&self) -> &Grouped {
        &self.options
    }

    /// Bytes of all weight files.
    pub fn total_bytes(&self) -> u64 {
        self.layout.files.iter().map(|file| file.total).sum()
    }

    /// Bits per weight over all tensors, headers left out.
    pub fn bits_per_weight(&self) -> f64 {
        let weights: u64 = self.model.tensors.iter().map(Tensor::elements).sum();
        let bytes: u64 = self.layout.placed().iter().map(|placed| placed.entry.bytes).sum();
        if weights == 0 { 0.0 } else { bytes as f64 * 8.0 / weights as f64 }
    }

    /// Bytes that are read from the checkpoint.
    pub fn source_bytes(&self) -> u64 {
        self.model.tensors.iter().map(Tensor::source_bytes).sum()
    }
}

fn role(tensor: &Tensor) -> Role {
    match Role::of(&tensor.name, tensor.shape.len()) {
        // transformers has no embedding that unpacks its weights.
        Role::Embedding => Role::Other,
        role => role,
    }
}

fn job(
    index: usize,
    tensor: &Tensor,
    scheme: Scheme,
    squares: Option<&[f32]>,
    refine: bool,
) -> Job {
    let (source, is_grouped) = (tensor.source_type(), scheme != Scheme::Keep);
    let form = match scheme {
        Scheme::Keep => Form::Ggml(source),
        Scheme::Groups { ty, len, .. } => {
            let scale = if source == GgmlType::BF16 { ScaleType::Bf16 } else { ScaleType::F16 };
            Form::Packed { groups: Groups { ty, len }, scale }
        }
    };
    let importance = squares.filter(|_| refine && is_grouped).map(Into::into);
    Job { tensor: index, form, carries: None, importance, refine, search: Search::Reference }
}

/// Says which large matrices of layers stay as they are because no linear layer is in them.
fn warn_of_kept(model: &Model, roles: &[Role]) {
    let matrices = || {
        model.tensors.iter().zip(roles).filter(|(tensor, _)| {
            tensor.shape.iter().filter(|&&size| size > 1).count() > 1
                && in_layer(&tensor.name).is_some()
        })
    };
    let weights = |tensor: &Tensor| tensor.elements();
    let all: u64 = matrices().map(|(tensor, _)| weights(tensor)).fold(0, u64::saturating_add);
    let kept: Vec<_> = matrices().filter(|(_, role)| **role == Role::Other).collect();
    let sum = kept.iter().map(|(tensor, _)| weights(tensor)).fold(0, u64::saturating_add);
    // Routers and the like are small, and no one expects them quantized.
    if let Some((first, _)) = kept.first()
        && sum > all / 20
    {
        tracing::warn!(
            "{} matrices, {:.0} % of the weights, keep their precision: they are no linear layers, \
             but stacked experts or the like (the first is {:?})",
            kept.len(),
            sum as f64 / all as f64 * 100.0,
            first.name
        );
    }
}
