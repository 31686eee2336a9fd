//! The ways in which checkpoints store weights.

use crate::{
    Result,
    packed::{Layout, Packed, Parts, bitsandbytes, by_rows, mlx, transposed},
};

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
    /// Whether integers have zero points beside all of their scales: without them they would be read
    /// as symmetric.
    pub(crate) zeros: bool,
}

/// Weights by their names, and what the names of the parts that they are made of end in.
type Layers = (Vec<(String, Packed)>, Vec<&'static str>);

impl Format {
    /// What the name of the tensor with the codes ends in, after that of the module; `None` if
    /// nothing is packed.
    pub(crate) fn codes(&self) -> Option<&'static str> {
        match self {
            Self::Gptq { .. } | Self::Awq => Some("qweight"),
            Self::Compressed { .. } => Some("weight_packed"),
            // The codes have the name of the weight.
            Self::Mlx(_) => Some("scales"),
            Self::BitsAndBytes => Some(bitsandbytes::ABSMAX),
            Self::Floats | Self::Scaled(_) | Self::Mxfp4 => None,
        }
    }

    /// The weights of a packed module under the names that they have in the original checkpoint, and
    /// the parts that they are made of.
    ///
    /// # Errors
    /// [`Error::Packed`] for parts that do not fit each other.
    pub(crate) fn layers(&self, parts: &Parts<'_>) -> Result<Layers> {
        let (packed, used) = match self {
            Self::Gptq { bits, zero_offset } => {
                let (found, used) = transposed::gptq(parts, bits, *zero_offset)?;
                (Packed::new(found, Layout::Transposed), used)
            }
            Self::Awq => {
                let (found, used) = transposed::awq(parts)?;
                (Packed::new(found, Layout::Transposed), used)
            }
            Self::Mlx(widths) => {
                let packed = |(name, found)| (name, Packed::new(found, Layout::Affine));
                let layers = mlx::layers(parts, widths)?.into_iter().map(packed);
                return Ok((layers.collect(), mlx::PARTS.to_vec()));
            }
            Self::Compressed { .. } | Self::Floats | Self::Scaled(_) | Self::Mxfp4 => {
                let (bits, zeros) = match self {
                    Self::Compressed { bits, scales } => (&bits[..], scales.zeros),
                    _ => (&[][..], false),
                };
                let (found, used) = by_rows::layer(parts, bits, zeros)?;
                (Packed::new(found, Layout::ByRows), used)
            }
            Self::BitsAndBytes => {
                let (found, used) = bitsandbytes::blockwise(parts)?;
                (Packed::new(found, Layout::Blockwise), used)
            }
        };
        Ok((vec![(format!("{}.weight", parts.module), packed)], used))
    }
}
