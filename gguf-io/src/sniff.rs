//! What a file is, judged by its first bytes and its name: people point readers at the wrong thing,
//! and "bad magic" does not tell them what happened.

use std::path::Path;

use crate::{Error, Result, SourceFile};

/// What a file that is no model can be recognised as.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Empty,
    LfsPointer,
    Html,
    Pickle,
    Zip,
    Gguf,
    BigEndianGguf,
    Safetensors,
    Json,
    /// What a server said instead of sending the file.
    Answer,
    /// A format of somebody else.
    Foreign(Foreign),
    Other,
}

/// A format that is recognised but not read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Foreign {
    /// What the file is.
    found: &'static str,
    /// What to do about it.
    help: &'static str,
}

/// How many bytes from the front of a file [`Kind::of`] wants to see: tar has its mark at 257.
pub(crate) const HEAD: usize = 512;

const ORIGINAL: &str = "take the original checkpoint, a folder with config.json and safetensors \
    weights, or a GGUF file";
const NAME: &str = "give the file that holds the model";

const OLD_GGML: Foreign = Foreign {
    found: "a GGML file of before GGUF (ggml, ggmf or ggjt)",
    help: "no current program reads these; convert the original checkpoint, or take a GGUF file",
};
const OLD_LORA: Foreign = Foreign {
    found: "a LoRA adapter of before GGUF (ggla)",
    help: "merge the original adapter into its base model and convert that",
};
const SESSION: Foreign =
    Foreign { found: "a session that llama.cpp saved, not a model", help: NAME };
const LOGITS: Foreign =
    Foreign { found: "logits that llama-perplexity saved, not a model", help: NAME };
const LLAMAFILE: Foreign = Foreign {
    found: "a llamafile, a program with the model packed in it",
    help: "take the GGUF file out of it: unzip FILE '*.gguf'",
};
const PROGRAM: Foreign = Foreign { found: "a program", help: NAME };
const ARCHIVE: Foreign =
    Foreign { found: "an archive", help: "unpack it and give the folder with config.json" };
const NEMO: Foreign = Foreign {
    found: "a NeMo archive",
    help: "take the model in the Hugging Face format, or convert it with NeMo's exporter",
};
const ONNX: Foreign = Foreign { found: "an ONNX model", help: ORIGINAL };
const HDF5: Foreign =
    Foreign { found: "an HDF5 file as TensorFlow and Keras write", help: ORIGINAL };
const TFLITE: Foreign = Foreign { found: "a TensorFlow Lite model", help: ORIGINAL };
const TENSORFLOW: Foreign = Foreign { found: "a TensorFlow model", help: ORIGINAL };
const FLAX: Foreign = Foreign { found: "a file of Flax weights (msgpack)", help: ORIGINAL };
const TENSORRT: Foreign =
    Foreign { found: "a TensorRT engine, made for one model of GPU", help: ORIGINAL };
const OPENVINO: Foreign = Foreign { found: "an OpenVINO model", help: ORIGINAL };
const NUMPY: Foreign = Foreign { found: "a NumPy array", help: ORIGINAL };
const SENTENCEPIECE: Foreign = Foreign {
    found: "a SentencePiece tokenizer, not a model",
    help: "give the folder that holds it with config.json and the weights",
};

const TOKENIZER: Foreign = Foreign { found: "a tokenizer, not a model", help: SENTENCEPIECE.help };
const ZEROS: Foreign = Foreign {
    found: "nothing but zeros where a file begins, as a download that broke off leaves it",
    help: "download it again",
};
/// So many zeros are no beginning of a file, fewer may be a small number.
const ZEROS_ARE_NONE: usize = 256;
const ADAPTER: Foreign = Foreign {
    found: "part of a LoRA adapter, not a model",
    help: "merge the adapter into its base model first (merge_and_unload of peft), and convert that",
};
const MISTRAL: Foreign = Foreign {
    found: "weights in Mistral's own format",
    help: "take the form of the checkpoint for transformers, with config.json and model*.safetensors",
};

