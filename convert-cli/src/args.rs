//! The command line: every option documents itself.

use std::path::PathBuf;

use clap::{Args, CommandFactory, Parser, Subcommand, error::ErrorKind};
use clap_complete::Shell;
use gguf_io::{Limits, metadata::Value};
use quant_convert::{
    Options, Split,
    grouped::{self, Backup, Preset, Sensitivity, preset},
    recipe::{self, FileType, Request, TensorOverride},
};
use quant_core::{
    GgmlType,
    grouped::{Fallback, GroupSize, GroupedType},
};

/// Turns a Hugging Face checkpoint into a quantized GGUF file, byte for byte what llama.cpp makes.
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
    /// Show what is in a GGUF file or a checkpoint, without reading its weights
    Inspect(InspectArgs),
    /// List the named sets of options for --preset
    Presets {
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Check a model file to its last value: structure, metadata, scales
    Verify(VerifyArgs),
    /// Measure how far the tensors of one model are from those of another
    Compare(CompareArgs),
    /// Print a completion script for a shell
    Completions {
        /// The shell
        shell: Shell,
    },
    /// Print the manual page
    Man,
}

#[derive(Debug, Args)]
pub(crate) struct InspectArgs {
    /// A GGUF file (the first shard, if it is split) or the folder of a checkpoint
    pub(crate) input: PathBuf,
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
    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
    /// Worker threads; as many as there are cores if not given
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1024))]
    pub(crate) threads: Option<u16>,
}

#[derive(Debug, Args)]
pub(crate) struct CompareArgs {
    /// The folder of a checkpoint or a GGUF file
    pub(crate) reference: PathBuf,
    /// The model made from it
    pub(crate) candidate: PathBuf,
    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
    /// Write a page for a browser as well
    #[arg(long, value_name = "FILE")]
    pub(crate) html: Option<PathBuf>,
    /// Worker threads; as many as there are cores if not given
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1024))]
    pub(crate) threads: Option<u16>,
}

#[derive(Debug, Args)]
pub(crate) struct ConvertArgs {
    /// The folder of a Hugging Face checkpoint, or a GGUF file (the first shard, if it is split)
    pub(crate) input: PathBuf,

    /// The GGUF file to write; for grouped integers a folder, unless the name ends in .gguf
    #[arg(short, long, required_unless_present = "dry_run")]
    pub(crate) output: Option<PathBuf>,

    /// What to make: f32 f16 bf16 q4_0 … q8_0, q2_k … q6_k with _s, _m, _l, or auto to keep the
    /// precision there is; grouped integers: int4_sym int4_asym int8_sym int8_asym [default: q4_k_m]
    #[arg(short = 't', long = "type", value_parser = file_type, hide_possible_values = true)]
    pub(crate) file_type: Option<TypeArg>,

    /// Importance matrix, GGUF or legacy .dat
    #[arg(long, value_name = "FILE")]
    pub(crate) imatrix: Option<PathBuf>,

    /// Use the importance matrix only for tensors whose name contains NAME (repeatable)
    #[arg(long, value_name = "NAME", requires = "imatrix")]
    pub(crate) include_weights: Vec<String>,

    /// Do not use the importance matrix for tensors whose name contains NAME (repeatable)
    #[arg(long, value_name = "NAME", requires = "imatrix")]
    pub(crate) exclude_weights: Vec<String>,

    /// Add X to every importance of the matrix, so that none is zero
    #[arg(long, value_name = "X", requires = "imatrix", value_parser = prior, allow_negative_numbers = true)]
    pub(crate) imatrix_prior: Option<f32>,

    /// One type for every quantized tensor, no mixture
    #[arg(long)]
    pub(crate) pure: bool,

    /// Do not quantize output.weight
    #[arg(long)]
    pub(crate) leave_output_tensor: bool,

    /// Type of output.weight, and of a tied embedding
    #[arg(long, value_name = "T", value_parser = output_tensor_type)]
    pub(crate) output_tensor_type: Option<GgmlType>,

    /// Type of token_embd.weight
    #[arg(long, value_name = "T", value_parser = token_embedding_type)]
    pub(crate) token_embedding_type: Option<GgmlType>,

