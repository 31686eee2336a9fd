//! What single floats need that `core` does not have.
//!
//! Square roots are correctly rounded everywhere, so that they do not depend on where they come from.

#[cfg(not(feature = "std"))]
pub(crate) use libm::{log10, sqrt, sqrtf};

#[cfg(feature = "std")]
#[inline(always)]
pub(crate) fn sqrtf(v: f32) -> f32 {
    v.sqrt()
}

#[cfg(feature = "std")]
pub(crate) fn sqrt(v: f64) -> f64 {
    v.sqrt()
}

#[cfg(feature = "std")]
pub(crate) fn log10(v: f64) -> f64 {
    v.log10()
}
