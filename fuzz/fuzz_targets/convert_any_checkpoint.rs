//! A small model of any values and shapes, converted to any type: refused, or sound.
#![no_main]

use gguf_io::{GgufFile, Limits, SourceFile};
use quant_convert::{
    Control, Options, Plan, gguf_input, recipe::FileType, recipe::Request, verify,
};

libfuzzer_sys::fuzz_target!(|input: &[u8]| {
    let Some((&[file_type, flags, shape], values)) = input.split_first_chunk() else { return };
    let request = Request {
        file_type: FileType::from_id(u32::from(file_type % 40)),
        pure: flags & 1 == 1,
        strict: flags & 2 == 2,
        leave_output_tensor: flags & 4 == 4,
        ..Request::default()
    };
    let options =
        Options { request, overwrite: true, no_sync: true, threads: 1, ..Options::default() };
    let bytes = fuzz::model(u64::from(shape), values);
    let file = SourceFile::from_bytes("fuzz.gguf", bytes);
    let model = GgufFile::read(file, &Limits::default()).expect("a sound file");
    let model = gguf_input::read(model).expect("a sound model");
    let Ok(plan) = Plan::new(model, &options) else { return };
    let (output, total) = (fuzz::folder().join("out.gguf"), plan.total_bytes());
    if plan.run(&output, Control::default()).is_ok() {
        assert_eq!(std::fs::metadata(&output).expect("an output").len(), total);
        let found = verify::verify(&output, &options).expect("threads");
        let values = found.problems.iter().find(|p| p.contains("finite") || p.contains("byte"));
        assert!(values.is_none(), "{values:?}");
    }
});
