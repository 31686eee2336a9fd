//! How config.json says the weights are stored.

use std::path::Path;

use gguf_io::{Checkpoint, json::describe, message::Quoted};
use serde_json::{Map, Value};

use crate::{
    Error, Result, nvfp4,
    packed::{
        Packed, Parts, bitsandbytes, by_rows,
        mlx::{self, Width},
        transposed,
    },
};

const KEY: &str = "quantization_config";

/// NVFP4, as compressed-tensors calls it.
const NVFP4: &str = "nvfp4-pack-quantized";

/// What to do about a checkpoint that cannot be read.
const HELP: &str = "take the original checkpoint, which the model's authors usually publish too";

/// Where GPTQ and AWQ wrote their settings before config.json had a place for them.
const OLDER: [&str; 2] = ["quantize_config.json", "quant_config.json"];

/// The methods that are read, for messages.
const METHODS: &str = "gptq, awq, auto-round, compressed-tensors, fp8, fbgemm_fp8, modelopt \
                       (FP8, NVFP4), mxfp4 or bitsandbytes";

/// The values of config.json that say how weights are stored. `null` counts as absent.
#[derive(Clone, Copy, Debug)]
pub struct Settings<'a> {
    /// The file.
    pub path: &'a Path,
    /// What transformers goes by.
    pub quantization_config: Option<&'a Value>,
    /// What MLX goes by.
    pub quantization: Option<&'a Value>,
}

/// How a checkpoint says that its weights are stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Quantization {
    pub(crate) format: Format,
    /// The name of the method, in capitals.
    pub(crate) method: String,
    /// The names of the parts of weights in NVFP4, if there may be such.
    pub(crate) nvfp4: Option<nvfp4::Names>,
    /// Modules whose inputs are to stay as they are, and whether those of all others are.
    weight_only: (bool, Vec<(String, bool)>),
}

/// Weights by their names, and what the names of the parts that they are made of end in.
type Layers = (Vec<(String, Packed)>, Vec<&'static str>);

/// How the weights are stored. What config.json says of single modules is only taken as what
/// there may be: which modules are packed, and how wide their codes are, is seen from the tensors.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Format {
    /// As floats.
    Floats,
    /// GPTQ: the widths of codes, the usual one first, and what is added to stored zero points.
    Gptq { bits: Vec<u32>, zero_offset: u8 },
    /// AWQ in the layout of its GEMM kernel.
    Awq,
    /// compressed-tensors: the widths of packed codes, and the scales of eight-bit codes that are
    /// not packed.
    Compressed { bits: Vec<u32>, scales: ScaleLayout },
    /// MLX: codes, scales and biases.
    Mlx(mlx::Widths),
    /// In eight bits with scales.
    Scaled(ScaleLayout),
    /// The experts in MXFP4.
    Mxfp4,
    /// bitsandbytes, with what describes each weight beside it.
    BitsAndBytes,
}

/// How scales of eight-bit codes may lie over them; one for the whole weight is always read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct ScaleLayout {
    /// Rows and columns of a block with a scale.
    pub(crate) block: Option<[u64; 2]>,
    /// One for each row.
    pub(crate) rows: bool,
    /// Some for each row, each for as many columns.
    pub(crate) groups: bool,
}

impl Quantization {
    /// Weights that are stored as floats.
    pub fn none() -> Self {
        Self::of(Format::Floats, String::new())
    }

    fn of(format: Format, method: String) -> Self {
        Self { format, method, nvfp4: None, weight_only: (false, Vec::new()) }
    }

    /// Whether the inputs of a module, as its own settings or those around it say, are to stay as they
    /// are.
    pub(crate) fn keeps_inputs(&self, module: &str) -> bool {
        let (all, modules) = &self.weight_only;
        let around = |name: &str| {
            module.strip_prefix(name).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
        };
        let own = modules.iter().filter(|(name, _)| around(name));
        own.max_by_key(|(name, _)| name.len()).map_or(*all, |(_, keeps)| *keeps)
    }

