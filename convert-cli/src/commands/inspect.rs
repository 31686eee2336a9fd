//! `inspect`: what is in a file, from its headers alone: a model, the weights of one, an importance
//! matrix.

use std::{
    io::{self, Write},
    path::Path,
};

use gguf_io::{
    AnyGguf, Checkpoint, Error, Imatrix, Limits, SourceFile,
    metadata::{Array, GgufString, Value},
    safetensors::{Preference, locate},
};
use serde::Serialize;
use serde_json::{Map, json};

use super::memory::{self, Memory};
use crate::{
    args::InspectArgs,
    input::Input,
    text::{escape, finish, shape, size, table},
};

/// Arrays longer than this are given by their length.
const MOST_ELEMENTS: usize = 64;

/// Bytes of a config.json that is shown.
const LONGEST_CONFIG: u64 = 16 << 20;

#[derive(Serialize)]
struct Inspection {
    version: Option<u32>,
    alignment: Option<u64>,
    metadata: Map<String, serde_json::Value>,
    tensors: Vec<Tensor>,
    #[serde(skip_serializing_if = "Option::is_none")]
    memory: Option<Memory>,
}

#[derive(Serialize)]
struct Tensor {
    name: String,
    #[serde(rename = "type")]
    ty: String,
    shape: Vec<u64>,
    /// Entries of an older importance matrix have none.
    #[serde(skip_serializing_if = "Option::is_none")]
    offset: Option<u64>,
    bytes: u64,
    /// The file the offset is in, of a model of several.
    #[serde(skip_serializing_if = "Option::is_none")]
    file: Option<String>,
}

pub(crate) fn run(args: &InspectArgs) -> anyhow::Result<()> {
    let input = Input::open_weights(&args.input)?;
    let mut inspection = match input.files() {
        [] => {
            let path = locate(input.path())?;
            if path.is_dir() { checkpoint(&path, &[])? } else { file(&path)? }
        }
        files if input.path().is_dir() => checkpoint(input.path(), files)?,
        files => files_elsewhere(input.path(), files)?,
    };
    if let Some(ctx) = args.ctx {
        inspection.memory = Some(memory::of(&input, ctx)?);
    }
    let mut out = io::BufWriter::new(io::stdout().lock());
    if args.json {
        serde_json::to_writer(&mut out, &inspection).map_err(io::Error::from)?;
        writeln!(out)?;
    } else {
        out.write_all(text(&inspection).as_bytes())?;
    }
    Ok(out.flush()?)
}

fn file(path: &Path) -> anyhow::Result<Inspection> {
    match AnyGguf::open_any(path, &Limits::default()) {
        Ok(model) => Ok(gguf(&model)),
        Err(error @ Error::NotAModel { .. }) => {
            other_than_gguf(path, SourceFile::open(path)?, error)
        }
        Err(error) => Err(error.into()),
    }
}

/// A file, or all shards of a model, that are not on this machine.
fn files_elsewhere(path: &Path, files: &[SourceFile]) -> anyhow::Result<Inspection> {
    match (AnyGguf::open_any_files(files, &Limits::default()), files) {
        (Ok(model), _) => Ok(gguf(&model)),
        (Err(error @ Error::NotAModel { .. }), [file]) => {
            other_than_gguf(path, file.clone(), error)
        }
        (Err(error), _) => Err(error.into()),
    }
}

/// A file that is no GGUF file, for which the reader of those has this error.
fn other_than_gguf(path: &Path, source: SourceFile, error: Error) -> anyhow::Result<Inspection> {
    let limits = Limits::default();
    match Imatrix::read_lenient(source.clone(), &limits) {
        Ok(imatrix) => return Ok(of_imatrix(&imatrix)),
        Err(other) if path.extension().is_some_and(|ext| ext == "dat") => return Err(other.into()),
        // The older format has no mark: any file could be a damaged one.
        Err(_) => {}
    }
    match Checkpoint::read(vec![source], &limits) {
        Ok(weights) => {
            let texts = weights.metadata.iter();
            let entry = |(key, text): (&String, _)| {
                (key.clone(), json!({ "type": "STRING", "value": text }))
            };
            Ok(of_weights(&weights, texts.map(entry).collect()))
        }
        // What the file is was said by the first.
        Err(Error::NotAModel { .. }) => Err(error.into()),
        Err(other) => Err(other.into()),
    }
}

/// An importance matrix of the older format; one in a GGUF file is shown as the file it is.
fn of_imatrix(imatrix: &Imatrix) -> Inspection {
    let mut metadata = Map::new();
    let datasets = json!({ "type": "ARRAY", "element_type": "STRING", "value": imatrix.datasets });
    metadata.insert("datasets".into(), datasets);
    if let Some(chunks) = imatrix.chunk_count {
        metadata.insert("chunk_count".into(), json!({ "type": "UINT32", "value": chunks }));
    }
    let tensors = imatrix.entries.iter().map(|(name, entry)| Tensor {
        name: name.clone(),
        ty: "F32".into(),
        shape: vec![entry.values.len() as u64],
        offset: None,
        bytes: (size_of_val(entry.values.as_slice())) as u64,
        file: None,
    });
    Inspection {
        version: None,
        alignment: None,
        metadata,
        tensors: tensors.collect(),
        memory: None,
    }
}

fn gguf(model: &AnyGguf) -> Inspection {
    let several = model.files.len() > 1;
    let name = |i: usize| model.files.get(i).and_then(|f| f.path().file_name());
    let tensors = model.tensors.iter().map(|t| Tensor {
        name: t.name.clone(),
        ty: t.type_name(),
        shape: t.shape.clone(),
        offset: Some(t.offset),
        bytes: t.bytes,
        file: name(t.file).filter(|_| several).map(|n| n.to_string_lossy().into_owned()),
    });
    Inspection {
        version: Some(model.version),
        alignment: Some(model.alignment),
        metadata: model.metadata.iter().map(|(k, v)| (k.into(), value_json(v))).collect(),
        tensors: tensors.collect(),
        memory: None,
    }
}

