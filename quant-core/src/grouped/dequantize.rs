//! Codes back to weights.

use super::{GroupedView, quantize::check};
use crate::Error;

/// Restores the values of whole groups: `(code − zero point) · scale`, in single precision.
///
/// The difference is exact and a scale of half precision or bfloat16 leaves room for its product,
/// so that the values are exact products then.
///
/// # Errors
/// [`Error::GroupLength`] if `out` is not whole groups, [`Error::Length`] if the other buffers do
/// not fit it.
pub fn dequantize(groups: GroupedView<'_>, group_len: usize, out: &mut [f32]) -> Result<(), Error> {
    check(out.len(), group_len, &groups)?;
    let parameters = groups.scales.iter().zip(groups.zero_points);
    let values = groups.codes.chunks_exact(group_len).zip(out.chunks_exact_mut(group_len));
    for ((&scale, &zero_point), (codes, out)) in parameters.zip(values) {
        let zero_point = f32::from(zero_point);
        for (&code, out) in codes.iter().zip(out) {
            *out = (f32::from(code) - zero_point) * scale;
        }
    }
    Ok(())
}
