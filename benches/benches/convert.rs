//! Whole conversions of a checkpoint of 400 million weights, on all cores, without the flush.

use std::{path::Path, time::Duration};

use criterion::{
    BenchmarkId, Criterion, SamplingMode, Throughput, criterion_group, criterion_main,
};
use quant_convert::{
    Control, Options, Plan, open,
    recipe::{FileType, Request},
};

const TYPES: [FileType; 6] = [
    FileType::F16,
    FileType::Q8_0,
    FileType::Q4_0,
    FileType::Q4_K_M,
    FileType::Q6_K,
    FileType::Q2_K,
];

fn convert(c: &mut Criterion) {
    let checkpoint = match benches::checkpoint() {
        Ok(checkpoint) => checkpoint,
        Err(error) => {
            eprintln!("error: cannot make the checkpoint: {error}");
            return;
        }
    };
    let output = checkpoint.join("../bench-output.gguf");
    let mut group = c.benchmark_group("convert");
    group.sampling_mode(SamplingMode::Flat).sample_size(10);
    group.warm_up_time(Duration::from_secs(1)).measurement_time(Duration::from_secs(10));
    for file_type in TYPES {
        let options = Options {
            request: Request::new(file_type),
            overwrite: true,
            no_sync: true,
            ..Options::default()
        };
        let run = || run(&checkpoint, &output, &options);
        match open(&checkpoint, &options).and_then(|model| Plan::new(model, &options)) {
            Ok(plan) => group.throughput(Throughput::Bytes(plan.source_bytes())),
            Err(error) => {
                eprintln!("error: {error}");
                return;
            }
        };
        group.bench_function(BenchmarkId::from_parameter(file_type), |b| b.iter(run));
    }
    group.finish();
    // What is left behind would be taken for a result.
    let _ = std::fs::remove_file(output);
}

fn run(checkpoint: &Path, output: &Path, options: &Options) -> quant_convert::Result<()> {
    let plan = Plan::new(open(checkpoint, options)?, options)?;
    plan.run(output, Control::default())
}

criterion_group!(benches, convert);
criterion_main!(benches);
