//! A plan keeps what it found, and runs as it was made.
#![allow(clippy::unwrap_used, reason = "a test that cannot prepare its data has failed")]

mod common;

use std::path::Path;

use quant_convert::{
    Control, Error, Options, Plan, Split,
    grouped::{self, FolderPlan},
    open,
    recipe::{FileType, Request, parse_tensor_type},
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
    plan(&common::fixture("tiny-llama2"), &q8_0).run(&once, &q8_0, control()).unwrap();

    let q2_k = options(FileType::Q2_K);
    let plan_again = plan(&once, &q2_k);
    let first = plan_again.check().unwrap_err();
    let Error::Requantize { .. } = first else { panic!("{first:?}") };
    for _ in 0..1000 {
        assert_eq!(plan_again.check().unwrap_err().to_string(), first.to_string());
    }
    assert!(matches!(plan_again.create(&twice, &q2_k), Err(Error::Requantize { .. })));
    assert!(matches!(plan_again.run(&twice, &q2_k, control()), Err(Error::Requantize { .. })));
    assert!(!twice.exists());
    // The neighbour, with leave.
    let leave = Options { allow_requantize: true, ..q2_k };
    let allowed = plan(&once, &leave);
    allowed.check().unwrap();
    allowed.run(&twice, &leave, control()).unwrap();
}

/// A plan for Q8_0 ran with options for Q2_K, and wrote Q8_0.
#[test]
fn a_plan_runs_with_the_options_it_was_made_with() {
    let input = common::fixture("tiny-llama2");
    let folder = tempfile::tempdir().unwrap();
    let output = folder.path().join("m.gguf");
    let made = options(FileType::Q8_0);
    let mut with_override = made.clone();
    with_override.request.overrides.push(parse_tensor_type("ffn_up=q4_0").unwrap());
    let others = [
        (options(FileType::Q2_K), "Q8_0, then Q2_K"),
        (with_override, "overrides: []"),
        (Options { allow_requantize: true, ..made.clone() }, "allow_requantize: false"),
        (Options { prune_layers: Some("1".into()), ..made.clone() }, "prune_layers: None"),
        (Options { split: Some(Split::MaxTensors(3)), ..made.clone() }, "split: None"),
        (Options { override_kv: vec![("a".into(), 1u32.into())], ..made.clone() }, "override_kv"),
        (Options { like_reference: true, ..made.clone() }, "like_reference"),
        (
            Options { imatrix: Some(input.join("imatrix.gguf")), ..made.clone() },
            "imatrix: None, then imatrix: Some",
        ),
    ];
    for (other, says) in &others {
        let refused = |result: Result<(), Error>| match result {
            Err(error @ Error::OtherOptions { .. }) => {
                assert!(error.to_string().contains(says), "{says}: {error}");
            }
            other => panic!("{says}: {other:?}"),
        };
        refused(plan(&input, &made).run(&output, other, Control::default()));
        refused(plan(&input, &made).create(&output, other).map(|_| ()));
        refused(plan(&input, &made).check_output(&output, other));
        let set = plan(&input, &made).create(&output, &made).unwrap();
        refused(plan(&input, &made).run_into(set, other, Control::default()));
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
    }
    // How it is written may change.
    plan(&input, &made).run(&output, &made, Control::default()).unwrap();
    let how = Options { overwrite: true, threads: 3, no_sync: false, ..made.clone() };
    plan(&input, &made).check_output(&output, &how).unwrap();
    plan(&input, &made).run(&output, &how, Control::default()).unwrap();
    // Patterns compare by their text.
    let [mut a, mut b] = [made.clone(), how];
    for options in [&mut a, &mut b] {
        options.request.overrides.push(parse_tensor_type("ffn_up=q4_0").unwrap());
    }
    plan(&input, &a).run(&output, &b, Control::default()).unwrap();
}

#[test]
fn a_folder_is_made_with_one_grouped_quantization() {
    let input = common::fixture("tiny-llama2");
    let folder = tempfile::tempdir().unwrap();
    let output = folder.path().join("model");
    let wanted = grouped::Options {
        group_size: GroupSize::from_number(64),
        ..grouped::Options::new(GroupedType::Int4Sym)
    };
    let with = |grouped| Options { grouped, no_sync: true, ..Options::default() };
    let new = |options: &Options| FolderPlan::new(&input, &wanted, options, Control::default());
    for other in [
        grouped::Options { ratio: 0.8, ..wanted },
        grouped::Options { ty: GroupedType::Int8Asym, ..wanted },
        grouped::Options { refine: true, ..wanted },
    ] {
        let error = new(&with(Some(other))).unwrap_err();
        assert!(matches!(error, Error::Grouped { .. }), "{error:?}");
        let text = error.to_string();
        assert!(text.contains("two grouped quantizations are asked for"), "{text}");
    }
    // The neighbours: the same, and none; and what runs is what was planned.
    let same = with(Some(wanted));
    let other = Options { split: Some(Split::MaxTensors(9)), ..same.clone() };
    let run = |options| new(&same).unwrap().run(&output, options, Control::default());
    assert!(matches!(run(&other), Err(Error::OtherOptions { .. })));
    assert!(matches!(
        new(&same).unwrap().check_output(&output, &other),
        Err(Error::OtherOptions { .. })
    ));
    assert!(!output.exists());
    run(&Options { threads: 2, ..same.clone() }).unwrap();
    let none = Options { overwrite: true, ..with(None) };
    new(&none).unwrap().run(&output, &none, Control::default()).unwrap();
}
