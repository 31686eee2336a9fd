//! The fixtures and what the reference converter makes of them.
#![allow(clippy::unwrap_used, reason = "a test may fail")]
#![allow(dead_code, reason = "each test file uses a part")]

use std::{cell::RefCell, path::PathBuf, sync::Once};

use gguf_io::metadata::{Array, Metadata, Value};
use serde_json::{Value as Json, json};
use sha2::{Digest, Sha256};

pub(crate) fn fixture(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../fixtures").join(name)
}

/// A section of the reference results of a checkpoint.
pub(crate) fn golden(checkpoint: &str, section: &str) -> serde_json::Map<String, Json> {
    let path = fixture("golden").join(format!("{checkpoint}.json"));
    let golden: Json = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
    golden[section].as_object().unwrap().clone()
}

pub(crate) fn hex(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Metadata as the reference results have it.
pub(crate) fn described(metadata: &Metadata) -> serde_json::Map<String, Json> {
    metadata.iter().map(|(key, value)| (key.to_owned(), describe(value))).collect()
}

fn describe(value: &Value) -> Json {
    let ty = value.value_type().name();
    match value {
        Value::Array(array) => {
            let mut bytes = Vec::new();
            match array {
                Array::String(values) => {
                    for value in values {
                        bytes.extend((value.as_bytes().len() as u64).to_le_bytes());
                        bytes.extend(value.as_bytes());
                    }
                }
                Array::Float32(values) => values.iter().for_each(|v| bytes.extend(v.to_le_bytes())),
                Array::Int32(values) => values.iter().for_each(|v| bytes.extend(v.to_le_bytes())),
                other => panic!("unexpected array of {:?}", other.element_type()),
            }
            json!({"type": ["ARRAY", array.element_type().name()], "len": array.len(), "sha256": hex(&bytes)})
        }
        Value::Uint32(v) => json!({"type": [ty], "value": v}),
        Value::Int32(v) => json!({"type": [ty], "value": v}),
        Value::Float32(v) => json!({"type": [ty], "value": f64::from(*v)}),
        Value::Bool(v) => json!({"type": [ty], "value": v}),
        Value::String(v) => json!({"type": [ty], "value": v.as_str().unwrap()}),
        other => panic!("unexpected {other:?}"),
    }
}

thread_local! {
    /// What this thread was warned of, while somebody asks.
    static WARNINGS: RefCell<Option<Vec<u8>>> = const { RefCell::new(None) };
}

struct Collector;

impl std::io::Write for Collector {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        WARNINGS.with_borrow_mut(|warnings| warnings.iter_mut().for_each(|w| w.extend(bytes)));
        Ok(bytes.len())
    }
    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// What a function returns and the warnings that it emits on this thread, one each.
pub(crate) fn warnings<T>(run: impl FnOnce() -> T) -> (T, Vec<String>) {
    // One subscriber for all threads. Where one thread alone has one, a warning that another thread is the
    // first to come to counts for good as one that nobody wants.
    static SUBSCRIBED: Once = Once::new();
    SUBSCRIBED.call_once(|| {
        let subscriber = tracing_subscriber::fmt()
            .with_max_level(tracing::Level::WARN)
            .with_ansi(false)
            .without_time()
            .with_target(false)
            .with_writer(|| Collector)
            .finish();
        tracing::subscriber::set_global_default(subscriber).unwrap();
    });
    // What other threads were the first to come to just before that.
    tracing::callsite::rebuild_interest_cache();
    WARNINGS.set(Some(Vec::new()));
    let result = run();
    let text = String::from_utf8(WARNINGS.take().unwrap()).unwrap();
    (result, text.lines().map(str::to_owned).collect())
}

/// Fails with all differences, order included.
pub(crate) fn assert_same(
    found: &serde_json::Map<String, Json>,
    expected: &serde_json::Map<String, Json>,
) {
    let mut differences = Vec::new();
    for (key, value) in expected {
        match found.get(key) {
            None => differences.push(format!("missing {key}: {value}")),
            Some(other) if other != value => {
                differences.push(format!("{key}: {other}, expected {value}"))
            }
            Some(_) => {}
        }
    }
    for (key, value) in found.iter().filter(|(key, _)| !expected.contains_key(*key)) {
        differences.push(format!("extra {key}: {value}"));
    }
    if differences.is_empty() && !found.keys().eq(expected.keys()) {
        let order =
            |map: &serde_json::Map<String, Json>| map.keys().cloned().collect::<Vec<_>>().join(" ");
        differences.push(format!("order: {}\nexpected: {}", order(found), order(expected)));
    }
    assert!(differences.is_empty(), "{}", differences.join("\n"));
}
