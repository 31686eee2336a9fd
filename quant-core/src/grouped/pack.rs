//! Codes in 32-bit words, low bits first.
//!
//! A word holds `32 / bits` codes, rounded down; code `i` of a word is at bit `bits · i`. The last
//! word of a row or column is padded with zeros. compressed-tensors packs weights along rows and
//! zero points along columns; GPTQ packs weights along columns and zero points along rows.
//!
//! GPTQ's three bits and MLX leave no gaps: there a code may go over from one word to the next
//! ([`stream_code`]).

use crate::Error;

/// Codes in a word.
///
/// # Errors
/// [`Error::BitWidth`] unless `bits` is 1 to 8.
pub fn per_word(bits: u32) -> Result<usize, Error> {
    match bits {
        1..=8 => Ok((32 / bits) as usize),
        _ => Err(Error::BitWidth { bits }),
    }
}

/// Words that a row of `len` codes takes.
///
/// # Errors
/// As [`per_word`].
pub fn words(bits: u32, len: usize) -> Result<usize, Error> {
    Ok(len.div_ceil(per_word(bits)?))
}

/// Code `index` of a word.
#[inline(always)]
pub fn code(word: u32, bits: u32, index: u32) -> u8 {
    let mask = (1u32 << (bits & 15)).wrapping_sub(1);
    (word.checked_shr(bits * (index & 31)).unwrap_or(0) & mask) as u8
}

/// The code whose lowest bit is at `bit` of codes that follow one another without gaps, over
/// little-endian words; 0 past the end of `bytes`. `bits` is at most 8.
#[inline(always)]
pub fn stream_code(bytes: &[u8], bit: usize, bits: u32) -> u8 {
    let byte = |at: usize| bytes.get(at).copied().unwrap_or(0);
    let pair = u16::from_le_bytes([byte(bit / 8), byte(bit / 8 + 1)]);
    let mask = (1u16 << bits.min(8)) - 1;
    ((pair >> (bit % 8)) & mask) as u8
}

/// Packs rows of `row_len` codes, each row to words of its own; little-endian bytes.
///
/// # Errors
/// [`Error::BitWidth`], and [`Error::Length`] if `codes` is not whole rows or `out` does not have
/// four bytes for each word.
pub fn rows(bits: u32, codes: &[u8], row_len: usize, out: &mut [u8]) -> Result<(), Error> {
    let per_word = per_word(bits)?;
    let row_bytes = check(bits, codes.len(), row_len, out.len())?;
    if codes.is_empty() {
        return Ok(());
    }
    for (codes, out) in codes.chunks_exact(row_len).zip(out.chunks_exact_mut(row_bytes)) {
        if bits == 8 && row_len.is_multiple_of(4) {
            out.copy_from_slice(codes);
            continue;
        }
        let (whole, rest) = (codes.len() / per_word, codes.len() % per_word);
        let (words, _) = out.as_chunks_mut::<4>();
        if bits == 4 {
            // Pairs of bytes to bytes, two codes each: the common case, without shifts by index.
            for (word, codes) in words.iter_mut().zip(codes.as_chunks::<8>().0) {
                let pairs = u64::from_le_bytes(*codes);
                let bytes = (pairs | pairs >> 4) & 0x00ff_00ff_00ff_00ff;
                let halves = (bytes | bytes >> 8) & 0x0000_ffff_0000_ffff;
                *word = ((halves | halves >> 16) as u32).to_le_bytes();
            }
        } else {
            for (word, codes) in words.iter_mut().zip(codes.chunks_exact(per_word)) {
                *word = join(bits, codes).to_le_bytes();
            }
        }
        if rest > 0
            && let (Some(word), Some(codes)) = (words.get_mut(whole), codes.get(whole * per_word..))
        {
            *word = join(bits, codes).to_le_bytes();
        }
    }
    Ok(())
}

