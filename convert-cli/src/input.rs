//! The model that an argument names: a path, or an address that is read where it is.

use std::{
    path::{Path, PathBuf},
    sync::Mutex,
};

use gguf_io::SourceFile;

/// A model that has been found.
#[derive(Debug)]
pub(crate) struct Input {
    path: PathBuf,
    /// Files that are not on this machine.
    files: Vec<SourceFile>,
    /// Removes the folder of small files when it goes.
    #[cfg(feature = "remote")]
    _model: Option<gguf_io::remote::Model>,
}

impl Input {
    /// Takes a path as it is, and finds the model of an address.
    pub(crate) fn open(argument: &Path) -> anyhow::Result<Self> {
        Self::find(argument, false)
    }

    /// The same, for those who look at config.json and the weights alone.
    pub(crate) fn open_weights(argument: &Path) -> anyhow::Result<Self> {
        Self::find(argument, true)
    }

    #[cfg_attr(not(feature = "remote"), allow(unused_variables))]
    fn find(argument: &Path, weights_only: bool) -> anyhow::Result<Self> {
        #[cfg(feature = "remote")]
        if let Some(found) = remote::open(argument, weights_only) {
            return found;
        }
        Ok(Self {
            path: argument.to_owned(),
            files: Vec::new(),
            #[cfg(feature = "remote")]
            _model: None,
        })
    }

    /// The path, or what stands for it.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// The files of a model that is not on this machine: weights, a file, or shards.
    pub(crate) fn files(&self) -> &[SourceFile] {
        &self.files
    }
}

/// Folders that stand for addresses.
static FOLDERS: Mutex<Vec<(String, String)>> = Mutex::new(Vec::new());

/// A message that names addresses in place of the folders that stand for them.
pub(crate) fn told(message: String) -> String {
    let folders = FOLDERS.lock().unwrap_or_else(|e| e.into_inner());
    folders.iter().fold(message, |message, (folder, address)| message.replace(folder, address))
}

#[cfg(feature = "remote")]
mod remote {
    use std::{env, fs, path::Path};

    use anyhow::Context;
    use gguf_io::remote::{Address, Model, Options, Proxy, Url};

    use super::{FOLDERS, Input};
    use crate::{signals, text};

    /// The model of an address; `None` for a path.
    pub(super) fn open(argument: &Path, weights_only: bool) -> Option<anyhow::Result<Input>> {
        let text = argument.to_str()?;
        let Some(address) = Address::parse(text) else {
            // Paths may hold anything, but these seldom do.
            let scheme = text.split_once("://").map(|(scheme, _)| scheme)?;
            let is_other = !scheme.is_empty()
                && scheme.bytes().all(|c| c.is_ascii_alphanumeric())
                && !argument.exists();
            return is_other.then(|| {
                Err(anyhow::anyhow!(
                    "{}: {scheme}:// is not read; expected a path of this machine, hf://ORG/NAME, or an \
                     http(s) URL, which object stores give out as presigned URLs",
                    text::path(argument)
                ))
            });
        };
        let address = address.map_err(|problem| anyhow::anyhow!("{text}: {problem}"));
        Some(address.and_then(|address| find(&address, weights_only)))
    }

    fn find(address: &Address, weights_only: bool) -> anyhow::Result<Input> {
        signals::listen().context("cannot listen for signals")?;
        let mut options = options(address)?;
        options.weights_only = weights_only;
        let model = Model::open(address, options, &env::temp_dir());
        let model = model.map_err(quant_convert::Error::from)?;
        if model.is_checkpoint() {
            let pair = (text::path(model.path()), model.address().to_owned());
            FOLDERS.lock().unwrap_or_else(|e| e.into_inner()).push(pair);
        }
        let (path, files) = (model.path().to_owned(), model.files().to_vec());
        Ok(Input { path, files, _model: Some(model) })
    }

    /// What the environment says of servers.
    fn options(address: &Address) -> anyhow::Result<Options> {
        let value = |name: &str| env::var(name).ok().filter(|value| !value.trim().is_empty());
        let mut options = Options::default();
        if let Some(endpoint) = value("HF_ENDPOINT") {
            options.endpoint = Url::parse(endpoint.trim())
                .map_err(|problem| anyhow::anyhow!("HF_ENDPOINT: {problem}"))?;
        }
        options.token = value("HF_TOKEN").map(|token| token.trim().to_owned());
        let is_secure = match address {
            Address::Hub { .. } => options.endpoint.is_secure(),
            Address::Web(url) => url.is_secure(),
        };
        let names = match is_secure {
            true => ["HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"],
            false => ["HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"],
        };
        if let Some(address) = names.into_iter().find_map(value) {
            let except = value("NO_PROXY").or(value("no_proxy")).unwrap_or_default();
            let except = except.split(',').map(str::trim).filter(|host| !host.is_empty());
            // A name stands for the names below it too.
            let except = except.flat_map(|host| match host.starts_with(['.', '*']) {
                true => vec![host.to_owned()],
                false => vec![host.to_owned(), format!(".{host}")],
            });
            options.proxy = Some(Proxy { address, except: except.collect() });
        }
        if let Some(path) = value("SSL_CERT_FILE") {
            // Without it, or where it is not there, Mozilla's list counts.
            options.certificates = fs::read(path).ok();
        }
        options.cancel = Some(signals::flag());
        Ok(options)
    }
}
