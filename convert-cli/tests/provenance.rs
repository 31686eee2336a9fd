//! `verify --derived-from`.
#![allow(clippy::unwrap_used, reason = "a test that cannot prepare its data has failed")]

mod common;

use std::{fs, path::Path};

use common::{convert, fixture, quantwright, refused, stderr, stdout};
use gguf_io::{GgufFile, Limits};
use tempfile::tempdir;

fn verify(file: &Path, options: &[&str]) -> std::process::Output {
    let source = fixture("tiny-llama2");
    let mut command = quantwright();
    command.arg("verify").arg(file).arg("--derived-from").arg(source).args(options);
    command.output().unwrap()
}

#[test]
fn a_file_is_proved_and_attested() {
    let folder = tempdir().unwrap();
    let path = folder.path().join("m.gguf");
    convert(&fixture("tiny-llama2"), &path, &["-t", "q4_k_m"]);
    let attest = folder.path().join("statement.json");
    let done = verify(&path, &["--attest", attest.to_str().unwrap()]);
    assert!(done.status.success(), "{}", stderr(&done));
    assert!(stdout(&done).contains("made again: 21 of 21 tensors are equal"), "{}", stdout(&done));
    let statement: serde_json::Value = serde_json::from_slice(&fs::read(&attest).unwrap()).unwrap();
    assert_eq!(statement["_type"], "https://in-toto.io/Statement/v1");
    assert_eq!(statement["subject"][0]["name"], "m.gguf");
    let hash = quantwright().arg("hash").arg(&path).output().unwrap();
    let sum = statement["subject"][0]["digest"]["sha256"].as_str().unwrap();
    assert!(stdout(&hash).starts_with(sum));
    assert_eq!(statement["predicate"]["derivedFrom"].as_array().unwrap().len(), 3);
    assert_eq!(statement["predicate"]["result"]["complete"], true);
    // An older statement is not replaced.
    let again = verify(&path, &["--attest", attest.to_str().unwrap()]);
    assert_eq!(refused(&again, &["statement.json", "exists already"]), Vec::<String>::new());
}

/// As builds with fused multiply-add have it: few blocks, neighbouring codes.
#[test]
fn a_difference_by_rounding_is_called_that() {
    let folder = tempdir().unwrap();
    let path = folder.path().join("m.gguf");
    let sound = convert(&fixture("tiny-llama2"), &path, &["-t", "q8_0"]);
    let model = GgufFile::open(&path, &Limits::default()).unwrap();
    let tensor = model.tensors.iter().find(|t| t.name == "blk.1.ffn_up.weight").unwrap();
    for (steps, is_rounding) in [(1i8, true), (2, true), (40, false)] {
        let mut bytes = sound.clone();
        // A code of the fourth block that stays one, and one nearer to zero.
        let codes = tensor.offset as usize + 3 * 34 + 2;
        let code = bytes[codes..codes + 32].iter_mut().find(|c| (64..=127).contains(*c)).unwrap();
        *code -= steps as u8;
        fs::write(&path, bytes).unwrap();
        let done = verify(&path, &[]);
        assert_eq!(done.status.code(), Some(1));
        let says = "1 of 21 tensors are equal up to rounding only";
        assert_eq!(stderr(&done).contains(says), is_rounding, "{steps}: {}", stderr(&done));
        let json: serde_json::Value =
            serde_json::from_slice(&verify(&path, &["--json"]).stdout).unwrap();
        let derived = &json["derived"];
        assert_eq!(derived["up_to_rounding"], is_rounding);
        assert_eq!(derived["largest_code_difference"], steps, "{derived}");
        assert_eq!(derived["share_of_blocks"], 1.0 / 6144.0);
    }
    let plural = stdout(&verify(&path, &[]));
    assert!(!plural.contains("up to rounding"), "{plural}");
}

#[test]
fn what_differs_is_named() {
    let folder = tempdir().unwrap();
    let path = folder.path().join("m.gguf");
    let mut bytes = convert(&fixture("tiny-llama2"), &path, &["-t", "q8_0"]);
    let model = GgufFile::open(&path, &Limits::default()).unwrap();
    let tensor = model.tensors.iter().find(|t| t.name == "blk.1.ffn_up.weight").unwrap();
    bytes[(tensor.offset + 34 * 7 + 5) as usize] ^= 0x40;
    fs::write(&path, bytes).unwrap();
    let done = verify(&path, &[]);
    assert_eq!(done.status.code(), Some(1));
    assert!(stderr(&done).starts_with("error: ") && stderr(&done).lines().count() == 1);
    assert!(stderr(&done).contains("1 of 21 tensors differ, the first: blk.1.ffn_up.weight"));
    assert!(stdout(&done).contains("1 of 6144 blocks, the first is block 7"), "{}", stdout(&done));
    let json: serde_json::Value =
        serde_json::from_slice(&verify(&path, &["--json"]).stdout).unwrap();
    assert_eq!((&json["derived"]["differ"], &json["derived"]["equal"]), (&1.into(), &20.into()));
    assert!(json["error"]["message"].as_str().unwrap().contains("blk.1.ffn_up.weight"));
    // With a matrix, and without it.
    let matrix = fixture("tiny-llama2/imatrix.gguf");
    let options = ["--imatrix", matrix.to_str().unwrap()];
    convert(&fixture("tiny-llama2"), &path, &[&["-t", "q2_k", "--force"][..], &options].concat());
    assert!(verify(&path, &options).status.success());
    let without = verify(&path, &[]);
    assert!(without.status.success(), "{}", stderr(&without));
    assert!(stdout(&without).contains("an importance matrix, which was not given"));
}

/// `--search better` leaves a note, by which the proof searches as it did.
#[test]
fn a_file_of_a_better_search_is_proved_too() {
    let folder = tempdir().unwrap();
    let (path, plain) = (folder.path().join("better.gguf"), folder.path().join("plain.gguf"));
    convert(&fixture("tiny-llama2"), &path, &["-t", "q4_0", "--search", "better"]);
    convert(&fixture("tiny-llama2"), &plain, &["-t", "q4_0"]);
    let model = GgufFile::open(&path, &Limits::default()).unwrap();
    assert_eq!(model.metadata.get_str("quantize.search"), Some("better"));
    let done = verify(&path, &[]);
    assert!(done.status.success(), "{}", stderr(&done));
    assert!(stdout(&done).contains("made again: 21 of 21 tensors are equal"), "{}", stdout(&done));
    // It is that note alone which makes the difference.
    let mut edit = quantwright();
    let edited = edit.args(["edit", "--in-place", "--remove", "quantize.search"]).arg(&path);
    let edited = edited.output().unwrap();
    assert!(edited.status.success(), "{}", stderr(&edited));
    assert_eq!(verify(&path, &[]).status.code(), Some(1));

    let error = |file: &Path| {
        let mut compare = quantwright();
        compare.arg("compare").arg(fixture("tiny-llama2")).arg(file).arg("--json");
        let done = compare.output().unwrap();
        let json: serde_json::Value = serde_json::from_slice(&done.stdout).unwrap();
        json["total"]["rmse"].as_f64().unwrap()
    };
    let (better, plain) = (error(&path), error(&plain));
    assert!(better < 0.97 * plain, "{better} {plain}");
}