    /// Type of the tensors whose name matches a regular expression (repeatable, first match counts)
    #[arg(long, value_name = "REGEX=T", value_parser = tensor_type)]
    pub(crate) tensor_type: Vec<TensorOverride>,

    /// File with one REGEX=T a line, tried after those of --tensor-type
    #[arg(long, value_name = "FILE")]
    pub(crate) tensor_type_file: Option<PathBuf>,

    /// Leave out these layers and number the others anew
    #[arg(long, value_name = "L0,L1,…")]
    pub(crate) prune_layers: Option<String>,

    /// JSON file with keys such as general.name, general.license, general.tags or
    /// general.base_models, which replace what the model card says
    #[arg(long, value_name = "FILE")]
    pub(crate) metadata: Option<PathBuf>,

    /// Set a metadata key; TYPE is int, float, bool or str (repeatable)
    #[arg(long, value_name = "KEY=TYPE:VALUE", value_parser = override_kv)]
    pub(crate) override_kv: Vec<(String, Value)>,

    /// Write the files NAME-00001-of-0000N.gguf, each with tensors of at most SIZE: a number of
    /// bytes, or with K, M, G or T (thousands, as llama-gguf-split counts)
    #[arg(long, value_name = "SIZE", value_parser = split_size, group = "split")]
    pub(crate) split_max_size: Option<u64>,

    /// Write several files, each with at most N tensors
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..), group = "split")]
    pub(crate) split_max_tensors: Option<u64>,

    /// Write a file for each file of the input
    #[arg(long, group = "split")]
    pub(crate) keep_split: bool,

    /// Quantize again what is quantized already, though that adds errors
    #[arg(long)]
    pub(crate) allow_requantize: bool,

    /// llama.cpp's name for the BPE pre-tokenizer, instead of detecting it
    #[arg(long, value_name = "NAME")]
    pub(crate) pre_tokenizer: Option<String>,

    /// Write what llama.cpp's converter writes, its faults included, where the two differ: metadata
    /// and which of several sets of weights counts
    #[arg(long)]
    pub(crate) like_reference: bool,

    /// Print the plan only; write nothing
    #[arg(long)]
    pub(crate) dry_run: bool,

    /// Print the result as JSON on standard output
    #[arg(long)]
    pub(crate) json: bool,

    /// Fail instead of falling back to another type where rows do not fit the blocks
    #[arg(long)]
    pub(crate) strict: bool,

    /// Replace an existing output
    #[arg(long)]
    pub(crate) force: bool,

    /// Worker threads; as many as there are cores if not given
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1024))]
    pub(crate) threads: Option<u16>,

    /// Print nothing but errors
    #[arg(short, long)]
    pub(crate) quiet: bool,

    /// Do not wait until the output is on the disk before it gets its name
    #[arg(long)]
    pub(crate) no_sync: bool,

    // Last: its heading would be that of what follows.
    #[command(flatten)]
    pub(crate) grouped: GroupedArgs,
}

/// Options of grouped integers.
#[derive(Debug, Args)]
#[command(next_help_heading = "Grouped integers")]
pub(crate) struct GroupedArgs {
    /// A named set of options for grouped integers (`quantwright presets` lists them); options
    /// given besides win
    #[arg(long, value_name = "NAME", value_parser = preset_name)]
    pub(crate) preset: Option<&'static Preset>,

    /// Weights that share a scale, -1 for a whole row [default: 128 for INT4, -1 for INT8]
    #[arg(long, value_name = "N", value_parser = group_size, allow_negative_numbers = true)]
    pub(crate) group_size: Option<GroupSize>,

    /// Share of the weights that get the type, from 0 to 1; the others get the backup type
    /// [default: 1]
    #[arg(long, value_name = "R", value_parser = ratio)]
    pub(crate) ratio: Option<f64>,

    /// Type of the layers that --ratio leaves over: int8_asym, int8_sym or none [default:
    /// int8_asym, in a GGUF file int8_sym]
    #[arg(long, value_name = "TYPE", value_parser = |text: &str| named(text, &Backup::NAMES))]
    pub(crate) backup: Option<Backup>,

    /// Quantize embedding and output as well
    #[arg(long)]
    pub(crate) all_layers: bool,

    /// Where groups do not divide a row: error, ignore (keep the layer) or adjust (the largest
    /// power of two that does) [default: error]
    #[arg(long, value_name = "POLICY", value_parser = |text: &str| named(text, &FALLBACKS))]
    pub(crate) group_size_fallback: Option<Fallback>,

