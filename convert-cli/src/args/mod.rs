//! The command line: every option documents itself.

mod convert;
mod mix;
mod run;
mod values;
mod workbench;

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};
use clap_complete::Shell;

pub(crate) use convert::ConvertArgs;
pub(crate) use run::{
    BenchArgs, GenerateArgs, ImatrixArgs, KlArgs, LayerArgs, PerplexityArgs, Threads, WindowArgs,
};
pub(crate) use values::{Setting, parse_file};
pub(crate) use workbench::{EditArgs, HashArgs, MergeArgs, SplitArgs};

/// Turns a Hugging Face checkpoint into a quantized GGUF file, with the bytes that llama.cpp makes.
#[derive(Debug, Parser)]
#[command(name = "quantwright", version, max_term_width = 100)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Convert a checkpoint or a GGUF file to a GGUF file
    Convert(Box<ConvertArgs>),
    /// Show the metadata and tensors of a GGUF file or a checkpoint
    Inspect(InspectArgs),
    /// List the named sets of options for --preset
    Presets {
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Check every value of a model file: structure, metadata, tensors, scales
    Verify(VerifyArgs),
    /// Measure how far the tensors of one model are from those of another
    Compare(CompareArgs),
    /// Change the metadata of a GGUF file; no tensor is touched
    Edit(EditArgs),
    /// Split a GGUF file into shards
    Split(SplitArgs),
    /// Merge the shards of a GGUF file
    Merge(MergeArgs),
    /// Print the SHA-256 of a file, of its tensor data, of each tensor
    Hash(HashArgs),
    /// Make the importance matrix of a model from a text
    Imatrix(ImatrixArgs),
    /// Measure how well a model predicts a text
    Perplexity(PerplexityArgs),
    /// Measure how far the predictions of models are from those of another
    Kl(KlArgs),
    /// Continue a text
    Generate(GenerateArgs),
    /// Measure tokens a second
    Bench(BenchArgs),
    /// Print a completion script for a shell
    Completions {
        /// The shell
        shell: Shell,
    },
    /// Print the manual page
    Man,
}

impl Command {
    /// Whether standard output is for a machine.
    pub(crate) fn json(&self) -> bool {
        match self {
            Self::Convert(args) => args.json,
            Self::Inspect(args) => args.json,
            Self::Presets { json } => *json,
            Self::Verify(args) => args.json,
            Self::Compare(args) => args.json,
            Self::Edit(args) => args.json,
            Self::Split(args) => args.json,
            Self::Merge(args) => args.json,
            Self::Hash(args) => args.json,
            Self::Imatrix(args) => args.json,
            Self::Perplexity(args) => args.json,
            Self::Kl(args) => args.json,
            Self::Generate(args) => args.json,
            Self::Bench(args) => args.json,
            Self::Completions { .. } | Self::Man => false,
        }
    }
}

#[derive(Debug, Args)]
pub(crate) struct InspectArgs {
    /// A GGUF file (the first shard, if it is split) or the folder of a checkpoint
    pub(crate) input: PathBuf,
    /// Also say what memory the model takes to run a text of N tokens
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) ctx: Option<u32>,
    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct VerifyArgs {
    /// A GGUF file (the first shard, if it is split), the folder of a checkpoint, a safetensors
    /// file, or an importance matrix
    #[arg(value_name = "FILE")]
    pub(crate) input: PathBuf,
    /// Also make every tensor of a GGUF file again from this checkpoint or GGUF file, and compare
    #[arg(long, value_name = "MODEL")]
    pub(crate) derived_from: Option<PathBuf>,
    /// The importance matrix that the file was made with
    #[arg(long, value_name = "FILE", requires = "derived_from")]
    pub(crate) imatrix: Option<PathBuf>,
    /// Write what was found as an in-toto statement, with the digests of all files
    #[arg(long, value_name = "FILE", requires = "derived_from", value_parser = values::output())]
    pub(crate) attest: Option<PathBuf>,
    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
    /// Number of worker threads [default: one per core]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1024))]
    pub(crate) threads: Option<u16>,
}

#[derive(Debug, Args)]
pub(crate) struct CompareArgs {
    /// The folder of a checkpoint or a GGUF file
    pub(crate) reference: PathBuf,
    /// The models made from it
    #[arg(required = true, value_name = "CANDIDATE")]
    pub(crate) candidates: Vec<PathBuf>,
    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
    /// Also write the figures as an HTML page
    #[arg(long, value_name = "FILE", value_parser = values::output())]
    pub(crate) html: Option<PathBuf>,
    /// Number of worker threads [default: one per core]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1024))]
    pub(crate) threads: Option<u16>,
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }
}
