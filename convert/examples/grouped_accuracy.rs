//! The accuracy table of grouped integers: error and size over the linear layers of checkpoints.
//!
//!     cargo run --release -p quant-convert --example grouped_accuracy -- fixtures/tiny-*2
//!
//! Each row quantizes all linear layers of all checkpoints given, as a folder would hold them.

use std::{env, path::Path};

use gguf_io::{Checkpoint, Limits};
use quant_convert::{
    Control, Options,
    grouped::{self, FolderPlan, Scheme},
};
use quant_core::{
    GgmlType, Metrics,
    grouped::{GroupSize, Grouped, GroupedType, Job, Refinement, ScaleType, dequantize},
};
use quant_kernels::Kernels;

/// Error and storage of some weights.
#[derive(Default)]
struct Sum {
    metrics: Metrics,
    bits: f64,
}

impl Sum {
    fn row(&self, name: &str) {
        let per_weight = self.bits / self.metrics.count() as f64;
        println!("| {name} | {per_weight:.2} | {:.4} |", self.metrics.relative_rmse());
    }
}

/// A linear layer: its name, its type in the checkpoint, length of rows, values.
type Layer = (String, GgmlType, usize, Vec<f32>);

type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

fn layers(dir: &Path, names: &[String]) -> Result<Vec<Layer>> {
    let checkpoint = Checkpoint::open(dir, &Limits::default())?;
    let mut layers = Vec::new();
    for name in names {
        let tensor = checkpoint.tensors.get(name).ok_or("a tensor has vanished")?;
        let ty = GgmlType::from_name(tensor.dtype.name()).ok_or("not a float type")?;
        let mut bytes = vec![0; usize::try_from(tensor.bytes)?];
        let file = checkpoint.files.get(tensor.file).ok_or("a file has vanished")?;
        file.read_exact_at(&mut bytes, tensor.offset)?;
        let mut values = vec![0.0; bytes.len() / ty.block_bytes()];
        quant_core::dequantize(ty, &bytes, &mut values)?;
        let row_len = usize::try_from(*tensor.shape.last().ok_or("a scalar")?)?;
        layers.push((name.clone(), ty, row_len, values));
    }
    Ok(layers)
}

/// The scheme of each linear layer under some options.
fn plan(dir: &Path, how: &grouped::Options) -> Result<Vec<(String, Scheme)>> {
    let plan = FolderPlan::new(
        dir,
        &Options { grouped: Some(*how), ..Options::default() },
        Control::default(),
    )?;
    let names = plan.tensors().map(|t| t.name.to_owned()).zip(plan.schemes());
    Ok(names.filter(|(_, scheme)| *scheme != Scheme::Keep).collect())
}

fn measure(dirs: &[String], how: &grouped::Options) -> Result<Sum> {
    let mut sum = Sum::default();
    for dir in dirs {
        let schemes = plan(Path::new(dir), how)?;
        let names: Vec<_> = schemes.iter().map(|(name, _)| name.clone()).collect();
        for ((_, scheme), (_, source, _, values)) in
            schemes.iter().zip(layers(Path::new(dir), &names)?)
        {
            let Scheme::Groups { ty, len, .. } = *scheme else { continue };
            let stored = if source == GgmlType::BF16 { ScaleType::Bf16 } else { ScaleType::F16 };
            let refinement = how.refine.then_some(Refinement { importance: None, stored });
            let mut groups = Grouped::default();
            groups.resize(values.len(), len);
            let job = Job { ty, values: &values, group_len: len, refinement };
            Kernels::best().quantize_groups(job, groups.view_mut())?;
            for scale in &mut groups.scales {
                *scale = stored.round(*scale);
            }
            let mut restored = vec![0.0; values.len()];
            dequantize(groups.view(), len, &mut restored)?;
            sum.metrics.add(&values, &restored)?;
            let zero_point = if ty.is_symmetric() { 0 } else { ty.bits() };
            let per_group = f64::from(16 + zero_point);
            sum.bits +=
                values.len() as f64 * f64::from(ty.bits()) + groups.scales.len() as f64 * per_group;
        }
    }
    Ok(sum)
}

fn blocks(dirs: &[String], ty: GgmlType) -> Result<Sum> {
    let mut sum = Sum::default();
    let how = grouped::Options {
        group_size: Some(GroupSize::Channel),
        ..grouped::Options::new(GroupedType::Int4Sym)
    };
    for dir in dirs {
        let names: Vec<_> = plan(Path::new(dir), &how)?.into_iter().map(|(name, _)| name).collect();
        for (_, _, row_len, values) in layers(Path::new(dir), &names)? {
            let bytes = quant_core::quantize(ty, &values, row_len, None)?;
            let mut restored = vec![0.0; values.len()];
            quant_core::dequantize(ty, &bytes, &mut restored)?;
            sum.metrics.add(&values, &restored)?;
            sum.bits += bytes.len() as f64 * 8.0;
        }
    }
    Ok(sum)
}

fn main() -> Result<()> {
    let dirs: Vec<String> = env::args().skip(1).collect();
    if dirs.is_empty() {
        return Err("give the folders of checkpoints".into());
    }
    println!("| type | bits per weight | relative RMSE |\n|---|---:|---:|");
    for ty in [GroupedType::Int4Sym, GroupedType::Int4Asym] {
        for size in [32, 64, 128, -1] {
            for refine in [false, true] {
                let group_size = GroupSize::from_number(size);
                let how = grouped::Options { group_size, refine, ..grouped::Options::new(ty) };
                let size = if size == -1 { "channel".into() } else { format!("g{size}") };
                let refined = if refine { ", refined" } else { "" };
                measure(&dirs, &how)?.row(&format!("{ty} {size}{refined}"));
            }
        }
        for ratio in [0.8, 0.5] {
            let how = grouped::Options { ratio, ..grouped::Options::new(ty) };
            measure(&dirs, &how)?.row(&format!("{ty} g128, ratio {ratio}"));
        }
    }
    for ty in [GgmlType::Q4_0, GgmlType::Q4_K] {
        blocks(&dirs, ty)?.row(ty.name());
    }
    Ok(())
}
