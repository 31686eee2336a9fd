//! What comes of each option, for each kind of input.

use std::fmt;

/// What is converted, and to what.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Input {
    /// A checkpoint with an output of its own, to GGUF.
    Checkpoint,
    /// One whose embedding doubles as the output, to GGUF; byte-level BPE.
    TiedCheckpoint,
    /// An F16 GGUF file, to GGUF.
    Gguf,
    TiedGguf,
    /// A Q4_K_M file.
    QuantizedGguf,
    /// A file with rows of 96.
    AwkwardGguf,
    /// A checkpoint, to a folder of grouped integers.
    Folder,
    TiedFolder,
    /// Such a folder, to GGUF.
    Packed,
    TiedPacked,
}

/// Kinds of input, for each of which each option needs a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Checkpoint,
    Gguf,
    Folder,
    Packed,
}

pub(crate) const KINDS: [Kind; 4] = [Kind::Checkpoint, Kind::Gguf, Kind::Folder, Kind::Packed];

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Checkpoint => "checkpoint",
            Self::Gguf => "GGUF file",
            Self::Folder => "checkpoint that becomes a folder",
            Self::Packed => "packed checkpoint",
        })
    }
}

impl Input {
    pub(crate) fn kind(self) -> Kind {
        match self {
            Self::Checkpoint | Self::TiedCheckpoint => Kind::Checkpoint,
            Self::Gguf | Self::TiedGguf | Self::QuantizedGguf | Self::AwkwardGguf => Kind::Gguf,
            Self::Folder | Self::TiedFolder => Kind::Folder,
            Self::Packed | Self::TiedPacked => Kind::Packed,
        }
    }

    pub(crate) fn is_folder(self) -> bool {
        self.kind() == Kind::Folder
    }
}

