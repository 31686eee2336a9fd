//! What to do about errors.

use quant_core::GgmlType;

pub(super) const OTHER_MODEL: &str = "the matrix was made for another model";
pub(super) const NEEDS_MATRIX: &str = "give a matrix that has them, or choose a larger type";
pub(super) const REQUANTIZE: &str = "start from the original checkpoint, or allow it";
pub(super) const ORIGINAL: &str = "start from the original checkpoint";
pub(super) const DIVERGED: &str = "the checkpoint is damaged or was trained to divergence";
pub(super) const GROUPS: &str =
    "choose a group size that divides them, or what to do with such rows";
pub(super) const OTHER_NAME: &str = "choose another name for the output";
pub(super) const NEEDS_BASE: &str = "give the folder of its base model, of which only config.json is \
    read, or merge the adapter into it (merge_and_unload of peft) and convert that";
pub(super) const PART_TYPES: &str = "leave it out; the types for this are F32, F16, BF16 and Q8_0";
pub(super) const OTHER_SHARD: &str =
    "choose another name, or allow it to be replaced if it is of an earlier run";
pub(super) const FEWER: &str = "try fewer";
pub(super) const OWN_OUTPUTS: &str = "give each its own";
pub(super) const FROM_BF16: &str = "start from the BF16 checkpoint";
pub(super) const PRIOR_NEEDS_MATRIX: &str = "give one";

pub(super) const SMALLER: &str = "allow more, or name smaller types";
pub(super) const MORE_TYPES: &str = "name a type with smaller blocks too";
pub(super) const MEASURE_AGAIN: &str = "measure them again";
pub(super) const BAD_MATRIX: &str = "the matrix is damaged: make it again, or leave the tensor out";
pub(super) const NAME_IT: &str = "if you know llama.cpp's name for it, give it";

/// What to do about a value that is too large.
pub(super) fn too_large(ty: GgmlType, is_weighed: bool) -> &'static str {
    match ty {
        _ if is_weighed => {
            "the importance matrix is damaged: make it again, or leave the tensor out"
        }
        GgmlType::BF16 => "keep it in F32",
        _ => "keep it in BF16 or F32",
    }
}
