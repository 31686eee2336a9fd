//! The arguments of `convert`.

use std::path::{Path, PathBuf};

use clap::{Args, CommandFactory, ValueEnum, builder::NonEmptyStringValueParser, error::ErrorKind};
use gguf_io::{Limits, metadata::Value};
use quant_convert::{
    Options, Search, Split,
    grouped::{self, Backup, Preset, Sensitivity},
    recipe::{self, FileType, Request},
};
use quant_core::{
    GgmlType,
    grouped::{Fallback, GroupSize, GroupedType},
};

use super::{
    Cli,
    mix::MixArgs,
    values::{
        FALLBACKS, Shard, TensorTypes, TypeArg, TypeName, file_type, group_size, hub_cache, named,
        output, output_tensor_type, override_kv, preset_name, prior, ratio, shard, split_size,
        tensor_types, token_embedding_type,
    },
};

#[derive(Debug, Args)]
pub(crate) struct ConvertArgs {
    /// The folder of a Hugging Face checkpoint or of a LoRA adapter of PEFT, or a GGUF file (the first
    /// shard, if it is split); also hf://ORG/NAME, with @REVISION or /FILE behind it, or the http(s) URL of a checkpoint or
    /// GGUF file, read where it is
    pub(crate) input: PathBuf,

    /// The GGUF file to write; for grouped integers a folder, unless the name ends in .gguf. {type} in
    /// it stands for the type, which several types need
    #[arg(short, long, required_unless_present = "dry_run", value_parser = output())]
    pub(crate) output: Option<PathBuf>,

    /// Output type: f32 f16 bf16 q4_0 q4_1 q5_0 q5_1 q8_0, q2_k … q6_k with _s, _m or _l, iq1_s iq1_m
    /// iq2_xxs iq2_xs iq2_s iq2_m iq3_xxs iq3_xs iq3_s iq3_m iq4_xs iq4_nl, tq1_0 tq2_0 q1_0 q2_0
    /// mxfp4_moe, or auto, which keeps the precision of the input; grouped integers: int4_sym
    /// int4_asym int8_sym int8_asym. A list with commas makes a file of each from one read of the
    /// input, which --output names by {type} [default: q4_k_m; f32
    /// for an adapter, auto for a projector]
    #[arg(short = 't', long = "type", value_name = "TYPE", value_parser = file_type)]
    #[arg(value_delimiter = ',', hide_possible_values = true)]
    pub(crate) file_types: Vec<TypeName>,

    /// Importance matrix, GGUF or legacy .dat
    #[arg(long, value_name = "FILE")]
    pub(crate) imatrix: Option<PathBuf>,

    /// Use the importance matrix only for tensors whose name contains NAME (repeatable, or a list
    /// with commas)
    #[arg(long, value_name = "NAME", requires = "imatrix", value_delimiter = ',')]
    #[arg(value_parser = NonEmptyStringValueParser::new())]
    pub(crate) include_weights: Vec<String>,

    /// Do not use the importance matrix for tensors whose name contains NAME (repeatable, or a list
    /// with commas)
    #[arg(long, value_name = "NAME", requires = "imatrix", value_delimiter = ',')]
    #[arg(value_parser = NonEmptyStringValueParser::new())]
    pub(crate) exclude_weights: Vec<String>,

    /// Add X to every importance of the matrix, so that none is zero
    #[arg(long, value_name = "X", requires = "imatrix", value_parser = prior, allow_negative_numbers = true)]
    pub(crate) imatrix_prior: Option<f32>,

    /// Who searches for codes: reference, as llama-quantize does, or better, which makes smaller errors in
    /// the same types and takes longer
    #[arg(long, value_name = "SEARCH", value_enum, default_value_t, hide_possible_values = true)]
    pub(crate) search: SearchArg,

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

    /// Type of the tensors whose name matches a regular expression (repeatable, or a list with
    /// commas; the first match counts); with --type auto the others keep theirs
    #[arg(long, value_name = "REGEX=T", value_parser = tensor_types)]
    pub(crate) tensor_type: Vec<TensorTypes>,

    /// File with one REGEX=T a line, tried after those of --tensor-type
    #[arg(long, value_name = "FILE")]
    pub(crate) tensor_type_file: Option<PathBuf>,

    /// Leave out these layers and renumber the others
    #[arg(long, value_name = "L0,L1,…")]
    pub(crate) prune_layers: Option<String>,

    /// JSON file with keys such as general.name, general.license, general.tags or
    /// general.base_models, which replace what the model card says
    #[arg(long, value_name = "FILE")]
    pub(crate) metadata: Option<PathBuf>,

