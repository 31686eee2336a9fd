//! A checkpoint as the GGUF file that it becomes.

#![allow(clippy::unwrap_used, reason = "a test that cannot read its data has failed")]

mod common;

use std::collections::BTreeMap;

use common::fixture;
use gguf_io::Limits;
use quant_convert::{
    Control, Options, Plan, open,
    recipe::{FileType, Request},
};
use quant_kernels::Kernels;
use quant_weights::{Gguf, Source};

/// Shapes and values of all tensors, by name.
fn contents(source: &dyn Source) -> BTreeMap<String, (Vec<u64>, Vec<f32>)> {
    let mut reader = source.reader(Kernels::best());
    let mut contents = BTreeMap::new();
    for tensor in source.tensors() {
        let mut values = Vec::new();
        reader
            .scan(tensor, |start, chunk| {
                assert_eq!(start, values.len() as u64);
                values.extend_from_slice(chunk);
            })
            .unwrap();
        assert_eq!(values.len() as u64, tensor.elements());
        // A dimension of 1 that is outermost is not written.
        let shape = tensor.shape.iter().copied().filter(|n| *n != 1).collect();
        assert!(contents.insert(tensor.name.clone(), (shape, values)).is_none());
        assert_eq!(source.tensor(&tensor.name).unwrap().shape, tensor.shape);
    }
    source.check_unchanged().unwrap();
    contents
}

#[test]
fn a_checkpoint_reads_as_the_file_that_it_becomes() {
    for name in ["tiny-llama2", "tiny-mixtral", "tiny-phi2", "tiny-qwen2"] {
        let folder = tempfile::tempdir().unwrap();
        let output = folder.path().join("model.gguf");
        let request = Request::new(FileType::F32);
        let options = Options { request, no_sync: true, ..Options::default() };
        let plan = Plan::new(open(&fixture(name), &options).unwrap(), &options).unwrap();
        plan.run(&output, Control::default()).unwrap();

        let checkpoint = open(&fixture(name), &options).unwrap();
        let file = Gguf::open(&output, &Limits::default()).unwrap();
        assert!(contents(&checkpoint) == contents(&file), "{name}");
        let key = "general.architecture";
        let [a, b] = [Source::metadata(&checkpoint), file.metadata()].map(|m| m.get_str(key));
        assert!(a == b && a.is_some());
    }
}
