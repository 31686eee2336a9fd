//! The libraries' messages in the words of the command line: what to do about an error, and the names of
//! options.

use quant_convert::{Error, grouped::Refusal};
use quant_core::GgmlType;

/// What the libraries' messages name in back quotes, as their documentation does, and what it is called
/// here.
const NAMES: &[(&str, &str)] = &[
    ("Preference::Index", "--like-reference"),
    ("Split::Files", "--shards"),
    ("Split::Keep", "--keep-split"),
    ("Split::MaxBytes", "--split-max-size"),
    ("Split::MaxTensors", "--split-max-tensors"),
    ("all_layers", "--all-layers"),
    ("allow_requantize", "--allow-requantize"),
    ("architecture", "--architecture"),
    ("backup", "--backup"),
    ("base", "--base"),
    ("check", "quantwright verify"),
    ("exclude_weights", "--exclude-weights"),
    ("fallback", "--group-size-fallback"),
    ("file_type", "--type"),
    ("imatrix", "--imatrix"),
    ("imatrix_prior", "--imatrix-prior"),
    ("include_weights", "--include-weights"),
    ("leave_output_tensor", "--leave-output-tensor"),
    ("like_reference", "--like-reference"),
    ("metadata", "--metadata"),
    ("mmproj", "--mmproj"),
    ("output_tensor_type", "--output-tensor-type"),
    ("override_kv", "--override-kv"),
    ("overrides", "--tensor-type"),
    ("overwrite", "--force"),
    ("per_layer", "--per-layer"),
    ("pre_tokenizer", "--pre-tokenizer"),
    ("prune_layers", "--prune-layers"),
    ("pure", "--pure"),
    ("ratio", "--ratio"),
    ("refine", "--refine-scales"),
    ("search", "--search"),
    ("sensitivity", "--sensitivity"),
    ("strict", "--strict"),
    ("token_embedding_type", "--token-embedding-type"),
    ("write_header", "kl --save-base"),
];

/// A message with the names that things have here. What files say stands in double quotes, where nothing
/// is a name of the library's.
pub(crate) fn in_words(message: &str) -> String {
    let mut text = String::with_capacity(message.len());
    let mut rest = message.char_indices();
    let mut is_quoted = false;
    while let Some((at, c)) = rest.next() {
        let name = match c {
            '`' if !is_quoted => message.get(at..).and_then(named),
            _ => None,
        };
        if let Some((name, here)) = name {
            text.push_str(here);
            // To the quote behind it.
            rest.by_ref().find(|(end, _)| *end > at.saturating_add(name.len()));
            continue;
        }
        text.push(c);
        if c == '"' {
            is_quoted = !is_quoted;
        } else if c == '\\' && is_quoted {
            text.extend(rest.next().map(|(_, escaped)| escaped));
        }
    }
    text
}

/// The name that a text begins with, in back quotes, and what it is called here.
fn named(text: &str) -> Option<(&'static str, &'static str)> {
    let (name, _) = text.strip_prefix('`')?.split_once('`')?;
    NAMES.iter().copied().find(|(of_library, _)| *of_library == name)
}

/// The hint that takes the place of the library's, if that speaks of what an option does here.
pub(crate) fn hint(error: &Error) -> Option<&'static str> {
    Some(match error {
        Error::ImportanceNeeded { .. } => {
            "make a matrix with `quantwright imatrix` and give it with --imatrix, or choose a larger type"
        }
        Error::ImportanceTooLarge { .. } => {
            "the matrix is damaged: make it again, or leave the tensor out with --exclude-weights"
        }
        Error::Requantize { .. } => {
            "start from the original checkpoint, or insist with --allow-requantize"
        }
        Error::Overflow { importance: Some(_), .. } => {
            "the importance matrix is damaged: make it again, or leave the tensor out with \
             --exclude-weights"
        }
        Error::Overflow { ty: GgmlType::BF16, .. } => "keep it in F32 (--type f32)",
        Error::Overflow { .. } => {
            "keep it in BF16 or F32 (--type bf16, or --tensor-type NAME=bf16)"
        }
        Error::TooSmall { .. } => {
            "allow more, name smaller types with --candidates, or, if the input is quantized, make others \
             of its tensors with --allow-requantize"
        }
        Error::NoCandidate { .. } => "name a type with smaller blocks in --candidates too",
        Error::Sensitivities { .. } => "measure them again with --calibration",
        Error::GroupSize { .. } => {
            "choose a --group-size that divides them, or --group-size-fallback ignore or adjust"
        }
        #[cfg(feature = "remote")]
        Error::Files(gguf_io::Error::Remote { help, .. }) if help.contains("access token") => {
            "check the address, or set HF_TOKEN to an access token of an account that may read it"
        }
        Error::Base { .. } => {
            "give the folder of its base model with --base (only config.json is read), or merge the \
             adapter into it (merge_and_unload of peft) and convert that"
        }
        Error::Part { .. } => "leave it out; --type may be f32, f16, bf16, q8_0 or auto",
        Error::OtherShard { .. } => {
            "choose another name, or replace it with --force if it is of an earlier run"
        }
        Error::Threads { .. } => "try fewer with --threads",
        Error::PreTokenizer { .. } => {
            "if you know llama.cpp's name for it, give it with --pre-tokenizer NAME"
        }
        Error::Grouped { refusal, .. } => refused(*refusal)?,
        _ => return None,
    })
}

