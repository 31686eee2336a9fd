//! The memory that running a model takes: a part of `inspect`.

use std::collections::BTreeMap;

use gguf_io::{Limits, safetensors::locate};
use quant_evaluate::{Footprint, LayerFootprint, Options};
use quant_weights::Gguf;
use serde::Serialize;

use crate::{
    input::Input,
    text::{finish, size, table},
};

/// What a model takes for a text of so many tokens, in bytes.
#[derive(Serialize)]
pub(crate) struct Memory {
    ctx: u32,
    weights: u64,
    /// Keys and values, and states.
    cache: u64,
    activations: u64,
    logits: u64,
    total: u64,
    layers: Vec<Layer>,
}

#[derive(Serialize)]
struct Layer {
    weights: u64,
    keys_and_values: u64,
    state: u64,
    /// How many tokens it sees, if not all.
    #[serde(skip_serializing_if = "Option::is_none")]
    window: Option<usize>,
    /// The layer whose keys and values it uses.
    #[serde(skip_serializing_if = "Option::is_none")]
    uses_keys_of: Option<usize>,
}

/// Of a GGUF file or the folder of a checkpoint, of which headers alone are read.
pub(crate) fn of(input: &Input, ctx: u32) -> anyhow::Result<Memory> {
    let options = Options::default();
    let path = locate(input.path())?;
    let found = if path.is_dir() || !input.files().is_empty() {
        let elsewhere = input.files().to_vec();
        let opening = quant_convert::Options { elsewhere, ..Default::default() };
        Footprint::of(quant_convert::open(&path, &opening)?, &options, ctx as usize)?
    } else {
        Footprint::of(Gguf::open(&path, &Limits::default())?, &options, ctx as usize)?
    };
    let layer = |layer: &LayerFootprint| Layer {
        weights: layer.weights,
        keys_and_values: layer.keys,
        state: layer.state,
        window: layer.window,
        uses_keys_of: layer.lender,
    };
    Ok(Memory {
        ctx,
        weights: found.weights,
        cache: found.cache,
        activations: found.activations,
        logits: found.logits,
        total: found.total(),
        layers: found.layers.iter().map(layer).collect(),
    })
}

impl Memory {
    /// Layers of one kind stand together.
    pub(crate) fn text(&self) -> String {
        let mut rows = table(&["memory", "size"]);
        rows.add_row(["weights".into(), size(self.weights)]);
        let mut kinds: BTreeMap<Option<usize>, (usize, u64)> = BTreeMap::new();
        let (mut borrowed, mut recurrent, mut states) = (0usize, 0usize, 0u64);
        for layer in &self.layers {
            if layer.uses_keys_of.is_some() {
                borrowed += 1;
            } else if layer.keys_and_values > 0 {
                let (count, bytes) = kinds.entry(layer.window).or_default();
                *count += 1;
                *bytes = bytes.saturating_add(layer.keys_and_values);
            }
            if layer.state > 0 {
                recurrent += 1;
                states = states.saturating_add(layer.state);
            }
        }
        for (window, (count, bytes)) in kinds {
            let sees = match window {
                Some(window) => format!("that see {window} tokens"),
                None => "that see all tokens".into(),
            };
            rows.add_row([format!("keys and values of {} {sees}", layers(count)), size(bytes)]);
        }
        if borrowed > 0 {
            let what = format!("{} that use the keys and values of others", layers(borrowed));
            rows.add_row([what, size(0)]);
        }
        if recurrent > 0 {
            rows.add_row([format!("states of {}", layers(recurrent)), size(states)]);
        }
        rows.add_row(["activations of a chunk of text".into(), size(self.activations)]);
        rows.add_row(["logits".into(), size(self.logits)]);
        rows.add_row([format!("all of it, for {} tokens", self.ctx), size(self.total)]);
        format!("\n{}\n", finish(rows, &[1]))
    }
}

fn layers(count: usize) -> String {
    if count == 1 { "one layer".into() } else { format!("{count} layers") }
}
