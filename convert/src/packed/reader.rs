//! A packed layer as a file of single-precision values.

use std::{
    collections::VecDeque,
    fmt, io,
    sync::{Arc, Mutex, OnceLock},
};

use gguf_io::ReadAt;

/// Values in a block of rows.
const BLOCK: u64 = 1 << 20;

/// Blocks kept, over all layers: 32 MB, enough for threads that work side by side.
const KEPT: usize = 8;

/// Rows are unpacked in multiples of this: the most codes a word holds.
const ROWS: u64 = 16;

/// A packed layer.
pub(super) trait Blocks: Send + Sync + fmt::Debug {
    /// Rows and columns of the weight.
    fn shape(&self) -> [u64; 2];

    /// Dequantizes rows from `first`, a multiple of 16, on.
    fn rows(&self, first: u64, out: &mut [f32]) -> gguf_io::Result<()>;
}

type Block = Arc<OnceLock<Result<Vec<f32>, String>>>;

/// The blocks that were dequantized last.
#[derive(Debug, Default)]
pub(super) struct Cache(Mutex<VecDeque<((usize, u64), Block)>>);

impl Cache {
    /// The block of this key, to be filled by the first who needs it while others wait.
    fn get(&self, key: (usize, u64)) -> Block {
        let mut kept = self.0.lock().unwrap_or_else(|e| e.into_inner());
        if let Some((_, block)) = kept.iter().find(|(other, _)| *other == key) {
            return Arc::clone(block);
        }
        if kept.len() >= KEPT {
            kept.pop_front();
        }
        let block = Block::default();
        kept.push_back((key, Arc::clone(&block)));
        block
    }
}

/// The values of a layer as little-endian bytes.
#[derive(Debug)]
pub(super) struct Reader {
    blocks: Box<dyn Blocks>,
    cache: Arc<Cache>,
    id: usize,
    rows_per_block: u64,
}

impl Reader {
    pub(super) fn new(blocks: Box<dyn Blocks>, cache: Arc<Cache>, id: usize) -> Self {
        let [_, columns] = blocks.shape();
        let rows = (BLOCK / columns.max(1)).next_multiple_of(ROWS).max(ROWS);
        Self { blocks, cache, id, rows_per_block: rows }
    }
}

impl ReadAt for Reader {
    fn len(&self) -> io::Result<u64> {
        let [rows, columns] = self.blocks.shape();
        let bytes = rows.checked_mul(columns).and_then(|n| n.checked_mul(4));
        bytes.ok_or_else(|| io::ErrorKind::InvalidData.into())
    }

    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        if offset >= self.len()? {
            return Ok(0);
        }
        let [rows, columns] = self.blocks.shape();
        let block_bytes = self.rows_per_block.saturating_mul(columns).saturating_mul(4);
        let number = offset / block_bytes.max(1);
        let block = self.cache.get((self.id, number));
        let values = block.get_or_init(|| {
            let first = number * self.rows_per_block;
            let len = self.rows_per_block.min(rows - first).saturating_mul(columns);
            let len = usize::try_from(len).map_err(|_| "too large".to_owned())?;
            let mut values = vec![0.0; len];
            self.blocks.rows(first, &mut values).map_err(|error| error.to_string())?;
            Ok(values)
        });
        let values = values.as_ref().map_err(|error| io::Error::other(error.clone()))?;
        // Reads of whole values are the rule; others get the bytes they ask for all the same.
        let within = offset % block_bytes.max(1);
        let mut written = 0;
        let start = usize::try_from(within).unwrap_or(usize::MAX);
        let tail = values.iter().skip(start / 4).flat_map(|v| v.to_le_bytes()).skip(start % 4);
        if start.is_multiple_of(4) && buf.len().is_multiple_of(4) {
            let values = values.get(start / 4..).unwrap_or_default();
            for (out, v) in buf.as_chunks_mut().0.iter_mut().zip(values) {
                *out = v.to_le_bytes();
                written += 4;
            }
            return Ok(written);
        }
        for (out, byte) in buf.iter_mut().zip(tail) {
            *out = byte;
            written += 1;
        }
        Ok(written)
    }
}

/// The value of the half-precision, bfloat16 or single-precision bytes at an index.
pub(super) fn floats(dtype: gguf_io::Dtype, bytes: &[u8], out: &mut Vec<f32>) {
    out.clear();
    match dtype {
        gguf_io::Dtype::F16 => {
            out.extend(bytes.as_chunks().0.iter().map(|b| half::f16::from_le_bytes(*b).to_f32()));
        }
        gguf_io::Dtype::BF16 => {
            out.extend(bytes.as_chunks().0.iter().map(|b| half::bf16::from_le_bytes(*b).to_f32()));
        }
        _ => out.extend(bytes.as_chunks().0.iter().map(|b| f32::from_le_bytes(*b))),
    }
}