fn refused(refusal: Refusal) -> Option<&'static str> {
    Some(match refusal {
        Refusal::NoLayer => {
            "the names of this model's layers are not known, or --ratio and --backup, or \
             --group-size-fallback ignore, leave all as they are"
        }
        Refusal::NoImportance => {
            "give one with --imatrix that has all layers, or choose --sensitivity weights"
        }
        Refusal::ExpertRows => {
            "choose a --group-size that divides all of them, or --group-size-fallback adjust"
        }
        Refusal::ExpertZeroPoints => {
            "choose int4_sym or int8_sym as --type, and int8_sym or none as --backup"
        }
        Refusal::ExpertSchemes => "leave out --per-layer, or take --ratio 1",
        Refusal::NoBlocks => {
            "for GGUF choose int4_sym with a --group-size that is a multiple of 32, or write a folder \
             (an output whose name does not end in .gguf)"
        }
        Refusal::NoBackupBlocks => {
            "leave out --backup, or choose int8_sym (written as Q8_0) or none"
        }
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_the_library_become_those_of_options() {
        for (message, words) in [
            ("`pure` has no effect: none", "--pure has no effect: none"),
            ("`ratio` 0.5; `check` lists 2 more", "--ratio 0.5; quantwright verify lists 2 more"),
            ("as `strict` and `Split::Keep`", "as --strict and --keep-split"),
            // Not names, and what files say.
            ("`colour` `` ` pure`", "`colour` `` ` pure`"),
            (r#"tensor "`pure`\"`pure`": `pure`"#, r#"tensor "`pure`\"`pure`": --pure"#),
            ("größer `pure`", "größer --pure"),
            ("", ""),
        ] {
            assert_eq!(in_words(message), words);
        }
    }

    #[test]
    fn names_are_those_of_options_and_commands() {
        let mut command = <crate::args::Cli as clap::CommandFactory>::command();
        command.build();
        for (_, here) in NAMES {
            let flag = here.split_once("--").map(|(_, flag)| flag);
            let is_option = command
                .get_subcommands()
                .any(|command| command.get_arguments().any(|argument| argument.get_long() == flag));
            assert!(flag.is_none() || is_option, "{here}");
        }
        assert!(NAMES.is_sorted());
    }

    /// The hint is what a message ends with, so that it can be replaced.
    #[test]
    fn messages_end_with_their_hints() {
        let tensor = || "t".to_owned();
        for error in [
            Error::ImportanceNeeded { tensor: tensor(), ty: GgmlType::Q2_K },
            Error::Requantize { tensor: tensor(), source_type: GgmlType::Q8_0, ty: GgmlType::Q4_K },
            Error::Overflow {
                tensor: tensor(),
                ty: GgmlType::F16,
                magnitude: 1e6,
                index: 3,
                importance: None,
            },
            Error::GroupSize { tensor: tensor(), row: 96, group: 64 },
            Error::Threads { error: std::io::Error::other("none") },
            Error::Base { path: "a".into(), problem: "which names none".into() },
            Error::Part { asked: "a matrix".into(), part: "an adapter" },
            Error::OtherShard { path: "p".into(), byte: 8 },
            Error::PreTokenizer { path: "p".into(), found: "x".into(), names: "a, b".into() },
            Error::Grouped { refusal: Refusal::ExpertRows, problem: "rows".into() },
            Error::ImportanceTooLarge {
                path: "p".into(),
                tensor: tensor(),
                index: 0,
                value: 1e31,
                most: 1e30,
            },
        ] {
            let message = error.to_string();
            assert!(message.ends_with(error.hint().unwrap()), "{message}");
            assert!(!message.contains("--"), "{message}");
            let told = crate::failure::Failure::from(&error);
            let hint = hint(&error).unwrap();
            assert!(told.message.ends_with(hint) && told.hint.as_deref() == Some(hint));
        }
    }
}
