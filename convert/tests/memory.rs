//! How much memory readers and conversions take, counted at the allocator.
//!
//! One test, so that nothing else allocates meanwhile.
#![allow(clippy::unwrap_used, reason = "a test that cannot prepare its data has failed")]
#![allow(unsafe_code, reason = "an allocator cannot be written without")]

use std::{
    alloc::{GlobalAlloc, Layout as Memory, System},
    path::Path,
    sync::atomic::{AtomicUsize, Ordering::Relaxed},
};

use gguf_io::{Checkpoint, GgufFile, Imatrix, Layout, Limits, Metadata, SourceFile, TensorSpec};
use quant_convert::{Control, Options, Plan, open, recipe::FileType, recipe::Request};
use quant_core::GgmlType;

struct Counting;

static NOW: AtomicUsize = AtomicUsize::new(0);
static PEAK: AtomicUsize = AtomicUsize::new(0);

fn add(bytes: usize) {
    PEAK.fetch_max(NOW.fetch_add(bytes, Relaxed) + bytes, Relaxed);
}

// SAFETY: every call is passed on to the system's allocator as it came.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, memory: Memory) -> *mut u8 {
        add(memory.size());
        // SAFETY: the caller keeps the contract.
        unsafe { System.alloc(memory) }
    }

    unsafe fn alloc_zeroed(&self, memory: Memory) -> *mut u8 {
        add(memory.size());
        // SAFETY: the caller keeps the contract.
        unsafe { System.alloc_zeroed(memory) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, memory: Memory) {
        NOW.fetch_sub(memory.size(), Relaxed);
        // SAFETY: the caller keeps the contract.
        unsafe { System.dealloc(pointer, memory) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// The most memory in use during `run`, above what was in use before.
fn peak<T>(run: impl FnOnce() -> T) -> usize {
    let before = NOW.load(Relaxed);
    PEAK.store(before, Relaxed);
    let result = run();
    let peak = PEAK.load(Relaxed) - before;
    drop(result);
    peak
}

fn text(bytes: &str) -> Vec<u8> {
    [&(bytes.len() as u64).to_le_bytes(), bytes.as_bytes()].concat()
}

/// GGUF files of the given counts: as small as can be for the memory they ask for.
fn gguf(tensors: u64, pairs: u64, body: &[u8]) -> Vec<u8> {
    let counts = [3u64 << 32, tensors, pairs];
    let mut out = b"GGUF".to_vec();
    out.extend(counts.iter().flat_map(|n| n.to_le_bytes()).skip(4));
    out.extend(body);
    out
}

/// Hostile or dense files: the most memory for the fewest bytes.
fn hostile() -> Vec<(&'static str, Vec<u8>)> {
    const N: u32 = 20_000;
    let array = |ty: u32, count: u64, body: &[u8]| {
        let head = [text("k"), 9u32.to_le_bytes().into(), ty.to_le_bytes().into()].concat();
        gguf(0, 1, &[&head[..], &count.to_le_bytes(), body].concat())
    };
    let mut keys = Vec::new();
    let mut names = Vec::new();
    let mut entries = Vec::new();
    for i in 0..N {
        keys.extend([text(&format!("{i:x}")), vec![0; 5]].concat());
        names.extend([text(&format!("{i:x}")), vec![0; 16]].concat());
        entries.push(format!(r#""{i:x}":{{"dtype":"U8","shape":[0],"data_offsets":[0,0]}}"#));
    }
    let n = u64::from(N);
    vec![
        ("a count of strings", array(8, n << 20, &vec![0; 8 * N as usize])),
        ("empty strings", array(8, n, &vec![0; 8 * N as usize])),
        ("strings of one byte", array(8, n, &text("a").repeat(N as usize))),
        ("strings, cut", array(8, n, &text("a").repeat(N as usize - 1))),
        ("bytes", array(0, n, &vec![0; N as usize])),
        ("pairs", gguf(0, n, &keys)),
        ("pairs, cut", gguf(0, n, &keys[..keys.len() - 1])),
        ("tensors", gguf(n, 0, &names)),
        ("tensors, cut", gguf(n, 0, &names[..names.len() - 1])),
        ("counts alone", gguf(u64::MAX, u64::MAX, &[])),
        ("safetensors", text(&format!("{{{}}}", entries.join(",")))),
        ("safetensors, cut", text(&format!("{{{}", entries.join(",")))),
        ("deep JSON", text(&"[".repeat(200_000))),
        ("long string", text(&format!("{{\"{}", "a".repeat(500_000)))),
        ("legacy matrix", [&N.to_le_bytes()[..], &vec![1; 100_000]].concat()),
    ]
}

/// A model whose weights are a hole in a file: as large as wanted, without the disk space.
fn sparse(path: &Path, rows: u64) {
    let mut metadata = Metadata::new();
    metadata.insert("general.architecture", "llama");
    metadata.insert("llama.block_count", 1u32);
    let names = ["token_embd", "output", "blk.0.attn_q", "blk.0.ffn_down"];
    let specs = names.map(|name| TensorSpec {
        name: format!("{name}.weight"),
        ty: GgmlType::F16,
        shape: vec![4096, rows],
    });
    let layout = Layout::new(&metadata, &specs).unwrap();
    std::fs::write(path, &layout.header).unwrap();
    std::fs::File::options().write(true).open(path).unwrap().set_len(layout.total).unwrap();
}

/// A checkpoint of one layer whose linear layers are those of GPTQ, all of it a hole in a file.
fn sparse_gptq(folder: &Path, inner: u64) {
    const HIDDEN: u64 = 1024;
    let tiny = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fixtures/tiny-llama2");
    for name in ["tokenizer.model", "tokenizer_config.json"] {
        std::fs::copy(tiny.join(name), folder.join(name)).unwrap();
    }
    let config = std::fs::read(tiny.join("config.json")).unwrap();
    let mut config: serde_json::Value = serde_json::from_slice(&config).unwrap();
    let sizes = [("hidden_size", HIDDEN), ("intermediate_size", inner), ("num_hidden_layers", 1)];
    let heads = [("num_attention_heads", 16), ("num_key_value_heads", 4), ("head_dim", 64)];
    for (key, size) in sizes.into_iter().chain(heads) {
        config[key] = size.into();
    }
    config["quantization_config"] =
        serde_json::json!({"quant_method": "gptq", "bits": 4, "group_size": 128});
    std::fs::write(folder.join("config.json"), config.to_string()).unwrap();

    let (mut at, mut header) = (0, serde_json::Map::new());
    let mut add = |name: String, dtype: &str, shape: &[u64]| {
        let end = at + if dtype == "F16" { 2 } else { 4 } * shape.iter().product::<u64>();
        let entry = serde_json::json!({"dtype": dtype, "shape": shape, "data_offsets": [at, end]});
        header.insert(name, entry);
        at = end;
    };
    for name in ["model.embed_tokens", "lm_head"] {
        add(format!("{name}.weight"), "F16", &[1024, HIDDEN]);
    }
    let norms = ["layers.0.input_layernorm", "layers.0.post_attention_layernorm", "norm"];
    norms.into_iter().for_each(|norm| add(format!("model.{norm}.weight"), "F16", &[HIDDEN]));
    for (module, rows, columns) in [
        ("self_attn.q_proj", HIDDEN, HIDDEN),
        ("self_attn.k_proj", HIDDEN / 4, HIDDEN),
        ("self_attn.v_proj", HIDDEN / 4, HIDDEN),
        ("self_attn.o_proj", HIDDEN, HIDDEN),
        ("mlp.gate_proj", inner, HIDDEN),
        ("mlp.up_proj", inner, HIDDEN),
        ("mlp.down_proj", HIDDEN, inner),
    ] {
        let part = |part: &str| format!("model.layers.0.{module}.{part}");
        add(part("qweight"), "I32", &[columns / 8, rows]);
        add(part("qzeros"), "I32", &[columns / 128, rows / 8]);
        add(part("scales"), "F16", &[columns / 128, rows]);
    }
    let header = serde_json::Value::Object(header).to_string();
    let path = folder.join("model.safetensors");
    std::fs::write(&path, text(&header)).unwrap();
    let file = std::fs::File::options().write(true).open(path).unwrap();
    file.set_len(8 + header.len() as u64 + at).unwrap();
}

#[test]
fn memory_is_bounded() {
    let mut failures = Vec::new();
    for (name, bytes) in hostile() {
        let granted = 8 * bytes.len() + (1 << 20);
        // As inspect reads: the file itself is not in memory.
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("hostile");
        std::fs::write(&path, &bytes).unwrap();
        let limits = Limits::default();
        let peaks = [
            peak(|| GgufFile::open(&path, &limits)),
            peak(|| Checkpoint::read(vec![SourceFile::open(&path).unwrap()], &limits)),
            peak(|| Imatrix::open(&path, &limits)),
        ];
        let peak = peaks.into_iter().max().unwrap_or(0);
        println!("{name}: {} bytes take {peak}, granted {granted}", bytes.len());
        if peak > granted {
            failures.push(format!("{name}: {peak} > {granted} ({peaks:?})"));
        }
    }

    // Two-bit codes of a small file stand for many columns.
    let folder = tempfile::tempdir().unwrap();
    let n = 1u64 << 20;
    let header = format!(
        "{{\"model.layers.0.mlp.up_proj.qweight\":{{\"dtype\":\"I32\",\"shape\":[{n},1],\"data_offsets\":[0,{q}]}},\
         \"model.layers.0.mlp.up_proj.scales\":{{\"dtype\":\"F16\",\"shape\":[1,1],\"data_offsets\":[{q},{s}]}},\
         \"model.layers.0.mlp.up_proj.qzeros\":{{\"dtype\":\"I32\",\"shape\":[1,1],\"data_offsets\":[{s},{z}]}}}}",
        q = 4 * n,
        s = 4 * n + 2,
        z = 4 * n + 6,
    );
    let mut bytes = text(&header);
    bytes.resize(bytes.len() + 4 * n as usize + 6, 0);
    std::fs::write(folder.path().join("model.safetensors"), &bytes).unwrap();
    let config = r#"{"architectures": ["LlamaForCausalLM"],
        "quantization_config": {"quant_method": "gptq", "bits": 2, "group_size": -1}}"#;
    std::fs::write(folder.path().join("config.json"), config).unwrap();
    let peak_of_packed = peak(|| drop(open(folder.path(), &Options::default())));
    println!("packed: {} bytes take {peak_of_packed}", bytes.len());
    if peak_of_packed > 8 * bytes.len() {
        failures.push(format!("packed: {peak_of_packed} of {} bytes", bytes.len()));
    }

    // The window of a conversion, as the crate documents it: 1 MiB for each thread and 1 MiB.
    let folder = tempfile::tempdir().unwrap();
    let (input, output) = (folder.path().join("in.gguf"), folder.path().join("out.gguf"));
    for (rows, threads) in [(64, 1), (64, 4), (4096, 1), (4096, 4)] {
        sparse(&input, rows);
        let run = || {
            let request = Request::new(FileType::Q4_K_M);
            let options = Options { request, threads, no_sync: true, ..Options::default() };
            let plan = Plan::new(open(&input, &options)?, &options)?;
            plan.run(&output, Control::default())
        };
        let peak = peak(|| run().unwrap());
        std::fs::remove_file(&output).unwrap();
        let window = (threads + 1) << 20;
        println!("{} MiB on {threads} threads take {peak}", (rows * 4096 * 2 * 4) >> 20);
        if peak > window {
            failures.push(format!("{rows} rows on {threads} threads: {peak} > {window}"));
        }
    }

    // That of packed layers, of which more rows are restored at a time.
    for (inner, threads) in [(1024, 1), (4096, 1), (4096, 3)] {
        let folder = tempfile::tempdir().unwrap();
        sparse_gptq(folder.path(), inner);
        let output = folder.path().join("out.gguf");
        let request = Request::new(FileType::Q8_0);
        let options = Options { request, threads, no_sync: true, ..Options::default() };
        let plan = Plan::new(open(folder.path(), &options).unwrap(), &options).unwrap();
        let peak = peak(|| plan.run(&output, Control::default()).unwrap());
        let window = (6 * threads + 1) << 20;
        println!("packed layers {inner} wide on {threads} threads take {peak}");
        if peak > window {
            failures.push(format!("{inner} wide on {threads} threads: {peak} > {window}"));
        }
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}
