//! The tensors of a folder, their files, and their places in them.

use std::path::Path;

use quant_core::grouped::{ScaleType, pack};

use super::{
    header::{self, Entry},
    source,
};
use crate::{
    Error, Result,
    job::{Form, Groups, Job},
    model::{Model, Tensor},
    options::Split,
    stream::{Place, Places},
};

/// Where everything is.
#[derive(Debug)]
pub(super) struct FolderLayout {
    /// What each tensor of the checkpoint becomes, by the index of its first and last part.
    parts: Vec<std::ops::Range<usize>>,
    placed: Vec<Placed>,
    pub(super) files: Vec<OutputFile>,
}

/// A tensor of the output.
#[derive(Debug)]
pub(super) struct Placed {
    pub(super) entry: Entry,
    pub(super) place: Place,
}

/// A file of weights.
#[derive(Debug)]
pub(super) struct OutputFile {
    pub(super) name: String,
    pub(super) header: Vec<u8>,
    pub(super) total: u64,
}

impl FolderLayout {
    /// Gives all that the jobs write its place.
    pub(super) fn new(model: &Model, jobs: &[Job], split: Option<Split>) -> Result<Self> {
        let (mut parts, mut entries) = (Vec::with_capacity(jobs.len()), Vec::new());
        for job in jobs {
            let first = entries.len();
            entries.extend(written(&model.tensors[job.tensor], job.form)?);
            parts.push(first..entries.len());
        }
        let sizes: Vec<u64> = parts
            .iter()
            .map(|range| {
                let entries = entries.get(range.clone()).unwrap_or_default();
                entries.iter().map(|entry: &Entry| entry.bytes).fold(0, u64::saturating_add)
            })
            .collect();
        let (names, file_of) = distribute(model, &sizes, split)?;
        let mut placed = Vec::with_capacity(entries.len());
        let mut entries = entries.into_iter();
        for (range, file) in parts.iter().zip(file_of) {
            let here = entries.by_ref().take(range.len());
            placed.extend(here.map(|entry| Placed { entry, place: Place { file, offset: 0 } }));
        }
        let mut files = Vec::new();
        for (number, name) in names.into_iter().enumerate() {
            let mut order: Vec<usize> =
                (0..placed.len()).filter(|&i| placed[i].place.file == number).collect();
            order.sort_by(|&a, &b| placed[a].entry.key().cmp(&placed[b].entry.key()));
            let header =
                header::header(&order.iter().map(|&i| &placed[i].entry).collect::<Vec<_>>());
            let mut at = header.len() as u64;
            for i in order {
                placed[i].place.offset = at;
                at = at.checked_add(placed[i].entry.bytes).ok_or(quant_core::Error::TooLarge)?;
            }
            files.push(OutputFile { name, header, total: at });
        }
        Ok(Self { parts, placed, files })
    }

    /// Everything that is written.
    pub(super) fn placed(&self) -> &[Placed] {
        &self.placed
    }

    /// What each tensor of the checkpoint becomes.
    pub(super) fn by_tensor(&self) -> impl ExactSizeIterator<Item = &[Placed]> {
        self.parts.iter().map(|range| self.placed.get(range.clone()).unwrap_or_default())
    }

    /// Where the engine puts the parts of each tensor.
    pub(super) fn places(&self) -> Vec<Places> {
        let nowhere = Place { file: 0, offset: 0 };
        self.by_tensor()
            .map(|parts| {
                let place = |part: usize| parts.get(part).map(|placed| placed.place);
                Places {
                    data: place(0).unwrap_or(nowhere),
                    scales: place(1),
                    shape: place(2),
                    zero_points: place(3),
                }
            })
            .collect()
    }
}