/// Marks of formats: where, which bytes.
const MARKS: &[(usize, &[u8], Foreign)] = &[
    // The four letters are a number, which is stored little end first.
    (0, b"lmgg", OLD_GGML),
    (0, b"fmgg", OLD_GGML),
    (0, b"tjgg", OLD_GGML),
    (0, b"ggml", OLD_GGML),
    (0, b"ggmf", OLD_GGML),
    (0, b"ggjt", OLD_GGML),
    (0, b"algg", OLD_LORA),
    (0, b"ggla", OLD_LORA),
    (0, b"nsgg", SESSION),
    (0, b"qsgg", SESSION),
    (0, b"_logits_", LOGITS),
    (0, b"MZqFpD", LLAMAFILE),
    (0, b"MZ\x90\0", PROGRAM),
    (0, b"\x7fELF", PROGRAM),
    (0, b"\x89HDF\r\n\x1a\n", HDF5),
    (4, b"TFL3", TFLITE),
    (0, b"ftrt", TENSORRT),
    (0, b"\x93NUMPY", NUMPY),
    (2, b"\x0a\x05<unk>", SENTENCEPIECE),
    (2, b"\x0a\x05<pad>", SENTENCEPIECE),
    (257, b"ustar", ARCHIVE),
    (0, b"\x1f\x8b\x08", ARCHIVE),
    (0, b"7z\xbc\xaf\x27\x1c", ARCHIVE),
    (0, b"Rar!\x1a\x07", ARCHIVE),
    (0, b"\xfd7zXZ\0", ARCHIVE),
    (0, b"(\xb5/\xfd", ARCHIVE),
    (0, b"BZh", ARCHIVE),
];

/// Endings of names, for formats without a mark and containers that do not say what is in them.
const ENDINGS: &[(&str, Foreign)] = &[
    ("llamafile", LLAMAFILE),
    ("nemo", NEMO),
    ("onnx", ONNX),
    ("h5", HDF5),
    ("keras", TENSORFLOW),
    ("pb", TENSORFLOW),
    ("tflite", TFLITE),
    ("msgpack", FLAX),
    ("engine", TENSORRT),
    ("plan", TENSORRT),
];

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
        } else if starts("<?xml") && head.windows(5).any(|w| w == b"<net ") {
            Self::Foreign(OPENVINO)
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
        } else if head.len() >= ZEROS_ARE_NONE && head.iter().all(|byte| *byte == 0) {
            Self::Foreign(ZEROS)
        } else if head.starts_with(b"PK\x03\x04") {
            zip(head)
        } else if matches!(head, [0x80, 2..=5, ..]) && !short_length {
            // Before PyTorch 1.6 torch.save wrote a bare pickle, whose first bytes could also be
            // the length of a safetensors header.
            Self::Pickle
        } else if let Some((.., foreign)) = MARKS
            .iter()
            .find(|(at, mark, _)| head.get(*at..).is_some_and(|here| here.starts_with(mark)))
        {
            Self::Foreign(*foreign)
        } else if is_onnx(head) {
            Self::Foreign(ONNX)
        } else if is_answer(text) {
            Self::Answer
        } else if text.starts_with(b"{") && !short_length {
            Self::Json
        } else {
            Self::Other
        }
    }

    /// As the name of the file has it, where the bytes leave that open.
    fn named(self, path: &Path) -> Self {
        let ending = path.extension().unwrap_or_default().to_string_lossy().to_lowercase();
        let pickle = ["bin", "pt", "pth", "ckpt", "pkl"].contains(&&*ending);
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let starts = |start: &str| name.starts_with(start);
        match self {
            Self::Json if starts("tokenizer") => Self::Foreign(TOKENIZER),
            Self::Safetensors if starts("adapter") => Self::Foreign(ADAPTER),
            Self::Json if starts("adapter") => Self::Foreign(ADAPTER),
            Self::Safetensors if starts("consolidated") => Self::Foreign(MISTRAL),
            Self::Zip if pickle => Self::Pickle,
            Self::Zip | Self::Other | Self::Foreign(ARCHIVE) => ENDINGS
                .iter()
                .find(|(known, _)| *known == ending)
                .map_or(self, |(_, foreign)| Self::Foreign(*foreign)),
            _ => self,
        }
    }

    /// What it is and what to do about it.
    fn describe(self) -> (&'static str, &'static str) {
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
            Self::Zip => ("a zip archive", ARCHIVE.help),
            Self::Gguf => ("a GGUF file", NAME),
            Self::BigEndianGguf => (
                "a big-endian GGUF file",
                "make it little-endian with gguf-convert-endian of the gguf package",
            ),
            Self::Safetensors => {
                ("a safetensors file", "a model is the folder that holds it and its config.json")
            }
            Self::Json => (
                "a JSON file",
                "a model is a GGUF file, or the folder with config.json and the weights",
            ),
            Self::Answer => (
                "an error message of a server",
                "the server sent this instead of the file: download it again, with an access token \
                 if the repository asks for one",
            ),
            Self::Foreign(Foreign { found, help }) => (found, help),
            Self::Other => ("of an unknown format", NAME),
        }
    }

    /// The error of a reader that expected another format.
    pub(crate) fn error(self, file: &SourceFile, expected: &'static str) -> Error {
        let (found, help) = match (self, unfinished(file.path())) {
            (Self::Empty | Self::Other, Some(unfinished)) => unfinished,
            (Self::Other, _) if head(file).is_ok_and(|head| is_legacy_imatrix(&head)) => {
                ("an importance matrix", "give the model here, and this file as its matrix")
            }
            _ => self.named(file.path()).describe(),
        };
        Error::NotAModel { path: file.path().into(), found: found.to_owned(), expected, help }
    }
}

