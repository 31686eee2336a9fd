//! Packed matrices in files: packed once, read as they are.
//!
//! A file holds the eight bytes `QWPACK2` and zero; five little-endian words of 64 bits (the type, the
//! flags of grouped integers, experts, rows, columns); then the packed bytes. They are the same for every
//! instruction set. The type is ggml's number, or 2³² plus the length of a group for grouped integers.

use std::io::{self, Read, Write};

use quant_core::GgmlType;

use super::{
    MatrixError, PackedMatrix,
    format::Format,
    int4::{GroupLen, Int4Layout},
    memory::{LINE, Line},
    packed::line_count,
};

const MAGIC: [u8; 8] = *b"QWPACK2\0";
/// What marks grouped integers in the word of the type.
const GROUPED: u64 = 1 << 32;
const ZERO_POINTS: u64 = 1;
const BFLOAT16: u64 = 2;

impl PackedMatrix {
    /// Writes the matrix as it is packed, for [`read_from`](Self::read_from).
    ///
    /// # Errors
    /// Those of the writer.
    pub fn write_to(&self, out: &mut impl Write) -> io::Result<()> {
        let (ty, flags) = match self.format {
            Format::Ggml(ty) => (u64::from(ty.id()), 0),
            Format::Int4(layout) => (
                GROUPED | layout.group as u64,
                u64::from(layout.zero_points) * ZERO_POINTS + u64::from(layout.bfloat16) * BFLOAT16,
            ),
        };
        out.write_all(&MAGIC)?;
        for word in [ty, flags, self.experts as u64, self.rows as u64, self.cols as u64] {
            out.write_all(&word.to_le_bytes())?;
        }
        out.write_all(bytemuck::cast_slice(&self.lines))
    }

    /// Reads what [`write_to`](Self::write_to) wrote. Any bytes may be given: memory grows with what is
    /// read, not with what a header says.
    ///
    /// # Errors
    /// Those of the reader, `UnexpectedEof` among them if the bytes end early; `InvalidData` if they are
    /// not a packed matrix, with a [`MatrixError`] inside where it says more.
    pub fn read_from(input: &mut impl Read) -> io::Result<Self> {
        let mut magic = [0; 8];
        input.read_exact(&mut magic)?;
        if magic != MAGIC {
            return Err(invalid("it does not begin as a packed matrix does"));
        }
        let mut words = [0; 5];
        for word in &mut words {
            let mut bytes = [0; 8];
            input.read_exact(&mut bytes)?;
            *word = u64::from_le_bytes(bytes);
        }
        let [ty, flags, experts, rows, cols] = words;
        let size = |n: u64| usize::try_from(n).map_err(|_| invalid(MatrixError::TooLarge));
        let format = format(ty, flags).ok_or_else(|| {
            invalid(format!("type {ty:#x} with flags {flags:#x} is none of packed matrices"))
        })?;
        let (len, _) = format.block();
        let mut matrix = Self {
            format,
            experts: size(experts)?,
            rows: size(rows)?,
            cols: size(cols)?,
            lines: Vec::new().into(),
        };
        if !matrix.cols.is_multiple_of(len) {
            return Err(invalid(format!("{cols} columns are no whole number of blocks of {len}")));
        }
        // Products of sizes fit, also where a size of zero would hide the others; sums over the columns
        // of a row then fit their types, as those of what was packed.
        let [some_experts, some_rows] = [matrix.experts, matrix.rows].map(|n| n.max(1));
        let elements = some_experts.checked_mul(some_rows).and_then(|n| n.checked_mul(matrix.cols));
        line_count(format, some_experts, some_rows, matrix.cols)
            .and_then(|lines| lines.checked_mul(LINE))
            .filter(|bytes| elements.is_some() && isize::try_from(*bytes).is_ok())
            .ok_or_else(|| invalid(MatrixError::TooLarge))?;
        let count = line_count(format, matrix.experts, matrix.rows, matrix.cols).unwrap_or(0);
        let mut lines = Vec::new();
        while lines.len() < count {
            let first = lines.len();
            // A megabyte at a time.
            lines.resize(count.min(first + (1 << 14)), Line([0; LINE]));
            input.read_exact(bytemuck::cast_slice_mut(&mut lines[first..]))?;
        }
        matrix.lines = lines.into();
        Ok(matrix)
    }
}

fn format(ty: u64, flags: u64) -> Option<Format> {
    if ty & GROUPED == 0 {
        let ty = GgmlType::from_id(u32::try_from(ty).ok()?)?;
        return (flags == 0 && super::activation_type(ty).is_some()).then_some(Format::Ggml(ty));
    }
    let group = match ty ^ GROUPED {
        32 => GroupLen::Of32,
        64 => GroupLen::Of64,
        128 => GroupLen::Of128,
        _ => return None,
    };
    let layout = Int4Layout {
        group,
        zero_points: flags & ZERO_POINTS != 0,
        bfloat16: flags & BFLOAT16 != 0,
    };
    (flags <= ZERO_POINTS | BFLOAT16).then_some(Format::Int4(layout))
}

fn invalid(message: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, message)
}
