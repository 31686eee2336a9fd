//! Every tensor of a file is made again, and whatever is different is found and placed.
#![allow(clippy::unwrap_used, reason = "a test that cannot prepare its data has failed")]

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
};

use gguf_io::{GgufFile, Limits};
use quant_convert::{
    Control, Options, Plan, open,
    provenance::{Outcome, Proof, Reason, prove},
    recipe::{FileType, Request},
};

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../fixtures").join(name)
}

fn convert(source: &Path, output: &Path, file_type: FileType, imatrix: Option<PathBuf>) {
    let options =
        Options { request: Request::new(file_type), imatrix, no_sync: true, ..Options::default() };
    let plan = Plan::new(open(source, &options).unwrap(), &options).unwrap();
    plan.run(output, Control::default()).unwrap();
}

fn proof(file: &Path, source: &Path, imatrix: Option<PathBuf>) -> Proof {
    let options = Options { imatrix, ..Options::default() };
    let source = open(source, &options).unwrap();
    prove(file, &source, &options, Control::default()).unwrap()
}

#[test]
fn files_are_proved_with_and_without_their_matrix() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("m.gguf");
    for name in ["tiny-llama2", "tiny-mixtral", "tiny-phi2"] {
        for file_type in [FileType::Q4_K_M, FileType::Q8_0, FileType::IQ4_NL, FileType::F16] {
            convert(&fixture(name), &path, file_type, None);
            let found = proof(&path, &fixture(name), None);
            assert!(
                found.is_complete() && found.holds() && !found.is_rounding(),
                "{name} {file_type}"
            );
            assert!(!found.used_importance);
            assert!(found.other_keys.is_empty(), "{name}: {:?}", found.other_keys);
            fs::remove_file(&path).unwrap();
        }
    }
    let matrix = Some(fixture("tiny-llama2/imatrix.gguf"));
    convert(&fixture("tiny-llama2"), &path, FileType::Q4_K_M, matrix.clone());
    assert!(proof(&path, &fixture("tiny-llama2"), matrix.clone()).is_complete());
    let without = proof(&path, &fixture("tiny-llama2"), None);
    assert!(without.holds() && !without.is_complete() && without.used_importance);
    for tensor in &without.tensors {
        let expected = match tensor.ty.name() {
            "F32" => Outcome::Equal,
            // The matrix has no entry for these.
            _ if !tensor.name.starts_with("blk.") => Outcome::Equal,
            _ => Outcome::NotMade(Reason::Importance),
        };
        assert_eq!(tensor.outcome, expected, "{}", tensor.name);
    }
    // A file that was made without one differs when it is made again with one.
    fs::remove_file(&path).unwrap();
    convert(&fixture("tiny-llama2"), &path, FileType::Q4_K_M, None);
    assert!(!proof(&path, &fixture("tiny-llama2"), matrix).holds());
}

#[test]
fn another_model_is_no_source() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("m.gguf");
    convert(&fixture("tiny-llama2"), &path, FileType::Q8_0, None);
    // Other shapes, other names.
    let found = proof(&path, &fixture("tiny-phi2"), None);
    assert!(!found.is_complete() && !found.missing.is_empty());
    let reasons = found.tensors.iter().filter_map(|tensor| match tensor.outcome {
        Outcome::NotMade(reason) => Some(reason.text()),
        _ => None,
    });
    assert!(reasons.collect::<BTreeSet<_>>().contains(Reason::Absent.text()));
    // Through another type a file is not what its source gives.
    let half = folder.path().join("half.gguf");
    convert(&fixture("tiny-llama2"), &half, FileType::Q8_0, None);
    let again = folder.path().join("again.gguf");
    let options = Options {
        request: Request::new(FileType::Q4_0),
        allow_requantize: true,
        no_sync: true,
        ..Options::default()
    };
    let plan = Plan::new(open(&half, &options).unwrap(), &options).unwrap();
    plan.run(&again, Control::default()).unwrap();
    assert!(!proof(&again, &fixture("tiny-llama2"), None).holds());
    assert!(proof(&again, &half, None).is_complete());
}

/// A generator of numbers that are the same in every run.
struct Numbers(u64);

impl Numbers {
    fn below(&mut self, most: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % most
    }
}

#[test]
fn one_bit_in_any_place_is_found_and_placed() {
    let folder = tempfile::tempdir().unwrap();
    let mut numbers = Numbers(0x9e37_79b9_7f4a_7c15);
    for file_type in [FileType::Q4_K_M, FileType::Q2_K, FileType::Q5_0, FileType::F16] {
        let path = folder.path().join("m.gguf");
        convert(&fixture("tiny-llama3"), &path, file_type, None);
        let model = GgufFile::open(&path, &Limits::default()).unwrap();
        let sound = fs::read(&path).unwrap();
        for _ in 0..5 {
            let mut bytes = sound.clone();
            let mut expected: BTreeMap<String, BTreeSet<u64>> = BTreeMap::new();
            for _ in 0..10 {
                let tensor = &model.tensors[numbers.below(model.tensors.len() as u64) as usize];
                let at = numbers.below(tensor.bytes);
                let block = at / tensor.ty.block_bytes() as u64;
                // Two flips of one bit would undo each other.
                if expected.entry(tensor.name.clone()).or_default().insert(block) {
                    bytes[(tensor.offset + at) as usize] ^= 1 << numbers.below(8);
                }
            }
            fs::write(&path, &bytes).unwrap();
            let found = proof(&path, &fixture("tiny-llama3"), None);
            assert!(!found.holds());
            for tensor in &found.tensors {
                match (tensor.outcome, expected.get(&tensor.name)) {
                    (Outcome::Equal, None) => {}
                    (Outcome::Differs(difference), Some(blocks)) => {
                        assert_eq!(difference.blocks, blocks.len() as u64, "{}", tensor.name);
                        assert_eq!(Some(&difference.first), blocks.first(), "{}", tensor.name);
                    }
                    other => panic!("{file_type} {}: {other:?}", tensor.name),
                }
            }
        }
        fs::remove_file(&path).unwrap();
    }
}