/// What an option does, compared with the same run without it.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Effect {
    /// The output is another.
    Changes,
    /// Something else is printed.
    Prints,
    /// A warning says this, of a dry run too.
    Warns(&'static str),
    /// Status 1 and a line that says this, of a dry run too.
    Refused(&'static str),
    /// Status 2 and a line that says this.
    WrongUsage(&'static str),
    /// Nothing, in silence, for this reason.
    Harmless(&'static str),
    /// A way of doing things that need not show, for this reason.
    Manner(&'static str),
}

use Effect::*;
use Input::*;

#[derive(Clone, Copy, Debug)]
pub(crate) struct Row {
    pub(crate) command: &'static str,
    pub(crate) option: &'static str,
    pub(crate) inputs: &'static [Input],
    /// What both runs are given.
    pub(crate) with: &'static [&'static str],
    /// What the second is given, the option among it.
    pub(crate) adds: &'static [&'static str],
    pub(crate) effect: Effect,
}

type Args = &'static [&'static str];

const fn of(
    command: &'static str,
    option: &'static str,
    inputs: &'static [Input],
    with: Args,
    adds: Args,
    effect: Effect,
) -> Row {
    Row { command, option, inputs, with, adds, effect }
}

const fn row(
    option: &'static str,
    inputs: &'static [Input],
    with: Args,
    adds: Args,
    effect: Effect,
) -> Row {
    of("convert", option, inputs, with, adds, effect)
}

/// One input of each kind.
const ALL: &[Input] = &[Checkpoint, Gguf, Folder, Packed];
/// Those that become a GGUF file.
const FILES: &[Input] = &[Checkpoint, Gguf, Packed];
const TIED: &[Input] = &[TiedCheckpoint, TiedGguf, TiedPacked];
const FOLDER: &[Input] = &[Folder];

const MATRIX: Args = &["--imatrix", "{imatrix}"];
const FOR_SIZE: Args = &["--target-size", "1200k"];
const GROUPED: Args = &["-t", "int4_sym"];
const FOLDERS: &[Input] = &[Checkpoint, Folder, Packed];
const PROVED: Args = &["--derived-from", "{checkpoint}"];
const A_GGUF: &str = "expected a GGUF file";
const A_FOLDER: &str = "is a folder, expected a regular file";
const EDIT: Args = &["--set", "a.b=u8:1"];
const SHARDS: Args = &["--shards", "2"];
const SCRIPTED: &str = "scripts always give it, and what it asks for holds";
const SAME: &str = "the figures do not depend on threads";
const BYTES: &str = "the bytes depend on neither threads nor flushing";

#[rustfmt::skip]
pub(crate) const ROWS: &[Row] = &[
    row("--type", FILES, &[], &["-t", "q8_0"], Changes),
    row("--type", FOLDER, &[], &["-t", "int8_sym"], Changes),
    // The matrix and what belongs to it.
    row("--imatrix", FILES, &[], MATRIX, Changes),
    row("--imatrix", FILES, &["-t", "q8_0"], MATRIX, Warns("the importance matrix is not used")),
    row("--imatrix", FILES, &["-t", "f16"], MATRIX, Warns("the importance matrix is not used")),
    row("--imatrix", FILES, GROUPED, MATRIX, Warns("the importance matrix is not used")),
    row("--imatrix", FOLDER, &[], MATRIX, Warns("the importance matrix is not used")),
    row("--imatrix", FOLDER, &["--refine-scales"], MATRIX, Changes),
    row("--imatrix", &[QuantizedGguf], &["-t", "auto"], MATRIX, Warns("matrix is not used")),
    row("--imatrix", &[QuantizedGguf], &["-t", "q4_k_m"], MATRIX, Warns("matrix is not used")),
    row("--include-weights", FILES, MATRIX, &["--include-weights", "ffn_"], Changes),
    row("--include-weights", FILES, MATRIX, &["--include-weights", "attn_v,ffn_up"], Changes),
    row("--include-weights", FILES, MATRIX, &["--include-weights", "attn-v"], Warns("\"attn-v\"")),
    row("--include-weights", FILES, MATRIX, &["--include-weights", "ffn_,x"], Warns("\"x\"")),
    row("--include-weights", FOLDER, &["--refine-scales", "--imatrix", "{imatrix}"], &["--include-weights", "ffn_"], Changes),
    row("--include-weights", FOLDER, MATRIX, &["--include-weights", "attn-v"], Warns("\"attn-v\"")),
    row("--include-weights", ALL, &[], &["--include-weights", "ffn_"], WrongUsage("--imatrix")),
    row("--include-weights", ALL, MATRIX, &["--include-weights", ""], WrongUsage("--include-weights")),
    row("--exclude-weights", FILES, MATRIX, &["--exclude-weights", "ffn_"], Changes),
    row("--exclude-weights", FILES, MATRIX, &["--exclude-weights", "attn_v,ffn_up"], Changes),
    row("--exclude-weights", FILES, MATRIX, &["--exclude-weights", "attn-v"], Warns("\"attn-v\"")),
    row("--exclude-weights", FILES, MATRIX, &["--exclude-weights", "blk"], Warns("matrix is not used")),
    row("--exclude-weights", FOLDER, &["--refine-scales", "--imatrix", "{imatrix}"], &["--exclude-weights", "ffn_"], Changes),
    row("--exclude-weights", FOLDER, MATRIX, &["--exclude-weights", "attn-v"], Warns("\"attn-v\"")),
    row("--imatrix-prior", FILES, MATRIX, &["--imatrix-prior", "100"], Changes),
    row("--imatrix-prior", FILES, &["-t", "q8_0"], &["--imatrix-prior", "1", "--imatrix", "{imatrix}"], Warns("matrix is not used")),
    row("--imatrix-prior", FOLDER, &["--refine-scales", "--imatrix", "{imatrix}"], &["--imatrix-prior", "100"], Changes),
    row("--imatrix-prior", ALL, &[], &["--imatrix-prior", "1"], WrongUsage("--imatrix")),
    row("--imatrix-prior", FILES, MATRIX, &["--imatrix-prior", "0"], Harmless("nothing is what it adds")),
    // The recipe.
    row("--pure", FILES, &["-t", "q4_k_m"], &["--pure"], Changes),
    row("--pure", FILES, &["-t", "f16"], &["--pure"], Warns("--pure has no effect")),
    row("--pure", &[Gguf], &["-t", "auto"], &["--pure"], Warns("--pure has no effect")),
    row("--pure", FOLDER, &[], &["--pure"], WrongUsage("--pure")),
    row("--leave-output-tensor", FILES, &[], &["--leave-output-tensor"], Changes),
    row("--leave-output-tensor", &[Checkpoint, Packed], &["-t", "f32"], &["--leave-output-tensor"], Warns("--leave-output-tensor has no effect")),
    row("--leave-output-tensor", &[Gguf], &["-t", "f32"], &["--leave-output-tensor"], Changes),
    row("--leave-output-tensor", &[Checkpoint], &["-t", "f32", "--tensor-type", "output=q8_0"], &["--leave-output-tensor"], Changes),
    row("--leave-output-tensor", TIED, &[], &["--leave-output-tensor"], Warns("--leave-output-tensor has no effect")),
    row("--leave-output-tensor", &[Gguf], &["-t", "auto"], &["--leave-output-tensor"], Warns("--leave-output-tensor has no effect")),
    row("--leave-output-tensor", FOLDER, &[], &["--leave-output-tensor"], WrongUsage("--leave-output-tensor")),
    row("--output-tensor-type", FILES, &[], &["--output-tensor-type", "q8_0"], Changes),
    row("--output-tensor-type", FILES, &["-t", "f16"], &["--output-tensor-type", "q8_0"], Changes),
    row("--output-tensor-type", TIED, &[], &["--output-tensor-type", "q5_0"], Changes),
    row("--output-tensor-type", TIED, &["--pure"], &["--output-tensor-type", "q8_0"], Warns("--output-tensor-type has no effect")),
    row("--output-tensor-type", TIED, &["-t", "f16"], &["--output-tensor-type", "q8_0"], Warns("--output-tensor-type has no effect")),
    row("--output-tensor-type", FILES, &["--leave-output-tensor"], &["--output-tensor-type", "q8_0"], Warns("--output-tensor-type has no effect")),
    row("--output-tensor-type", FOLDER, &[], &["--output-tensor-type", "q8_0"], WrongUsage("--output-tensor-type")),
    row("--token-embedding-type", FILES, &[], &["--token-embedding-type", "q8_0"], Changes),
    row("--token-embedding-type", TIED, &["--output-tensor-type", "q8_0"], &["--token-embedding-type", "q5_0"], Warns("--output-tensor-type has no effect")),
    row("--token-embedding-type", &[QuantizedGguf], &["-t", "auto", "--allow-requantize"], &["--token-embedding-type", "q8_0"], Changes),
    row("--token-embedding-type", &[QuantizedGguf], &["-t", "auto"], &["--token-embedding-type", "q8_0"], Refused("--allow-requantize")),
    row("--token-embedding-type", FOLDER, &[], &["--token-embedding-type", "q8_0"], WrongUsage("--token-embedding-type")),
    row("--tensor-type", FILES, &[], &["--tensor-type", "attn_v=q8_0"], Changes),
    row("--tensor-type", FILES, &["-t", "f16"], &["--tensor-type", "attn_v=q8_0"], Changes),
    row("--tensor-type", FILES, &["-t", "auto"], &["--tensor-type", "attn_v=q8_0"], Changes),
    row("--tensor-type", FILES, &["--tensor-type", "attn_v=q8_0"], &["--tensor-type", "ffn_up=q6_k,ffn_down=q8_0"], Changes),
    row("--tensor-type", FILES, &[], &["--tensor-type", "attn_norm=q8_0"], Warns("\"attn_norm\" of --tensor-type")),
    row("--tensor-type", FILES, &[], &["--tensor-type", "attn_w=q8_0"], Warns("\"attn_w\" of --tensor-type")),
    row("--tensor-type", FILES, &["--tensor-type", "attn=q8_0"], &["--tensor-type", "attn_v=q6_k"], Warns("\"attn_v\" of --tensor-type")),
    row("--tensor-type", FILES, &["--token-embedding-type", "q8_0"], &["--tensor-type", "token_embd=q6_k"], Warns("\"token_embd\" of --tensor-type")),
    row("--tensor-type", FOLDER, &[], &["--tensor-type", "attn_v=q8_0"], WrongUsage("--tensor-type")),
    row("--tensor-type-file", FILES, &[], &["--tensor-type-file", "{types}"], Changes),
    row("--tensor-type-file", FILES, &["--tensor-type", "attn_v=q8_0,ffn_up=q5_0"], &["--tensor-type-file", "{types}"], Warns("an earlier pattern")),
    row("--tensor-type-file", FILES, &["--tensor-type-file", "{types}"], &["--tensor-type-file", "{types}"], WrongUsage("multiple times")),
    row("--tensor-type-file", FILES, &[], &["--tensor-type-file", "{windows-types}"], Changes),
    row("--tensor-type-file", FILES, &[], &["--tensor-type-file", "{types-and-typos}"], Warns("line 2 has no effect")),
    row("--tensor-type-file", FILES, &[], &["--tensor-type-file", "{empty}"], Warns("holds no types")),
    row("--tensor-type-file", FOLDER, &[], &["--tensor-type-file", "{types}"], WrongUsage("--tensor-type-file")),
    row("--strict", &[AwkwardGguf], &["-t", "q4_k_m"], &["--strict"], Refused("--strict")),
    row("--strict", ALL, &[], &["--strict"], Harmless("every row fits, as it asks")),
    row("--strict", FOLDER, &["--group-size-fallback", "adjust"], &["--strict"], WrongUsage("--strict")),
    row("--allow-requantize", &[QuantizedGguf], &[], &["--allow-requantize"], Changes),
    row("--allow-requantize", &[QuantizedGguf], &["-t", "auto"], &["--allow-requantize"], Warns("--allow-requantize has no effect")),
    row("--allow-requantize", ALL, &[], &["--allow-requantize"], Warns("--allow-requantize has no effect")),
    // Types for a size.
    row("--target-size", FILES, &[], &["--target-size", "1500k"], Changes),
    row("--target-size", FILES, &[], &["--target-size", "100k"], Refused("the smallest has")),
    row("--target-size", FILES, &["-t", "q4_0"], &["--target-size", "1500k"], WrongUsage("--type")),
    row("--target-size", &[QuantizedGguf], &[], &["--target-size", "1M"], Refused("--allow-requantize")),
    row("--target-size", FOLDER, &[], &["--target-size", "1500k"], WrongUsage("--group-size")),
    row("--target-bpw", FILES, &[], &["--target-bpw", "4"], Changes),
    row("--target-bpw", FILES, &[], &["--target-bpw", "1"], Refused("the smallest has")),
    row("--target-bpw", FILES, FOR_SIZE, &["--target-bpw", "5"], WrongUsage("--target-bpw")),
    row("--target-bpw", FOLDER, &[], &["--target-bpw", "4"], WrongUsage("--group-size")),
    row("--calibration", &[Checkpoint, Packed], FOR_SIZE, &["--calibration", "{tokens}"], Changes),
    row("--calibration", &[Gguf], FOR_SIZE, &["--calibration", "{empty}"], Refused("too few")),
    row("--calibration", ALL, &[], &["--calibration", "{tokens}"], WrongUsage("--target-size")),
    row("--sensitivities", FILES, FOR_SIZE, &["--sensitivities", "{sensitivities}"], Changes),
    row("--sensitivities", FILES, FOR_SIZE, &["--sensitivities", "{types}"], Refused("holds no sensitivities")),
    row("--sensitivities", ALL, &[], &["--sensitivities", "{sensitivities}"], WrongUsage("--target-size")),
    row("--candidates", FILES, FOR_SIZE, &["--candidates", "q2_k,q8_0"], Changes),
    row("--candidates", FILES, FOR_SIZE, &["--candidates", "q4_k_m"], WrongUsage("Q4_K_M is a recipe")),
    row("--candidates", FILES, FOR_SIZE, &["--candidates", "q8_0"], Refused("the smallest has")),
    row("--candidates", ALL, &[], &["--candidates", "q2_k"], WrongUsage("--target-size")),
    row("--save-mix", FILES, FOR_SIZE, &["--save-mix", "mix.txt"], Changes),
    row("--save-mix", FILES, FOR_SIZE, &["--save-mix", "none/mix.txt"], Refused("none/mix.txt")),
    row("--save-mix", ALL, &[], &["--save-mix", "mix.txt"], WrongUsage("--target-size")),
    row("--search", FILES, &[], &["--search", "better"], Changes),
    row("--search", FILES, &["-t", "q8_0"], &["--search", "better"], Warns("--search has no effect")),
    row("--search", FILES, &[], &["--search", "reference"], Harmless("it is the default")),
    row("--search", FOLDER, &[], &["--search", "better"], WrongUsage("--search better is for recipes")),
    // Layers and metadata.
    row("--prune-layers", FILES, &[], &["--prune-layers", "1"], Changes),
    row("--prune-layers", FILES, &[], &["--prune-layers", "1,1"], Warns("layer 1 twice")),
    row("--prune-layers", FILES, &[], &["--prune-layers", "1,2"], Refused("\"2\" in --prune-layers")),
    row("--prune-layers", FOLDER, &[], &["--prune-layers", "1"], WrongUsage("--prune-layers")),
    row("--metadata", FILES, &[], &["--metadata", "{metadata}"], Changes),
    row("--metadata", FILES, &[], &["--metadata", "{metadata-typo}"], Warns("\"general.licence\"")),
    row("--metadata", FILES, &[], &["--metadata", "{metadata-parent}"], Warns("\"nome\"")),
    row("--metadata", FILES, &[], &["--metadata", "{no-metadata}"], Warns("holds no keys")),
    row("--mmproj", &[Checkpoint, Packed], &[], &["--mmproj"], Refused("no encoder of images or sound")),
    row("--mmproj", &[Gguf], &[], &["--mmproj"], Warns("--mmproj has no effect")),
    row("--mmproj", FOLDER, &[], &["--mmproj"], WrongUsage("--mmproj is for GGUF files")),
    row("--base", FILES, &[], &["--base", "{checkpoint}"], Warns("--base has no effect")),
    row("--base", FOLDER, &[], &["--base", "{checkpoint}"], WrongUsage("--base is for GGUF files")),
    row("--metadata", FOLDER, &[], &["--metadata", "{metadata}"], WrongUsage("--metadata")),
    row("--override-kv", FILES, &[], &["--override-kv", "general.author=str:A"], Changes),
    row("--override-kv", FILES, &[], &["--override-kv", "llama.rope.freq_base=int:10000"], Warns("FLOAT32 in the model")),
    row("--override-kv", FILES, &["--override-kv", "a.b=int:1"], &["--override-kv", "a.b=int:2"], Warns("\"a.b\": 1 has no effect")),
    row("--override-kv", FILES, MATRIX, &["--override-kv", "quantize.imatrix.file=str:x"], Warns("--imatrix sets this key")),
    row("--override-kv", FILES, &["--prune-layers", "1"], &["--override-kv", "llama.block_count=int:2"], Warns("--prune-layers sets this key")),
    row("--override-kv", FILES, &[], &["--override-kv", "split.count=int:2"], Refused("\"split.count\"")),
    row("--override-kv", FOLDER, &[], &["--override-kv", "general.author=str:A"], WrongUsage("--override-kv")),
    row("--pre-tokenizer", TIED, &[], &["--pre-tokenizer", "gpt-2"], Changes),
    row("--pre-tokenizer", TIED, &[], &["--pre-tokenizer", "nonsense"], Refused("\"nonsense\"")),
    row("--pre-tokenizer", &[Gguf], &[], &["--pre-tokenizer", "gpt-2"], Refused("leave out --pre-tokenizer")),
    row("--pre-tokenizer", FOLDER, &[], &["--pre-tokenizer", "gpt-2"], WrongUsage("--pre-tokenizer")),
    row("--like-reference", &[Checkpoint, Folder, Packed], &[], &["--like-reference"], Manner("what is written may be what the reference writes already")),
    row("--like-reference", &[Gguf], &[], &["--like-reference"], Warns("--like-reference has no effect")),
    row("--like-reference", FILES, &["-t", "q8_0", "--imatrix", "{imatrix}"], &["--like-reference"], Changes),
    row("--architecture", &[Checkpoint, Packed], &[], &["--architecture", "llama"], Refused("other names of tensors")),
    row("--architecture", FOLDER, &[], &["--architecture", "flux"], Warns("--architecture has no effect")),
    row("--architecture", &[Checkpoint, Packed], &[], &["--architecture", "flux"], Refused("leave the name out")),
    row("--architecture", &[Gguf], &[], &["--architecture", "flux"], Warns("--architecture has no effect")),
    // Several files.
    row("--split-max-size", FILES, &[], &["--split-max-size", "500K"], Changes),
    row("--split-max-size", FILES, &[], &["--split-max-size", "100K"], Warns("is not divided")),
    row("--split-max-size", FILES, &[], &["--split-max-size", "1G"], Warns("--split-max-size")),
    row("--split-max-size", FOLDER, &[], &["--split-max-size", "600K"], Changes),
    row("--split-max-size", FOLDER, &[], &["--split-max-size", "100K"], Warns("is not divided")),
    row("--split-max-size", FOLDER, &[], &["--split-max-size", "1G"], Warns("--split-max-size")),
    row("--split-max-size", ALL, &["--keep-split"], &["--split-max-size", "1G"], WrongUsage("--split-max-size")),
    row("--split-max-tensors", ALL, &[], &["--split-max-tensors", "8"], Changes),
    row("--split-max-tensors", ALL, &[], &["--split-max-tensors", "1000"], Warns("--split-max-tensors")),
    row("--shards", ALL, &[], &["--shards", "3"], Changes),
    row("--shards", ALL, &[], &["--shards", "300"], Refused("each has a tensor")),
    row("--shards", ALL, &["--keep-split"], &["--shards", "3"], WrongUsage("--shards")),
    row("--shard", FILES, &["--shards", "3"], &["--shard", "2/3"], WrongUsage("--shard")),
    row("--shard", FILES, &[], &["--shard", "2/3"], Changes),
    row("--shard", FILES, &[], &["--shard", "0/3"], WrongUsage("expected I/N")),
    row("--shard", FILES, &[], &["--shard", "1/300"], Refused("each has a tensor")),
    row("--shard", FOLDER, &[], &["--shard", "2/3"], WrongUsage("--shard is for GGUF files")),
    row("--keep-split", &[Checkpoint, Packed], &[], &["--keep-split"], Changes),
    row("--keep-split", &[TiedCheckpoint, Gguf], &[], &["--keep-split"], Warns("--keep-split: the input is one file")),
    row("--keep-split", FOLDER, &[], &["--keep-split"], Warns("--keep-split has no effect")),
    // Grouped integers.
    row("--preset", FOLDER, &[], &["--preset", "llama-3.1-8b"], Changes),
    row("--preset", FOLDER, &[], &["--preset", "phi-2", "-t", "int8_sym", "--group-size", "64", "--ratio", "1"], Warns("--preset phi-2 has no effect")),
    row("--preset", FILES, &[], &["--preset", "phi-2", "-t", "q8_0"], WrongUsage("--preset")),
    row("--group-size", FOLDER, &[], &["--group-size", "128"], Changes),
    row("--group-size", FOLDER, &["-t", "int8_sym"], &["--group-size", "-1"], Changes),
    row("--group-size", FILES, GROUPED, &["--group-size", "64"], Changes),
    row("--group-size", FILES, &[], &["--group-size", "64"], WrongUsage("--group-size")),
    row("--ratio", FOLDER, &[], &["--ratio", "0.5"], Changes),
    row("--ratio", FILES, GROUPED, &["--ratio", "0.5"], Changes),
    row("--ratio", FOLDER, &["-t", "int8_asym", "--group-size", "-1", "--backup", "int8_asym"], &["--ratio", "0.5"], Warns("--ratio 0.5 has no effect")),
    row("--ratio", FILES, &[], &["--ratio", "0.5"], WrongUsage("--ratio")),
    row("--backup", FOLDER, &["--ratio", "0.5"], &["--backup", "none"], Changes),
    row("--backup", FOLDER, &[], &["--backup", "int8_sym"], Warns("--backup has no effect")),
    row("--backup", FILES, GROUPED, &["--backup", "none"], Changes),
    row("--backup", FILES, &["-t", "int4_sym", "--all-layers"], &["--backup", "none"], Warns("--backup has no effect")),
    row("--backup", FILES, &[], &["--backup", "int8_sym"], WrongUsage("--backup")),
    row("--all-layers", FOLDER, &[], &["--all-layers"], Changes),
    row("--all-layers", &[TiedFolder], &[], &["--all-layers"], Warns("--all-layers has no effect")),
    row("--all-layers", FILES, GROUPED, &["--all-layers"], Changes),
    row("--all-layers", FILES, &["-t", "int8_sym"], &["--all-layers"], Warns("--all-layers has no effect")),
    row("--all-layers", FILES, &[], &["--all-layers"], WrongUsage("--all-layers")),
    row("--group-size-fallback", FOLDER, &["--group-size", "512"], &["--group-size-fallback", "adjust"], Changes),
    row("--group-size-fallback", FOLDER, &["--group-size", "96"], &["--group-size-fallback", "ignore"], Changes),
    row("--group-size-fallback", FOLDER, &[], &["--group-size-fallback", "adjust"], Warns("--group-size-fallback has no effect")),
    row("--group-size-fallback", FOLDER, &[], &["--group-size-fallback", "error"], Harmless("the default by name")),
    row("--group-size-fallback", FILES, &["-t", "int4_sym"], &["--group-size-fallback", "ignore"], Warns("--group-size-fallback has no effect")),
    row("--group-size-fallback", FILES, &[], &["--group-size-fallback", "adjust"], WrongUsage("--group-size-fallback")),
    row("--per-layer", FOLDER, &["--ratio", "0.5"], &["--per-layer"], Changes),
    row("--per-layer", FOLDER, &[], &["--per-layer"], Warns("--per-layer has no effect")),
    row("--per-layer", FILES, GROUPED, &["--per-layer"], Warns("--per-layer has no effect")),
    row("--per-layer", FILES, &[], &["--per-layer"], WrongUsage("--per-layer")),
    row("--sensitivity", FOLDER, &["--ratio", "0.5", "--imatrix", "{imatrix}"], &["--sensitivity", "weights"], Changes),
    row("--sensitivity", FOLDER, &["--ratio", "0.5"], &["--sensitivity", "hessian"], Refused("--imatrix")),
    row("--sensitivity", FOLDER, &[], &["--sensitivity", "weights"], Warns("--sensitivity has no effect")),
    row("--sensitivity", FILES, GROUPED, &["--sensitivity", "weights"], Warns("--sensitivity has no effect")),
    row("--sensitivity", FILES, &[], &["--sensitivity", "weights"], WrongUsage("--sensitivity")),
    row("--refine-scales", FOLDER, &[], &["--refine-scales"], Changes),
    row("--refine-scales", FILES, GROUPED, &["--refine-scales"], Changes),
    row("--refine-scales", FILES, &[], &["--refine-scales"], WrongUsage("--refine-scales")),
    // The run itself.
    row("--dry-run", ALL, &[], &["--dry-run"], Changes),
    row("--json", ALL, &[], &["--json"], Prints),
    row("--quiet", ALL, &[], &["--quiet"], Prints),
    row("--force", ALL, &[], &["--force"], Harmless(SCRIPTED)),
    row("--threads", ALL, &[], &["--threads", "1"], Harmless(BYTES)),
    row("--no-sync", ALL, &[], &["--no-sync"], Harmless(BYTES)),
    // The other commands.
    of("inspect", "--ctx", ALL, &[], &["--ctx", "100"], Prints),
    of("inspect", "--json", ALL, &[], &["--json"], Prints),
    of("verify", "--json", ALL, &[], &["--json"], Prints),
    of("verify", "--derived-from", &[Gguf], &[], &["--derived-from", "{checkpoint}"], Prints),
    of("verify", "--derived-from", FOLDERS, &[], &["--derived-from", "{checkpoint}"], Refused(A_GGUF)),
    of("verify", "--imatrix", &[QuantizedGguf], PROVED, MATRIX, Refused("tensors differ")),
    of("verify", "--imatrix", FOLDERS, PROVED, MATRIX, Refused(A_GGUF)),
    of("verify", "--attest", &[Gguf], PROVED, &["--attest", "statement.json"], Changes),
    of("verify", "--attest", FOLDERS, PROVED, &["--attest", "statement.json"], Refused(A_GGUF)),
    of("verify", "--threads", ALL, &[], &["--threads", "1"], Harmless(BYTES)),
    of("compare", "--json", ALL, &[], &["--json"], Prints),
    of("compare", "--html", ALL, &[], &["--html", "page.html"], Changes),
    of("compare", "--threads", ALL, &[], &["--threads", "1"], Harmless(BYTES)),
    // Files that exist.
    of("edit", "--set", &[Gguf], EDIT, &["--set", "a.c=[str]:[\"x\"]"], Changes),
    of("edit", "--set", FOLDERS, &[], EDIT, Refused(A_FOLDER)),
    of("edit", "--remove", &[Gguf], EDIT, &["--remove", "general.name"], Changes),
    of("edit", "--remove", &[Gguf], &[], &["--remove", "general.nome"], Refused("nothing to remove")),
    of("edit", "--remove", FOLDERS, &[], &["--remove", "general.name"], Refused(A_FOLDER)),
    of("edit", "--rename", &[Gguf], EDIT, &["--rename", "general.name=x.y"], Changes),
    of("edit", "--rename", FOLDERS, &[], &["--rename", "general.name=x.y"], Refused(A_FOLDER)),
    of("edit", "--chat-template", &[Gguf], EDIT, &["--chat-template", "{types}"], Changes),
    of("edit", "--chat-template", FOLDERS, &[], &["--chat-template", "{types}"], Refused(A_FOLDER)),
    of("edit", "--in-place", &[Gguf], EDIT, &["--in-place"], Changes),
    of("edit", "--in-place", FOLDERS, EDIT, &["--in-place"], Refused(A_FOLDER)),
    of("edit", "--force", &[Gguf], EDIT, &["--force"], Harmless(SCRIPTED)),
    of("edit", "--force", FOLDERS, EDIT, &["--force"], Refused(A_FOLDER)),
    of("edit", "--no-sync", &[Gguf], EDIT, &["--no-sync"], Manner(BYTES)),
    of("edit", "--no-sync", FOLDERS, EDIT, &["--no-sync"], Refused(A_FOLDER)),
    of("edit", "--json", &[Gguf], EDIT, &["--json"], Prints),
    of("edit", "--json", FOLDERS, EDIT, &["--json"], Refused(A_FOLDER)),
    of("split", "--max-size", &[Gguf], &[], &["--max-size", "1M"], Changes),
    of("split", "--max-size", FOLDERS, &[], &["--max-size", "1M"], Refused(A_FOLDER)),
    of("split", "--max-tensors", &[Gguf], &[], &["--max-tensors", "5"], Changes),
    of("split", "--max-tensors", FOLDERS, &[], &["--max-tensors", "5"], Refused(A_FOLDER)),
    of("split", "--shards", &[Gguf], &[], &["--shards", "3"], Changes),
    of("split", "--shards", &[Gguf], &[], &["--shards", "300"], Refused("each has a tensor")),
    of("split", "--shards", FOLDERS, &[], &["--shards", "3"], Refused(A_FOLDER)),
    of("split", "--force", &[Gguf], SHARDS, &["--force"], Harmless(SCRIPTED)),
    of("split", "--force", FOLDERS, SHARDS, &["--force"], Refused(A_FOLDER)),
    of("split", "--no-sync", &[Gguf], SHARDS, &["--no-sync"], Manner(BYTES)),
    of("split", "--no-sync", FOLDERS, SHARDS, &["--no-sync"], Refused(A_FOLDER)),
    of("split", "--json", &[Gguf], SHARDS, &["--json"], Prints),
    of("split", "--json", FOLDERS, SHARDS, &["--json"], Refused(A_FOLDER)),
    of("merge", "--force", &[Gguf], &[], &["--force"], Harmless(SCRIPTED)),
    of("merge", "--force", FOLDERS, &[], &["--force"], Refused(A_FOLDER)),
    of("merge", "--no-sync", &[Gguf], &[], &["--no-sync"], Manner(BYTES)),
    of("merge", "--no-sync", FOLDERS, &[], &["--no-sync"], Refused(A_FOLDER)),
    of("merge", "--json", &[Gguf], &[], &["--json"], Prints),
    of("merge", "--json", FOLDERS, &[], &["--json"], Refused(A_FOLDER)),
    of("hash", "--tensors", &[Gguf], &[], &["--tensors"], Prints),
    of("hash", "--tensors", FOLDERS, &[], &["--tensors"], Refused(A_FOLDER)),
    of("hash", "--json", &[Gguf], &[], &["--json"], Prints),
    of("hash", "--json", FOLDERS, &[], &["--json"], Refused(A_FOLDER)),
    // Models that run.
    of("imatrix", "--file", ALL, &[], &["--file", "{tokens}"], Changes),
    of("imatrix", "--ctx", ALL, &[], &["--ctx", "16"], Changes),
    of("imatrix", "--chunks", ALL, &[], &["--chunks", "1"], Changes),
    of("imatrix", "--from", ALL, &[], &["--from", "1"], Changes),
    of("imatrix", "--from", ALL, &[], &["--from", "1000"], Refused("give --from a smaller number")),
    of("imatrix", "--layer-by-layer", ALL, &[], &["--layer-by-layer"], Prints),
    of("imatrix", "--process-output", ALL, &[], &["--process-output"], Changes),
    of("imatrix", "--merge", ALL, &[], &["--merge", "{imatrix}"], WrongUsage("--merge")),
    of("imatrix", "--force", ALL, &[], &["--force"], Harmless(SCRIPTED)),
    of("imatrix", "--json", ALL, &[], &["--json"], Prints),
    of("imatrix", "--threads", ALL, &[], &["--threads", "3"], Harmless(SAME)),
    of("perplexity", "--file", ALL, &[], &["--file", "{tokens}"], Prints),
    of("perplexity", "--ctx", ALL, &[], &["--ctx", "16"], Prints),
    of("perplexity", "--chunks", ALL, &[], &["--chunks", "1"], Prints),
    of("perplexity", "--layer-by-layer", ALL, &[], &["--layer-by-layer"], Prints),
    of("perplexity", "--json", ALL, &[], &["--json"], Prints),
    of("perplexity", "--threads", ALL, &[], &["--threads", "3"], Harmless(SAME)),
    of("kl", "--file", ALL, &[], &["--file", "{tokens}"], Prints),
    of("kl", "--ctx", ALL, &[], &["--ctx", "16"], Prints),
    of("kl", "--chunks", ALL, &[], &["--chunks", "1"], Prints),
    of("kl", "--layer-by-layer", ALL, &[], &["--layer-by-layer"], Prints),
    of("kl", "--save-base", ALL, &[], &["--save-base", "base.kld"], Changes),
    of("kl", "--html", ALL, &[], &["--html", "page.html"], Changes),
    of("kl", "--json", ALL, &[], &["--json"], Prints),
    of("kl", "--threads", ALL, &[], &["--threads", "3"], Harmless(SAME)),
    of("generate", "--prompt", ALL, &[], &["--prompt", "A list"], Prints),
    of("generate", "--n", ALL, &[], &["--n", "3"], Prints),
    of("generate", "--temp", ALL, &[], &["--temp", "9"], Prints),
    of("generate", "--top-k", ALL, &["--temp", "9"], &["--top-k", "2"], Prints),
    of("generate", "--top-p", ALL, &["--temp", "9"], &["--top-p", "0.01"], Prints),
    of("generate", "--seed", ALL, &["--temp", "9"], &["--seed", "7"], Prints),
    of("generate", "--chat", ALL, &[], &["--chat"], Prints),
    of("generate", "--json", ALL, &[], &["--json"], Prints),
    of("generate", "--threads", ALL, &[], &["--threads", "3"], Harmless(SAME)),
    of("bench", "--n-prompt", ALL, &[], &["--n-prompt", "9"], Prints),
    of("bench", "--n-gen", ALL, &[], &["--n-gen", "0"], Prints),
    of("bench", "--n-gen", ALL, &["--n-prompt", "0"], &["--n-gen", "0"], Refused("there is nothing to run")),
    of("bench", "--repetitions", ALL, &[], &["--repetitions", "2"], Manner("only the spread tells")),
    of("bench", "--depth", ALL, &[], &["--depth", "3"], Prints),
    of("bench", "--html", ALL, &[], &["--html", "page.html"], Changes),
    of("bench", "--json", ALL, &[], &["--json"], Prints),
    of("bench", "--threads", ALL, &[], &["--threads", "13"], Prints),
    of("presets", "--json", &[Checkpoint], &[], &["--json"], Prints),
];
