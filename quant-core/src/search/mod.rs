//! The searches for scales that decide a block's bytes, each written once over [`Lanes`].
//!
//! Names and grids are ggml's (`make_qx_quants` and its siblings in `ggml-quants.c`); what is kept
//! from there is the order of every float operation. Codes are not kept while candidates are
//! tried: the inverse scale that won is, and codes are derived from it afterwards.
//!
//! [`Lanes`]: crate::lanes::Lanes

mod abreast;
mod descent;
mod grid;
mod lines;
mod nearest;
mod positive;
mod scale;
mod scale_min;
mod settle;
mod splits;

pub(crate) use abreast::MOST_LANES;
pub(crate) use descent::fit_scale_by_descent;
pub(crate) use grid::{Again, FitGrid, Settings, Sub};
pub(crate) use positive::fit_positive;
pub(crate) use scale::{fit_scale, signed_extreme};
pub(crate) use scale_min::{Grid, fit_scale_min};
pub(crate) use settle::Room;
pub(crate) use splits::{DOWN, SplitRoom, TernarySub, UP, fit_splits};

/// Blocks whose largest magnitude is below this are all zero.
pub(crate) const GROUP_MAX_EPS: f32 = 1e-15;
