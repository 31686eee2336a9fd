//! Layers in GPTQ, AWQ, compressed-tensors, FP8, MLX or MXFP4, of any values, some of a wrong shape or
//! missing: refused, or an output that is sound.
#![no_main]

use quant_convert::{Control, Options, Plan, open, recipe::FileType, recipe::Request, verify};

libfuzzer_sys::fuzz_target!(|input: &[u8]| {
    let Some((&[way, file_type, flags, at], values)) = input.split_first_chunk() else { return };
    let (config, mut tensors) = fuzz::packed(usize::from(way) % (fuzz::PACKED.len() + 1));
    let index = usize::from(at) % tensors.len();
    match flags % 8 {
        1 => drop(tensors.remove(index)),
        2 => tensors[index].2.reverse(),
        3 => tensors[index].2[0] = u64::from(flags / 8),
        4 => tensors[index].1 = ["I32", "F16", "F32", "F8_E4M3"][usize::from(flags / 8) % 4],
        5 => tensors[index].2.push(u64::from(flags / 8)),
        6 => tensors[index].2.truncate(1),
        _ => {}
    }
    let folder = fuzz::folder();
    fuzz::save(folder, &config, &tensors, values, flags % 8 == 7);
    let types = [FileType::F32, FileType::BF16, FileType::Q4_0, FileType::Q8_0];
    let options = Options {
        request: Request::new(types[usize::from(file_type) % types.len()]),
        pre_tokenizer: Some("llama-bpe".to_owned()),
        overwrite: true,
        no_sync: true,
        threads: 1,
        ..Options::default()
    };
    let plan = open(folder, &options).and_then(|model| Plan::new(model, &options));
    let Ok(plan) = plan else { return };
    let output = folder.join("out.gguf");
    if plan.run(&output, Control::default()).is_ok() {
        let found = verify::verify(&output, &options).expect("threads");
        assert!(found.problems.is_empty(), "{:?}", found.problems);
    }
});
