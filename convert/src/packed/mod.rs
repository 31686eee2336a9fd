//! Checkpoints whose weights are packed already: GPTQ, AWQ, AutoRound, compressed-tensors, MLX.
//!
//! Every packed layer becomes a file of its own that is not on disk: reading it dequantizes, some
//! rows at a time. So whatever works on weights in single precision works on these, and no more
//! than a few blocks of rows are in memory. Values are exact: `(code − zero point) · scale`, in
//! MLX `code · scale + bias`. Codes of eight bits that are not packed are an [`Encoding`] instead,
//! see `architectures/fp8.rs`.
//!
//! | format | layout | file |
//! |---|---|---|
//! | GPTQ v1 and v2, 2, 3, 4, 8 bits, act-order; AutoRound | codes along the columns | `transposed.rs` |
//! | AWQ GEMM, 4 bits; AutoRound | codes along the rows of the transpose, interleaved | `transposed.rs` |
//! | compressed-tensors pack-quantized, 2 to 8 bits | codes along the rows | `by_rows.rs` |
//! | MLX affine, 2, 3, 4, 5, 6, 8 bits | codes along the rows, without gaps | `mlx.rs` |
//!
//! [`Encoding`]: crate::model::Encoding

mod by_rows;
mod config;
mod mlx;
mod reader;
pub(crate) mod stored;
mod transposed;

use std::{path::Path, sync::Arc};

use gguf_io::{Checkpoint, CheckpointTensor, Dtype, Limits, SourceFile, safetensors::Preference};

use crate::{Config, Error, Result};

pub(crate) use config::{Format, ScaleLayout};
use reader::{Blocks, Cache, Reader};

/// What to do about a checkpoint that cannot be read.
const HELP: &str = "take the original checkpoint, which the model's authors usually publish too";

/// Whether the weights are stored in a way that is read.
///
/// # Errors
/// If they are codes of a quantization that is not.
pub(crate) fn check(config: &Config) -> Result<()> {
    Format::of(config).map(|_| ())
}

/// Opens the weights of a checkpoint. Packed layers appear as weights of type F32, under the name
/// that they have in the original checkpoint.
///
/// # Errors
/// As [`Checkpoint::open`]; [`Error::Packed`] for a quantization that is not read, by name, and for
/// packed tensors that do not fit each other.
pub(crate) fn open(
    dir: &Path,
    config: &Config,
    preference: Preference,
    limits: &Limits,
) -> Result<Checkpoint> {
    let format = Format::of(config)?;
    let mut checkpoint = Checkpoint::open_with(dir, preference, limits)?;
    let format = match format {
        Format::Floats => Format::of_older(dir, &checkpoint)?,
        format => format,
    };
    mlx::unstack(&mut checkpoint);
    let Some(codes) = format.codes() else { return Ok(checkpoint) };
    // The readers share the handles.
    let files = Arc::new(checkpoint.files.clone());
    let cache = Arc::new(Cache::default());
    let suffix = format!(".{codes}");
    let modules: Vec<String> = checkpoint
        .tensors
        .keys()
        .filter_map(|name| Some(name.strip_suffix(&suffix)?.to_owned()))
        .collect();
    for module in modules {
        let parts = Parts { checkpoint: &checkpoint, files: &files, module: &module };
        let (blocks, used) = format.layer(&parts)?;
        let file = parts.file()?;
        let names = match (&format, parts.stack()) {
            (Format::Mlx(_), Some(experts)) => mlx::experts(&module, experts),
            _ => vec![format!("{module}.weight")],
        };
        let path = checkpoint.files.get(file).map(|f| f.path().to_path_buf()).unwrap_or_default();
        let [rows, columns] = blocks.shape();
        let too_large = quant_core::Error::TooLarge;
        let rows = rows.checked_div(names.len() as u64).ok_or_else(|| too_large.clone())?;
        let bytes = rows.checked_mul(columns).and_then(|n| n.checked_mul(4));
        let bytes = bytes.ok_or_else(|| too_large.clone())?;
        let reader = Reader::new(blocks, Arc::clone(&cache), checkpoint.files.len());
        for part in used {
            checkpoint.tensors.shift_remove(&format!("{module}.{part}"));
        }
        let file = checkpoint.files.len();
        checkpoint.files.push(SourceFile::from_reader(path.clone(), Box::new(reader))?);
        for (number, name) in (0u64..).zip(names) {
            let weight = CheckpointTensor {
                dtype: Dtype::F32,
                shape: vec![rows, columns],
                file,
                offset: number.checked_mul(bytes).ok_or_else(|| too_large.clone())?,
                bytes,
            };
            if checkpoint.tensors.insert(name.clone(), weight).is_some() {
                return Err(Error::Packed {
                    path,
                    place: format!("tensor {}", crate::error::Quoted(&name)),
                    found: "both a weight and its packed form".into(),
                    expected: "one of them".into(),
                    help: HELP,
                });
            }
        }
    }
    Ok(checkpoint)
}

/// The tensors of one packed layer.
struct Parts<'a> {
    checkpoint: &'a Checkpoint,
    files: &'a Arc<Vec<SourceFile>>,
    module: &'a str,
}

/// A tensor of a packed layer whose type and dimensions are as they should be.
#[derive(Clone, Copy, Debug)]
struct Part {
    file: usize,
    offset: u64,
    rows: u64,
    columns: u64,
    dtype: Dtype,
}