    /// Set a metadata key; TYPE is int (a u32), float (an f32), or a type that edit --set takes
    /// (repeatable)
    #[arg(long, value_name = "KEY=TYPE:VALUE", value_parser = override_kv)]
    pub(crate) override_kv: Vec<(String, Value)>,

    /// Write several files, NAME-00001-of-0000N.gguf and so on, each with at most SIZE of tensors: a
    /// number of bytes, or a number with K, M, G or T (powers of 1000, as in llama-gguf-split)
    #[arg(long, value_name = "SIZE", value_parser = split_size, group = "split")]
    pub(crate) split_max_size: Option<u64>,

    /// Write several files, each with at most N tensors
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..), group = "split")]
    pub(crate) split_max_tensors: Option<u64>,

    /// Write N files of about equal size
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..), group = "split")]
    pub(crate) shards: Option<u64>,

    /// Write only file I of those that --shards N writes, reading only the weights it takes, so that
    /// many machines share the work; one that is there already and has the planned header is left alone
    #[arg(long, value_name = "I/N", value_parser = shard, group = "split")]
    pub(crate) shard: Option<Shard>,

    /// Write one file for each file of the input
    #[arg(long, group = "split")]
    pub(crate) keep_split: bool,

    /// Quantize tensors that are quantized already, although that adds errors
    #[arg(long)]
    pub(crate) allow_requantize: bool,

    /// Convert the projector of a multimodal checkpoint, its encoder of images or sound, instead of
    /// its text model
    #[arg(long)]
    pub(crate) mmproj: bool,

    /// The base model of a LoRA adapter: its folder, of which only config.json is read, or its name
    /// in the Hugging Face cache [default: the name that the adapter gives, in the cache]
    #[arg(long, value_name = "CHECKPOINT")]
    pub(crate) base: Option<PathBuf>,

    /// llama.cpp's name for the BPE pre-tokenizer, instead of detecting it
    #[arg(long, value_name = "NAME")]
    pub(crate) pre_tokenizer: Option<String>,

    /// The architecture of safetensors of a kind that is not known, such as those of image models (a
    /// folder or a file): their tensors keep their names
    #[arg(long, value_name = "NAME")]
    pub(crate) architecture: Option<String>,

    /// Write the metadata that llama.cpp's converter writes, and read the set of weights that it
    /// reads, even where that is wrong
    #[arg(long)]
    pub(crate) like_reference: bool,

    /// Print the plan only; write nothing
    #[arg(long)]
    pub(crate) dry_run: bool,

    /// Print the result as JSON on standard output
    #[arg(long)]
    pub(crate) json: bool,

    /// Fail if the rows of a tensor do not fit the blocks of its type, instead of using another type
    #[arg(long)]
    pub(crate) strict: bool,

    /// Replace an existing output
    #[arg(long)]
    pub(crate) force: bool,

    /// Number of worker threads [default: one per core]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1024))]
    pub(crate) threads: Option<u16>,

    /// Print only errors, and what --json or --dry-run asks for
    #[arg(short, long)]
    pub(crate) quiet: bool,

    /// Do not flush the output to the disk before it gets its name
    #[arg(long)]
    pub(crate) no_sync: bool,

    // Last: their headings would be those of what follows.
    #[command(flatten)]
    pub(crate) mix: MixArgs,

    #[command(flatten)]
    pub(crate) grouped: GroupedArgs,
}

/// Options of grouped integers.
#[derive(Debug, Args)]
#[command(next_help_heading = "Grouped integers")]
pub(crate) struct GroupedArgs {
    /// A named set of options for grouped integers (`quantwright presets` lists them); options
    /// given beside it take precedence
    #[arg(long, value_name = "NAME", value_parser = preset_name)]
    pub(crate) preset: Option<&'static Preset>,

    /// Weights that share a scale, -1 for a whole row [default: 128 for INT4, -1 for INT8]
    #[arg(long, value_name = "N", value_parser = group_size, allow_negative_numbers = true)]
    pub(crate) group_size: Option<GroupSize>,

    /// Share of the weights that get --type, from 0 to 1; the others get --backup
    /// [default: 1]
    #[arg(long, value_name = "R", value_parser = ratio)]
    pub(crate) ratio: Option<f64>,

    /// Type of the layers that --ratio leaves: int8_sym, int8_asym or none [default: int8_sym]
    #[arg(long, value_name = "TYPE", value_parser = |text: &str| named(text, &Backup::NAMES))]
    pub(crate) backup: Option<Backup>,

    /// Quantize the embedding and the output too
    #[arg(long)]
    pub(crate) all_layers: bool,

    /// If the group size does not divide a row: error, ignore (leave the layer as it is) or adjust
    /// (use the largest power of two that divides it) [default: error]
    #[arg(long, value_name = "POLICY", value_parser = |text: &str| named(text, &FALLBACKS))]
    pub(crate) group_size_fallback: Option<Fallback>,

