//! `merge`: one GGUF file of several shards.

use std::io::{self, Write};

use gguf_io::{AnyGguf, Limits, gguf::regroup::Regrouping};
use serde_json::json;

use crate::{
    args::MergeArgs,
    text::{self, size},
};

pub(crate) fn run(args: &MergeArgs) -> anyhow::Result<()> {
    let model = AnyGguf::open_any(&args.input, &Limits::default())?;
    let merged = Regrouping::merge(&model, &args.output)?;
    merged.save(args.writing.options())?;
    let bytes: u64 = merged.outputs().iter().map(|(_, bytes)| bytes).sum();
    let output = text::path(&args.output);
    let mut out = io::stdout().lock();
    if args.json {
        writeln!(
            out,
            "{}",
            json!({"output": output, "bytes": bytes, "shards": model.files.len()})
        )?;
    } else {
        let shards = if model.files.len() == 1 { "shard" } else { "shards" };
        writeln!(out, "{output}: {} {shards}, {}", model.files.len(), size(bytes))?;
    }
    Ok(out.flush()?)
}