impl Parts<'_> {
    /// The file that most of the layer is in: any will do for messages.
    fn file(&self) -> Result<usize> {
        let prefix = format!("{}.", self.module);
        let found = self.checkpoint.tensors.iter().find(|(name, _)| name.starts_with(&prefix));
        Ok(found.map_or(0, |(_, tensor)| tensor.file))
    }

    /// The number of experts that are stacked in one weight, as in MLX.
    fn stack(&self) -> Option<u64> {
        let weight = self.checkpoint.tensors.get(&format!("{}.weight", self.module))?;
        match weight.shape[..] {
            [experts @ 1..=mlx::MOST_EXPERTS, _, _] if self.module.contains(mlx::STACK) => {
                Some(experts)
            }
            _ => None,
        }
    }

    /// A part, if it is there; a vector counts as a single row.
    fn find(&self, part: &str, dtypes: &[Dtype]) -> Result<Option<Part>> {
        let Some(tensor) = self.checkpoint.tensors.get(&format!("{}.{part}", self.module)) else {
            return Ok(None);
        };
        let names: Vec<_> = dtypes.iter().map(|dtype| dtype.name()).collect();
        let (rows, columns) = match tensor.shape[..] {
            [] => (1, 1),
            [columns] => (1, columns),
            [rows, columns] => (rows, columns),
            // The experts of a layer, one below the other.
            [experts, rows, columns] if self.stack().is_some() => {
                (experts.checked_mul(rows).ok_or(quant_core::Error::TooLarge)?, columns)
            }
            _ => return Err(self.wrong(part, &format!("{} dimensions", tensor.shape.len()), "2")),
        };
        if !dtypes.contains(&tensor.dtype) {
            let found = format!("type {}", tensor.dtype);
            return Err(self.wrong(part, &found, &names.join(" or ")));
        }
        if rows == 0 || columns == 0 {
            return Err(self.wrong(part, "no elements", "some"));
        }
        Ok(Some(Part {
            file: tensor.file,
            offset: tensor.offset,
            rows,
            columns,
            dtype: tensor.dtype,
        }))
    }

    fn need(&self, part: &str, dtypes: &[Dtype]) -> Result<Part> {
        self.find(part, dtypes)?.ok_or_else(|| self.wrong(part, "no such tensor", "one"))
    }

    /// Checks the shape of a part.
    fn expect(&self, name: &str, part: &Part, rows: u64, columns: u64) -> Result<()> {
        if (part.rows, part.columns) == (rows, columns) {
            return Ok(());
        }
        let found = format!("shape [{}, {}]", part.rows, part.columns);
        Err(self.wrong(
            name,
            &found,
            &format!("[{rows}, {columns}] by the other tensors of the layer"),
        ))
    }

    /// Reads the groups of the columns.
    fn groups(&self, name: &str, part: &Part, limit: u64) -> Result<Groups> {
        let count = usize::try_from(part.columns).map_err(|_| quant_core::Error::TooLarge)?;
        let bytes = count.checked_mul(4).ok_or(quant_core::Error::TooLarge)?;
        let mut buffer = vec![0; bytes];
        if let Some(file) = self.files.get(part.file) {
            file.read_exact_at(&mut buffer, part.offset)?;
        }
        let values: Vec<u32> =
            buffer.as_chunks().0.iter().map(|b| u32::from_le_bytes(*b)).collect();
        match values.iter().find(|value| u64::from(**value) >= limit) {
            Some(value) => {
                let expected = format!("groups 0 to {}", limit.saturating_sub(1));
                Err(self.wrong(name, &format!("group {}", *value as i32), &expected))
            }
            None => Ok(Groups::Given(values)),
        }
    }

    /// Groups one after the other, if they divide the columns. Nothing is kept for each column: a
    /// small file may announce many.
    fn even_groups(&self, name: &str, columns: u64, groups: u64) -> Result<Groups> {
        if groups == 0 || !columns.is_multiple_of(groups) {
            let found = format!("{groups} groups");
            return Err(self.wrong(name, &found, &format!("a divisor of {columns} columns")));
        }
        Ok(Groups::Even(columns / groups))
    }

    fn wrong(&self, part: &str, found: &str, expected: &str) -> Error {
        let name = format!("{}.{part}", self.module);
        let file = self.checkpoint.tensors.get(&name).map(|tensor| tensor.file);
        let file = file.or_else(|| self.file().ok()).and_then(|f| self.checkpoint.files.get(f));
        Error::Packed {
            path: file.map(|f| f.path().to_path_buf()).unwrap_or_default(),
            place: format!("tensor {}", crate::error::Quoted(&name)),
            found: found.to_owned(),
            expected: expected.to_owned(),
            help: "the checkpoint is damaged or of a variant that is not read; take the original one",
        }
    }
}

/// The group of each column.
#[derive(Debug)]
enum Groups {
    /// Groups of this many, one after the other.
    Even(u64),
    /// As the file says.
    Given(Vec<u32>),
}

impl Groups {
    fn of(&self, column: usize) -> usize {
        match self {
            Self::Even(size) => usize::try_from(column as u64 / (*size).max(1)).unwrap_or(0),
            Self::Given(groups) => groups.get(column).map_or(0, |group| *group as usize),
        }
    }
}

/// A packed layer and the parts it is made of.
type Layer = (Box<dyn Blocks>, Vec<&'static str>);
