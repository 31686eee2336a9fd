//! Small models of every architecture that can be run, with keys changed and any weights.

use gguf_io::{Layout, Metadata, TensorSpec, Value, metadata::GgufString};
use gguf_model::{Architecture, FORWARDS, HyperParameters, Kind, Need};
use libfuzzer_sys::arbitrary::{Result, Unstructured};
use quant_core::GgmlType::{self, BF16, F16, F32, IQ4_NL, MXFP4, Q4_0, Q4_K, Q8_0};

/// Mostly what a small model could have.
fn value(kind: Kind, u: &mut Unstructured<'_>) -> Result<Value> {
    if u.ratio(1, 64)? {
        return Ok(u.arbitrary::<u32>()?.into());
    }
    Ok(match kind {
        Kind::Bool => u.arbitrary::<bool>()?.into(),
        Kind::Float | Kind::Positive if u.ratio(1, 4)? => u.arbitrary::<f32>()?.into(),
        Kind::Float | Kind::Positive => f32::from(u.int_in_range(0..=20u8)?).into(),
        Kind::OneOf(names) => (*u.choose(names)?).into(),
        Kind::Text => (*u.choose(&["silu", "gelu", "relu", ""])?).into(),
        Kind::Sections => u.arbitrary::<[u8; 4]>()?.map(|n| i32::from(n % 8)).to_vec().into(),
        Kind::Pattern | Kind::Integers if u.ratio(1, 4)? => {
            u.arbitrary::<Vec<u8>>()?.into_iter().map(u32::from).collect::<Vec<_>>().into()
        }
        _ => u.choose(&[0u32, 1, 2, 3, 4, 8, 16, 32, 64])?.to_owned().into(),
    })
}

/// A file of a model that could be run, but for what was changed; `None` if it is large.
///
/// # Errors
/// If the input ends early.
pub fn model(u: &mut Unstructured<'_>) -> Result<Option<Vec<u8>>> {
    let forward = u.choose(FORWARDS)?;
    let Some(architecture) = Architecture::find(forward.architecture) else { return Ok(None) };
    let mut metadata = Metadata::new();
    metadata.insert("general.architecture", architecture.name);
    metadata.insert("tokenizer.ggml.model", "llama");
    metadata.insert("tokenizer.ggml.tokens", vec![GgufString::from("a"), GgufString::from("b")]);
    for (key, number) in [
        ("block_count", 2u32),
        ("context_length", 8),
        ("embedding_length", 32),
        ("feed_forward_length", 32),
        ("attention.head_count", 4),
        ("expert_count", 2),
        ("expert_used_count", 1),
    ] {
        metadata.insert(format!("{}.{key}", architecture.name), number);
    }
    for key in architecture.keys() {
        let name = format!("{}.{}", architecture.name, key.name);
        let is_set = metadata.get(&name).is_some();
        if if is_set { u.ratio(1, 16)? } else { key.required || u.ratio(1, 3)? } {
            metadata.insert(name, value(key.kind, u)?);
        }
    }
    let Ok(parameters) = HyperParameters::read(&metadata, architecture) else { return Ok(None) };
    let mut specs = Vec::new();
    let (mut slot, mut is_there) = (None, true);
    for expected in architecture.tensors(&parameters).take(120) {
        // A tensor is in all layers or in none, mostly.
        if slot != Some(expected.slot.name) {
            slot = Some(expected.slot.name);
            is_there = match expected.slot.need {
                Need::Required => !u.ratio(1, 64)?,
                Need::Unless(_) => u.ratio(7, 8)?,
                _ => u.ratio(1, 8)?,
            };
        }
        if is_there {
            let shape: Vec<_> = expected.shape.iter().map(|n| n.unwrap_or(1)).collect();
            let types: &[GgmlType] = &[F32, F32, F16, BF16, Q8_0, Q4_0, Q4_K, IQ4_NL, MXFP4];
            let ty = *u.choose(types)?;
            let fits = shape[0] % ty.block_len() as u64 == 0;
            specs.push(TensorSpec {
                name: expected.name(),
                ty: if fits { ty } else { F32 },
                shape,
            });
        }
    }
    let size = specs.iter().try_fold(0u64, |sum, spec| {
        sum.checked_add(spec.shape.iter().try_fold(1u64, |n, d| n.checked_mul(*d))?)
    });
    if size.is_none_or(|size| size > 1 << 16) {
        return Ok(None);
    }
    let Ok(layout) = Layout::new(&metadata, &specs) else { return Ok(None) };
    let mut bytes = layout.header;
    let noise: [u8; 61] = u.arbitrary()?;
    // Small floats, or any bytes at all.
    let small = u.ratio(3, 4)?;
    for at in bytes.len()..layout.total as usize {
        let byte = noise[at % noise.len()];
        bytes.push(if small && at % 2 == 1 { 0x2c | byte & 0x80 } else { byte });
    }
    Ok(Some(bytes))
}