    /// Choose each layer by itself, as NNCF does; without it q/k/v, gate/up and the experts of a
    /// layer share one type, which engines that fuse them need
    #[arg(long)]
    pub(crate) per_layer: bool,

    /// What --ratio goes by: weights, or with --imatrix hessian (then the default) or activations
    #[arg(long, value_name = "METRIC", value_parser = |text: &str| named(text, &Sensitivity::NAMES))]
    pub(crate) sensitivity: Option<Sensitivity>,

    /// Search for the scales with the least error, weighted by the importance matrix if there is one
    #[arg(long)]
    pub(crate) refine_scales: bool,
}

const FALLBACKS: [(&str, Fallback); 3] =
    [("error", Fallback::Error), ("ignore", Fallback::Ignore), ("adjust", Fallback::Adjust)];

impl GroupedArgs {
    /// The name of the first option given that means nothing for other types.
    fn first_given(&self) -> Option<&'static str> {
        let given = [
            (self.group_size.is_some(), "--group-size"),
            (self.ratio.is_some(), "--ratio"),
            (self.backup.is_some(), "--backup"),
            (self.all_layers, "--all-layers"),
            (self.group_size_fallback.is_some(), "--group-size-fallback"),
            (self.per_layer, "--per-layer"),
            (self.sensitivity.is_some(), "--sensitivity"),
            (self.refine_scales, "--refine-scales"),
        ];
        given.into_iter().find(|(given, _)| *given).map(|(_, name)| name)
    }

    fn options(&self, ty: Option<GroupedType>) -> grouped::Options {
        let base = match (self.preset, ty) {
            (Some(preset), None) => preset.options(),
            (Some(preset), Some(ty)) => grouped::Options { ty, ..preset.options() },
            (None, ty) => grouped::Options::new(ty.unwrap_or(GroupedType::Int4Sym)),
        };
        grouped::Options {
            ty: base.ty,
            group_size: self.group_size.or(base.group_size),
            ratio: self.ratio.unwrap_or(base.ratio),
            backup: self.backup,
            all_layers: self.all_layers,
            fallback: self.group_size_fallback.unwrap_or_default(),
            per_layer: self.per_layer,
            sensitivity: self.sensitivity,
            refine: self.refine_scales,
        }
    }
}

fn preset_name(text: &str) -> Result<&'static Preset, String> {
    preset(text).ok_or_else(|| {
        let names: Vec<_> = grouped::PRESETS.iter().map(|preset| preset.name).collect();
        format!("expected one of {}", names.join(", "))
    })
}

fn group_size(text: &str) -> Result<GroupSize, &'static str> {
    let number = text.parse().ok().and_then(GroupSize::from_number);
    number.ok_or("expected a positive number, or -1 for whole rows")
}

fn ratio(text: &str) -> Result<f64, &'static str> {
    let number = text.parse().ok().filter(|ratio| (0.0..=1.0).contains(ratio));
    number.ok_or("expected a number from 0 to 1")
}

fn prior(text: &str) -> Result<f32, &'static str> {
    let number = text.parse().ok().filter(|prior: &f32| prior.is_finite() && *prior >= 0.0);
    number.ok_or("expected a finite number that is not negative")
}

