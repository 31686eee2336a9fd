//! Commands for GGUF files that exist: `edit`, `split`, `merge`, `hash`.

use std::path::PathBuf;

use clap::{ArgGroup, Args};
use gguf_io::OutputOptions;

use super::values::{self, Setting};

/// How files are written.
#[derive(Debug, Args)]
pub(crate) struct Writing {
    /// Replace what is there under the name of the output
    #[arg(long)]
    pub(crate) force: bool,
    /// Do not wait until the output is on the device
    #[arg(long)]
    pub(crate) no_sync: bool,
}

impl Writing {
    pub(crate) fn options(&self) -> OutputOptions {
        OutputOptions { overwrite: self.force, sync: !self.no_sync }
    }
}

#[derive(Debug, Args)]
#[command(group = ArgGroup::new("target").required(true))]
#[command(group = ArgGroup::new("change").required(true).multiple(true))]
pub(crate) struct EditArgs {
    /// A GGUF file of any kind
    #[arg(value_name = "FILE")]
    pub(crate) input: PathBuf,
    #[arg(
        long,
        value_name = "KEY=TYPE:VALUE",
        value_parser = values::set,
        group = "change",
        // Not a comment: brackets would be a link there.
        help = "Give a key a value: TYPE is u8, i8, u16, i16, u32, i32, u64, i64, f32, f64, bool or str, \
                or [TYPE] for a list in JSON; @PATH takes the value from a file. After --rename and --remove"
    )]
    pub(crate) set: Vec<Setting>,
    /// Remove a key
    #[arg(long, value_name = "KEY", group = "change")]
    pub(crate) remove: Vec<String>,
    /// Give a key another name
    #[arg(long, value_name = "KEY=NEW", value_parser = values::rename, group = "change")]
    pub(crate) rename: Vec<(String, String)>,
    /// Take the chat template from a file
    #[arg(long, value_name = "PATH", group = "change")]
    pub(crate) chat_template: Option<PathBuf>,
    /// Path of the new file
    #[arg(short, long, value_name = "PATH", group = "target", value_parser = values::output())]
    pub(crate) output: Option<PathBuf>,
    /// Change the file itself: its header alone where the new one fits, else all of it
    #[arg(long, group = "target", conflicts_with = "force")]
    pub(crate) in_place: bool,
    #[command(flatten)]
    pub(crate) writing: Writing,
    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
#[command(group = ArgGroup::new("by").required(true))]
pub(crate) struct SplitArgs {
    /// A GGUF file of any kind
    #[arg(value_name = "FILE")]
    pub(crate) input: PathBuf,
    /// Path that the shards are named after: NAME.gguf makes NAME-00001-of-00003.gguf and so on
    #[arg(short, long, value_name = "PATH", value_parser = values::output())]
    pub(crate) output: PathBuf,
    /// A new shard where the tensors of one would take more than SIZE, such as 500M or 2G
    #[arg(long, value_name = "SIZE", value_parser = values::split_size, group = "by")]
    pub(crate) max_size: Option<u64>,
    /// A new shard after N tensors
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..), group = "by")]
    pub(crate) max_tensors: Option<u64>,
    /// N shards of about the same size
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..), group = "by")]
    pub(crate) shards: Option<u64>,
    #[command(flatten)]
    pub(crate) writing: Writing,
    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct MergeArgs {
    /// The first shard of a split GGUF file
    #[arg(value_name = "FIRST-SHARD")]
    pub(crate) input: PathBuf,
    /// Path of the file
    #[arg(short, long, value_name = "PATH", value_parser = values::output())]
    pub(crate) output: PathBuf,
    #[command(flatten)]
    pub(crate) writing: Writing,
    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct HashArgs {
    /// A file; of a GGUF file (the first shard, if it is split) the tensor data too
    #[arg(value_name = "FILE")]
    pub(crate) input: PathBuf,
    /// Also of each tensor of a GGUF file
    #[arg(long)]
    pub(crate) tensors: bool,
    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
}
