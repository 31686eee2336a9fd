//! A folder with inputs that are changed in one place.

use super::*;

/// Where a case puts its files.
pub(crate) struct Folder(pub(crate) PathBuf);

impl Folder {
    /// For inputs.
    pub(crate) fn input(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    /// The output; its folder must stay as it is.
    pub(crate) fn output(&self) -> PathBuf {
        self.0.join("out").join("m.gguf")
    }

    pub(crate) fn copy(&self, checkpoint: &str) -> PathBuf {
        copy_checkpoint(checkpoint, &self.0)
    }

    /// `convert INPUT -o OUTPUT`, and options.
    pub(crate) fn convert(&self, input: impl AsRef<Path>, options: &[&str]) -> Vec<OsString> {
        self.convert_to(input, &self.output(), options)
    }

    pub(crate) fn convert_to(
        &self,
        input: impl AsRef<Path>,
        output: &Path,
        options: &[&str],
    ) -> Vec<OsString> {
        let mut args: Vec<OsString> = vec!["convert".into(), input.as_ref().into()];
        args.extend(["-o".into(), output.into(), "--no-sync".into()]);
        args.extend(options.iter().map(Into::into));
        args
    }

    /// tiny-llama3 with an edited configuration.
    pub(crate) fn config(
        &self,
        edit: impl FnOnce(&mut serde_json::Map<String, Value>),
    ) -> Vec<OsString> {
        let checkpoint = self.copy("tiny-llama3");
        edit_json(&checkpoint.join("config.json"), edit);
        self.convert(checkpoint, &["-t", "f16"])
    }

    /// tiny-llama3, whose weights are BF16 in one file, with that file edited.
    pub(crate) fn weights(
        &self,
        options: &[&str],
        edit: impl FnOnce(&mut Safetensors),
    ) -> Vec<OsString> {
        let checkpoint = self.copy("tiny-llama3");
        let mut file = Safetensors::open(&checkpoint.join("model.safetensors"));
        edit(&mut file);
        file.save();
        self.convert(checkpoint, options)
    }

    /// tiny-llama2 with other bytes in a file.
    pub(crate) fn replaced(&self, name: &str, bytes: Option<&[u8]>) -> Vec<OsString> {
        let checkpoint = self.copy("tiny-llama2");
        if let Some(bytes) = bytes {
            fs::write(checkpoint.join(name), bytes).unwrap();
        }
        self.convert(checkpoint, &["-t", "f16"])
    }

    /// An importance matrix for one tensor of tiny-llama2.
    pub(crate) fn matrix(&self, values: &[f32]) -> Vec<OsString> {
        let path = self.input("imatrix.dat");
        fs::write(&path, legacy_imatrix("blk.0.attn_q.weight", values)).unwrap();
        self.convert(fixture("tiny-llama2"), &["--imatrix", path.to_str().unwrap()])
    }

    /// A GGUF file with some bytes changed.
    pub(crate) fn gguf(&self, edit: impl FnOnce(&mut Vec<u8>)) -> Vec<OsString> {
        let path = self.input("in.gguf");
        write_gguf(&path, 32, 0.5);
        let mut bytes = fs::read(&path).unwrap();
        edit(&mut bytes);
        fs::write(&path, bytes).unwrap();
        self.convert(path, &["-t", "q8_0"])
    }

    /// An output that is there, with leave to replace it.
    pub(crate) fn over(&self, input: PathBuf, output: &Path) -> Vec<OsString> {
        self.convert_to(input, output, &["-t", "q8_0", "--force"])
    }
}
