//! What the tests of the command line share: checkpoints to edit, small GGUF files, the binary.
#![allow(dead_code, reason = "each test file uses a part")]
#![allow(clippy::unwrap_used, reason = "a test that cannot prepare its data has failed")]

use std::{
    collections::BTreeMap,
    ffi::OsStr,
    fs,
    path::{Path, PathBuf},
    process::{Command, Output},
    sync::{
        Mutex,
        atomic::{AtomicUsize, Ordering},
    },
};

use gguf_io::{Layout, Metadata, TensorSpec};
use quant_core::GgmlType;
use serde_json::{Map, Value, json};

pub(crate) fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../fixtures").join(name)
}

/// The binary under test.
pub(crate) fn quantwright() -> Command {
    Command::new(env!("CARGO_BIN_EXE_quantwright"))
}

pub(crate) fn run(args: impl IntoIterator<Item = impl AsRef<OsStr>>) -> Output {
    quantwright().args(args).output().unwrap()
}

/// `convert INPUT -o OUTPUT` with options, whatever comes of it.
pub(crate) fn try_convert(input: &Path, output: &Path, options: &[&str]) -> Output {
    quantwright().arg("convert").arg(input).arg("-o").arg(output).args(options).output().unwrap()
}

/// Runs `convert` without a flush to the device; fails if it does, or says anything on stderr.
pub(crate) fn convert(input: &Path, output: &Path, options: &[&str]) -> Vec<u8> {
    let done = try_convert(input, output, &[&["--no-sync", "--quiet"], options].concat());
    assert!(done.status.success(), "{options:?}: {}", stderr(&done));
    assert_eq!(stderr(&done), "", "{options:?}");
    fs::read(output).unwrap()
}

/// The object that `convert --dry-run --json` prints.
pub(crate) fn planned(input: &Path, options: &[&str]) -> Value {
    let done = quantwright()
        .arg("convert")
        .arg(input)
        .args(["--dry-run", "--json"])
        .args(options)
        .output()
        .unwrap();
    assert!(done.status.success(), "{options:?}: {}", stderr(&done));
    serde_json::from_slice(&done.stdout).unwrap()
}

/// The type of each tensor in a plan.
pub(crate) fn types(plan: &Value) -> BTreeMap<String, String> {
    let tensors = plan["tensors"].as_array().unwrap().iter();
    tensors.map(|t| (text(&t["name"]), text(&t["type"]))).collect()
}

pub(crate) fn text(value: &Value) -> String {
    value.as_str().unwrap().into()
}

/// What the work says of each item; some items at a time, since most of the work waits for programs.
pub(crate) fn side_by_side<T: Sync, P: Send>(
    items: &[T],
    work: impl Fn(&T) -> Option<P> + Sync,
) -> Vec<P> {
    let (next, found) = (AtomicUsize::new(0), Mutex::new(Vec::new()));
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                while let Some(item) = items.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let said = work(item);
                    found.lock().unwrap().extend(said);
                }
            });
        }
    });
    found.into_inner().unwrap()
}

