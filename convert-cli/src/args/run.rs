//! Commands that run a model: `imatrix`, `perplexity`, `kl`, `generate`, `bench`.

use std::path::PathBuf;

use clap::Args;

use super::values;

/// The threads of a command that runs a model.
#[derive(Debug, Args)]
pub(crate) struct Threads {
    /// Number of worker threads [default: one per core]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1024))]
    pub(crate) threads: Option<u16>,
}

/// The windows that a text is cut into.
#[derive(Debug, Args)]
pub(crate) struct WindowArgs {
    /// Tokens of a window [default: 512]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(4..))]
    pub(crate) ctx: Option<u32>,
    /// Run at most N windows [default: all]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) chunks: Option<u32>,
}

impl WindowArgs {
    /// Tokens of a window.
    pub(crate) fn size(&self) -> u32 {
        self.ctx.unwrap_or(512)
    }
}

/// How a model meets the windows.
#[derive(Debug, Args)]
pub(crate) struct LayerArgs {
    /// Read the layers of the model one at a time and take all windows through each, as is done anyway
    /// with a model that is larger than the free memory; the results are the same
    #[arg(long)]
    pub(crate) layer_by_layer: bool,
}

#[derive(Debug, Args)]
pub(crate) struct ImatrixArgs {
    /// A GGUF file (the first shard, if it is split) or the folder of a checkpoint
    #[arg(required_unless_present = "merge")]
    pub(crate) model: Option<PathBuf>,
    /// The text: UTF-8, or token ids as a list in JSON
    #[arg(short, long, value_name = "TEXT", required_unless_present = "merge")]
    pub(crate) file: Option<PathBuf>,
    /// Path of the importance matrix
    #[arg(short, long, value_name = "FILE", value_parser = values::output())]
    pub(crate) output: PathBuf,
    #[command(flatten)]
    pub(crate) windows: WindowArgs,
    #[command(flatten)]
    pub(crate) layers: LayerArgs,
    /// Skip the first windows, to make a part of a matrix that --merge adds to others
    #[arg(long, value_name = "CHUNK", default_value_t = 0)]
    pub(crate) from: u32,
    /// Also measure the output tensor
    #[arg(long)]
    pub(crate) process_output: bool,
    /// Add up matrices of the same model instead of measuring one
    #[arg(long, value_name = "FILE", num_args = 1.., conflicts_with_all = ["model", "file", "ctx", "chunks", "from", "process_output", "layer_by_layer", "threads"])]
    pub(crate) merge: Vec<PathBuf>,
    /// Replace an existing output
    #[arg(long)]
    pub(crate) force: bool,
    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
    #[command(flatten)]
    pub(crate) threads: Threads,
}

#[derive(Debug, Args)]
pub(crate) struct PerplexityArgs {
    /// A GGUF file (the first shard, if it is split) or the folder of a checkpoint
    pub(crate) model: PathBuf,
    /// The text: UTF-8, or token ids as a list in JSON
    #[arg(short, long, value_name = "TEXT")]
    pub(crate) file: PathBuf,
    #[command(flatten)]
    pub(crate) windows: WindowArgs,
    #[command(flatten)]
    pub(crate) layers: LayerArgs,
    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
    #[command(flatten)]
    pub(crate) threads: Threads,
}

#[derive(Debug, Args)]
pub(crate) struct KlArgs {
    /// The model to compare with, or its predictions as --save-base or llama-perplexity wrote them
    pub(crate) reference: PathBuf,
    /// The models to compare
    #[arg(required = true)]
    pub(crate) candidates: Vec<PathBuf>,
    /// The text: UTF-8, or token ids as a list in JSON. A file of predictions holds its own
    #[arg(short, long, value_name = "TEXT")]
    pub(crate) file: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) windows: WindowArgs,
    #[command(flatten)]
    pub(crate) layers: LayerArgs,
    /// Write the reference's predictions to a file that llama-perplexity reads too
    #[arg(long, value_name = "FILE", value_parser = values::output())]
    pub(crate) save_base: Option<PathBuf>,
    /// Also write the figures as an HTML page
    #[arg(long, value_name = "FILE", value_parser = values::output())]
    pub(crate) html: Option<PathBuf>,
    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
    #[command(flatten)]
    pub(crate) threads: Threads,
}

#[derive(Debug, Args)]
pub(crate) struct GenerateArgs {
    /// GGUF files or folders of checkpoints, which answer one after the other
    #[arg(required = true)]
    pub(crate) models: Vec<PathBuf>,
    /// The text to continue; with --chat, the user's message
    #[arg(short, long, value_name = "PROMPT")]
    pub(crate) prompt: String,
    /// Tokens to generate at most
    #[arg(short, long, value_name = "N", default_value_t = 128)]
    pub(crate) n: u32,
    /// Temperature; 0 always takes the likeliest token
    #[arg(long, value_name = "T", default_value_t = 0.8, value_parser = temperature)]
    pub(crate) temp: f32,
    /// Consider the K likeliest tokens only; 0 for all
    #[arg(long, value_name = "K", default_value_t = 40)]
    pub(crate) top_k: u32,
    /// Consider only the likeliest tokens that together have this probability
    #[arg(long, value_name = "P", default_value_t = 0.95, value_parser = part)]
    pub(crate) top_p: f32,
    /// Seed of the random choices: the same seed gives the same text
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub(crate) seed: u64,
    /// Put the prompt into the model's own chat template
    #[arg(long)]
    pub(crate) chat: bool,
    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
    #[command(flatten)]
    pub(crate) threads: Threads,
}

#[derive(Debug, Args)]
pub(crate) struct BenchArgs {
    /// GGUF files or folders of checkpoints, which run in turns
    #[arg(required = true)]
    pub(crate) models: Vec<PathBuf>,
    /// Tokens of the prompt, which are read at once; 0 skips this test
    #[arg(short = 'p', long, value_name = "N", default_value_t = 512)]
    pub(crate) n_prompt: u32,
    /// Tokens to generate one by one; 0 skips this test
    #[arg(short = 'n', long, value_name = "N", default_value_t = 128)]
    pub(crate) n_gen: u32,
    /// How often each test is run
    #[arg(short, long, value_name = "N", default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub(crate) repetitions: u32,
    /// Tokens already in the cache when a test starts
    #[arg(short, long, value_name = "N", default_value_t = 0)]
    pub(crate) depth: u32,
    /// Also write the figures as an HTML page
    #[arg(long, value_name = "FILE", value_parser = values::output())]
    pub(crate) html: Option<PathBuf>,
    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
    #[command(flatten)]
    pub(crate) threads: Threads,
}

fn temperature(text: &str) -> Result<f32, &'static str> {
    let number = text.parse().ok().filter(|t: &f32| t.is_finite() && *t >= 0.0);
    number.ok_or("expected a number from 0")
}

fn part(text: &str) -> Result<f32, &'static str> {
    let number = text.parse().ok().filter(|part| (0.0..=1.0).contains(part));
    number.ok_or("expected a number from 0 to 1")
}