/// The reverse of [`rows`].
///
/// # Errors
/// As [`rows`].
pub fn unpack_rows(bits: u32, words: &[u8], row_len: usize, out: &mut [u8]) -> Result<(), Error> {
    let per_word = per_word(bits)?;
    let row_bytes = check(bits, out.len(), row_len, words.len())?;
    if out.is_empty() {
        return Ok(());
    }
    for (words, out) in words.chunks_exact(row_bytes).zip(out.chunks_exact_mut(row_len)) {
        for (word, out) in words.as_chunks::<4>().0.iter().zip(out.chunks_mut(per_word)) {
            let word = u32::from_le_bytes(*word);
            for (i, out) in (0..).zip(out) {
                *out = code(word, bits, i);
            }
        }
    }
    Ok(())
}

/// Packs a matrix of `row_len` columns along the columns: word `(r, c)` holds the codes of column
/// `c` in the `r`-th stretch of rows.
///
/// # Errors
/// As [`rows`].
pub fn columns(bits: u32, codes: &[u8], row_len: usize, out: &mut [u8]) -> Result<(), Error> {
    let per_word = per_word(bits)?;
    check_columns(per_word, codes.len(), row_len, out.len())?;
    out.fill(0);
    let words = out.as_chunks_mut::<4>().0;
    for (row, codes) in codes.chunks_exact(row_len.max(1)).enumerate() {
        let words = words.iter_mut().skip(row / per_word * row_len);
        let shift = bits * (row % per_word) as u32;
        for (word, code) in words.zip(codes) {
            *word = (u32::from_le_bytes(*word) | u32::from(*code) << shift).to_le_bytes();
        }
    }
    Ok(())
}

/// The reverse of [`columns`].
///
/// # Errors
/// As [`rows`].
pub fn unpack_columns(
    bits: u32,
    words: &[u8],
    row_len: usize,
    out: &mut [u8],
) -> Result<(), Error> {
    let per_word = per_word(bits)?;
    check_columns(per_word, out.len(), row_len, words.len())?;
    let words = words.as_chunks::<4>().0;
    for (row, out) in out.chunks_exact_mut(row_len.max(1)).enumerate() {
        let words = words.iter().skip(row / per_word * row_len);
        for (out, word) in out.iter_mut().zip(words) {
            *out = code(u32::from_le_bytes(*word), bits, (row % per_word) as u32);
        }
    }
    Ok(())
}

fn join(bits: u32, codes: &[u8]) -> u32 {
    (0..).zip(codes).fold(0, |word, (i, code)| word | u32::from(*code) << (bits * i))
}

/// The bytes of a packed row, if the lengths agree.
fn check(bits: u32, codes: usize, row_len: usize, bytes: usize) -> Result<usize, Error> {
    let row_bytes = words(bits, row_len)?.checked_mul(4).ok_or(Error::TooLarge)?;
    let rows = whole_rows(codes, row_len)?;
    match rows.checked_mul(row_bytes) {
        Some(expected) if expected == bytes => Ok(row_bytes),
        expected => Err(length(bytes, expected)),
    }
}

fn check_columns(per_word: usize, codes: usize, row_len: usize, bytes: usize) -> Result<(), Error> {
    let rows = whole_rows(codes, row_len)?;
    match rows.div_ceil(per_word).checked_mul(row_len).and_then(|n| n.checked_mul(4)) {
        Some(expected) if expected == bytes => Ok(()),
        expected => Err(length(bytes, expected)),
    }
}

fn whole_rows(codes: usize, row_len: usize) -> Result<usize, Error> {
    match codes.checked_rem(row_len) {
        None if codes == 0 => Ok(0),
        Some(0) => Ok(codes / row_len),
        _ => Err(Error::Length { what: "the code buffer", found: codes, expected: row_len }),
    }
}

fn length(found: usize, expected: Option<usize>) -> Error {
    match expected {
        Some(expected) => Error::Length { what: "the word buffer", found, expected },
        None => Error::TooLarge,
    }
}
