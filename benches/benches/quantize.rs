//! Throughput of the quantizers and dequantizers, per type and instruction set, on one core.

use std::hint::black_box;
use std::time::Duration;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use quant_core::{
    formats::Rows,
    grouped::{Grouped, GroupedType, Job, Refinement, ScaleType},
};
use quant_kernels::Kernels;
use testkit::{dequantizable, quantizable};

const ROW: usize = 4096;
const ROWS: usize = 8;

fn quantize(c: &mut Criterion) {
    let values = benches::weights(ROW * ROWS);
    let importance: Vec<f32> = benches::weights(ROW).iter().map(|w| w.abs() + 1e-3).collect();
    for (group, importance) in [("quantize", None), ("quantize-importance", Some(&importance[..]))]
    {
        let mut group = c.benchmark_group(group);
        group.throughput(Throughput::Elements(values.len() as u64));
        group.sample_size(10).measurement_time(Duration::from_millis(500));
        group.warm_up_time(Duration::from_millis(100));
        for ty in quantizable() {
            let mut out = vec![0; values.len() / ty.block_len() * ty.block_bytes()];
            let rows = Rows { values: &values, row_len: ROW, importance };
            for kernels in Kernels::supported() {
                let id = BenchmarkId::new(ty.name(), kernels.isa().name());
                group.bench_function(id, |b| {
                    b.iter(|| kernels.quantize_unchecked(ty, black_box(rows), black_box(&mut out)))
                });
            }
        }
    }
}

fn dequantize(c: &mut Criterion) {
    let values = benches::weights(ROW * ROWS);
    let mut group = c.benchmark_group("dequantize");
    group.throughput(Throughput::Elements(values.len() as u64));
    group.sample_size(10).measurement_time(Duration::from_millis(300));
    group.warm_up_time(Duration::from_millis(100));
    for ty in dequantizable() {
        // Some are only read: any bytes will do, as long as no scale is subnormal.
        let bytes = vec![0x2c; values.len() / ty.block_len() * ty.block_bytes()];
        let mut out = vec![0.0; values.len()];
        for kernels in Kernels::supported() {
            group.bench_function(BenchmarkId::new(ty.name(), kernels.isa().name()), |b| {
                b.iter(|| kernels.dequantize_into(ty, black_box(&bytes), black_box(&mut out)))
            });
        }
    }
}

/// Grouped integers; throughput in bytes of single-precision input.
fn grouped(c: &mut Criterion) {
    let values = benches::weights(ROW * 64);
    let mut group = c.benchmark_group("grouped");
    group.throughput(Throughput::Bytes(4 * values.len() as u64));
    group.sample_size(10).measurement_time(Duration::from_millis(300));
    group.warm_up_time(Duration::from_millis(100));
    let refined = Refinement { importance: None, stored: ScaleType::F16 };
    let mut out = Grouped::default();
    for ty in GroupedType::ALL.iter().copied() {
        for (name, group_len, refinement) in
            [("g128", 128, None), ("channel", ROW, None), ("g128-refined", 128, Some(refined))]
        {
            out.resize(values.len(), group_len);
            for kernels in Kernels::supported() {
                let id = BenchmarkId::new(format!("{ty}-{name}"), kernels.isa().name());
                let job = Job { ty, values: &values, group_len, refinement };
                group.bench_function(id, |b| {
                    b.iter(|| kernels.quantize_groups(black_box(job), out.view_mut()))
                });
            }
        }
    }
}

criterion_group!(benches, quantize, dequantize, grouped);
criterion_main!(benches);