    /// Reads what config.json says, or the file that modelopt writes beside one that says nothing:
    /// `beside` reads a file of JSON, if it is there.
    ///
    /// # Errors
    /// [`Error::Quantization`] for a way that is not read, with its key; whatever `beside` returns.
    pub fn read<E: From<Error>>(
        settings: &Settings<'_>,
        beside: impl FnOnce(&Path) -> Result<Option<Map<String, Value>>, E>,
    ) -> Result<Self, E> {
        let named = settings.quantization_config.and_then(|value| value.get("quant_method"));
        let method = named.and_then(Value::as_str).unwrap_or_default().to_uppercase();
        let path = settings.path;
        let mut of_nvfp4 = Self::of(Format::Floats, String::new());
        let format = match (settings.quantization_config, settings.quantization) {
            (_, Some(Value::Object(object))) if named.is_none() => {
                Keys { path, key: "quantization.", object }.mlx()?
            }
            (Some(Value::Object(object)), _) if !object.is_empty() => {
                let keys = Keys { path, key: "quantization_config.", object };
                keys.nvfp4(&mut of_nvfp4);
                keys.format()?
            }
            // Says nothing: the weights tell.
            (None | Some(Value::Object(_)), _) => {
                let path = path.with_file_name("hf_quant_config.json");
                let file = beside(&path)?;
                match file.as_ref().and_then(|file| file.get("quantization")) {
                    Some(Value::Object(object)) => {
                        let keys = Keys { path: &path, key: "quantization.", object };
                        keys.nvfp4(&mut of_nvfp4);
                        keys.modelopt()?
                    }
                    _ => Format::Floats,
                }
            }
            (Some(other), _) => Err(wrong(path, KEY, &describe(other), "an object"))?,
        };
        Ok(Self { format, method, ..of_nvfp4 })
    }

    /// That config.json, at `path`, speaks of codes of bitsandbytes, but no weight has what belongs to them:
    /// they were written in another way, or are floats that the key was left beside.
    ///
    /// # Errors
    /// [`Error::Quantization`] if so.
    pub fn check_parts(&self, path: &Path, checkpoint: &Checkpoint) -> Result<()> {
        let belongs = |name: &str| {
            name.ends_with(bitsandbytes::ROWS)
                || [bitsandbytes::ABSMAX, "weight.quant_"].iter().any(|part| name.contains(part))
        };
        match self.format == Format::BitsAndBytes
            && !checkpoint.tensors.keys().any(|name| belongs(name))
        {
            true => {
                let expected = "weights with absmax or SCB beside them";
                Err(wrong(path, "quantization_config.quant_method", "\"bitsandbytes\"", expected))
            }
            false => Ok(()),
        }
    }

    /// For packed tensors that config.json says nothing of, what older programs wrote into a file of
    /// their own beside it.
    ///
    /// # Errors
    /// As [`read`](Self::read); [`Error::Packed`] if there are such tensors, but no such file.
    pub fn or_older<E: From<Error>>(
        self,
        dir: &Path,
        checkpoint: &Checkpoint,
        beside: impl Fn(&Path) -> Result<Option<Map<String, Value>>, E>,
    ) -> Result<Self, E> {
        let mut codes = checkpoint.tensors.iter().filter(|(name, _)| name.ends_with(".qweight"));
        let (Format::Floats, Some((name, tensor))) = (&self.format, codes.next()) else {
            return Ok(self);
        };
        for file in OLDER {
            let path = dir.join(file);
            if let Some(object) = beside(&path)? {
                let keys = Keys { path: &path, key: "", object: &object };
                let is_awq = keys.get("w_bit").is_some() || keys.is("quant_method", "awq");
                let (method, format) =
                    if is_awq { ("AWQ", keys.awq()?) } else { ("GPTQ", keys.gptq()?) };
                return Ok(Self::of(format, method.to_owned()));
            }
        }
        let file = checkpoint.files.get(tensor.file).map(|f| f.path().to_path_buf());
        Err(Error::Packed {
            path: file.unwrap_or_default(),
            tensor: name.to_owned(),
            found: "packed codes that nothing describes".into(),
            expected: format!("{KEY} in config.json, or a {} beside it", OLDER.join(" or ")),
            help: "add the file that belongs to the checkpoint, or take the original checkpoint",
        }
        .into())
    }

