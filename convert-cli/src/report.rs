//! What the commands print: JSON for machines, text for people.

use std::{fmt::Write, path::Path};

use gguf_io::message::listed;
use quant_convert::{Plan, Planned, PlannedTensor, grouped::FolderPlan, recipe::FileType};
use quant_core::GgmlType;
use serde::Serialize;

use crate::{
    failure::Failure,
    text::{escape, finish, path, shape, size, table},
    warnings::Warning,
};

/// The result of `convert`, as cli.md has it.
#[derive(Debug, Serialize)]
pub(crate) struct Report {
    file_type: String,
    tensors: Vec<TensorReport>,
    /// The files of a split output.
    #[serde(skip_serializing_if = "Option::is_none")]
    shards: Option<Vec<ShardReport>>,
    total_bytes: u64,
    bits_per_weight: f64,
    /// Tensors of another type than the recipe asked for.
    fallbacks: Vec<Fallback>,
    /// Tensors that the importance matrix has no entry for.
    without_importance: Vec<String>,
    /// Tensors of the input that are not in the output.
    left_out: Vec<String>,
    /// Tensors whose blocks are copied, or whose codes become blocks, as the input has them.
    carried: Vec<String>,
    /// Tensors whose codes are restored and quantized again.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    recomputed: Vec<String>,
    /// Scales of carried codes that half precision does not hold, once they have been read.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) inexact_scales: Option<u64>,
    pub(crate) warnings: Vec<Warning>,
    /// What a mix chosen for a size is expected to lose.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) expected_loss: Option<f64>,
    /// What it loses on the calibration text.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) measured_loss: Option<f64>,
    /// The largest recipe that is not larger than asked.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) recipe: Option<RecipeReport>,
    /// Why a real run would fail.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) error: Option<Failure>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) output: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) seconds: Option<f64>,
    /// Whether the output was there already, as planned, and is left alone.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub(crate) left_alone: bool,
    /// What else there is to say of the types.
    #[serde(skip)]
    pub(crate) note: Option<String>,
}

/// A recipe that a mix is compared with.
#[derive(Debug, Serialize)]
pub(crate) struct RecipeReport {
    pub(crate) name: String,
    pub(crate) total_bytes: u64,
    /// The mean KL divergence on the calibration text.
    pub(crate) loss: f64,
}

#[derive(Debug, Serialize)]
struct ShardReport {
    /// Its path, if the output has one.
    #[serde(skip_serializing_if = "Option::is_none")]
    path: Option<String>,
    #[serde(skip)]
    number: usize,
    /// How many files the output has in all.
    #[serde(skip)]
    count: usize,
    tensors: usize,
    bytes: u64,
}

#[derive(Debug, Serialize)]
struct TensorReport {
    name: String,
    #[serde(rename = "type")]
    ty: String,
    shape: Vec<u64>,
    bytes: u64,
    /// The number of its file in a split output, from 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    shard: Option<usize>,
    /// The type the recipe asked for, where the shape did not allow it.
    #[serde(skip_serializing_if = "Option::is_none")]
    wanted: Option<&'static str>,
}

/// A tensor whose rows do not fit the blocks of the type asked for.
#[derive(Debug, Serialize)]
struct Fallback {
    tensor: String,
    wanted: &'static str,
    #[serde(rename = "type")]
    ty: &'static str,
    /// Values in a row.
    row: u64,
}

impl Report {
    /// Of what is to be written to `output`, if that is known.
    pub(crate) fn of(plan: &Planned, output: Option<&Path>) -> anyhow::Result<Self> {
        match plan {
            Planned::Gguf(plan) => Ok(Self::new(plan, output)),
            Planned::Folder(plan) => Ok(Self::folder(plan)),
            _ => anyhow::bail!("there is no report of this kind of output"),
        }
    }