fn named<T: Copy>(text: &str, names: &[(&'static str, T)]) -> Result<T, String> {
    let found = names.iter().find(|(name, _)| name.eq_ignore_ascii_case(text));
    found.map(|(_, value)| *value).ok_or_else(|| {
        let names: Vec<_> = names.iter().map(|(name, _)| *name).collect();
        format!("expected one of {}", names.join(", "))
    })
}

/// What `--type` names.
#[derive(Clone, Copy, Debug)]
pub(crate) enum TypeArg {
    /// A recipe; `None` is `auto`.
    Recipe(Option<FileType>),
    /// Grouped integers.
    Grouped(GroupedType),
}

fn file_type(text: &str) -> Result<TypeArg, String> {
    match GroupedType::from_name(text) {
        Some(ty) => Ok(TypeArg::Grouped(ty)),
        None => FileType::parse_or_auto(text).map(TypeArg::Recipe).map_err(|error| {
            let names = GroupedType::ALL.iter().map(|ty| ty.name()).collect::<Vec<_>>().join(", ");
            format!("{error}, or grouped integers: {names}")
        }),
    }
}

fn output_tensor_type(text: &str) -> Result<GgmlType, recipe::Error> {
    recipe::parse_type_name(text, "--output-tensor-type")
}

fn token_embedding_type(text: &str) -> Result<GgmlType, recipe::Error> {
    recipe::parse_type_name(text, "--token-embedding-type")
}

fn tensor_type(text: &str) -> Result<TensorOverride, recipe::Error> {
    recipe::parse_tensor_type(text)
}

/// A size such as `2G`, in bytes.
fn split_size(text: &str) -> Result<u64, String> {
    let expected = || "expected a size such as 500M or 2G, or a number of bytes".to_owned();
    let (number, unit) = match text.char_indices().next_back().ok_or_else(expected)? {
        (end, c) if c.is_ascii_alphabetic() => (text.get(..end), c.to_ascii_uppercase()),
        _ => (Some(text), ' '),
    };
    let power = " KMGT".find(unit).ok_or_else(expected)?;
    let number: u64 = number.unwrap_or_default().parse().map_err(|_| expected())?;
    let factor = u32::try_from(power).ok().and_then(|power| 1000u64.checked_pow(power));
    match factor.and_then(|factor| number.checked_mul(factor)) {
        Some(0) => Err("expected a size above zero".into()),
        Some(bytes) => Ok(bytes),
        None => Err("expected a size below 2^64 bytes".into()),
    }
}

/// `KEY=TYPE:VALUE`; an `int` is stored as UINT32, as llama-quantize does.
fn override_kv(text: &str) -> Result<(String, Value), String> {
    let shape = "expected KEY=TYPE:VALUE, with TYPE one of int, float, bool, str";
    let (key, rest) = text.split_once('=').ok_or(shape)?;
    let (ty, value) = rest.split_once(':').ok_or(shape)?;
    if key.is_empty() {
        return Err(shape.into());
    }
    let bad = |expected: &str| format!("{value:?} is not {expected}");
    let value = match ty {
        "int" => Value::from(value.parse::<u32>().map_err(|_| bad("an integer of 32 bits"))?),
        "float" => {
            let number = value.parse::<f32>().ok().filter(|v| v.is_finite());
            Value::from(number.ok_or_else(|| bad("a finite number"))?)
        }
        "bool" => Value::from(value.parse::<bool>().map_err(|_| bad("true or false"))?),
        "str" => Value::from(value),
        _ => return Err(shape.into()),
    };
    Ok((key.into(), value))
}

impl ConvertArgs {
    /// Whether a folder is written instead of a GGUF file.
    pub(crate) fn writes_folder(&self, options: &Options) -> bool {
        options.grouped.is_some() && !self.names_gguf()
    }

    /// Whether the name of the output is that of a GGUF file.
    fn names_gguf(&self) -> bool {
        let extension = self.output.as_ref().and_then(|path| path.extension());
        extension.is_some_and(|e| e.eq_ignore_ascii_case("gguf"))
    }

    /// Ends the program, as for other wrong usage, if options do not go together.
    fn check(&self, grouped: bool) {
        let recipes = [
            (self.pure, "--pure"),
            (self.leave_output_tensor, "--leave-output-tensor"),
            (self.output_tensor_type.is_some(), "--output-tensor-type"),
            (self.token_embedding_type.is_some(), "--token-embedding-type"),
            (!self.tensor_type.is_empty(), "--tensor-type"),
            (self.tensor_type_file.is_some(), "--tensor-type-file"),
        ];
        let of_gguf = [
            (self.prune_layers.is_some(), "--prune-layers"),
            (self.metadata.is_some(), "--metadata"),
            (!self.override_kv.is_empty(), "--override-kv"),
            (self.pre_tokenizer.is_some(), "--pre-tokenizer"),
        ];
        let falls_back = self.grouped.group_size_fallback.is_some_and(|f| f != Fallback::Error);
        let message = if grouped {
            let given = recipes.iter().find(|(given, _)| *given);
            let folder = of_gguf.iter().find(|(given, _)| *given && !self.names_gguf());
            given
                .map(|(_, name)| format!("{name} is for recipes, not for grouped integers"))
                .or(folder.map(|(_, name)| {
                    format!("{name} is for GGUF files, not for a folder: its files are copied")
                }))
                .or((self.strict && falls_back)
                    .then(|| "--strict refuses what --group-size-fallback allows".into()))
        } else {
            let name = self.grouped.preset.map(|_| "--preset").or(self.grouped.first_given());
            name.map(|name| format!("{name} is for grouped integers, give --type int4_sym, int4_asym, int8_sym or int8_asym"))
        };
        if let Some(message) = message {
            Cli::command().error(ErrorKind::ArgumentConflict, message).exit();
        }
    }

    /// What the library is asked to do.
    pub(crate) fn options(&self) -> anyhow::Result<Options> {
        let mut overrides = self.tensor_type.clone();
        if let Some(path) = &self.tensor_type_file {
            overrides.extend(recipe::read_tensor_type_file(path)?);
        }
        let (file_type, grouped) = match (self.file_type, self.grouped.preset) {
            (Some(TypeArg::Grouped(ty)), _) => (None, Some(self.grouped.options(Some(ty)))),
            (None, Some(_)) => (None, Some(self.grouped.options(None))),
            (None, None) => (Some(FileType::Q4_K_M), None),
            (Some(TypeArg::Recipe(recipe)), _) => (recipe, None),
        };
        self.check(grouped.is_some());
        Ok(Options {
            request: Request {
                file_type,
                pure: self.pure,
                leave_output_tensor: self.leave_output_tensor,
                output_tensor_type: self.output_tensor_type,
                token_embedding_type: self.token_embedding_type,
                overrides,
                has_imatrix: self.imatrix.is_some(),
                strict: self.strict,
            },
            imatrix: self.imatrix.clone(),
            include_weights: self.include_weights.clone(),
            exclude_weights: self.exclude_weights.clone(),
            imatrix_prior: self.imatrix_prior.unwrap_or_default(),
            allow_requantize: self.allow_requantize,
            prune_layers: self.prune_layers.clone(),
            metadata: self.metadata.clone(),
            override_kv: self.override_kv.clone(),
            pre_tokenizer: self.pre_tokenizer.clone(),
            like_reference: self.like_reference,
            grouped,
            split: match (self.split_max_size, self.split_max_tensors, self.keep_split) {
                (Some(most), ..) => Some(Split::MaxBytes(most)),
                (_, Some(most), _) => Some(Split::MaxTensors(most)),
                (.., true) => Some(Split::Keep),
                (None, None, false) => None,
            },
            overwrite: self.force,
            no_sync: self.no_sync,
            threads: self.threads.map_or(0, usize::from),
            limits: Limits::default(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn grouped_options_are_checked() {
        assert!(ratio("0.8").is_ok() && ratio("1.1").is_err() && ratio("nan").is_err());
        assert!(group_size("-1").is_ok() && group_size("0").is_err() && group_size("x").is_err());
        assert!(named("Adjust", &FALLBACKS).is_ok() && named("guess", &FALLBACKS).is_err());
    }

    #[test]
    fn sizes_have_units_of_a_thousand() {
        for (text, bytes) in [
            ("1", 1),
            ("12k", 12_000),
            ("500M", 500_000_000),
            ("2G", 2_000_000_000),
            ("3T", 3_000_000_000_000),
        ] {
            assert_eq!(split_size(text), Ok(bytes), "{text}");
        }
        for bad in ["", "0", "0G", "G", "-1M", "1.5G", "2GB", "1P", "99999999999T", "2 G", "٣G"] {
            assert!(split_size(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn overrides_are_typed() {
        assert_eq!(override_kv("a.b=int:7").unwrap(), ("a.b".into(), Value::Uint32(7)));
        assert_eq!(override_kv("k=float:0.5").unwrap().1, Value::Float32(0.5));
        assert_eq!(override_kv("k=bool:true").unwrap().1, Value::Bool(true));
        assert_eq!(override_kv("k=str:a=b:c").unwrap().1, Value::from("a=b:c"));
        for bad in ["k", "k=int", "k=int:-1", "k=int:x", "k=float:nan", "k=list:1", "=int:1"] {
            assert!(override_kv(bad).is_err(), "{bad}");
        }
    }
}
