//! `verify --derived-from`: whether a file was made from a model.

use std::{io::IsTerminal, path::Path};

use anyhow::Context;
use gguf_io::{AtomicFile, GgufFile, OutputOptions, SourceFile, gguf::hash};
use indicatif::ProgressBar;
use quant_convert::{
    Control, Options, Progress,
    provenance::{self, Derived, Outcome, Proof, Reason},
};
use serde_json::{Value, json};

use crate::{
    args::VerifyArgs,
    commands::progress_bar,
    failure::Failure,
    input::Input,
    signals,
    text::{self, escape},
};

/// Names that are shown of tensors that differ, or could not be made again.
const SHOWN: usize = 24;

pub(crate) fn prove(args: &VerifyArgs, source: &Path, options: &Options) -> anyhow::Result<Proof> {
    let cancel = signals::listen().context("cannot listen for signals")?;
    let source = Input::open(source)?;
    let options = &Options { elsewhere: source.files().to_vec(), ..options.clone() };
    let model = quant_convert::open(source.path(), options)?;
    let bytes = model.tensors.iter().map(|tensor| tensor.source_bytes()).sum();
    let bar = match !args.json && std::io::stderr().is_terminal() {
        true => progress_bar(bytes)?,
        false => ProgressBar::hidden(),
    };
    let progress = |now: Progress<'_>| bar.set_position(now.done);
    let control = Control { cancel: Some(cancel), progress: Some(&progress) };
    let proof = provenance::prove(&args.input, &model, options, control);
    bar.finish_and_clear();
    let proof = proof?;
    if let Some(output) = &args.attest {
        let inputs = model.files.iter().map(digest);
        let statement = statement(args, inputs.collect::<anyhow::Result<_>>()?, &proof)?;
        let text = format!("{statement:#}\n");
        let file = AtomicFile::create(output, text.len() as u64, OutputOptions::default())?;
        file.write_all_at(text.as_bytes(), 0)?;
        file.commit()?;
    }
    Ok(proof)
}

/// An in-toto Statement v1 about the files of the model.
fn statement(args: &VerifyArgs, inputs: Vec<Value>, proof: &Proof) -> anyhow::Result<Value> {
    let file = GgufFile::open(&args.input, &gguf_io::Limits::default())?;
    let subject = file.files.iter().map(digest);
    let matrix = args.imatrix.as_deref().map(SourceFile::open).transpose()?;
    let matrix = matrix.as_ref().map(digest).transpose()?;
    Ok(json!({
        "_type": "https://in-toto.io/Statement/v1",
        "subject": subject.collect::<anyhow::Result<Vec<_>>>()?,
        "predicateType": "https://github.com/quantwright/quantwright/derivation/v1",
        "predicate": {
            "program": format!("quantwright {}", crate::version::program()),
            "derivedFrom": inputs,
            "importanceMatrix": matrix,
            "result": as_json(proof),
        },
    }))
}

/// Name and digest of a file, as in-toto has them.
fn digest(file: &SourceFile) -> anyhow::Result<Value> {
    let sum = hash::file(file, &|_, _| {})?;
    let name = file.path().file_name().unwrap_or_default().to_string_lossy();
    Ok(json!({"name": name, "digest": {"sha256": sum}}))
}

fn count(proof: &Proof, of: impl Fn(&Outcome) -> bool) -> usize {
    proof.tensors.iter().filter(|tensor| of(&tensor.outcome)).count()
}

fn differing(proof: &Proof) -> impl Iterator<Item = &Derived> {
    proof.tensors.iter().filter(|t| matches!(t.outcome, Outcome::Differs(_)))
}

/// What a difference by rounding means.
fn rounding(proof: &Proof) -> String {
    let codes = proof.largest_code_difference().unwrap_or(u64::MAX);
    let codes = if codes == 1 { "1 code".to_owned() } else { format!("{codes} codes") };
    format!("{:.2} % of their blocks differ, by {codes} at most", proof.share_of_blocks() * 100.0)
}

