//! `split`: shards of a GGUF file.

use std::io::{self, Write};

use anyhow::Context;
use gguf_io::{AnyGguf, Limits, Split, gguf::regroup::Regrouping, message::Quoted};
use serde_json::json;

use crate::{
    args::SplitArgs,
    text::{self, size},
    warnings::Warnings,
};

pub(crate) fn run(args: &SplitArgs, warnings: &Warnings) -> anyhow::Result<()> {
    let by = None
        .or(args.max_size.map(Split::MaxBytes))
        .or(args.max_tensors.map(Split::MaxTensors))
        .or(args.shards.map(Split::Files))
        .context("no size of shards")?;
    let model = AnyGguf::open_any(&args.input, &Limits::default())?;
    let split = Regrouping::split(&model, &args.output, by)?;
    split.save(args.writing.options())?;
    if let Some(most) = args.max_size {
        warn_of_large(&model, most);
    }
    let outputs = split.outputs();
    let mut out = io::stdout().lock();
    if args.json {
        let shards =
            outputs.iter().map(|(path, bytes)| json!({"output": text::path(path), "bytes": bytes}));
        let shards: Vec<_> = shards.collect();
        writeln!(out, "{}", json!({"shards": shards, "warnings": warnings.take()}))?;
    } else {
        for (path, bytes) in outputs {
            writeln!(out, "{}: {}", text::path(&path), size(bytes))?;
        }
    }
    out.flush()?;
    super::running::warn(warnings);
    Ok(())
}

/// Warns of tensors that are larger than a shard is to be, and are not divided.
fn warn_of_large(model: &AnyGguf, most: u64) {
    let large: Vec<_> = model.tensors.iter().filter(|tensor| tensor.bytes > most).collect();
    let Some(largest) = large.iter().max_by_key(|tensor| tensor.bytes) else { return };
    tracing::warn!(
        kind = "large-tensor",
        tensor = %largest.name,
        "{} of the shards are larger than the {most} bytes of --max-size, because a tensor is not \
         divided: the largest is {} of {} bytes",
        large.len(),
        Quoted(&largest.name),
        largest.bytes
    );
}