    /// Choose the type of each layer by itself, as NNCF does; without it q/k/v, gate/up and all
    /// experts share one type, which engines that fuse them need
    #[arg(long)]
    pub(crate) per_layer: bool,

    /// How --ratio chooses layers: by weights, or with --imatrix by hessian (then the default) or
    /// activations
    #[arg(long, value_name = "METRIC", value_parser = |text: &str| named(text, &Sensitivity::NAMES))]
    pub(crate) sensitivity: Option<Sensitivity>,

    /// Search for the scales with the least error, weighted by the importance matrix if there is one
    #[arg(long)]
    pub(crate) refine_scales: bool,
}

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

    /// A preset is a type, a group size and a ratio.
    fn warn_of_preset(&self, ty: Option<TypeArg>) {
        let all = ty.is_some() && self.group_size.is_some() && self.ratio.is_some();
        if let Some(preset) = self.preset.filter(|_| all) {
            tracing::warn!(
                kind = "unused-option",
                "--preset {} has no effect: --type, --group-size and --ratio replace all of it",
                preset.name
            );
        }
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

/// What stands for the type in the name of an output.
const PLACE_OF_TYPE: &str = "{type}";

impl ConvertArgs {
    /// Puts the type in its place in the output's name, if only one is asked for.
    ///
    /// # Errors
    /// Several types whose outputs would be one.
    pub(crate) fn settle_output(&mut self) -> Result<(), clap::Error> {
        let conflict =
            |message: String| Err(Cli::command().error(ErrorKind::ArgumentConflict, message));
        let same =
            |a: &TypeName, b: &TypeName| a.ty == b.ty || a.name.eq_ignore_ascii_case(&b.name);
        let mut types = self.file_types.iter().enumerate();
        if let Some((_, twice)) =
            types.find(|(i, a)| self.file_types.iter().take(*i).any(|b| same(a, b)))
        {
            return conflict(format!("--type names {} twice", twice.name));
        }
        if self.file_types.len() > 1 {
            return match &self.output {
                Some(output) if !output.to_string_lossy().contains(PLACE_OF_TYPE) => {
                    conflict(format!(
                        "several types make several files: give --output a name with {PLACE_OF_TYPE} in it, \
                     such as model-{PLACE_OF_TYPE}.gguf"
                    ))
                }
                _ => Ok(()),
            };
        }
        let chosen_otherwise = self.grouped.preset.is_some() || self.mix.size().is_some();
        let default = match (self.mmproj, self.is_adapter()) {
            _ if chosen_otherwise => None,
            (true, _) => Some("auto"),
            (_, true) => Some("f32"),
            _ => Some("q4_k_m"),
        };
        let Some(name) = self.file_types.first().map(|ty| ty.name.as_str()).or(default) else {
            return Ok(());
        };
        self.output = self.output.take().map(|output| in_place(&output, name));
        Ok(())
    }

    /// Whether the input is a LoRA adapter.
    fn is_adapter(&self) -> bool {
        quant_convert::lora::is_adapter(&self.input)
    }

    /// Whether several files are made.
    pub(crate) fn is_ladder(&self) -> bool {
        self.file_types.len() > 1
    }

    /// What the library is asked to do for each of several types, and where the result goes.
    pub(crate) fn ladder(&self) -> anyhow::Result<Vec<(Options, Option<PathBuf>)>> {
        let each = self.file_types.iter().map(|ty| {
            let options = self.options_of(Some(ty.ty))?;
            if self.writes_folder(&options) {
                let message = "several types are for GGUF files; a folder of grouped integers is made by itself";
                return Err(Cli::command().error(ErrorKind::ArgumentConflict, message).into());
            }
            let output = self.output.as_ref().map(|output| in_place(output, &ty.name));
            Ok((options, output))
        });
        each.collect()
    }

    /// Whether a folder is written instead of a GGUF file.
    pub(crate) fn writes_folder(&self, options: &Options) -> bool {
        options.grouped.is_some() && !self.names_gguf()
    }

    /// Whether the name of the output is that of a GGUF file.
    fn names_gguf(&self) -> bool {
        let extension = self.output.as_ref().and_then(|path| path.extension());
        extension.is_some_and(|e| e.eq_ignore_ascii_case("gguf"))
    }

    /// Options that do not go together are wrong usage, as what clap itself finds.
    fn check(&self, ty: Option<TypeArg>, grouped: bool) -> Result<(), clap::Error> {
        let recipes = [
            (self.search == SearchArg::Better, "--search better"),
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
            (self.mmproj, "--mmproj"),
            (self.base.is_some(), "--base"),
            (!self.override_kv.is_empty(), "--override-kv"),
            (self.pre_tokenizer.is_some(), "--pre-tokenizer"),
        ];
        let falls_back = self.grouped.group_size_fallback.is_some_and(|f| f != Fallback::Error);
        let message = if grouped {
            let given = recipes.iter().find(|(given, _)| *given);
            let folder = of_gguf.iter().find(|(given, _)| *given && !self.names_gguf());
            let shard = self.shard.filter(|_| !self.names_gguf()).map(
                |_| "--shard is for GGUF files: the folder of a checkpoint is complete or absent",
            );
            given
                .map(|(_, name)| format!("{name} is for recipes, not for grouped integers"))
                .or(folder.map(|(_, name)| {
                    format!("{name} is for GGUF files, not for a folder: its files are copied")
                }))
                .or(shard.map(str::to_owned))
                .or((self.strict && falls_back)
                    .then(|| "--strict refuses what --group-size-fallback allows".into()))
        } else {
            let name = self.grouped.preset.map(|_| "--preset").or(self.grouped.first_given());
            name.map(|name| format!("{name} is for grouped integers, give --type int4_sym, int4_asym, int8_sym or int8_asym"))
        };
        self.grouped.warn_of_preset(ty);
        message.map_or(Ok(()), |message| {
            Err(Cli::command().error(ErrorKind::ArgumentConflict, message))
        })
    }

    /// What the library is asked to do.
    pub(crate) fn options(&self) -> anyhow::Result<Options> {
        self.options_of(self.file_types.first().map(|ty| ty.ty))
    }

    fn options_of(&self, ty: Option<TypeArg>) -> anyhow::Result<Options> {
        let mut overrides: Vec<_> =
            self.tensor_type.iter().flat_map(|list| list.0.clone()).collect();
        if let Some(path) = &self.tensor_type_file {
            let file = recipe::read_tensor_type_file(path).map_err(quant_convert::Error::from)?;
            overrides.extend(file);
        }
        let (file_type, grouped) = match (ty, self.grouped.preset) {
            (Some(TypeArg::Grouped(ty)), _) => (None, Some(self.grouped.options(Some(ty)))),
            (None, Some(_)) => (None, Some(self.grouped.options(None))),
            // As the reference's converters have it.
            (None, None) if self.mmproj => (None, None),
            (None, None) if self.is_adapter() => (Some(FileType::F32), None),
            (None, None) => (Some(FileType::Q4_K_M), None),
            (Some(TypeArg::Recipe(recipe)), _) => (recipe, None),
        };
        self.check(ty, grouped.is_some())?;
        Ok(Options {
            request: Request {
                file_type,
                pure: self.pure,
                leave_output_tensor: self.leave_output_tensor,
                output_tensor_type: self.output_tensor_type,
                token_embedding_type: self.token_embedding_type,
                overrides,
                strict: self.strict,
            },
            imatrix: self.imatrix.clone(),
            importance: None,
            include_weights: self.include_weights.clone(),
            exclude_weights: self.exclude_weights.clone(),
            imatrix_prior: self.imatrix_prior.unwrap_or_default(),
            search: match self.search {
                SearchArg::Reference => Search::Reference,
                SearchArg::Better => Search::Better,
            },
            allow_requantize: self.allow_requantize,
            prune_layers: self.prune_layers.clone(),
            metadata: self.metadata.clone(),
            mmproj: self.mmproj,
            base: self.base.clone(),
            hub_cache: hub_cache(),
            override_kv: self.override_kv.clone(),
            pre_tokenizer: self.pre_tokenizer.clone(),
            architecture: self.architecture.clone(),
            like_reference: self.like_reference,
            grouped,
            split: None
                .or(self.split_max_size.map(Split::MaxBytes))
                .or(self.split_max_tensors.map(Split::MaxTensors))
                .or(self.shards.map(Split::Files))
                .or(self.shard.map(|shard| Split::Files(shard.count)))
                .or(self.keep_split.then_some(Split::Keep)),
            shard: self.shard.map(|shard| shard.number),
            overwrite: self.force,
            no_sync: self.no_sync,
            threads: self.threads.map_or(0, usize::from),
            kernels: None,
            limits: Limits::default(),
            elsewhere: Vec::new(),
        })
    }
}

/// Who searches for codes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum SearchArg {
    #[default]
    Reference,
    Better,
}

/// A path with the name of a type in its place.
fn in_place(path: &Path, ty: &str) -> PathBuf {
    match path.to_str() {
        Some(text) => text.replace(PLACE_OF_TYPE, ty).into(),
        None => path.to_owned(),
    }
}