/// Tensors under their Hugging Face names, shapes innermost first as everywhere.
fn of_weights(model: &Checkpoint, metadata: Map<String, serde_json::Value>) -> Inspection {
    let several = model.files.len() > 1;
    let name = |i: usize| model.files.get(i).and_then(|f| f.path().file_name());
    let tensors = model.tensors.iter().map(|(tensor, t)| Tensor {
        name: tensor.clone(),
        ty: t.dtype.to_string(),
        shape: t.shape.iter().rev().copied().collect(),
        offset: Some(t.offset),
        bytes: t.bytes,
        file: name(t.file).filter(|_| several).map(|n| n.to_string_lossy().into_owned()),
    });
    Inspection {
        version: None,
        alignment: None,
        metadata,
        tensors: tensors.collect(),
        memory: None,
    }
}

/// The metadata of a checkpoint is what config.json says.
fn checkpoint(path: &Path, elsewhere: &[SourceFile]) -> anyhow::Result<Inspection> {
    let (preference, limits) = (Preference::default(), Limits::default());
    let model = Checkpoint::open_elsewhere(path, elsewhere, preference, &limits)?;
    // A checkpoint can be looked at also if its configuration is missing or damaged.
    let config = SourceFile::open(&path.join("config.json"));
    let config = config.and_then(|file| file.read_all(LONGEST_CONFIG)).unwrap_or_default();
    let config: Map<String, serde_json::Value> =
        serde_json::from_slice(&config).unwrap_or_default();
    let metadata = config.into_iter().map(|(key, value)| {
        let ty = match &value {
            serde_json::Value::Null => "NULL",
            serde_json::Value::Bool(_) => "BOOL",
            serde_json::Value::Number(_) => "NUMBER",
            serde_json::Value::String(_) => "STRING",
            serde_json::Value::Array(_) => "ARRAY",
            serde_json::Value::Object(_) => "OBJECT",
        };
        (key, json!({ "type": ty, "value": value }))
    });
    Ok(of_weights(&model, metadata.collect()))
}

fn value_json(value: &Value) -> serde_json::Value {
    let ty = value.value_type().name();
    let value = match value {
        Value::Uint8(v) => json!(v),
        Value::Int8(v) => json!(v),
        Value::Uint16(v) => json!(v),
        Value::Int16(v) => json!(v),
        Value::Uint32(v) => json!(v),
        Value::Int32(v) => json!(v),
        Value::Float32(v) => json!(v),
        Value::Bool(v) => json!(v),
        Value::String(v) => json!(text_of(v)),
        Value::Uint64(v) => json!(v),
        Value::Int64(v) => json!(v),
        Value::Float64(v) => json!(v),
        Value::Array(array) => {
            let element_type = array.element_type().name();
            return if array.len() > MOST_ELEMENTS {
                json!({ "type": ty, "element_type": element_type, "length": array.len() })
            } else {
                let value = array_json(array);
                json!({ "type": ty, "element_type": element_type, "value": value })
            };
        }
    };
    json!({ "type": ty, "value": value })
}

fn array_json(array: &Array) -> serde_json::Value {
    match array {
        Array::Uint8(v) => json!(v),
        Array::Int8(v) => json!(v),
        Array::Uint16(v) => json!(v),
        Array::Int16(v) => json!(v),
        Array::Uint32(v) => json!(v),
        Array::Int32(v) => json!(v),
        Array::Float32(v) => json!(v),
        Array::Bool(v) => json!(v),
        Array::String(v) => json!(v.iter().map(text_of).collect::<Vec<_>>()),
        Array::Uint64(v) => json!(v),
        Array::Int64(v) => json!(v),
        Array::Float64(v) => json!(v),
    }
}

fn text_of(text: &GgufString) -> String {
    String::from_utf8_lossy(text.as_bytes()).into_owned()
}

fn text(inspection: &Inspection) -> String {
    let mut lines = String::new();
    if let (Some(version), Some(alignment)) = (inspection.version, inspection.alignment) {
        lines += &format!("GGUF version {version}, alignment {alignment}\n\n");
    }
    let mut keys = table(&["key", "type", "value"]);
    for (key, entry) in &inspection.metadata {
        let ty = entry.get("type").and_then(|v| v.as_str()).unwrap_or_default();
        keys.add_row([escape(key), ty.into(), short(entry)]);
    }
    lines += &format!("{}\n\n", finish(keys, &[]));
    let mut tensors = table(&["tensor", "shape", "type", "size"]);
    for t in &inspection.tensors {
        tensors.add_row([escape(&t.name), shape(&t.shape), t.ty.clone(), size(t.bytes)]);
    }
    let bytes = inspection.tensors.iter().fold(0u64, |sum, t| sum.saturating_add(t.bytes));
    lines += &finish(tensors, &[3]);
    lines += &format!("\n\n{} tensors, {}\n", inspection.tensors.len(), size(bytes));
    lines + &inspection.memory.as_ref().map_or_else(String::new, Memory::text)
}

/// A value on one line, shortened; control characters are escaped.
fn short(entry: &serde_json::Value) -> String {
    const MOST_CHARS: usize = 60;
    let text = match (entry.get("value"), entry.get("length")) {
        (Some(serde_json::Value::String(text)), _) => text.clone(),
        (Some(value), _) => value.to_string(),
        (None, Some(length)) => format!("{length} elements"),
        (None, None) => String::new(),
    };
    let text = escape(&text);
    match text.char_indices().nth(MOST_CHARS) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text,
    }
}