/// Whether a text is what the Hugging Face Hub and its like say of a request that failed.
fn is_answer(text: &[u8]) -> bool {
    const SENTENCES: [&[u8]; 8] = [
        b"Entry not found",
        b"Repository not found",
        b"Invalid username or password",
        b"Invalid credentials",
        b"Access to model",
        b"Unauthorized",
        b"Not Found",
        b"404: Not Found",
    ];
    let object = text.strip_prefix(b"{").map(<[u8]>::trim_ascii_start);
    object.is_some_and(|object| object.starts_with(b"\"error\""))
        || SENTENCES.iter().any(|sentence| text.starts_with(sentence))
}

/// A zip file, told by the name of its first entry: torch.save writes a zip of pickles.
fn zip(head: &[u8]) -> Kind {
    let name = match head.get(26..28) {
        Some(&[low, high]) => head
            .get(30..)
            .map(|rest| rest.get(..usize::from(u16::from_le_bytes([low, high]))).unwrap_or(rest)),
        _ => None,
    };
    match name {
        Some(name) if !name.is_empty() && !name.ends_with(b".pkl") => {
            if name.ends_with(b".npy") {
                Kind::Foreign(NUMPY)
            } else {
                Kind::Zip
            }
        }
        _ => Kind::Pickle,
    }
}

/// An ONNX file begins with its version, a small number, and the name of what produced it.
fn is_onnx(head: &[u8]) -> bool {
    match head {
        [0x08, 1..=32, 0x12, len @ 1..=127, rest @ ..] => rest
            .get(..usize::from(*len))
            .is_some_and(|name| name.iter().all(|b| b.is_ascii_graphic() || *b == b' ')),
        _ => false,
    }
}

/// A legacy importance matrix begins with a number of entries and the name of a weight.
fn is_legacy_imatrix(head: &[u8]) -> bool {
    let number = |at: usize| {
        let bytes = head.get(at..)?.first_chunk()?;
        u32::try_from(i32::from_le_bytes(*bytes)).ok().filter(|n| *n > 0)
    };
    let name = number(4).and_then(|len| head.get(8..)?.get(..usize::try_from(len).ok()?));
    number(0).is_some_and(|count| count < 1 << 20)
        && name
            .is_some_and(|name| name.ends_with(b".weight") && name.iter().all(u8::is_ascii_graphic))
}

/// What the name of a file says of a download that is not finished, or of a piece of a larger file:
/// what it is, and what to do about it.
pub(crate) fn unfinished(path: &Path) -> Option<(&'static str, &'static str)> {
    const DOWNLOADS: [&str; 9] = [
        ".part",
        ".partial",
        ".downloading",
        ".download",
        ".incomplete",
        ".crdownload",
        ".aria2",
        ".tmp",
        ".!qb",
    ];
    let name = path.file_name()?.to_string_lossy().to_lowercase();
    if DOWNLOADS.iter().any(|ending| name.ends_with(ending)) {
        return Some((
            "a download that is not finished",
            "finish the download, or download the file again",
        ));
    }
    // What follows the name that the whole file has: `.part1of2`, `-split-a`, `.part-aa`, `.001`.
    let rest = [".gguf", ".safetensors"]
        .into_iter()
        .find_map(|whole| name.rfind(whole).map(|at| name.split_at(at + whole.len()).1))?;
    let word = rest.trim_start_matches(['.', '-', '_']);
    let tagged = ["split", "part"].into_iter().find_map(|tag| word.strip_prefix(tag));
    let number = tagged.unwrap_or(word).trim_start_matches(['.', '-', '_']);
    let all = |wanted: fn(&u8) -> bool| number.bytes().all(|b| wanted(&b));
    let counts = |text: &str| {
        let text = text.trim_matches(['-', '_']);
        !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit())
    };
    let piece = rest.len() > word.len()
        && (1..=12).contains(&number.len())
        && (all(u8::is_ascii_digit)
            || number.split_once("of").is_some_and(|(n, of)| counts(n) && counts(of))
            // `split` counts aa, ab, ac.
            || (number.len() <= 2 + usize::from(tagged.is_some()) && all(u8::is_ascii_lowercase)));
    piece.then_some((
        "a piece of a file that was cut up",
        "join all pieces in their order first: cat PIECE1 PIECE2 … > model.gguf",
    ))
}

