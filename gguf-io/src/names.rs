//! The names of files that lie beside a model while it is written or edited.

use std::{
    ffi::{OsStr, OsString},
    path::{Path, PathBuf},
};

use crate::{Error, Result};

/// What stands between the name of an output and the random part of its temporary's.
pub(crate) const MARK: &str = ".quantwright-";

/// What the names of all temporaries for an output begin with: hidden, and telling whose they are.
pub(crate) fn prefix(name: &OsStr) -> OsString {
    // Room for what is put around it, in the 255 bytes a file name may have.
    const LONGEST: usize = 200;
    let mut prefix = OsString::from(".");
    if name.len() <= LONGEST {
        prefix.push(name);
    } else {
        let text = name.to_string_lossy();
        let mut end = 0;
        for (start, c) in text.char_indices() {
            if start + c.len_utf8() > LONGEST {
                break;
            }
            end = start + c.len_utf8();
        }
        prefix.push(text.get(..end).unwrap_or_default());
    }
    prefix.push(MARK);
    prefix
}

/// The copy of the old header that lies beside a file while it is edited in place. Where the name is a
/// link, it lies beside the file itself, so that whoever opens that by another name finds it.
pub(crate) fn journal(path: &Path) -> Option<PathBuf> {
    let path = &std::fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
    let mut name = prefix(path.file_name()?);
    name.push("edit");
    Some(path.with_file_name(name))
}

/// Whether a file is in the middle of an edit that was cut off: `Err` if so.
pub(crate) fn refuse_cut_off(path: &Path) -> Result<()> {
    match journal(path) {
        Some(journal) if journal.exists() => Err(Error::NotAModel {
            path: path.into(),
            found: "a file whose edit was cut off".to_owned(),
            expected: "a whole one",
            help: "edit it in place again, which first puts the old header back",
        }),
        _ => Ok(()),
    }
}