/// The line that says that the file is not proved.
pub(crate) fn failure(args: &VerifyArgs, proof: &Proof) -> Option<Failure> {
    let path = text::path(&args.input);
    let fail = |what: String| Some(Failure::of_file(format!("{path}: {what}"), path.clone()));
    let differ = count(proof, |outcome| matches!(outcome, Outcome::Differs(_)));
    if proof.is_rounding() {
        return fail(format!(
            "{differ} of {} tensors are equal up to rounding only, as files of builds with fused \
             multiply-add are: {}",
            proof.tensors.len(),
            rounding(proof)
        ));
    }
    if let Some(tensor) = differing(proof).next() {
        let name = escape(&tensor.name);
        return fail(format!(
            "{differ} of {} tensors differ, the first: {name}",
            proof.tensors.len()
        ));
    }
    if let Some(name) = proof.missing.first() {
        let (name, count) = (escape(name), proof.missing.len());
        return fail(format!("{count} tensors of the source are missing, the first: {name}"));
    }
    let strange =
        |outcome: &Outcome| matches!(outcome, Outcome::NotMade(Reason::Absent | Reason::Shape));
    let tensor = proof.tensors.iter().find(|tensor| strange(&tensor.outcome))?;
    let Outcome::NotMade(reason) = tensor.outcome else { return None };
    fail(format!("tensor {}: {}", escape(&tensor.name), reason.text()))
}

pub(crate) fn as_json(proof: &Proof) -> Value {
    let tensors = proof.tensors.iter().map(|tensor| {
        let mut json = json!({"name": tensor.name, "type": tensor.ty.name()});
        match tensor.outcome {
            Outcome::Equal => json["outcome"] = "equal".into(),
            Outcome::Differs(difference) => {
                json["outcome"] = "differs".into();
                json["blocks"] = tensor.blocks.into();
                json["blocks_that_differ"] = difference.blocks.into();
                json["first_block"] = difference.first.into();
                // JSON has no infinity.
                json["largest_difference"] = json!(difference.largest);
            }
            Outcome::NotMade(reason) => {
                json["outcome"] = "not made".into();
                json["reason"] = reason.text().into();
            }
            _ => {}
        }
        json
    });
    json!({
        "complete": proof.is_complete(),
        "equal": count(proof, |outcome| *outcome == Outcome::Equal),
        "differ": count(proof, |outcome| matches!(outcome, Outcome::Differs(_))),
        "not_made": count(proof, |outcome| matches!(outcome, Outcome::NotMade(_))),
        "up_to_rounding": proof.is_rounding(),
        "share_of_blocks": proof.share_of_blocks(),
        "largest_code_difference": proof.largest_code_difference(),
        "missing": proof.missing,
        "other_keys": proof.other_keys,
        "tensors": tensors.collect::<Vec<_>>(),
    })
}

pub(crate) fn text(proof: &Proof) -> String {
    let equal = count(proof, |outcome| *outcome == Outcome::Equal);
    let of = proof.tensors.len();
    let mark = if equal == of { "ok    " } else { "      " };
    let mut lines = format!("{mark}  made again: {equal} of {of} tensors are equal\n");
    for tensor in differing(proof).take(SHOWN) {
        let Outcome::Differs(difference) = tensor.outcome else { continue };
        lines += &format!(
            "differs {} ({}): {} of {} blocks, the first is block {}; values by up to {:.2} % of the \
             largest in their block\n",
            escape(&tensor.name),
            tensor.ty,
            difference.blocks,
            tensor.blocks,
            difference.first,
            difference.largest * 100.0
        );
    }
    let not_made = |tensor: &&Derived| matches!(tensor.outcome, Outcome::NotMade(_));
    for tensor in proof.tensors.iter().filter(not_made).take(SHOWN) {
        let Outcome::NotMade(reason) = tensor.outcome else { continue };
        lines += &format!("unknown {} ({}): {}\n", escape(&tensor.name), tensor.ty, reason.text());
    }
    for name in proof.missing.iter().take(SHOWN) {
        lines += &format!("missing {}\n", escape(name));
    }
    if proof.is_rounding() {
        lines += &format!(
            "note    equal up to rounding: a program with other rounding made these blocks, from the \
             same weights; {}\n",
            rounding(proof)
        );
    }
    if !proof.other_keys.is_empty() {
        let keys: Vec<_> = proof.other_keys.iter().take(SHOWN).map(|key| escape(key)).collect();
        lines += &format!("note    other metadata than a conversion writes: {}\n", keys.join(", "));
    }
    lines
}
