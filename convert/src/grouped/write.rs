//! Writing a folder.

use std::path::Path;

use gguf_io::{AtomicFolder, SourceFile, WriteAt};

use super::FolderPlan;
use crate::{
    Control, Result,
    inputs::Inputs,
    stream::{Output, sinks, stream},
};

/// Bytes that are copied at a time.
const COPY: u64 = 1 << 20;

impl FolderPlan {
    /// Writes the folder, which appears under its name only when it is complete.
    ///
    /// The bytes are the same for any number of threads and any instruction set.
    ///
    /// # Errors
    /// As [`Plan::run`](crate::Plan::run).
    pub fn run(&self, output: &Path, control: Control<'_>) -> Result<()> {
        self.run_with(output, control, |writer| writer)
    }

    /// What [`run`](Self::run) would refuse of an output, told without creating anything.
    ///
    /// # Errors
    /// As [`run`](Self::run).
    pub fn check_output(&self, output: &Path) -> Result<()> {
        self.refuse_inputs(output)?;
        Ok(AtomicFolder::check(output, self.running.output)?)
    }

    /// [`run`](Self::run) with another writer around each in use, for tests of what happens when
    /// writing fails.
    ///
    /// # Errors
    /// As [`run`](Self::run).
    pub fn run_with(
        &self,
        output: &Path,
        control: Control<'_>,
        wrap: impl Fn(Box<dyn WriteAt>) -> Box<dyn WriteAt>,
    ) -> Result<()> {
        self.refuse_inputs(output)?;
        control.check()?;
        let folder = AtomicFolder::create(output, self.running.output)?;
        let create =
            |name: &str, len| folder.create_file(name, len).map(|file| file.wrap_writer(&wrap));
        let files =
            folder.create_files(self.layout.files.iter().map(|f| (f.name.as_str(), f.total)))?;
        let mut outputs = Vec::new();
        for (file, out) in self.layout.files.iter().zip(files) {
            let out = out.wrap_writer(&wrap);
            out.expect_header(file.header.len() as u64);
            outputs.push(out);
        }
        let jobs: Vec<_> = self.jobs.iter().collect();
        let out = Output { files: sinks(&outputs), places: self.layout.places() };
        stream(&self.model, &jobs, &out, &self.running, control)?;
        // Headers go last: a file that has one is whole.
        for (file, out) in self.layout.files.iter().zip(outputs) {
            out.write_all_at(&file.header, 0)?;
            out.commit()?;
        }
        for (name, bytes) in &self.texts {
            let out = create(name, bytes.len() as u64)?;
            out.write_all_at(bytes, 0)?;
            out.commit()?;
        }
        for name in &self.copies {
            let source = SourceFile::open(&self.dir.join(name))?;
            let out = create(name, source.len())?;
            let mut at = 0;
            let mut bytes = Vec::new();
            while at < source.len() {
                let len = COPY.min(source.len() - at);
                bytes.resize(usize::try_from(len).unwrap_or(0), 0);
                source.read_exact_at(&mut bytes, at)?;
                out.write_all_at(&bytes, at)?;
                at += len;
            }
            source.check_unchanged()?;
            out.commit()?;
        }
        control.check()?;
        folder.commit()?;
        Ok(())
    }

    /// Puts another reader around each file of weights, for tests of what happens when reading fails.
    ///
    /// # Errors
    /// As `wrap`.
    pub fn wrap_files(
        mut self,
        wrap: impl FnMut(SourceFile) -> gguf_io::Result<SourceFile>,
    ) -> Result<Self> {
        self.model.files = self.model.files.into_iter().map(wrap).collect::<Result<_, _>>()?;
        Ok(self)
    }

    fn refuse_inputs(&self, output: &Path) -> Result<()> {
        let inputs = Inputs { model: &self.model, imatrix: self.running.imatrix.as_deref() };
        inputs.refuse_folder(&self.dir, output)
    }
}
