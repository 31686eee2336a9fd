//! Layers that look back over a window: which they are, and models that have none in GGUF.

use gguf_io::Metadata;
use serde_json::Value;

use crate::Config;

/// Architectures whose engines take each so many-th layer for one that sees all tokens, unless a key says
/// otherwise; the last of so many, or the first.
const PATTERNS: [(&str, u64, bool); 6] = [
    ("cohere2", 4, false),
    ("gemma-embedding", 6, false),
    ("gemma2", 2, false),
    ("gemma3", 6, false),
    ("gpt-oss", 2, false),
    ("modern-bert", 3, true),
];

/// Writes which layers have a window where that is not what engines assume. The reference converter writes
/// nothing, or one number.
pub(super) fn write(config: &Config, name: &str, metadata: &mut Metadata) {
    let Some((_, period, is_first)) = PATTERNS.iter().find(|(of, ..)| *of == name) else { return };
    let key = |name_of: &str| format!("{name}.{name_of}");
    let pattern = key("attention.sliding_window_pattern");
    let period = metadata.get_u64(&pattern).unwrap_or(*period);
    let slides = |layer: u64, period: u64| match (*is_first, period) {
        (_, 0) => false,
        (true, _) => !layer.is_multiple_of(period),
        (false, _) => !layer.wrapping_add(1).is_multiple_of(period),
    };
    let layers = metadata.get_u64(&key("block_count")).unwrap_or(0);
    let stated = config.get("layer_types").and_then(Value::as_array);
    let other = ["sliding_window_pattern", "_sliding_window_pattern"]
        .iter()
        .find_map(|key| config.get(key)?.as_u64());
    let sliding: Vec<bool> = match (stated, other) {
        (Some(kinds), _) => kinds.iter().map(|kind| kind == "sliding_attention").collect(),
        (None, Some(other)) if !is_first => (0..layers).map(|i| slides(i, other)).collect(),
        _ => return,
    };
    let is_assumed = (0..layers).zip(&sliding).all(|(layer, own)| *own == slides(layer, period));
    let has_window = metadata.get(&key("attention.sliding_window")).is_some();
    if has_window && sliding.len() as u64 == layers && !is_assumed {
        metadata.insert(pattern, sliding);
    }
}

/// Models that look back over a window, if config.json has one. For others the key says nothing: their
/// classes do not read it.
const WINDOWED: [&str; 13] = [
    "cwm",
    "dots1",
    "iquestcoder",
    "minimax",
    "ministral",
    "mistral",
    "mixtral",
    "phimoe",
    "qwen2",
    "qwen2_moe",
    "qwen3",
    "qwen3_moe",
    "starcoder2",
];

/// Warns of a window where GGUF has no key for it.
pub(super) fn warn(config: &Config, name: &str, metadata: &Metadata) {
    if metadata.get(&format!("{name}.attention.sliding_window")).is_some() {
        return;
    }
    let model = config.get("model_type").and_then(Value::as_str).unwrap_or_default();
    let number = |key: &str| config.get(key).and_then(Value::as_u64);
    let Some(window) = number("sliding_window").filter(|_| WINDOWED.contains(&model)) else {
        return;
    };
    let is_off = config.get("use_sliding_window").and_then(Value::as_bool) == Some(false);
    // Qwen's classes do not use it unless they are told to.
    let is_qwen = model.starts_with("qwen") && config.get("use_sliding_window").is_none();
    let is_whole = number("max_position_embeddings").is_some_and(|longest| longest <= window);
    let no_layer = match config.get("layer_types").and_then(Value::as_array) {
        Some(kinds) => !kinds.iter().any(|kind| kind == "sliding_attention"),
        None => {
            let layers = number("num_hidden_layers").unwrap_or(u64::MAX);
            model.starts_with("qwen") && number("max_window_layers").unwrap_or(28) >= layers
        }
    };
    if !(is_off || is_qwen || is_whole || no_layer) {
        tracing::warn!(
            kind = "sliding-window",
            "config.json: sliding_window is {window}, but engines run the architecture {name} without a \
             window: after {window} tokens the model will not compute what it was trained to"
        );
    }
}
