//! Options that had no effect, or another than they seem to have: nothing that was asked for is ignored
//! without a word.

use std::path::Path;

use crate::error::{Quoted, Shown};

/// Warns of an option.
pub(crate) fn no_effect(option: &str, reason: &str) {
    tracing::warn!(kind = "unused-option", "{option} has no effect: {reason}");
}

/// When grouped integers use importance.
pub(crate) const GROUPED: &str = "grouped integers use one for the scales with `refine`, \
                                  and to choose layers where `ratio` is below 1";

/// An importance matrix that was not used, and why.
pub(crate) fn warn_of_matrix(path: &Path, reason: &str) {
    tracing::warn!(
        kind = "unused-option",
        "{}: the importance matrix is not used: {reason}",
        Shown(path)
    );
}

/// Names and sizes of tensors, some of which may be larger than a file is to be.
pub(crate) fn large_tensors<'a>(tensors: impl Iterator<Item = (&'a str, u64)>, most: u64) {
    let large: Vec<_> = tensors.filter(|(_, bytes)| *bytes > most).collect();
    let Some((name, bytes)) = large.iter().max_by_key(|(_, bytes)| *bytes) else { return };
    tracing::warn!(
        kind = "large-tensor",
        tensor = %name,
        "{} of the files are larger than the {most} bytes of `Split::MaxBytes`, because a tensor \
         is not divided: the largest is {} of {bytes} bytes",
        large.len(),
        Quoted(name)
    );
}