    /// Of a plan that is to be written to `output`, if that is known.
    pub(crate) fn new(plan: &Plan, output: Option<&Path>) -> Self {
        let mut paths = output.map(|output| plan.paths(output)).unwrap_or_default().into_iter();
        let shards = plan.shards().map(|shards| {
            let shards = shards.map(|shard| ShardReport {
                path: paths.next().map(|p| path(&p)),
                number: shard.number,
                count: shard.count,
                tensors: shard.tensors,
                bytes: shard.bytes,
            });
            shards.collect()
        });
        let is_split = shards.is_some();
        let tensors = plan.tensors().map(|t| TensorReport {
            name: t.name.into(),
            ty: t.ty.name().into(),
            shape: t.shape.to_vec(),
            bytes: t.bytes,
            shard: is_split.then(|| t.shard.saturating_add(1)),
            wanted: t.wanted.map(GgmlType::name),
        });
        let fallbacks = plan.tensors().filter_map(|t| {
            Some(Fallback {
                tensor: t.name.into(),
                wanted: t.wanted?.name(),
                ty: t.ty.name(),
                row: t.shape.first().copied().unwrap_or(1),
            })
        });
        let names = |which: fn(&PlannedTensor<'_>) -> bool| {
            plan.tensors().filter(which).map(|t| t.name.to_owned()).collect()
        };
        Self {
            fallbacks: fallbacks.collect(),
            without_importance: names(|t| t.without_importance),
            left_out: plan.left_out().to_vec(),
            carried: names(|t| t.carried),
            recomputed: names(|t| t.recomputed),
            inexact_scales: None,
            warnings: Vec::new(),
            expected_loss: None,
            measured_loss: None,
            recipe: None,
            error: None,
            file_type: file_type(plan),
            tensors: tensors.collect(),
            shards,
            total_bytes: plan.total_bytes(),
            bits_per_weight: plan.bits_per_weight(),
            output: None,
            seconds: None,
            left_alone: false,
            note: None,
        }
    }

    /// The same of a folder of grouped integers.
    pub(crate) fn folder(plan: &FolderPlan) -> Self {
        let tensors = plan.tensors().map(|t| TensorReport {
            name: t.name.into(),
            ty: t.ty,
            shape: t.shape.to_vec(),
            bytes: t.bytes,
            shard: None,
            wanted: None,
        });
        Self {
            fallbacks: Vec::new(),
            without_importance: Vec::new(),
            left_out: Vec::new(),
            carried: Vec::new(),
            recomputed: Vec::new(),
            inexact_scales: None,
            warnings: Vec::new(),
            expected_loss: None,
            measured_loss: None,
            recipe: None,
            error: None,
            shards: None,
            file_type: plan.options().ty.name().to_uppercase(),
            tensors: tensors.collect(),
            total_bytes: plan.total_bytes(),
            bits_per_weight: plan.bits_per_weight(),
            output: None,
            seconds: None,
            left_alone: false,
            note: None,
        }
    }

    /// One line: what was or would be written.
    pub(crate) fn headline(&self) -> String {
        let mut line = match &self.output {
            Some(output) if self.left_alone => {
                format!("{} is there already and is left alone: ", escape(output))
            }
            Some(output) => format!("wrote {}: ", escape(output)),
            None => "would write ".into(),
        };
        let _ = write!(
            line,
            "{}, {} tensors, {}, {:.2} bits per weight",
            self.file_type,
            self.tensors.len(),
            size(self.total_bytes),
            self.bits_per_weight
        );
        if let Some(shards) = &self.shards {
            let _ = match shards.as_slice() {
                [ShardReport { number, count, .. }] if *count > 1 => {
                    write!(line, ", shard {number} of {count}")
                }
                _ => write!(line, ", {} files", shards.len()),
            };
        }
        if let Some(seconds) = self.seconds {
            let _ = write!(line, ", {seconds:.2} s");
        }
        line
    }

    /// One line: how many tensors have the codes of the input, if it has any.
    pub(crate) fn by_codes(&self) -> Option<String> {
        let (carried, recomputed) = (self.carried.len(), self.recomputed.len());
        (carried > 0 || recomputed > 0).then(|| {
            let mut line = format!("{carried} tensors carried over with the codes they have");
            if recomputed > 0 {
                let _ = write!(line, ", {recomputed} restored and quantized again");
            }
            if let Some(count) = self.inexact_scales.filter(|count| *count > 0) {
                let _ = write!(line, ", {count} scales not exact in half precision");
            }
            line
        })
    }

