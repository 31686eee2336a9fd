//! What can go wrong, in one line each.

mod facts;
mod hints;

use std::{fmt, path::PathBuf};

use quant_core::GgmlType;

use crate::grouped::Refusal;
use hints::*;

/// The result of this crate's operations.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Why a model could not be converted.
///
/// Every message is one line that names the file and the key or tensor, says what was found and
/// what was expected, and what to do. Text that came from a file is escaped and shortened.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A model file could not be read or written.
    #[error(transparent)]
    Files(#[from] gguf_io::Error),
    /// Values could not be quantized or dequantized.
    #[error(transparent)]
    Core(#[from] quant_core::Error),
    /// Weights are stored in a way that is not read, or could not be read.
    #[error(transparent)]
    Read(quant_weights::Error),
    /// A recipe does not apply to the model.
    #[error(transparent)]
    Recipe(#[from] crate::recipe::Error),
    /// An importance matrix has an entry for a tensor of another shape.
    #[error(
        "{}: entry {} has {found} values{}, the tensor has {columns} columns in {matrices} matrices; \
         {OTHER_MODEL}",
        Shown(path),
        Quoted(tensor),
        In(*found_matrices)
    )]
    ImportanceLength {
        /// The importance matrix.
        path: PathBuf,
        /// The tensor.
        tensor: String,
        /// Values of the entry.
        found: usize,
        /// Matrices that they are for; 1 also where the file does not say.
        found_matrices: usize,
        /// Columns of the tensor.
        columns: u64,
        /// Matrices of the tensor.
        matrices: u64,
    },
    /// An importance is so large that sums with it overflow.
    #[error(
        "{}: entry {} holds {value:e} as value {index}, expected at most {most:e}; {BAD_MATRIX}",
        Shown(path),
        Quoted(tensor)
    )]
    ImportanceTooLarge {
        /// The importance matrix.
        path: PathBuf,
        /// The tensor.
        tensor: String,
        /// Index of the value.
        index: usize,
        /// The value, a prior included.
        value: f32,
        /// The largest that is taken.
        most: f32,
    },
    /// The prior is negative or not finite, or there is no importance matrix to add it to.
    #[error("{}", if *has_matrix {
        format!("the prior of the importance is {prior}, expected a number from 0 to 1e30")
    } else {
        format!("a prior of {prior} needs an importance matrix to be added to; {PRIOR_NEEDS_MATRIX}")
    })]
    ImportancePrior {
        /// The prior.
        prior: f32,
        /// Whether there is an importance matrix.
        has_matrix: bool,
    },
    /// A type is useless without importance weights, and there are none.
    #[error(
        "tensor {} would become {ty}, which needs importance weights; \
         {NEEDS_MATRIX}",
        Quoted(tensor)
    )]
    ImportanceNeeded {
        /// The tensor.
        tensor: String,
        /// The type.
        ty: GgmlType,
    },
    /// A tensor is quantized already.
    #[error(
        "tensor {} is {source_type} already; quantizing it again to {ty} adds errors: \
         {REQUANTIZE}",
        Quoted(tensor)
    )]
    Requantize {
        /// The tensor.
        tensor: String,
        /// The type it has.
        source_type: GgmlType,
        /// The type it would get.
        ty: GgmlType,
    },
    /// Several conversions have another number of outputs.
    #[error("{plans} conversions have {found} outputs; {OWN_OUTPUTS}")]
    Outputs {
        /// Outputs given.
        found: usize,
        /// Conversions planned.
        plans: usize,
    },
    /// No mix is as small as asked.
    #[error("{}", match bits_per_weight {
        None => format!(
            "no mix of the types fits into {asked} bytes: the smallest has {smallest}; {SMALLER}"
        ),
        Some((asked, smallest)) => format!(
            "no mix of the types has {asked} bits per weight: the smallest has {smallest:.4}; {SMALLER}"
        ),
    })]
    TooSmall {
        /// Bytes asked for.
        asked: u64,
        /// Bytes of the smallest mix.
        smallest: u64,
        /// Both as bits per weight, if that is how the size was given.
        bits_per_weight: Option<(f64, f64)>,
    },
    /// A tensor suits none of the types that a mix may be made of.
    #[error(
        "tensor {} has rows of {row}, which are no whole blocks of any type given{}; \
         {MORE_TYPES}",
        Quoted(tensor),
        if *has_importance { "" } else { ", or the type needs importance weights" }
    )]
    NoCandidate {
        /// The tensor.
        tensor: String,
        /// Values of a row.
        row: u64,
        /// Whether there are importance weights for it.
        has_importance: bool,
    },
    /// A file does not hold sensitivities.
    #[error("{}: holds no sensitivities of this model: {problem}; {MEASURE_AGAIN}", Shown(path))]
    Sensitivities {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        problem: String,
    },
    /// This version does not write a type.
    #[error(
        "tensor {} would become {ty}, which this version does not write; it writes {supported}",
        Quoted(tensor)
    )]
    CannotWrite {
        /// The tensor.
        tensor: String,
        /// The type.
        ty: GgmlType,
        /// The types there are.
        supported: String,
    },
    /// This version does not read a type's values.
    #[error(
        "{}: tensor {} is {ty}, which this version copies but does not convert; \
         {ORIGINAL}",
        Shown(path),
        Quoted(tensor)
    )]
    CannotRead {
        /// The file.
        path: PathBuf,
        /// The tensor.
        tensor: String,
        /// The type.
        ty: GgmlType,
    },
    /// A tensor holds values that are not finite.
    #[error(
        "tensor {} holds {count} values that are not finite, the first ({value}) at index {index}; \
         {DIVERGED}",
        Quoted(tensor)
    )]
    NonFinite {
        /// The tensor, under its GGUF name.
        tensor: String,
        /// Index of the first, in the order of the output.
        index: u64,
        /// The first.
        value: f32,
        /// How many there are.
        count: u64,
    },
    /// A value is too large for its type or the scale of its block, or for sums that are weighed by
    /// importance.
    #[error(
        "tensor {} holds {magnitude:e} at index {index}{}, too large for {ty}; {}",
        Quoted(tensor),
        Weighed(*importance),
        too_large(*ty, importance.is_some())
    )]
    Overflow {
        /// The tensor, under its GGUF name.
        tensor: String,
        /// The type.
        ty: GgmlType,
        /// The largest magnitude of the block.
        magnitude: f32,
        /// Where it is, in the order of the output.
        index: u64,
        /// The importance, where it takes part in it.
        importance: Option<f32>,
    },
    /// Values in NVFP4 are not in the output as its blocks have them.
    #[error(
        "tensor {}: its values in NVFP4 are taken in an order, or beside others, that blocks of 64 do \
         not have; {FROM_BF16}",
        Quoted(tensor)
    )]
    NotInBlocks {
        /// The tensor, under its GGUF name.
        tensor: String,
    },
    /// Rows are not a whole number of groups.
    #[error(
        "tensor {} has rows of {row} weights, which are not a whole number of groups of {group}; \
         {GROUPS}",
        Quoted(tensor)
    )]
    GroupSize {
        /// The tensor.
        tensor: String,
        /// Weights in a row.
        row: u64,
        /// Weights in a group.
        group: i64,
    },
    /// A grouped type cannot be had in the way that was asked for.
    #[error("{problem}; {}", refusal.help())]
    Grouped {
        /// What kind of request it is.
        refusal: Refusal,
        /// What cannot be.
        problem: String,
    },
    /// The output is one of the inputs.
    #[error("{}: is one of the inputs; {OTHER_NAME}", Shown(path))]
    SameFile {
        /// The output.
        path: PathBuf,
    },
    /// The output has no such shard.
    #[error("shard {number} is asked for, the output has {count}, counted from 1")]
    Shard {
        /// The number asked for.
        number: u64,
        /// How many there are.
        count: usize,
    },
    /// Another file is in the place of a shard.
    #[error(
        "{}: exists already and is not the shard that would be written, from byte {byte} on; {OTHER_SHARD}",
        Shown(path)
    )]
    OtherShard {
        /// The output.
        path: PathBuf,
        /// The first byte of its header, or of its end, that differs.
        byte: u64,
    },
    /// Worker threads could not be started.
    #[error("cannot start worker threads: {error}; {FEWER}")]
    Threads {
        /// The operating system's reason.
        #[source]
        error: std::io::Error,
    },
    /// The caller asked to stop.
    #[error("interrupted; nothing was written")]
    Cancelled,
    /// A JSON file cannot be read as JSON.
    #[error("{}: line {line}, column {column}{}: {problem}; {help}", Shown(path), Near(key.as_deref()))]
    Json {
        /// The file.
        path: PathBuf,
        /// Line of the problem, from 1.
        line: usize,
        /// Column of the problem, from 1.
        column: usize,
        /// The last key before the problem.
        key: Option<String>,
        /// What is wrong.
        problem: String,
        /// What to do.
        help: &'static str,
    },
    /// config.json lacks a key or holds a value that no model can have.
    #[error("{}: key {} is {found}, expected {expected}; {help}", Shown(path), Quoted(key))]
    Config {
        /// The file.
        path: PathBuf,
        /// The key.
        key: String,
        /// What is there.
        found: String,
        /// What should be.
        expected: String,
        /// What to do.
        help: &'static str,
    },
    /// The model class is not one this version converts.
    #[error(
        "{}: architecture {} is not supported; the closest supported ones are {closest}; supported: {supported}",
        Shown(path),
        Quoted(class)
    )]
    Architecture {
        /// The file that names the class.
        path: PathBuf,
        /// The class.
        class: String,
        /// The supported classes whose names are most like it, the first most.
        closest: String,
        /// All supported classes.
        supported: String,
    },
    /// The checkpoint is sound, but of a kind that is not converted.
    #[error("{}: is of {found}, expected {expected}; {help}", Shown(path))]
    OtherModel {
        /// The file that tells.
        path: PathBuf,
        /// What the checkpoint is.
        found: String,
        /// What is converted.
        expected: &'static str,
        /// What to do.
        help: &'static str,
    },
    /// The checkpoint has no projector that this version converts.
    #[error(
        "{}: class {} has no encoder of images or sound that is converted; classes that have: {supported}",
        Shown(path),
        Quoted(class)
    )]
    Projector {
        /// The file that names the class.
        path: PathBuf,
        /// The class.
        class: String,
        /// The classes whose projectors are converted.
        supported: String,
    },
    /// The base model of a LoRA adapter is not known.
    #[error("{}: is a LoRA adapter, {problem}; {NEEDS_BASE}", Shown(path))]
    Base {
        /// The folder of the adapter.
        path: PathBuf,
        /// What is known of the base.
        problem: String,
    },
    /// What is asked for is a matter of language models, not of adapters and projectors.
    #[error("{asked} is for language models, not for {part}; {PART_TYPES}")]
    Part {
        /// What is asked for.
        asked: String,
        /// What is converted.
        part: &'static str,
    },
    /// An architecture is named for a checkpoint whose tensors are to keep their names, which cannot be.
    #[error("{}: {problem}; {help}", Shown(path))]
    OwnNames {
        /// The checkpoint.
        path: PathBuf,
        /// Why not.
        problem: String,
        /// What to do.
        help: &'static str,
    },
    /// The weights are not those that config.json describes.
    #[error("{}: tensor {}: found {found}, expected {expected}; {help}", Shown(path), Quoted(name))]
    Weights {
        /// The checkpoint or the file of it.
        path: PathBuf,
        /// The tensor.
        name: String,
        /// What is there.
        found: String,
        /// What should be.
        expected: String,
        /// What to do.
        help: &'static str,
    },
    /// A tokenizer file is damaged, or no tokenizer file is there that this version reads.
    #[error("{}: {place}: found {found}, expected {expected}; {help}", Shown(path))]
    Tokenizer {
        /// The file, or the folder that should hold it.
        path: PathBuf,
        /// Which part of it.
        place: String,
        /// What is there.
        found: String,
        /// What should be.
        expected: String,
        /// What to do.
        help: &'static str,
    },
    /// The tokenizer splits text by rules for which no pre-tokenizer of llama.cpp is known here.
    #[error(
        "{}: the pre-tokenizer ({found}) matches no known one; names: {names}; {NAME_IT}",
        Shown(path)
    )]
    PreTokenizer {
        /// The file.
        path: PathBuf,
        /// The structure found, in short.
        found: String,
        /// The names there are.
        names: String,
    },
    /// The name given for the pre-tokenizer is not one llama.cpp knows.
    #[error("pre-tokenizer {} is unknown; names: {names}", Quoted(name))]
    PreTokenizerName {
        /// The name given.
        name: String,
        /// The names there are.
        names: String,
    },
}

/// What to do about a file that cannot be as its program wrote it.
pub(crate) const DOWNLOAD: &str = "the file is damaged or was edited, download it again";

pub(crate) use gguf_io::message::{Quoted, Shown};

/// ` with an importance of 1e30`, or nothing.
struct Weighed(Option<f32>);

impl fmt::Display for Weighed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Some(importance) => write!(f, " with an importance of {importance:e}"),
            None => Ok(()),
        }
    }
}

/// ` in 4 matrices`, or nothing for one.
struct In(usize);

impl fmt::Display for In {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            0 | 1 => Ok(()),
            n => write!(f, " in {n} matrices"),
        }
    }
}

/// `, near key "x"`, or nothing.
struct Near<'a>(Option<&'a str>);

impl fmt::Display for Near<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Some(key) => write!(f, ", key {}", Quoted(key)),
            None => Ok(()),
        }
    }
}
