//! A plan keeps what it found, and runs as it was made.
#![allow(clippy::unwrap_used, reason = "a test that cannot prepare its data has failed")]

mod common;

use std::path::Path;

use quant_convert::{
    Control, Error, Options, Plan,
    grouped::{self, FolderPlan},
    open,
    recipe::{FileType, Request},
};
use quant_core::grouped::{GroupSize, GroupedType};

fn options(file_type: FileType) -> Options {
    Options { request: Request::new(file_type), no_sync: true, ..Options::default() }
}

fn plan(input: &Path, options: &Options) -> Plan {
    Plan::new(open(input, options).unwrap(), options).unwrap()
}

/// It removed what it reported: a run after it quantized a second time without leave.
#[test]
fn check_reports_the_same_each_time() {
    let folder = tempfile::tempdir().unwrap();
    let (once, twice) = (folder.path().join("q8_0.gguf"), folder.path().join("q2_k.gguf"));
    let q8_0 = options(FileType::Q8_0);
    let control = Control::default;
    plan(&common::fixture("tiny-llama2"), &q8_0).run(&once, control()).unwrap();

    let q2_k = options(FileType::Q2_K);
    let plan_again = plan(&once, &q2_k);
    let first = plan_again.check().unwrap_err();
    let Error::Requantize { .. } = first else { panic!("{first:?}") };
    for _ in 0..1000 {
        assert_eq!(plan_again.check().unwrap_err().to_string(), first.to_string());
    }
    assert!(matches!(plan_again.create(&twice), Err(Error::Requantize { .. })));
    assert!(matches!(plan_again.run(&twice, control()), Err(Error::Requantize { .. })));
    assert!(!twice.exists());
    // The neighbour, with leave.
    let leave = Options { allow_requantize: true, ..q2_k };
    let allowed = plan(&once, &leave);
    allowed.check().unwrap();
    allowed.run(&twice, control()).unwrap();
}

/// A plan ran with options given a second time, and did what neither of the two asked for.
#[test]
fn a_plan_runs_as_it_was_made() {
    let input = common::fixture("tiny-llama2");
    let folder = tempfile::tempdir().unwrap();
    let output = folder.path().join("m.gguf");
    let first = options(FileType::Q8_0);
    plan(&input, &first).run(&output, Control::default()).unwrap();
    let refused = plan(&input, &first);
    assert!(refused.check_output(&output).is_err());
    assert!(refused.run(&output, Control::default()).is_err());
    let replace = Options { overwrite: true, threads: 3, no_sync: false, ..first };
    plan(&input, &replace).check_output(&output).unwrap();
    plan(&input, &replace).run(&output, Control::default()).unwrap();
}

#[test]
fn a_folder_needs_a_type_of_grouped_integers() {
    let input = common::fixture("tiny-llama2");
    let folder = tempfile::tempdir().unwrap();
    let output = folder.path().join("model");
    let with = |grouped| Options { grouped, no_sync: true, ..Options::default() };
    let new = |options: &Options| FolderPlan::new(&input, options, Control::default());
    let error = new(&with(None)).unwrap_err();
    assert!(matches!(error, Error::Grouped { .. }), "{error:?}");
    let wanted = grouped::Options {
        group_size: GroupSize::from_number(64),
        ..grouped::Options::new(GroupedType::Int4Sym)
    };
    new(&with(Some(wanted))).unwrap().run(&output, Control::default()).unwrap();
}
