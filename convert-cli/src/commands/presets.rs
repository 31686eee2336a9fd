//! `presets`: the named sets of options.

use std::io::{self, Write};

use quant_convert::grouped::PRESETS;
use serde_json::json;

use crate::text::{finish, table};

pub(crate) fn run(json: bool) -> anyhow::Result<()> {
    let mut out = io::stdout().lock();
    if json {
        let presets = PRESETS.iter().map(|p| {
            json!({
                "name": p.name,
                "model": p.model,
                "type": p.ty.name(),
                "group_size": p.group_size,
                "ratio": p.ratio,
            })
        });
        writeln!(out, "{}", serde_json::Value::from_iter(presets))?;
        return Ok(());
    }
    let mut rows = table(&["preset", "model", "type", "group size", "ratio"]);
    for p in PRESETS {
        let (size, ratio) = (p.group_size.to_string(), p.ratio.to_string());
        rows.add_row([p.name.into(), p.model.into(), p.ty.name().into(), size, ratio]);
    }
    writeln!(out, "{}", finish(rows, &[3, 4]))?;
    Ok(())
}