    /// How many tensors and bytes there are of each type.
    pub(crate) fn by_type(&self) -> String {
        let mut table = table(&["type", "tensors", "size"]);
        let mut types: Vec<_> = self.tensors.iter().map(|t| t.ty.as_str()).collect();
        // In the order of the table of types, others after them.
        types.sort_by_key(|ty| (GgmlType::from_name(ty).map_or(u32::MAX, GgmlType::id), *ty));
        types.dedup();
        for ty in types {
            let of_type = || self.tensors.iter().filter(|t| t.ty == ty);
            let bytes = of_type().map(|t| t.bytes).sum();
            table.add_row([ty.into(), of_type().count().to_string(), size(bytes)]);
        }
        finish(table, &[1, 2])
    }

    /// Every tensor with its type, and its file if there are several.
    pub(crate) fn by_tensor(&self) -> String {
        let mut header = vec!["tensor", "shape", "type", "size"];
        header.extend(self.shards.as_ref().map(|_| "file"));
        let mut table = table(&header);
        for t in &self.tensors {
            let mut row = vec![escape(&t.name), shape(&t.shape), t.ty.clone(), size(t.bytes)];
            row.extend(t.shard.map(|number| number.to_string()));
            table.add_row(row);
        }
        finish(table, &[3, 4])
    }

    /// The files of a split output.
    pub(crate) fn by_shard(&self) -> Option<String> {
        let mut table = table(&["file", "tensors", "size"]);
        for shard in self.shards.as_ref()? {
            let name = shard.path.as_deref().and_then(|path| Path::new(path).file_name());
            let name = name
                .map_or_else(|| shard.number.to_string(), |name| escape(&name.to_string_lossy()));
            table.add_row([name, shard.tensors.to_string(), size(shard.bytes)]);
        }
        Some(finish(table, &[1, 2]))
    }

    /// Whether a warning of a run that made several files is about this one: what it says of a tensor
    /// is true wherever that has the type.
    pub(crate) fn is_about(&self, warning: &Warning) -> bool {
        let Some(name) = &warning.tensor else { return true };
        let types = self.tensors.iter().filter(|t| &t.name == name);
        types.map(|t| format!(" {},", t.ty)).any(|ty| warning.message.contains(&ty))
    }

    /// What the plan says that the user should know besides.
    pub(crate) fn remarks(&self) -> Vec<Warning> {
        let mut remarks = Vec::new();
        if !self.fallbacks.is_empty() {
            let fallbacks = self.fallbacks.iter().map(|fallback| {
                let Fallback { tensor, wanted, ty, row } = fallback;
                format!("{tensor} ({wanted} → {ty}, rows of {row})")
            });
            let message = format!(
                "{} of {} tensors {} rows that do not fit the blocks of the type asked for: {}",
                self.fallbacks.len(),
                self.tensors.len(),
                if self.fallbacks.len() == 1 { "has" } else { "have" },
                listed(fallbacks)
            );
            remarks.push(Warning::new("fallback", message));
        }
        if !self.without_importance.is_empty() {
            let message = format!(
                "the importance matrix has no entry for {} tensor{}: {}",
                self.without_importance.len(),
                if self.without_importance.len() == 1 { "" } else { "s" },
                listed(self.without_importance.iter().cloned())
            );
            remarks.push(Warning::new("without-importance", message));
        }
        remarks
    }
}

/// The recipe's name; for a file that keeps its types, the recipe it says it was made with.
fn file_type(plan: &Plan) -> String {
    let kept = || {
        let id = plan.metadata().get_u64("general.file_type")?;
        // A type that files come in but no recipe makes.
        let name = |ty: FileType| Some(ty.name());
        FileType::from_id(u32::try_from(id).ok()?).map_or((id == 39).then_some("NVFP4"), name)
    };
    plan.file_type().map(FileType::name).or_else(kept).unwrap_or("unknown").into()
}
