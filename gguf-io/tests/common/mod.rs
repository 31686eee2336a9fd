//! Files as byte recipes, and tables of what readers say about them.
#![allow(dead_code, unreachable_pub, reason = "each test file uses a part")]

use gguf_io::Error;

/// A row of a table: bytes that are refused, how, and a neighbour that is accepted.
pub struct Row {
    pub name: &'static str,
    pub bad: Vec<u8>,
    /// The variant of [`Error`].
    pub kind: &'static str,
    /// Parts of the message.
    pub says: &'static [&'static str],
    pub good: Vec<u8>,
}

pub fn row(
    name: &'static str,
    bad: impl Into<Vec<u8>>,
    kind: &'static str,
    says: &'static [&'static str],
    good: impl Into<Vec<u8>>,
) -> Row {
    Row { name, bad: bad.into(), kind, says, good: good.into() }
}

/// Runs a reader over a table and reports all rows that fail.
pub fn check_table<T>(rows: Vec<Row>, read: impl Fn(Vec<u8>) -> Result<T, Error>) {
    let mut failures = Vec::new();
    for row in rows {
        match read(row.bad) {
            Ok(_) => failures.push(format!("{}: accepted", row.name)),
            Err(error) => failures.extend(
                check_error(&error, row.kind, row.says).map(|e| format!("{}: {e}", row.name)),
            ),
        }
        if let Err(error) = read(row.good) {
            failures.push(format!("{}: the neighbour is refused: {error}", row.name));
        }
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}

/// What is wrong with an error, if anything.
pub fn check_error(error: &Error, kind: &str, says: &[&str]) -> Option<String> {
    let debug = format!("{error:?}");
    let found = debug.split([' ', '{', '(']).next().unwrap_or_default();
    let text = error.to_string();
    let missing: Vec<_> = says.iter().filter(|part| !text.contains(**part)).collect();
    if found != kind {
        Some(format!("is {found}, expected {kind}: {text}"))
    } else if !missing.is_empty() {
        Some(format!("lacks {missing:?}: {text}"))
    } else if text.chars().any(char::is_control) {
        Some(format!("has control characters: {text:?}"))
    } else {
        None
    }
}

pub fn assert_error<T: std::fmt::Debug>(result: Result<T, Error>, kind: &str, says: &[&str]) {
    let error = result.expect_err("is refused");
    assert_eq!(check_error(&error, kind, says), None);
}

pub fn text(bytes: impl AsRef<[u8]>) -> Vec<u8> {
    let bytes = bytes.as_ref();
    let mut out = (bytes.len() as u64).to_le_bytes().to_vec();
    out.extend(bytes);
    out
}

/// A key-value pair.
pub fn pair(key: impl AsRef<[u8]>, ty: u32, value: impl AsRef<[u8]>) -> Vec<u8> {
    let mut out = text(key);
    out.extend(ty.to_le_bytes());
    out.extend(value.as_ref());
    out
}

/// The value of an array.
pub fn array(ty: u32, count: u64, values: impl AsRef<[u8]>) -> Vec<u8> {
    let mut out = ty.to_le_bytes().to_vec();
    out.extend(count.to_le_bytes());
    out.extend(values.as_ref());
    out
}

/// A tensor description.
pub fn tensor(name: impl AsRef<[u8]>, dims: &[u64], ty: u32, offset: u64) -> Vec<u8> {
    let mut out = text(name);
    out.extend((dims.len() as u32).to_le_bytes());
    for dim in dims {
        out.extend(dim.to_le_bytes());
    }
    out.extend(ty.to_le_bytes());
    out.extend(offset.to_le_bytes());
    out
}

/// A GGUF file in parts.
#[derive(Clone)]
pub struct Gguf {
    pub version: u32,
    pub n_tensors: Option<u64>,
    pub n_pairs: Option<u64>,
    pub pairs: Vec<Vec<u8>>,
    pub tensors: Vec<Vec<u8>>,
    pub alignment: usize,
    /// Bytes of tensor data; none means no padding after the header either.
    pub data: usize,
}

impl Gguf {
    pub fn new() -> Self {
        Self {
            version: 3,
            n_tensors: None,
            n_pairs: None,
            pairs: Vec::new(),
            tensors: Vec::new(),
            alignment: 32,
            data: 0,
        }
    }

    pub fn pair(mut self, pair: Vec<u8>) -> Self {
        self.pairs.push(pair);
        self
    }

    pub fn tensor(mut self, tensor: Vec<u8>) -> Self {
        self.tensors.push(tensor);
        self
    }

    pub fn data(mut self, data: usize) -> Self {
        self.data = data;
        self
    }

    pub fn aligned(mut self, alignment: usize) -> Self {
        self.alignment = alignment;
        self
    }

    pub fn build(self) -> Vec<u8> {
        let mut out = b"GGUF".to_vec();
        out.extend(self.version.to_le_bytes());
        out.extend(self.n_tensors.unwrap_or(self.tensors.len() as u64).to_le_bytes());
        out.extend(self.n_pairs.unwrap_or(self.pairs.len() as u64).to_le_bytes());
        out.extend(self.pairs.concat());
        out.extend(self.tensors.concat());
        if self.data > 0 {
            out.resize(out.len().next_multiple_of(self.alignment) + self.data, 0);
        }
        out
    }
}

/// One of everything.
pub fn small_gguf() -> Vec<u8> {
    Gguf::new()
        .pair(pair("general.architecture", 8, text("llama")))
        .pair(pair("general.alignment", 4, 64u32.to_le_bytes()))
        .pair(pair("a.bool", 7, [1]))
        .pair(pair("a.f64", 12, 0.5f64.to_le_bytes()))
        .pair(pair("tokens", 9, array(8, 2, [text("a"), text(b"\xff\xfe")].concat())))
        .pair(pair("scores", 9, array(6, 2, [0; 8])))
        .tensor(tensor("x.weight", &[32, 2], 2, 0))
        .tensor(tensor("y.weight", &[3], 0, 64))
        .aligned(64)
        .data(128)
        .build()
}

/// A safetensors file.
pub fn safetensors(json: &str, data: usize) -> Vec<u8> {
    let mut out = text(json);
    out.resize(out.len() + data, 0);
    out
}

pub fn small_safetensors() -> Vec<u8> {
    safetensors(
        r#"{"__metadata__":{"format":"pt"},"a":{"dtype":"F16","shape":[2,3],"data_offsets":[0,12]},"b":{"dtype":"F32","shape":[],"data_offsets":[12,16]}}"#,
        16,
    )
}

/// An importance matrix in a GGUF file: two matrices of two columns, the second never used.
pub fn small_imatrix(sums: [f32; 4], counts: [f32; 2]) -> Vec<u8> {
    let mut out = imatrix_header().build();
    out.resize(out.len().next_multiple_of(32), 0);
    out.extend(sums.into_iter().flat_map(f32::to_le_bytes));
    out.resize(out.len() + 16, 0);
    out.extend(counts.into_iter().flat_map(f32::to_le_bytes));
    out.resize(out.len() + 24, 0);
    out
}

pub fn imatrix_header() -> Gguf {
    Gguf::new()
        .pair(pair("general.type", 8, text("imatrix")))
        .pair(pair("imatrix.datasets", 9, array(8, 1, text("wiki.txt"))))
        .pair(pair("imatrix.chunk_count", 4, 7u32.to_le_bytes()))
        .pair(pair("imatrix.chunk_size", 4, 512u32.to_le_bytes()))
        .tensor(tensor("w.in_sum2", &[2, 2], 0, 0))
        .tensor(tensor("w.counts", &[1, 2], 0, 32))
}

/// An importance matrix in the older format.
pub fn small_legacy() -> Vec<u8> {
    let mut out = 2i32.to_le_bytes().to_vec();
    for (name, calls, values) in [("b", 4i32, [2.0f32, 3.0]), ("a", 0, [5.0, 6.0])] {
        out.extend(legacy_text(name));
        out.extend(calls.to_le_bytes());
        out.extend(2i32.to_le_bytes());
        out.extend(values.into_iter().flat_map(f32::to_le_bytes));
    }
    out.extend(9i32.to_le_bytes());
    out.extend(legacy_text("data.txt"));
    out
}

pub fn legacy_text(text: &str) -> Vec<u8> {
    let mut out = (text.len() as i32).to_le_bytes().to_vec();
    out.extend(text.as_bytes());
    out
}