pub(crate) fn stdout(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

pub(crate) fn stderr(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

/// What is wrong with a refusal: it is status 1 and one line on stderr that says all of this.
pub(crate) fn refused(done: &Output, says: &[&str]) -> Vec<String> {
    let text = stderr(done);
    let mut problems = Vec::new();
    let mut check = |holds: bool, problem: String| {
        if !holds {
            problems.push(problem);
        }
    };
    check(done.status.code() == Some(1), format!("{}", done.status));
    check(done.stdout.is_empty(), "something on stdout".into());
    check(text.starts_with("error: "), "no error line".into());
    check(text.ends_with('\n') && text.lines().count() == 1, "not one line".into());
    for part in says {
        check(text.contains(part), format!("does not say {part:?}"));
    }
    problems
}

/// Names and contents of the files of a folder, folders with an empty content.
pub(crate) fn listing(folder: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let entries = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    entries.map(|path| (path.clone(), fs::read(path).unwrap_or_default())).collect()
}

/// A copy of a checkpoint to edit, in `to/name`.
pub(crate) fn copy_checkpoint(name: &str, to: &Path) -> PathBuf {
    let folder = to.join(name);
    fs::create_dir(&folder).unwrap();
    for (path, bytes) in listing(&fixture(name)) {
        fs::write(folder.join(path.file_name().unwrap()), bytes).unwrap();
    }
    folder
}

/// Changes a JSON file.
pub(crate) fn edit_json(path: &Path, edit: impl FnOnce(&mut Map<String, Value>)) {
    let mut map = serde_json::from_slice(&fs::read(path).unwrap()).unwrap();
    edit(&mut map);
    fs::write(path, serde_json::to_vec(&map).unwrap()).unwrap();
}

/// A safetensors file, taken apart.
pub(crate) struct Safetensors {
    path: PathBuf,
    /// The header.
    pub(crate) header: Map<String, Value>,
    /// The bytes of all tensors.
    pub(crate) data: Vec<u8>,
}

impl Safetensors {
    pub(crate) fn open(path: &Path) -> Self {
        let bytes = fs::read(path).unwrap();
        let (len, rest) = bytes.split_first_chunk::<8>().unwrap();
        let (header, data) = rest.split_at(u64::from_le_bytes(*len) as usize);
        let header = serde_json::from_slice(header).unwrap();
        Self { path: path.into(), header, data: data.into() }
    }

    /// Sets a 16-bit element.
    pub(crate) fn set(&mut self, tensor: &str, index: usize, bits: u16) {
        let start = self.header[tensor]["data_offsets"][0].as_u64().unwrap() as usize;
        self.data[start + 2 * index..][..2].copy_from_slice(&bits.to_le_bytes());
    }

    /// Takes a tensor and its bytes out.
    pub(crate) fn remove(&mut self, tensor: &str) {
        let place = |entry: &Value| [0, 1].map(|i| entry["data_offsets"][i].as_u64().unwrap());
        let [start, end] = place(&self.header.remove(tensor).unwrap());
        self.data.drain(start as usize..end as usize);
        for (_, entry) in self.header.iter_mut().filter(|(name, _)| *name != "__metadata__") {
            let moved = place(entry).map(|at| if at >= end { at - (end - start) } else { at });
            entry["data_offsets"] = json!(moved);
        }
    }

    pub(crate) fn save(&self) {
        self.save_with_header(&serde_json::to_string(&self.header).unwrap());
    }

    pub(crate) fn save_with_header(&self, header: &str) {
        let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
        bytes.extend(header.as_bytes());
        bytes.extend(&self.data);
        fs::write(&self.path, bytes).unwrap();
    }
}

/// Writes an F32 GGUF file of one layer whose rows have `columns` elements, all of them `value`.
pub(crate) fn write_gguf(path: &Path, columns: u64, value: f32) {
    write_gguf_with(path, columns, value, |_| {});
}

/// [`write_gguf`] with more metadata.
pub(crate) fn write_gguf_with(
    path: &Path,
    columns: u64,
    value: f32,
    add: impl FnOnce(&mut Metadata),
) {
    let mut metadata = Metadata::new();
    metadata.insert("general.architecture", "llama");
    metadata.insert("llama.block_count", 1u32);
    metadata.insert("llama.attention.head_count", 1u32);
    metadata.insert("llama.attention.head_count_kv", 1u32);
    add(&mut metadata);
    let matrix =
        |name: &str| TensorSpec { name: name.into(), ty: GgmlType::F32, shape: vec![columns, 2] };
    let specs = ["token_embd", "output", "blk.0.attn_q", "blk.0.attn_v", "blk.0.ffn_down"]
        .map(|name| matrix(&format!("{name}.weight")));
    let layout = Layout::new(&metadata, &specs).unwrap();
    let mut bytes = layout.header.clone();
    bytes.resize(layout.total as usize, 0);
    for tensor in &layout.tensors {
        for i in 0..tensor.bytes / 4 {
            let at = (tensor.offset + 4 * i) as usize;
            bytes[at..at + 4].copy_from_slice(&value.to_le_bytes());
        }
    }
    fs::write(path, bytes).unwrap();
}

/// A legacy importance matrix with one entry.
pub(crate) fn legacy_imatrix(tensor: &str, values: &[f32]) -> Vec<u8> {
    let mut bytes = 1i32.to_le_bytes().to_vec();
    bytes.extend((tensor.len() as i32).to_le_bytes());
    bytes.extend(tensor.as_bytes());
    bytes.extend(1i32.to_le_bytes());
    bytes.extend((values.len() as i32).to_le_bytes());
    values.iter().for_each(|v| bytes.extend(v.to_le_bytes()));
    bytes
}

/// A checkpoint whose weights are a hole of about 2 GB: a conversion of it takes seconds.
pub(crate) fn sparse_checkpoint(to: &Path) -> PathBuf {
    let folder = copy_checkpoint("tiny-llama2", to);
    for path in listing(&folder).into_keys() {
        if path.to_string_lossy().contains("model") && !path.ends_with("tokenizer.model") {
            fs::remove_file(path).unwrap();
        }
    }
    let (hidden, inner, layers) = (4096u64, 40960u64, 2);
    edit_json(&folder.join("config.json"), |config| {
        for (key, value) in [
            ("hidden_size", hidden),
            ("intermediate_size", inner),
            ("num_attention_heads", 32),
            ("num_key_value_heads", 8),
            ("head_dim", 128),
        ] {
            config.insert(key.into(), json!(value));
        }
    });
    let mut shapes = vec![
        ("model.embed_tokens".to_owned(), vec![1024, hidden]),
        ("model.norm".into(), vec![hidden]),
        ("lm_head".into(), vec![1024, hidden]),
    ];
    for layer in 0..layers {
        let mut add = |name: &str, shape: &[u64]| {
            shapes.push((format!("model.layers.{layer}.{name}"), shape.to_vec()));
        };
        add("self_attn.q_proj", &[hidden, hidden]);
        add("self_attn.k_proj", &[1024, hidden]);
        add("self_attn.v_proj", &[1024, hidden]);
        add("self_attn.o_proj", &[hidden, hidden]);
        add("mlp.gate_proj", &[inner, hidden]);
        add("mlp.up_proj", &[inner, hidden]);
        add("mlp.down_proj", &[hidden, inner]);
        add("input_layernorm", &[hidden]);
        add("post_attention_layernorm", &[hidden]);
    }
    let (mut header, mut end) = (Map::new(), 0);
    for (name, shape) in shapes {
        let start = end;
        end += 2 * shape.iter().product::<u64>();
        let entry = json!({"dtype": "F16", "shape": shape, "data_offsets": [start, end]});
        header.insert(format!("{name}.weight"), entry);
    }
    let path = folder.join("model.safetensors");
    Safetensors { path: path.clone(), header, data: vec![] }.save();
    let file = fs::File::options().write(true).open(&path).unwrap();
    file.set_len(file.metadata().unwrap().len() + end).unwrap();
    folder
}
