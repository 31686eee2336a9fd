//! Why grouped integers cannot be had in the way that was asked for.

/// What kind of request cannot be fulfilled.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Refusal {
    /// A folder is asked for without a type.
    NoType,
    /// The input is not the folder of a checkpoint.
    NoCheckpoint,
    /// One shard is asked for.
    NoShard,
    /// No layer would be quantized.
    NoLayer,
    /// A metric needs importance that is not there.
    NoImportance,
    /// The group size divides the rows of some experts only.
    ExpertRows,
    /// Experts would have zero points.
    ExpertZeroPoints,
    /// Experts would be quantized in different ways.
    ExpertSchemes,
    /// GGUF has no blocks for the type or the groups.
    NoBlocks,
    /// GGUF has no blocks for the backup type.
    NoBackupBlocks,
}

impl Refusal {
    /// What to do about it.
    pub fn help(self) -> &'static str {
        match self {
            Self::NoType => "choose one",
            Self::NoCheckpoint => {
                "a folder of grouped integers is made from one; from a GGUF file only another is made"
            }
            Self::NoShard => "write all of it, or a GGUF file",
            Self::NoLayer => {
                "the names of this model's layers are not known, or the ratio and the backup type, or \
                 the fallback of the group size, leave all as they are"
            }
            Self::NoImportance => {
                "give an importance matrix that has all layers, or judge them by their weights"
            }
            Self::ExpertRows => {
                "choose a group size that divides all of them, or let it be adjusted"
            }
            Self::ExpertZeroPoints => {
                "choose int4_sym or int8_sym as type, and int8_sym or none as backup type"
            }
            Self::ExpertSchemes => "choose layers together, or take a ratio of 1",
            Self::NoBlocks => {
                "for GGUF choose int4_sym with a group size that is a multiple of 32, or write a folder"
            }
            Self::NoBackupBlocks => {
                "leave out the backup type, or choose int8_sym (written as Q8_0) or none"
            }
        }
    }
}
