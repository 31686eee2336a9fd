//! Where the Hugging Face cache is on this machine.

use std::{env, path::PathBuf};

/// The folder with `models--ORG--NAME` in it, by the variables that huggingface_hub reads.
pub(crate) fn folder() -> Option<PathBuf> {
    let given = |name| env::var_os(name).filter(|path| !path.is_empty()).map(PathBuf::from);
    let home = || {
        let cache = given("XDG_CACHE_HOME").or_else(|| Some(env::home_dir()?.join(".cache")));
        given("HF_HOME").or_else(|| Some(cache?.join("huggingface")))
    };
    given("HF_HUB_CACHE")
        .or_else(|| given("HUGGINGFACE_HUB_CACHE"))
        .or_else(|| Some(home()?.join("hub")))
}
