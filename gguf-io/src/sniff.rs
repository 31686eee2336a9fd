//! What a file is, judged by its first bytes: people point readers at the wrong thing, and "bad
//! magic" does not tell them what happened.

use crate::{Error, Result, SourceFile};

/// What a file that is no model can be recognised as.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Empty,
    LfsPointer,
    Html,
    Pickle,
    Gguf,
    BigEndianGguf,
    Safetensors,
    Json,
    Other,
}

/// How many bytes from the front of a file [`Kind::of`] wants to see.
pub(crate) const HEAD: usize = 64;

impl Kind {
    /// Judges the first [`HEAD`] bytes, or all if there are fewer.
    pub(crate) fn of(head: &[u8]) -> Self {
        let text = head.trim_ascii_start();
        let starts = |tag: &str| {
            text.get(..tag.len()).is_some_and(|t| t.eq_ignore_ascii_case(tag.as_bytes()))
        };
        let short_length = head.get(5..8) == Some(&[0; 3]);
        if head.is_empty() {
            Self::Empty
        } else if starts("version https://git-lfs") {
            Self::LfsPointer
        } else if ["<!doctype", "<html", "<head", "<?xml"].into_iter().any(starts) {
            Self::Html
        } else if head.starts_with(b"GGUF") {
            // A version is small: in the other byte order its low half is empty.
            match head.get(4..8) {
                Some([0, 0, high @ ..]) if high != [0, 0] => Self::BigEndianGguf,
                _ => Self::Gguf,
            }
        } else if short_length
            && head.get(8..).is_some_and(|json| json.trim_ascii_start().starts_with(b"{"))
        {
            Self::Safetensors
        } else if head.starts_with(b"PK\x03\x04")
            || (matches!(head, [0x80, 2..=5, ..]) && !short_length)
        {
            // torch.save writes a zip of pickles; before 1.6 it wrote a bare pickle, whose first
            // bytes could also be the length of a safetensors header.
            Self::Pickle
        } else if text.starts_with(b"{") && !short_length {
            Self::Json
        } else {
            Self::Other
        }
    }

    /// What it is and what to do about it.
    fn describe(self) -> (&'static str, &'static str) {
        const NAME: &str = "give the file that holds the model";
        match self {
            Self::Empty => ("an empty file", "download it again"),
            Self::LfsPointer => (
                "a Git-LFS pointer, not the file it points to",
                "fetch the file with `git lfs pull`",
            ),
            Self::Html => (
                "a web page (HTML)",
                "the download got a page instead of the file, download it again",
            ),
            Self::Pickle => ("a pickle or zip file as PyTorch writes them", PICKLE_HELP),
            Self::Gguf => ("a GGUF file", NAME),
            Self::BigEndianGguf => (
                "a big-endian GGUF file",
                "make it little-endian with gguf-convert-endian of the gguf package",
            ),
            Self::Safetensors => {
                ("a safetensors file", "a model is the folder that holds it and its config.json")
            }
            Self::Json => ("a JSON file", NAME),
            Self::Other => ("of an unknown format", NAME),
        }
    }

    /// The error of a reader that expected another format.
    pub(crate) fn error(self, file: &SourceFile, expected: &'static str) -> Error {
        let (found, help) = self.describe();
        Error::NotAModel { path: file.path().into(), found: found.to_owned(), expected, help }
    }
}

/// Why pickles are not read, and the way out.
pub(crate) const PICKLE_HELP: &str = "loading a pickle runs code from the file, so it is never \
    read; convert it where you trust it: python -c \"import transformers as t; \
    t.AutoModelForCausalLM.from_pretrained('DIR').save_pretrained('OUT')\"";

/// Reads what [`Kind::of`] wants to see.
pub(crate) fn head(file: &SourceFile) -> Result<Vec<u8>> {
    let n = usize::try_from(file.len()).map_or(HEAD, |len| len.min(HEAD));
    let mut head = vec![0; n];
    file.read_exact_at(&mut head, 0)?;
    Ok(head)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_told_apart() {
        let rows: &[(&[u8], Kind)] = &[
            (b"", Kind::Empty),
            (b"version https://git-lfs.github.com/spec/v1\noid", Kind::LfsPointer),
            (b"version 2 of my notes", Kind::Other),
            (b"\n <!DOCTYPE html>", Kind::Html),
            (b"<HTML>", Kind::Html),
            (b"<htm", Kind::Other),
            (b"GGUF", Kind::Gguf),
            (b"GGUF\x03\0\0\0", Kind::Gguf),
            (b"GGUF\0\0\0\x03", Kind::BigEndianGguf),
            (b"GGUF\0\0\0\0", Kind::Gguf),
            (b"PK\x03\x04", Kind::Pickle),
            (b"\x80\x02}q", Kind::Pickle),
            (b"\x80\x02\0\0\0\0\0\0{}", Kind::Safetensors),
            (b"\x10\0\0\0\0\0\0\0 {\"a\":", Kind::Safetensors),
            (b"{\"weight_map\":", Kind::Json),
            (b"{}", Kind::Json),
            (b"{\0\0\0\0\0\0\0    ", Kind::Other),
            (b"\x01\0\0\0", Kind::Other),
        ];
        for (bytes, kind) in rows {
            assert_eq!(Kind::of(bytes), *kind, "{:?}", bytes.escape_ascii().to_string());
        }
    }
}
