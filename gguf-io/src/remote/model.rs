//! What an address leads to: the folder of a checkpoint, or a file.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
};

use tempfile::TempDir;

use super::{
    Address, Options, Url,
    address::{encode, is_file},
    client::Client,
    fault::Fault,
    file::RemoteFile,
    target::Target,
    window::Window,
};
use crate::{
    Budget, Error, Limits, Result, SourceFile,
    error::Problems,
    gguf::ShardName,
    message::listed,
    safetensors::{INDEX, SINGLE, is_shard, named_by_index},
};

/// A model on a server that has been found.
///
/// Dropping it removes the folder of its small files; weights that were opened stay readable.
#[derive(Debug)]
pub struct Model {
    address: String,
    path: PathBuf,
    files: Vec<SourceFile>,
    folder: Option<TempDir>,
}

/// The small files of a checkpoint, by name: those that are read or copied.
const SMALL: &[&str] = &[
    "1_Pooling/config.json",
    "README.md",
    "adapter_config.json",
    "added_tokens.json",
    "additional_chat_templates/rag.jinja",
    "additional_chat_templates/tool_use.jinja",
    "chat_template.jinja",
    "chat_template.json",
    "generation_config.json",
    "hf_quant_config.json",
    "merges.txt",
    "modules.json",
    "params.json",
    "preprocessor_config.json",
    "processor_config.json",
    "quant_config.json",
    "quantize_config.json",
    "qwen.tiktoken",
    "sentencepiece.bpe.model",
    "special_tokens_map.json",
    "spiece.model",
    "tekken.json",
    "tiktoken.model",
    "tokenizer.json",
    "tokenizer.model",
    "tokenizer.tiktoken",
    "tokenizer_config.json",
    "video_preprocessor_config.json",
    "vocab.json",
    "vocab.txt",
    INDEX,
];

/// The longest of them.
const LONGEST: u64 = 128 << 20;

const CONFIG: &str = "config.json";

/// A place that files are found in by their names.
#[derive(Clone, Debug)]
enum Place {
    /// A revision of a repository.
    Hub {
        repository: String,
        revision: String,
        endpoint: Url,
    },
    Web(Url),
}

impl Place {
    fn url(&self, name: &str) -> Url {
        match self {
            Self::Hub { repository, revision, endpoint } => {
                let (revision, name) = (encode(revision, b""), encode(name, b"/"));
                endpoint.below(&format!("{repository}/resolve/{revision}/{name}"))
            }
            Self::Web(folder) => folder.file(name),
        }
    }

    /// The address of a file, for people; without a name, that of the place.
    fn shown(&self, name: &str) -> String {
        let place = match self {
            Self::Hub { repository, revision, .. } if revision == "main" => {
                format!("hf://{repository}")
            }
            Self::Hub { repository, revision, .. } => format!("hf://{repository}@{revision}"),
            Self::Web(url) => url.to_string().trim_end_matches('/').to_owned(),
        };
        if name.is_empty() { place } else { format!("{place}/{name}") }
    }
}

/// Who opens the files of a model.
struct Opener<'a> {
    client: Arc<Client>,
    window: Arc<Window>,
    place: &'a Mutex<Place>,
    /// Files that may be there or not, which the server does not let us see.
    denied: Mutex<Vec<String>>,
}

impl Model {
    /// Finds the model of an address: the files of a checkpoint if it is a folder or one of its main
    /// files, else a file; all shards of a GGUF model by the address of the first. Small files are
    /// fetched into a folder in `scratch`, which is removed with the model.
    ///
    /// # Errors
    /// [`Error::Remote`] if the server has no such model, denies access or does not serve ranges;
    /// [`Error::Io`] if the small files cannot be written.
    pub fn open(address: &Address, options: Options, scratch: &Path) -> Result<Self> {
        let address = address.clone().or_page_of_hub(&options.endpoint);
        let endpoint = options.endpoint.clone();
        let (place, name) = match address {
            Address::Hub { repository, revision, file } => {
                (Place::Hub { repository, revision, endpoint }, file)
            }
            Address::Web(url) => {
                let (folder, name) = url.split();
                match is_file(&name) {
                    true => (Place::Web(folder), Some(name)),
                    false => (Place::Web(url), None),
                }
            }
        };
        let wrong = |place: &Place, fault: Fault| remote(&place.shown(""), &fault);
        let client = Client::new(options).map_err(|fault| wrong(&place, fault))?;
        let client = Arc::new(client);
        let window = Arc::new(Window::new(Arc::clone(&client)));
        let place = Mutex::new(place);
        let opener = Opener { client, window, place: &place, denied: Mutex::default() };
        match name {
            Some(name)
                if !(name == CONFIG || name == INDEX || name == SINGLE || is_shard(&name)) =>
            {
                opener.file(&name)
            }
            Some(name) => match opener.checkpoint(scratch, true)? {
                Some(model) => Ok(model),
                None => opener.file(&name),
            },
            None => opener.checkpoint(scratch, false)?.ok_or_else(|| {
                let place = opener.place().shown("");
                let name = if place.starts_with("hf://") { "/FILE.gguf" } else { "" };
                Error::Remote {
                    path: PathBuf::from(place).into(),
                    problem: format!("there is no {CONFIG}, so it is no checkpoint"),
                    help: match name {
                        "" => "for a GGUF file give its own address, which ends in .gguf",
                        _ => "for a GGUF file give its name too: hf://ORG/NAME/FILE.gguf",
                    },
                }
            }),
        }
    }