    /// What the name of the tensor with the codes ends in, after that of the module; `None` if
    /// nothing is packed.
    pub(crate) fn codes(&self) -> Option<&'static str> {
        match &self.format {
            Format::Gptq { .. } | Format::Awq => Some("qweight"),
            Format::Compressed { .. } => Some("weight_packed"),
            // The codes have the name of the weight.
            Format::Mlx(_) => Some("scales"),
            Format::BitsAndBytes => Some(bitsandbytes::ABSMAX),
            Format::Floats | Format::Scaled(_) | Format::Mxfp4 => None,
        }
    }

    /// The weights of a packed module under the names that they have in the original checkpoint, and
    /// the parts that they are made of.
    ///
    /// # Errors
    /// [`Error::Packed`] for parts that do not fit each other.
    pub(crate) fn layers(&self, parts: &Parts<'_>) -> Result<Layers> {
        let (packed, used) = match &self.format {
            Format::Gptq { bits, zero_offset } => transposed::gptq(parts, bits, *zero_offset)?,
            Format::Awq => transposed::awq(parts)?,
            Format::Mlx(widths) => return Ok((mlx::layers(parts, widths)?, mlx::PARTS.to_vec())),
            Format::Compressed { bits, .. } => by_rows::layer(parts, bits)?,
            Format::BitsAndBytes => bitsandbytes::blockwise(parts)?,
            Format::Floats | Format::Scaled(_) | Format::Mxfp4 => by_rows::layer(parts, &[])?,
        };
        Ok((vec![(format!("{}.weight", parts.module), packed)], used))
    }
}

/// The keys of an object that describes a quantization.
struct Keys<'a> {
    path: &'a Path,
    /// What is before its keys in messages.
    key: &'static str,
    object: &'a Map<String, Value>,
}

