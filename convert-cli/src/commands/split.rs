//! `split`: shards of a GGUF file.

use std::io::{self, Write};

use anyhow::Context;
use gguf_io::{AnyGguf, Limits, Split, gguf::regroup::Regrouping};
use serde_json::json;

use crate::{
    args::SplitArgs,
    text::{self, size},
};

pub(crate) fn run(args: &SplitArgs) -> anyhow::Result<()> {
    let by = None
        .or(args.max_size.map(Split::MaxBytes))
        .or(args.max_tensors.map(Split::MaxTensors))
        .or(args.shards.map(Split::Files))
        .context("no size of shards")?;
    let model = AnyGguf::open_any(&args.input, &Limits::default())?;
    let split = Regrouping::split(&model, &args.output, by)?;
    split.save(args.writing.options())?;
    let outputs = split.outputs();
    let mut out = io::stdout().lock();
    if args.json {
        let shards =
            outputs.iter().map(|(path, bytes)| json!({"output": text::path(path), "bytes": bytes}));
        writeln!(out, "{}", json!({"shards": shards.collect::<Vec<_>>()}))?;
    } else {
        for (path, bytes) in outputs {
            writeln!(out, "{}: {}", text::path(&path), size(bytes))?;
        }
    }
    Ok(out.flush()?)
}
