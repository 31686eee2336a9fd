//! A small model, edited, and what is said of converting it.

use super::*;

pub(crate) const UP: &str = "blk.1.ffn_up.weight";

/// A tensor of a file that is edited, with its bytes.
pub(crate) struct Edited {
    pub(crate) spec: TensorSpec,
    pub(crate) bytes: Vec<u8>,
}

impl Edited {
    pub(crate) fn new(name: &str, shape: &[u64], values: &[f32]) -> Self {
        let spec = TensorSpec { name: name.into(), ty: GgmlType::F32, shape: shape.into() };
        let bytes = values.iter().flat_map(|v| v.to_le_bytes()).collect();
        Self { spec, bytes }
    }

    /// Changes the values of an F32 tensor.
    pub(crate) fn change(&mut self, change: impl Fn(usize, f32) -> f32) {
        assert_eq!(self.spec.ty, GgmlType::F32);
        for (i, bytes) in self.bytes.chunks_exact_mut(4).enumerate() {
            let value = f32::from_le_bytes(bytes.try_into().unwrap());
            bytes.copy_from_slice(&change(i, value).to_le_bytes());
        }
    }
}

pub(crate) fn write(path: &Path, metadata: &Metadata, tensors: &[Edited]) {
    let specs: Vec<_> = tensors.iter().map(|t| t.spec.clone()).collect();
    let layout = Layout::new(metadata, &specs).unwrap();
    let mut bytes = layout.header.clone();
    bytes.resize(layout.total as usize, 0);
    for (tensor, placed) in tensors.iter().zip(&layout.tensors) {
        bytes[placed.offset as usize..][..tensor.bytes.len()].copy_from_slice(&tensor.bytes);
    }
    fs::write(path, bytes).unwrap();
}

/// The bytes of a tensor.
pub(crate) fn data(path: &Path, name: &str) -> Vec<u8> {
    let file = GgufFile::open(path, &Limits::default()).unwrap();
    let tensor = file.tensors.iter().find(|t| t.name == name).unwrap();
    fs::read(path).unwrap()[tensor.offset as usize..][..tensor.bytes as usize].to_vec()
}

pub(crate) struct Folder(pub(crate) TempDir);

impl Folder {
    pub(crate) fn new() -> Self {
        Self(tempdir().unwrap())
    }

    pub(crate) fn path(&self, name: &str) -> std::path::PathBuf {
        self.0.path().join(name)
    }

    /// tiny-llama2 in F32, changed.
    pub(crate) fn llama(
        &self,
        edit: impl FnOnce(&mut Metadata, &mut Vec<Edited>),
    ) -> std::path::PathBuf {
        let (base, path) = (self.path("base.gguf"), self.path("in.gguf"));
        if !base.exists() {
            convert(&fixture("tiny-llama2"), &base, &["-t", "f32"]);
        }
        let file = GgufFile::open(&base, &Limits::default()).unwrap();
        let bytes = fs::read(&base).unwrap();
        let mut tensors = Vec::new();
        for t in &file.tensors {
            let spec = TensorSpec { name: t.name.clone(), ty: t.ty, shape: t.shape.clone() };
            let bytes = bytes[t.offset as usize..][..t.bytes as usize].to_vec();
            tensors.push(Edited { spec, bytes });
        }
        let mut metadata = file.metadata.clone();
        edit(&mut metadata, &mut tensors);
        write(&path, &metadata, &tensors);
        path
    }

    /// tiny-llama2 with other values in one tensor.
    pub(crate) fn weights(&self, change: impl Fn(usize, f32) -> f32) -> std::path::PathBuf {
        self.llama(|_, tensors| {
            tensors.iter_mut().find(|t| t.spec.name == UP).unwrap().change(change);
        })
    }

    /// The matrix of a fixture in the older format, with the importance of a tensor changed.
    pub(crate) fn matrix(
        &self,
        model: &str,
        tensor: &str,
        change: impl FnOnce(&mut Vec<f32>),
    ) -> std::path::PathBuf {
        let path = fixture(model).join("imatrix.gguf");
        let mut entries = Imatrix::open(&path, &Limits::default()).unwrap().entries;
        change(&mut entries[tensor].values);
        let mut bytes = (entries.len() as i32).to_le_bytes().to_vec();
        for (name, entry) in entries {
            bytes.extend((name.len() as i32).to_le_bytes());
            bytes.extend(name.as_bytes());
            bytes.extend(1i32.to_le_bytes());
            bytes.extend((entry.values.len() as i32).to_le_bytes());
            bytes.extend(entry.values.iter().flat_map(|v| v.to_le_bytes()));
        }
        let path = self.path("i.dat");
        fs::write(&path, bytes).unwrap();
        path
    }

    /// What a conversion to `out.gguf` warns of.
    pub(crate) fn warnings(&self, input: &Path, options: &[&str]) -> String {
        let output = self.path("out.gguf");
        let done = try_convert(input, &output, &[&["--no-sync", "--force"], options].concat());
        assert!(done.status.success(), "{options:?}: {}", stderr(&done));
        stderr(&done)
    }

    /// How a conversion is refused.
    pub(crate) fn refused(&self, input: &Path, options: &[&str], says: &[&str]) {
        let output = self.path("refused.gguf");
        let done = try_convert(input, &output, &[&["--no-sync"], options].concat());
        let failures = refused(&done, says);
        assert!(failures.is_empty(), "{options:?}: {}", failures.join("; "));
        assert!(!output.exists(), "{options:?}");
    }
}