    /// What stands for the model where a path is asked for: a folder with the small files of a
    /// checkpoint, or the address of a file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The weights, or the file or shards.
    pub fn files(&self) -> &[SourceFile] {
        &self.files
    }

    /// Whether it is a checkpoint.
    pub fn is_checkpoint(&self) -> bool {
        self.folder.is_some()
    }

    /// The address, of the Hub with the commit that is read.
    pub fn address(&self) -> &str {
        &self.address
    }
}

fn remote(address: &str, fault: &Fault) -> Error {
    Error::Remote {
        path: PathBuf::from(address).into(),
        problem: fault.to_string(),
        help: fault.help(),
    }
}

impl Opener<'_> {
    fn place(&self) -> Place {
        self.place.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Pins the revision to the commit that the server has named, or compares it with that.
    fn pin(&self, commit: Option<String>) -> Result<(), Fault> {
        let is_commit = |text: &String| {
            (7..=64).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_hexdigit())
        };
        let mut place = self.place.lock().unwrap_or_else(PoisonError::into_inner);
        if let (Place::Hub { revision, .. }, Some(commit)) = (&mut *place, commit.filter(is_commit))
        {
            if is_commit(revision) && revision.len() == commit.len() && *revision != commit {
                return Err(Fault::Changed(format!("commit {commit} instead of {revision}")));
            }
            *revision = commit;
        }
        Ok(())
    }

    /// Whether a file is not there, for all we can know: stores of objects deny access to those that
    /// they do not have.
    fn is_absent(&self, name: &str, fault: &Fault) -> bool {
        let may_be_absent = name == SINGLE || SMALL.contains(&name);
        match fault {
            Fault::Absent => true,
            Fault::Denied(_) if may_be_absent && matches!(self.place(), Place::Web(_)) => {
                let mut denied = self.denied.lock().unwrap_or_else(PoisonError::into_inner);
                denied.push(name.to_owned());
                true
            }
            _ => false,
        }
    }

    /// Opens a file, if the server has it.
    fn open(&self, name: &str) -> Result<Option<SourceFile>> {
        let place = self.place();
        let opened = RemoteFile::open(&self.client, &self.window, Target::new(place.url(name)))
            .and_then(|(file, commit)| self.pin(commit).map(|()| file));
        match opened {
            Ok(file) => SourceFile::from_reader(place.shown(name), Box::new(file)).map(Some),
            Err(fault) if self.is_absent(name, &fault) => Ok(None),
            Err(fault) => Err(remote(&place.shown(name), &fault)),
        }
    }

    /// Fetches a small file, if the server has it.
    fn fetch(&self, name: &str) -> Result<Option<Vec<u8>>> {
        let place = self.place();
        let fetched = self
            .client
            .whole(&place.url(name), LONGEST)
            .and_then(|(bytes, commit)| self.pin(commit).map(|()| bytes));
        match fetched {
            Ok(bytes) => Ok(Some(bytes)),
            Err(fault) if self.is_absent(name, &fault) => Ok(None),
            Err(fault) => Err(remote(&place.shown(name), &fault)),
        }
    }

    /// Does something with many names, several at a time; the results are in their order.
    fn each<T: Send>(
        &self,
        names: &[String],
        work: impl Fn(&str) -> Result<T> + Sync,
    ) -> Result<Vec<T>> {
        let next = AtomicUsize::new(0);
        let done: Mutex<Vec<(usize, Result<T>)>> = Mutex::default();
        let failed = AtomicUsize::new(0);
        thread::scope(|scope| {
            for _ in 0..self.client.options().parallel.clamp(1, names.len().max(1)) {
                scope.spawn(|| {
                    while failed.load(Ordering::Relaxed) == 0 {
                        let index = next.fetch_add(1, Ordering::Relaxed);
                        let Some(name) = names.get(index) else { break };
                        let result = work(name);
                        failed.fetch_add(usize::from(result.is_err()), Ordering::Relaxed);
                        done.lock().unwrap_or_else(PoisonError::into_inner).push((index, result));
                    }
                });
            }
        });
        let mut done = done.into_inner().unwrap_or_else(PoisonError::into_inner);
        done.sort_by_key(|(index, _)| *index);
        done.into_iter().map(|(_, result)| result).collect()
    }

    /// A file, or all shards by the first.
    fn file(&self, name: &str) -> Result<Model> {
        let names = match ShardName::parse(Path::new(name)) {
            Some(shard) if shard.number() == 1 => {
                // More than a model has, which a name could ask for.
                const MOST: u64 = 4096;
                let count = shard.count().min(MOST);
                (1..=count).map(|n| shard.sibling(Path::new(name), n)).collect()
            }
            _ => vec![PathBuf::from(name)],
        };
        let mut names: Vec<String> =
            names.into_iter().map(|name| name.to_string_lossy().into_owned()).collect();
        // The first alone, as its answer names the commit.
        let first = names.remove(0);
        let absent = |name: &str| remote(&self.place().shown(name), &Fault::Absent);
        let mut files = vec![self.open(&first)?.ok_or_else(|| absent(&first))?];
        files.extend(self.each(&names, |name| self.open(name)?.ok_or_else(|| absent(name)))?);
        let address = self.place().shown(&first);
        Ok(Model { path: PathBuf::from(&address), address, files, folder: None })
    }

    /// The checkpoint in this place, if there is one; `by_file` says whether one of its files was
    /// given.
    fn checkpoint(&self, scratch: &Path, by_file: bool) -> Result<Option<Model>> {
        let Some(config) = self.fetch(CONFIG)? else { return Ok(None) };
        let io = |error| Error::Io {
            path: scratch.into(),
            action: "cannot create a folder for the small files of a model",
            error,
        };
        let folder =
            tempfile::Builder::new().prefix("quantwright-").tempdir_in(scratch).map_err(io)?;
        // The name of the folder may become that of the model.
        let name = match self.place() {
            Place::Hub { repository, .. } => {
                repository.rsplit('/').next().unwrap_or_default().to_owned()
            }
            Place::Web(url) => url.name(),
        };
        let plain =
            |name: &&str| !["", ".", ".."].contains(name) && !name.contains(['/', '\\', '\0', ':']);
        let path = folder.path().join(Some(name.as_str()).filter(plain).unwrap_or("model"));
        let save = |name: &str, bytes: &[u8]| {
            let file = path.join(name);
            let parent = file.parent().unwrap_or(&path);
            fs::create_dir_all(parent).and_then(|()| fs::write(&file, bytes)).map_err(|error| {
                Error::Io { path: file.clone().into(), action: "cannot write a small file", error }
            })
        };
        save(CONFIG, &config)?;
        let weights_only = self.client.options().weights_only;
        let wanted = SMALL.iter().filter(|name| !weights_only || **name == INDEX);
        let names: Vec<String> = wanted.map(|name| (*name).to_owned()).collect();
        let mut index = None;
        let contents = self.each(&names, |name| self.fetch(name))?;
        for (name, content) in names.iter().zip(contents) {
            let Some(content) = content else { continue };
            save(name, &content)?;
            if name == INDEX {
                index = Some(SourceFile::from_bytes(self.place().shown(INDEX), content));
            }
        }
        let mut weights = vec![SINGLE.to_owned()];
        if let Some(index) = index {
            // A damaged one is refused by whoever opens the checkpoint, who knows whether it counts.
            let named = named_by_index(index, &mut Budget::new(&Limits::default()));
            let named = named.unwrap_or_default().into_iter();
            weights.extend(named.filter(|name| name != SINGLE && plain(&name.as_str())));
        }
        let files: Vec<_> = self.each(&weights, |name| self.open(name))?;
        let files: Vec<_> = files.into_iter().flatten().collect();
        let address = self.place().shown("");
        if files.is_empty() {
            let mut problems = Problems::default();
            problems.add(|| format!("there is neither {SINGLE} nor {INDEX}"));
            problems.into_result(
                Path::new(&address),
                "weights are read from safetensors files, and found by the index where there are several",
            )?;
        }
        let mut denied = self.denied.lock().unwrap_or_else(PoisonError::into_inner).clone();
        denied.sort_unstable();
        if !denied.is_empty() {
            tracing::warn!(
                kind = "denied",
                "{address}: the server denies access to {}, which are taken to be absent",
                listed(denied.into_iter())
            );
        }
        if by_file {
            tracing::warn!(
                kind = "input",
                "one file of a checkpoint is given; the checkpoint {address} is read as a whole"
            );
        }
        Ok(Some(Model { address, path, files, folder: Some(folder) }))
    }
}