impl Keys<'_> {
    fn get(&self, key: &str) -> Option<&Value> {
        self.object.get(key).filter(|value| !value.is_null())
    }

    fn is(&self, key: &str, expected: &str) -> bool {
        self.get(key).and_then(Value::as_str).is_some_and(|t| t.eq_ignore_ascii_case(expected))
    }

    fn wrong(&self, key: &str, found: &str, expected: &str) -> Error {
        wrong(self.path, &format!("{}{key}", self.key), found, expected)
    }

    fn text(&self, key: &str) -> Result<Option<String>> {
        match self.get(key) {
            None => Ok(None),
            Some(Value::String(text)) => Ok(Some(text.to_lowercase())),
            Some(other) => Err(self.wrong(key, &describe(other), "a name")),
        }
    }

    fn format(&self) -> Result<Format> {
        let method = self.text("quant_method")?;
        match method.as_deref().unwrap_or_default() {
            "gptq" => self.gptq(),
            "awq" => self.awq(),
            "auto-round" | "auto_round" | "autoround" | "intel/auto-round" => self.auto_round(),
            "compressed-tensors" => self.compressed(),
            "fp8" => {
                let block = self.block("weight_block_size", self.get("weight_block_size"))?;
                Ok(Format::Scaled(ScaleLayout { block, rows: block.is_none(), groups: false }))
            }
            "fbgemm_fp8" => Ok(Format::Scaled(ScaleLayout { rows: true, ..Default::default() })),
            "modelopt" => self.modelopt(),
            "mxfp4" => Ok(Format::Mxfp4),
            "bitsandbytes" => Ok(Format::BitsAndBytes),
            "" if self.get("bits").is_some() && self.get("group_size").is_some() => self.mlx(),
            other => Err(self.wrong("quant_method", &shown(other), METHODS)),
        }
    }

    fn modelopt(&self) -> Result<Format> {
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
    fn nvfp4(&self, of: &mut Quantization) {
        let is = |value: Option<&Value>, expected: &str| {
            value.and_then(Value::as_str).is_some_and(|text| text.eq_ignore_ascii_case(expected))
        };
        let text = |key: &str| self.get(key).and_then(Value::as_str).unwrap_or_default();
        if text("quant_method").eq_ignore_ascii_case("compressed-tensors") {
            let groups = self.get("config_groups").and_then(Value::as_object);
            let groups = groups.into_iter().flat_map(Map::values);
            let any = is(self.get("format"), NVFP4)
                || groups.into_iter().any(|g| is(g.get("format"), NVFP4));
            of.nvfp4 = any.then_some(nvfp4::Names::Compressed);
            return;
        }
        let algorithm = text("quant_algo").to_uppercase();
        let layers = self.get("quantized_layers").and_then(Value::as_object);
        let layers: Vec<_> = layers
            .into_iter()
            .flatten()
            .filter_map(|(name, layer)| Some((name.clone(), layer.get("quant_algo")?.as_str()?)))
            .collect();
        let ends = |algorithm: &str| algorithm.ends_with("NVFP4");
        if ends(&algorithm) || algorithm == "MIXED_PRECISION" || layers.iter().any(|(_, a)| ends(a))
        {
            of.nvfp4 = Some(nvfp4::Names::ModelOpt);
            let keeps = |algorithm: &str| algorithm == "W4A16_NVFP4";
            let own = layers.into_iter().map(|(name, algorithm)| (name, keeps(algorithm)));
            of.weight_only = (keeps(&algorithm), own.collect());
        }
    }

    /// A width in bits that is among those read.
    fn bits(&self, keys: &[&str], read: &[u64]) -> Result<u32> {
        let key = keys.iter().copied().find(|key| self.get(key).is_some());
        let key = key.unwrap_or(keys.first().copied().unwrap_or_default());
        self.width(key, self.get(key), read)
    }

    fn width(&self, key: &str, value: Option<&Value>, read: &[u64]) -> Result<u32> {
        let expected = || {
            let read: Vec<_> = read.iter().map(u64::to_string).collect();
            format!("{} bits", read.join(", "))
        };
        match value {
            Some(value) => match value.as_u64().filter(|bits| read.contains(bits)) {
                Some(bits) => Ok(bits as u32),
                None => Err(self.wrong(key, &describe(value), &expected())),
            },
            None => Err(self.wrong(key, "missing", &expected())),
        }
    }

    /// Refuses a key that is anything but absent, false, empty or one of `read`.
    fn only(&self, key: &str, read: &[&str]) -> Result<()> {
        let Some(value) = self.get(key) else { return Ok(()) };
        let fine = match value {
            Value::Bool(flag) => !flag,
            Value::String(text) => read.iter().any(|known| known.eq_ignore_ascii_case(text)),
            Value::Object(object) => object.is_empty(),
            _ => false,
        };
        if fine {
            return Ok(());
        }
        let expected = if read.is_empty() { "it to be absent".into() } else { read.join(" or ") };
        Err(self.wrong(key, &describe(value), &expected))
    }

    fn gptq(&self) -> Result<Format> {
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

    fn awq(&self) -> Result<Format> {
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
        }
        Ok(Format::Compressed { bits, scales })
    }

    fn mlx(&self) -> Result<Format> {
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

    /// Rows and columns of a block.
    fn block(&self, key: &str, value: Option<&Value>) -> Result<Option<[u64; 2]>> {
        let Some(value) = value else { return Ok(None) };
        let numbers = value.as_array().map(|list| list.iter().map(Value::as_u64).collect());
        match numbers.unwrap_or_else(Vec::new)[..] {
            [Some(rows @ 1..), Some(columns @ 1..)] => Ok(Some([rows, columns])),
            _ => Err(self.wrong(key, &describe(value), "two positive numbers")),
        }
    }
}

/// Text of the file, as a message shows it.
fn shown(text: &str) -> String {
    Quoted(text).to_string()
}

fn wrong(path: &Path, key: &str, found: &str, expected: &str) -> Error {
    Error::Quantization {
        path: path.to_path_buf(),
        key: key.to_owned(),
        found: found.to_owned(),
        expected: expected.to_owned(),
        help: HELP,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn format(text: &str) -> Result<Format> {
        let value: Value = serde_json::from_str(text).unwrap();
        let settings = Settings {
            path: Path::new("config.json"),
            quantization_config: Some(&value).filter(|value| !value.is_null()),
            quantization: None,
        };
        Quantization::read(&settings, |_| Ok(None)).map(|quantization| quantization.format)
    }

    #[test]
    fn what_is_read_is_told_from_what_is_not() {
        let gptq = |bits: &[u32], zero_offset| Format::Gptq { bits: bits.to_vec(), zero_offset };
        let rows = ScaleLayout { rows: true, ..ScaleLayout::default() };
        let mlx =
            |modules| Format::Mlx(mlx::Widths { usual: Width { bits: 4, group: 64 }, modules });
        let read = [
            ("null", Format::Floats),
            (r#"{"quant_method": "gptq", "bits": 4, "desc_act": true}"#, gptq(&[4], 1)),
            (r#"{"quant_method": "gptq", "bits": 3}"#, gptq(&[3], 1)),
            (
                r#"{"quant_method": "gptq", "bits": 8, "checkpoint_format": "gptq_v2"}"#,
                gptq(&[8], 0),
            ),
            (
                r#"{"quant_method": "gptq", "bits": 4, "dynamic":
                    {"-:.*gate.*": {}, "+:.*down.*": {"bits": 8}, ".*up.*": {"group_size": 32}}}"#,
                gptq(&[4, 8], 1),
            ),
            (
                r#"{"quant_method": "auto-round", "bits": 4, "packing_format": "auto_round",
                    "extra_config": {"model.layers.0.mlp.up_proj": {"bits": 8}, "lm_head": {"bits": 16}}}"#,
                gptq(&[4, 8], 0),
            ),
            (
                r#"{"quant_method": "auto-round", "bits": 2, "packing_format": "auto_round:auto_gptq"}"#,
                gptq(&[2], 1),
            ),
            (
                r#"{"quant_method": "auto-round", "bits": 4, "packing_format": "auto_round:auto_awq"}"#,
                Format::Awq,
            ),
            (r#"{"quant_method": "awq", "bits": 4, "version": "GEMM"}"#, Format::Awq),
            (
                r#"{"quant_method": "compressed-tensors", "format": "pack-quantized",
                    "config_groups": {"g": {"weights": {"num_bits": 4, "type": "int"}}}}"#,
                Format::Compressed { bits: vec![4], scales: rows },
            ),
            (
                r#"{"quant_method": "compressed-tensors", "format": "mixed-precision",
                    "config_groups": {
                        "a": {"format": "pack-quantized", "weights": {"num_bits": 3, "type": "int"}},
                        "b": {"format": "float-quantized", "weights": {"num_bits": 8, "type": "float",
                              "strategy": "block", "block_structure": [128, 64]}}}}"#,
                Format::Compressed {
                    bits: vec![3, 8],
                    scales: ScaleLayout { block: Some([128, 64]), ..rows },
                },
            ),
            (r#"{"quant_method": "fbgemm_fp8"}"#, Format::Scaled(rows)),
            (r#"{"quant_method": "modelopt", "quant_algo": "FP8"}"#, Format::Scaled(rows)),
            (
                r#"{"quant_method": "fp8", "weight_block_size": [128, 128]}"#,
                Format::Scaled(ScaleLayout { block: Some([128, 128]), ..ScaleLayout::default() }),
            ),
            (r#"{"group_size": 64, "bits": 4}"#, mlx(Vec::new())),
            (
                r#"{"group_size": 64, "bits": 4, "mode": "affine", "lm_head": false,
                    "model.layers.0.mlp.gate": {"group_size": 32, "bits": 8}}"#,
                mlx(vec![("model.layers.0.mlp.gate".to_owned(), Width { bits: 8, group: 32 })]),
            ),
        ];
        for (text, expected) in read {
            assert_eq!(format(text).unwrap(), expected, "{text}");
        }
        let refused = [
            (r#"{"quant_method": "gptq", "bits": 5}"#, "bits\": found 5, expected 2, 3, 4, 8 bits"),
            (r#"{"quant_method": "gptq"}"#, "bits\": found missing"),
            (r#"{"quant_method": "gptq", "bits": 4, "checkpoint_format": "marlin"}"#, "marlin"),
            (
                r#"{"quant_method": "gptq", "bits": 4, "is_marlin_format": true}"#,
                "is_marlin_format",
            ),
            (
                r#"{"quant_method": "gptq", "bits": 4, "dynamic": {"+:.*": {"bits": 7}}}"#,
                "dynamic.+:.*.bits\": found 7",
            ),
            (r#"{"quant_method": "gptq", "bits": 4, "dynamic": [1]}"#, "dynamic"),
            (r#"{"quant_method": "awq", "bits": 4, "version": "gemv"}"#, "gemv"),
            (
                r#"{"quant_method": "auto-round", "bits": 4, "packing_format": "auto_round:llm_compressor"}"#,
                "packing_format\": found \"auto_round:llm_compressor\"",
            ),
            (r#"{"quant_method": "auto-round", "bits": 4, "data_type": "mx_fp"}"#, "data_type"),
            (r#"{"quant_method": "torchao"}"#, "quant_method\": found \"torchao\""),
            (r#"{"quant_method": "modelopt", "quant_algo": "NVFP4_AWQ"}"#, "nvfp4_awq"),
            (
                r#"{"quant_method": "fp8", "weight_block_size": [128]}"#,
                "expected two positive numbers",
            ),
            (
                r#"{"quant_method": "compressed-tensors", "format": "nvfp4-pack-quantized",
                    "config_groups": {"g": {"weights": {"num_bits": 8, "type": "float"}}}}"#,
                "num_bits\": found 8, expected 4 bits",
            ),
            (
                r#"{"quant_method": "compressed-tensors", "format": "pack-quantized",
                    "config_groups": {"g": {"weights": {"num_bits": 9, "type": "int"}}}}"#,
                "num_bits\": found 9, expected 2, 3, 4, 5, 6, 7, 8 bits",
            ),
            (
                r#"{"quant_method": "compressed-tensors", "format": "int-quantized",
                    "config_groups": {"g": {"weights": {"num_bits": 4, "type": "int"}}}}"#,
                "num_bits\": found 4, expected 8 bits",
            ),
            (
                r#"{"quant_method": "compressed-tensors", "format": "int-quantized",
                    "sparsity_config": {"format": "sparse-24-bitmask"}}"#,
                "sparse-24-bitmask",
            ),
            (
                r#"{"group_size": 32, "bits": 4, "mode": "mxfp4"}"#,
                "mode\": found the text \"mxfp4\"",
            ),
            (
                r#"{"group_size": 16, "bits": 4, "mode": "nvfp4"}"#,
                "mode\": found the text \"nvfp4\"",
            ),
            (
                r#"{"group_size": 64, "bits": 4, "lm_head": {"group_size": 32, "bits": 4, "mode": "mxfp4"}}"#,
                "lm_head.mode\": found the text \"mxfp4\"",
            ),
            ("[]", "expected an object"),
            (r#"{"bits": 4, "quant_type": "x"}"#, "quant_method"),
        ];
        for (text, message) in refused {
            let error = format(text).unwrap_err().to_string();
            assert!(error.starts_with("config.json: key ") && error.contains(message), "{error}");
            assert!(!error.contains('\n'));
        }
    }
}
