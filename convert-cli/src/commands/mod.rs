//! One file per command.

use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};

pub(crate) mod bench;
pub(crate) mod compare;
pub(crate) mod convert;
pub(crate) mod edit;
pub(crate) mod generate;
pub(crate) mod hash;
pub(crate) mod imatrix;
pub(crate) mod inspect;
pub(crate) mod kl;
mod ladder;
pub(crate) mod manual;
pub(crate) mod memory;
pub(crate) mod merge;
mod mix;
mod outcome;
pub(crate) mod perplexity;
pub(crate) mod presets;
pub(crate) mod provenance;
mod running;
pub(crate) mod split;
pub(crate) mod verify;

/// A bar for work on so many bytes.
pub(crate) fn progress_bar(bytes: u64) -> anyhow::Result<ProgressBar> {
    let bar = ProgressBar::new(bytes);
    let template = "{bar:40} {percent:>3}%  {bytes} of {total_bytes}  {bytes_per_sec}  {eta} left";
    bar.set_style(ProgressStyle::with_template(template)?);
    bar.enable_steady_tick(Duration::from_millis(100));
    Ok(bar)
}
