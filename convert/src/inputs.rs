//! The files that an output must not replace.

use std::{collections::BTreeSet, path::Path};

use gguf_io::SourceFile;

use crate::{Error, Result, model::Model};

/// All that a conversion reads.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Inputs<'a> {
    pub(crate) model: &'a Model,
    /// The importance matrix.
    pub(crate) imatrix: Option<&'a Path>,
}

impl<'a> Inputs<'a> {
    /// Refuses a file as output that is one of the inputs, or in the folder of a checkpoint.
    pub(crate) fn refuse_file(self, output: &Path) -> Result<()> {
        let files = self.model.files.iter();
        let mut same = files.clone().any(|file| file.is_same_file(output));
        // Every file of a checkpoint's folder counts as an input, whether or not it was read.
        let folders: BTreeSet<_> = files.filter_map(|file| file.path().parent()).collect();
        same |= self.model.origin.is_checkpoint()
            && folders.into_iter().any(|folder| holds(folder, output));
        same |= self.imatrix.is_some_and(|imatrix| is_same(imatrix, output));
        refuse_if(same, output)
    }

    /// Refuses a folder as output that an input is in: it is replaced as a whole. `dir` is that of
    /// the checkpoint.
    pub(crate) fn refuse_folder(self, dir: &'a Path, output: &Path) -> Result<()> {
        let Ok(target) = output.canonicalize() else { return Ok(()) };
        let inside = |input: &Path| {
            let real = input.canonicalize().unwrap_or_default();
            // The checkpoint of a download cache is links: the folder they are in counts as well.
            let folder = input.parent().and_then(|p| p.canonicalize().ok());
            real.starts_with(&target) || folder.is_some_and(|f| f.starts_with(&target))
        };
        let files = self.model.files.iter().map(|file| file.path());
        let mut inputs = files.chain(self.imatrix).chain([dir]);
        refuse_if(inputs.any(inside) || target == dir, output)
    }
}

fn refuse_if(same: bool, output: &Path) -> Result<()> {
    if same { Err(Error::SameFile { path: output.into() }) } else { Ok(()) }
}

fn is_same(input: &Path, output: &Path) -> bool {
    SourceFile::open(input).is_ok_and(|file| file.is_same_file(output))
}

/// Whether a folder has an entry, other than an output of before, that is the same file as
/// `output`.
fn holds(folder: &Path, output: &Path) -> bool {
    if !output.exists() {
        return false;
    }
    std::fs::read_dir(folder).is_ok_and(|entries| {
        entries.flatten().any(|entry| {
            let of_before = entry.path().extension().is_some_and(|e| e == "gguf");
            !of_before && is_same(&entry.path(), output)
        })
    })
}
