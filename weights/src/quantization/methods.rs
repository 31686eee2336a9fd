//! What the methods of quantizing write into config.json, and what of it is read.

use gguf_io::json::describe;
use serde_json::{Map, Value};

use super::{
    format::{Format, ScaleLayout},
    keys::{Keys, shown},
};
use crate::{
    Result, nvfp4,
    packed::mlx::{self, Width},
};

/// NVFP4, as compressed-tensors calls it.
const NVFP4: &str = "nvfp4-pack-quantized";

/// The methods that are read, for messages.
const METHODS: &str = "gptq, awq, auto-round, compressed-tensors, fp8, fbgemm_fp8, modelopt \
                       (FP8, NVFP4), mxfp4 or bitsandbytes";

/// What is said of weights in NVFP4.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Nvfp4s {
    /// The names of their parts, if there may be such.
    pub(crate) names: Option<nvfp4::Names>,
    /// Whether their inputs are to stay as they are.
    weight_only: bool,
    /// The same of modules that have settings of their own.
    modules: Vec<(String, bool)>,
}

impl Nvfp4s {
    /// Whether the inputs of a module, as its own settings or those around it say, are to stay as they
    /// are.
    pub(crate) fn keeps_inputs(&self, module: &str) -> bool {
        let around = |name: &str| {
            module.strip_prefix(name).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
        };
        let own = self.modules.iter().filter(|(name, _)| around(name));
        own.max_by_key(|(name, _)| name.len()).map_or(self.weight_only, |(_, keeps)| *keeps)
    }
}