/// Says of a file that is cut short or of no known format that it is a download or a piece, if
/// that is what its name says.
pub(crate) fn explain(error: Error) -> Error {
    match &error {
        Error::Truncated { path, .. } => match unfinished(path) {
            Some((found, help)) => Error::NotAModel {
                path: path.clone(),
                found: found.to_owned(),
                expected: "a whole model file",
                help,
            },
            None => error,
        },
        _ => error,
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
            (b"PK\x03\x04\0\0\x08\x08\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\x10\0\0\0archive/data.pkl", Kind::Pickle),
            (b"PK\x03\x04\0\0\x08\x08\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\x05\0\0\0a.txt", Kind::Zip),
            (b"PK\x03\x04\0\0\x08\x08\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\x05\0\0\0a.npy", Kind::Foreign(NUMPY)),
            (b"tjgg\x03\0\0\0", Kind::Foreign(OLD_GGML)),
            (b"\x08\x07\x12\x07pytorch", Kind::Foreign(ONNX)),
            (b"\x08\x07\x12\0\0\0\0\0", Kind::Other),
            (b"\x10\0\0\0\x08\0\0\0a.weight\x01\0\0\0", Kind::Other),
            (b"\x0a\x0e\x0a\x05<unk>\x15\0\0\0\0\x18\x02", Kind::Foreign(SENTENCEPIECE)),
            (b"\x80\x02}q", Kind::Pickle),
            (b"\x80\x02\0\0\0\0\0\0{}", Kind::Safetensors),
            (b"\x10\0\0\0\0\0\0\0 {\"a\":", Kind::Safetensors),
            (b"{\"weight_map\":", Kind::Json),
            (b"{}", Kind::Json),
            (b"{\"error\": \"Repository not found\"}", Kind::Answer),
            (b"{\"errors\": 1}", Kind::Json),
            (b"Entry not found", Kind::Answer),
            (b"Entries", Kind::Other),
            (b"{\0\0\0\0\0\0\0    ", Kind::Other),
            (b"\x01\0\0\0", Kind::Other),
        ];
        for (bytes, kind) in rows {
            assert_eq!(Kind::of(bytes), *kind, "{:?}", bytes.escape_ascii().to_string());
        }
    }

    #[test]
    fn a_legacy_matrix_begins_with_the_name_of_a_weight() {
        assert!(is_legacy_imatrix(b"\x10\0\0\0\x08\0\0\0a.weight\x01\0\0\0"));
        assert!(!is_legacy_imatrix(b"\x10\0\0\0\x08\0\0\0a.weighs\x01\0\0\0"));
        assert!(!is_legacy_imatrix(b"\0\0\0\0\x08\0\0\0a.weight\x01\0\0\0"));
        assert!(!is_legacy_imatrix(b"\x10\0\0\0\xff\xff\xff\xffa.weight"));
        assert!(!is_legacy_imatrix(b"\x10\0\0\0\x09\0\0\0a.weight"));
    }

    #[test]
    fn names_tell_downloads_and_pieces() {
        let found = |name: &str| unfinished(Path::new(name)).map(|(found, _)| found);
        for name in [
            "m.gguf.part",
            "m.GGUF.downloading",
            "m.gguf.crdownload",
            "a94a8fe5ccb19ba61c4c0873d391e987982fbbd3.incomplete",
        ] {
            assert_eq!(found(name), Some("a download that is not finished"), "{name}");
        }
        for name in [
            "m.gguf.part1of2",
            "m.gguf.part2of2",
            "m.i1-Q6_K.gguf.part-1-of-2",
            "m.gguf-split-a",
            "m.gguf.part-aa",
            "m.gguf.part_ab",
            "m.gguf.001",
            "m.gguf.aa",
            "m.gguf.part00",
            "m.safetensors.part-aa",
        ] {
            assert_eq!(found(name), Some("a piece of a file that was cut up"), "{name}");
        }
        for name in [
            "m.gguf",
            "m-00001-of-00002.gguf",
            "part1of2.gguf",
            "m.gguf.bak",
            "m.gguf.part-long-name",
            "m.gguf.",
            "m.ggufaa",
            "incomplete",
        ] {
            assert_eq!(found(name), None, "{name}");
        }
    }
}
