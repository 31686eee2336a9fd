//! Where the configuration of an adapter's base model is.

use std::path::{Path, PathBuf};

use gguf_io::SourceFile;

use super::Settings;
use crate::{
    CheckpointOptions, Error, Result,
    error::{Quoted, Shown},
};

const NAME: &str = "base_model_name_or_path";

/// Letters that a name of the Hub may have.
const LONGEST: usize = 96;

/// Bytes of a file that holds the name of a commit, and more.
const LONGEST_REF: u64 = 256;

/// The folder of the base's config.json.
pub(super) fn find(
    dir: &Path,
    settings: &Settings,
    options: &CheckpointOptions,
) -> Result<PathBuf> {
    let cache = options.hub_cache.as_deref();
    let missing = |problem: String| Err(Error::Base { path: dir.into(), problem });
    if let Some(base) = &options.base {
        return match given(base, cache) {
            Some(folder) => Ok(folder),
            None => missing(format!(
                "and {} is neither a folder with config.json nor a model in the Hugging Face cache",
                Shown(base)
            )),
        };
    }
    let Some(name) = settings.text(NAME).filter(|name| !name.is_empty()) else {
        return missing(format!("which names no base model ({NAME})"));
    };
    let of = format!("for the model {}", Quoted(name));
    if !is_id(name) {
        return missing(format!("{of}, which is a path and is not followed"));
    }
    let Some(cache) = cache else { return missing(of) };
    let revision = settings.text("revision").filter(|revision| !revision.is_empty());
    let revision = revision.unwrap_or("main");
    match cached(cache, name, revision) {
        Some(folder) => {
            tracing::info!("the base model is that in {}", Shown(&folder));
            Ok(folder)
        }
        None => missing(format!(
            "{of}, which is not in the Hugging Face cache {}{}",
            Shown(cache),
            if revision == "main" { String::new() } else { format!(" as {}", Quoted(revision)) }
        )),
    }
}

/// The folder that a person gave, by its path or by its name on the Hub.
fn given(base: &Path, cache: Option<&Path>) -> Option<PathBuf> {
    let folder = match base.file_name() {
        Some(name) if name == "config.json" => base.parent()?.to_path_buf(),
        _ => base.to_path_buf(),
    };
    let folder = if folder.as_os_str().is_empty() { PathBuf::from(".") } else { folder };
    if folder.join("config.json").is_file() {
        return Some(folder);
    }
    if folder.join("snapshots").is_dir() {
        return snapshot(&folder, "main");
    }
    let name = base.to_str().filter(|name| !folder.exists() && is_id(name))?;
    cached(cache?, name, "main")
}

/// Whether a name is one that a model has on the Hub: one or two words, none of which leads to
/// another folder.
fn is_id(name: &str) -> bool {
    let mut words = name.split('/');
    let two = words.by_ref().take(2).all(is_word);
    two && words.next().is_none() && name.len() <= LONGEST && !name.contains("--")
}

fn is_word(word: &str) -> bool {
    word.starts_with(|c: char| c.is_ascii_alphanumeric())
        && word.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b))
        && !word.contains("..")
}

/// The folder of a model's files in a cache, if its config.json is there.
fn cached(cache: &Path, name: &str, revision: &str) -> Option<PathBuf> {
    let repository = cache.join(format!("models--{}", name.replace('/', "--")));
    snapshot(&repository, revision)
}

fn snapshot(repository: &Path, revision: &str) -> Option<PathBuf> {
    is_word(revision).then_some(())?;
    let of_ref = || {
        let file = SourceFile::open(&repository.join("refs").join(revision)).ok()?;
        let text = String::from_utf8(file.read_all(LONGEST_REF).ok()?).ok()?;
        Some(text.trim().to_owned())
    };
    let commit = of_ref().unwrap_or_else(|| revision.to_owned());
    is_word(&commit).then_some(())?;
    let folder = repository.join("snapshots").join(commit);
    folder.join("config.json").is_file().then_some(folder)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_the_hub_lead_to_no_other_folder() {
        for name in ["gpt2", "meta-llama/Llama-3.2-1B", "a/b_c.d"] {
            assert!(is_id(name), "{name}");
        }
        for name in [
            "",
            "/",
            "/home/me/model",
            "./model",
            "../model",
            "a/../b",
            "a/..",
            "a/b/c",
            "a//b",
            "a\\b",
            "~/model",
            "C:/model",
            "a/.b",
            ".a/b",
            "a--b/c",
            "a/b ",
            "a/b\n",
            "hf://a",
        ] {
            assert!(!is_id(name), "{name:?}");
        }
    }
}