impl Keys<'_> {
    pub(super) fn format(&self) -> Result<Format> {
        let method = self.text("quant_method")?;
        match method.as_deref().unwrap_or_default() {
            "gptq" => self.gptq(),
            "awq" => self.awq(),
            "auto-round" | "auto_round" | "autoround" | "intel/auto-round" => self.auto_round(),
            "compressed-tensors" => self.compressed(),
            "fp8" => {
                let block = self.block("weight_block_size", self.get("weight_block_size"))?;
                Ok(Format::Scaled(ScaleLayout {
                    block,
                    rows: block.is_none(),
                    ..Default::default()
                }))
            }
            "fbgemm_fp8" => Ok(Format::Scaled(ScaleLayout { rows: true, ..Default::default() })),
            "modelopt" => self.modelopt(),
            "mxfp4" => Ok(Format::Mxfp4),
            "bitsandbytes" => Ok(Format::BitsAndBytes),
            "" if self.get("bits").is_some() && self.get("group_size").is_some() => self.mlx(),
            other => Err(self.wrong("quant_method", &shown(other), METHODS)),
        }
    }

    pub(super) fn modelopt(&self) -> Result<Format> {
        match self.text("quant_algo")?.unwrap_or_default().as_str() {
            "fp8" | "fp8_per_channel_per_token" => {
                Ok(Format::Scaled(ScaleLayout { rows: true, ..Default::default() }))
            }
            // Each layer as its tensors show.
            "nvfp4" | "w4a16_nvfp4" | "mixed_precision" => {
                Ok(Format::Scaled(ScaleLayout { rows: true, ..Default::default() }))
            }
            other => {
                let expected = "FP8, NVFP4, W4A16_NVFP4 or MIXED_PRECISION";
                Err(self.wrong("quant_algo", &shown(other), expected))
            }
        }
    }

    /// What is said of weights in NVFP4. Their algorithm of single layers counts for those below, too.
    pub(super) fn nvfp4(&self) -> Nvfp4s {
        let is = |value: Option<&Value>, expected: &str| {
            value.and_then(Value::as_str).is_some_and(|text| text.eq_ignore_ascii_case(expected))
        };
        let text = |key: &str| self.get(key).and_then(Value::as_str).unwrap_or_default();
        if text("quant_method").eq_ignore_ascii_case("compressed-tensors") {
            let groups = self.get("config_groups").and_then(Value::as_object);
            let groups = groups.into_iter().flat_map(Map::values);
            let any = is(self.get("format"), NVFP4)
                || groups.into_iter().any(|g| is(g.get("format"), NVFP4));
            let names = any.then_some(nvfp4::Names::Compressed);
            return Nvfp4s { names, ..Nvfp4s::default() };
        }
        let algorithm = text("quant_algo").to_uppercase();
        let layers = self.get("quantized_layers").and_then(Value::as_object);
        let layers: Vec<_> = layers
            .into_iter()
            .flatten()
            .filter_map(|(name, layer)| Some((name.clone(), layer.get("quant_algo")?.as_str()?)))
            .collect();
        let ends = |algorithm: &str| algorithm.ends_with("NVFP4");
        let any = ends(&algorithm)
            || algorithm == "MIXED_PRECISION"
            || layers.iter().any(|(_, algorithm)| ends(algorithm));
        if !any {
            return Nvfp4s::default();
        }
        let keeps = |algorithm: &str| algorithm == "W4A16_NVFP4";
        let modules = layers.into_iter().map(|(name, algorithm)| (name, keeps(algorithm)));
        Nvfp4s {
            names: Some(nvfp4::Names::ModelOpt),
            weight_only: keeps(&algorithm),
            modules: modules.collect(),
        }
    }

    pub(super) fn gptq(&self) -> Result<Format> {
        const BITS: [u64; 4] = [2, 3, 4, 8];
        let mut bits = vec![self.bits(&["bits"], &BITS)?];
        self.only("is_marlin_format", &[])?;
        self.only("pack_dtype", &["int32"])?;
        self.only("checkpoint_format", &["gptq", "gptq_v2"])?;
        match self.get("dynamic") {
            None | Some(Value::Bool(false)) => {}
            // "-:" and an expression leave modules alone, which the tensors show; others have
            // settings of their own, of which only the width is not seen from shapes alone.
            Some(Value::Object(rules)) => {
                for (rule, settings) in rules.iter().filter(|(rule, _)| !rule.starts_with("-:")) {
                    if let Some(value) = settings.get("bits") {
                        bits.push(self.width(
                            &format!("dynamic.{rule}.bits"),
                            Some(value),
                            &BITS,
                        )?);
                    }
                }
            }
            Some(other) => return Err(self.wrong("dynamic", &describe(other), "an object")),
        }
        let version_2 = self.is("checkpoint_format", "gptq_v2");
        Ok(Format::Gptq { bits, zero_offset: u8::from(!version_2) })
    }

    pub(super) fn awq(&self) -> Result<Format> {
        self.bits(&["bits", "w_bit"], &[4])?;
        for key in ["version", "checkpoint_format", "format"] {
            self.only(key, &["gemm"])?;
        }
        Ok(Format::Awq)
    }

    /// AutoRound stores what it finds in the layouts of others.
    fn auto_round(&self) -> Result<Format> {
        const BITS: [u64; 4] = [2, 3, 4, 8];
        self.only("data_type", &["int"])?;
        let key = if self.get("packing_format").is_some() { "packing_format" } else { "backend" };
        let layout = self.text(key)?.unwrap_or_else(|| "auto".to_owned());
        let zero_offset = match layout.as_str() {
            "auto_round" | "auto_round:gptqmodel" => 0,
            "auto" => 1,
            layout if layout.contains("awq") => {
                self.bits(&["bits"], &[4])?;
                return Ok(Format::Awq);
            }
            layout if layout.contains("gptq") => 1,
            other => {
                let expected = "auto_round, auto_round:auto_gptq or auto_round:auto_awq";
                return Err(self.wrong(key, &shown(other), expected));
            }
        };
        let mut bits = vec![self.bits(&["bits"], &BITS)?];
        let layers = self.get("extra_config").and_then(Value::as_object);
        for layer in layers.into_iter().flat_map(Map::values) {
            // Sixteen bits and more are floats.
            let width = layer.get("bits").and_then(Value::as_u64);
            bits.extend(width.filter(|bits| BITS.contains(bits)).map(|bits| bits as u32));
        }
        Ok(Format::Gptq { bits, zero_offset })
    }

    fn compressed(&self) -> Result<Format> {
        const FORMATS: [&str; 6] = [
            NVFP4,
            "pack-quantized",
            "int-quantized",
            "float-quantized",
            "naive-quantized",
            "mixed-precision",
        ];
        self.only("format", &FORMATS)?;
        self.only("transform_config", &[])?;
        if let Some(Value::Object(sparsity)) = self.get("sparsity_config") {
            let format = sparsity.get("format").and_then(Value::as_str).unwrap_or("dense");
            if format != "dense" {
                return Err(self.wrong("sparsity_config.format", &shown(format), "dense"));
            }
        }
        let Some(Value::Object(groups)) = self.get("config_groups") else {
            return Err(self.wrong("config_groups", "missing", "a group with weights"));
        };
        let format = self.get("format").and_then(Value::as_str).unwrap_or("pack-quantized");
        let (mut bits, mut scales) = (Vec::new(), ScaleLayout::default());
        let mut symmetric = Vec::new();
        for (name, group) in groups {
            let key = format!("config_groups.{name}");
            let Some(weights) = group.get("weights").filter(|value| !value.is_null()) else {
                continue;
            };
            let text = |value: Option<&Value>| value.and_then(Value::as_str).map(str::to_owned);
            let own = text(group.get("format"));
            if let Some(own) = own.as_deref()
                && !FORMATS.contains(&own)
            {
                let key = format!("{key}.format");
                return Err(self.wrong(&key, &shown(own), &FORMATS.join(" or ")));
            }
            let format = own.unwrap_or_else(|| format.to_owned());
            if format == NVFP4 {
                self.width(&format!("{key}.weights.num_bits"), weights.get("num_bits"), &[4])?;
                continue;
            }
            let ty = text(weights.get("type")).unwrap_or_else(|| "int".to_owned());
            let packed = format == "pack-quantized" || format == "mixed-precision" && ty == "int";
            let named = match ty.as_str() {
                "int" => format != "float-quantized",
                "float" => !packed && format != "int-quantized",
                _ => false,
            };
            if !named {
                let expected = if format == "float-quantized" { "float" } else { "int" };
                return Err(self.wrong(&format!("{key}.weights.type"), "another type", expected));
            }
            let width = weights.get("num_bits");
            let read: &[u64] = if packed { &[2, 3, 4, 5, 6, 7, 8] } else { &[8] };
            bits.push(self.width(&format!("{key}.weights.num_bits"), width, read)?);
            let blocks = weights.get("block_structure").filter(|value| !value.is_null());
            let block = self.block(&format!("{key}.weights.block_structure"), blocks)?;
            scales.block = scales.block.or(block);
            scales.rows |= block.is_none();
            scales.groups |= text(weights.get("strategy")).as_deref() == Some("group");
            let is_symmetric = weights.get("symmetric").and_then(Value::as_bool).unwrap_or(true);
            symmetric.push(is_symmetric || ty == "float");
        }
        // Which group a module is of, its name alone tells: what all say holds for each.
        scales.zeros = !symmetric.is_empty() && !symmetric.contains(&true);
        Ok(Format::Compressed { bits, scales })
    }

    pub(super) fn mlx(&self) -> Result<Format> {
        let width = |key: &str, object: &Map<String, Value>| -> Result<Width> {
            // Of all modules or of one: mxfp4, mxfp8 and nvfp4 have no biases, and other scales.
            let mode = object.get("mode").filter(|mode| !mode.is_null());
            let is_read =
                |mode: &&Value| mode.as_str().is_some_and(|m| m.eq_ignore_ascii_case("affine"));
            if let Some(mode) = mode.filter(|mode| !is_read(mode)) {
                let expected = "affine, the mode of MLX that is read";
                return Err(self.wrong(&format!("{key}mode"), &describe(mode), expected));
            }
            let size = object.get("group_size").and_then(Value::as_u64).filter(|size| *size > 0);
            let size = size.ok_or_else(|| {
                self.wrong(&format!("{key}group_size"), "no such number", "a positive number")
            })?;
            let bits = self.width(&format!("{key}bits"), object.get("bits"), &mlx::BITS)?;
            Ok(Width { bits, group: size })
        };
        let mut widths = mlx::Widths { usual: width("", self.object)?, modules: Vec::new() };
        for (name, value) in self.object {
            if let Value::Object(own) = value {
                widths.modules.push((name.clone(), width(&format!("{name}."), own)?));
            }
        }
        Ok(Format::Mlx(widths))
    }
}