/// What a tensor becomes: itself, or codes, scales, shape and perhaps zero points.
fn written(tensor: &Tensor, form: Form) -> Result<Vec<Entry>> {
    match form {
        Form::Packed { groups, scale } => packed_entries(tensor, groups, scale),
        Form::Ggml(ty) | Form::Blocks { ty, .. } => {
            let bytes = ty.tensor_bytes(&tensor.shape)?;
            let shape = tensor.shape.iter().rev().copied().collect();
            Ok(vec![Entry { name: tensor.name.clone(), dtype: source::dtype(ty), shape, bytes }])
        }
    }
}

fn packed_entries(tensor: &Tensor, groups: Groups, scale: ScaleType) -> Result<Vec<Entry>> {
    let Groups { ty, len } = groups;
    let module = source::module(&tensor.name);
    let too_large = || quant_core::Error::TooLarge;
    let (rows, columns) = (tensor.shape.get(1).copied().unwrap_or(1), tensor.row_len());
    let groups = columns / (len as u64).max(1);
    let per_word = pack::per_word(ty.bits())? as u64;
    let entry = |part: &str, dtype: &'static str, size: u64, shape: [u64; 2]| {
        let elements = shape[0].checked_mul(shape[1]).and_then(|n| n.checked_mul(size));
        let name = format!("{module}.{part}");
        let bytes = elements.ok_or_else(too_large)?;
        Ok::<_, Error>(Entry { name, dtype, shape: shape.to_vec(), bytes })
    };
    let words = columns.div_ceil(per_word);
    let scale = if scale == ScaleType::Bf16 { "BF16" } else { "F16" };
    let mut entries = vec![
        entry("weight_packed", "I32", 4, [rows, words])?,
        entry("weight_scale", scale, 2, [rows, groups])?,
        Entry { name: format!("{module}.weight_shape"), dtype: "I64", shape: vec![2], bytes: 16 },
    ];
    if !ty.is_symmetric() {
        let words = rows.div_ceil(per_word);
        entries.push(entry("weight_zero_point", "I32", 4, [words, groups])?);
    }
    Ok(entries)
}

/// Names of the weight files, and which one each tensor of the checkpoint goes to: as it was, or
/// filled one after the other up to a size.
fn distribute(
    model: &Model,
    sizes: &[u64],
    split: Option<Split>,
) -> Result<(Vec<String>, Vec<usize>)> {
    let shard = |n, count| format!("model-{n:05}-of-{count:05}.safetensors");
    let mut names: Vec<String> = Vec::new();
    let mut file_of = Vec::with_capacity(model.tensors.len());
    let limit = match split {
        Some(Split::MaxBytes(most)) => Some((sizes.to_vec(), most)),
        // The parts of a layer count as the one tensor they are in the checkpoint.
        Some(Split::MaxTensors(most)) => Some((vec![1; sizes.len()], most)),
        Some(Split::Files(_) | Split::Keep) | None => None,
    };
    if let Some(Split::Files(files)) = split {
        let counts = gguf_io::Split::Files(files).distribute(sizes)?;
        names = (1..=counts.len()).map(|n| shard(n, counts.len())).collect();
        for (file, count) in counts.into_iter().enumerate() {
            file_of.extend(std::iter::repeat_n(file, count));
        }
    } else if let Some((sizes, most)) = limit {
        let (mut file, mut filled) = (0, 0u64);
        for size in sizes {
            if filled > 0 && filled.saturating_add(size) > most {
                (file, filled) = (file + 1, 0);
            }
            filled = filled.saturating_add(size);
            file_of.push(file);
        }
        names = (0..=file).map(|n| shard(n + 1, file + 1)).collect();
    } else {
        for tensor in &model.tensors {
            let file = tensor.place().and_then(|(file, _)| model.files.get(file));
            let name = file.map(|file| file.path()).and_then(Path::file_name).unwrap_or_default();
            let name = name.to_string_lossy().into_owned();
            let file = names.iter().position(|known| *known == name).unwrap_or_else(|| {
                names.push(name);
                names.len() - 1
            });
            file_of.push(file);
        }
    }
    if let [only] = &mut names[..] {
        *only = "model.safetensors".to_owned();
    }
    Ok((names, file_of))
}
