//! llama.cpp's `.kld` files: what a reference model predicts for each position of a text.
//!
//! After `_logits_` three numbers of four bytes, little-endian: tokens of a window, of the vocabulary,
//! and windows; then the tokens of all windows, four bytes each. For each position that is scored
//! there follows a row: two single-precision numbers, the step and the least logarithm of a
//! probability, and the steps of each token in two bytes, with one more where their number is odd. Sixteen
//! nats in 65,535 steps round log-probabilities by up to 0.00012, which alone makes a mean KL divergence of
//! about 0.0005.

use std::io::{self, Write};

use gguf_io::{Error, Limits, Place, Result, SourceFile};

use crate::{
    logits::exponentials,
    perplexity::{Windows, scored},
};

const MAGIC: &[u8; 8] = b"_logits_";
/// Bytes before the tokens.
const HEADER: u64 = 20;
/// Nats below the likeliest token that a row holds.
const DEPTH: f32 = 16.0;
const STEPS: f32 = 65535.0;
const DAMAGED: &str = "the file is damaged or cut short; make it again";

/// A file that is open.
#[derive(Debug)]
pub struct KldFile {
    file: SourceFile,
    /// Tokens of a window.
    context: usize,
    vocabulary: usize,
    tokens: Vec<u32>,
    rows_at: u64,
}

/// The bytes of a row.
fn row_bytes(vocabulary: u64) -> Option<u64> {
    vocabulary.div_ceil(2).checked_mul(4)?.checked_add(8)
}

/// The bytes of a file of so many windows of `context` tokens; `None` if nothing of a window is scored, or
/// they are too many to count.
pub fn file_bytes(context: usize, vocabulary: usize, windows: usize) -> Option<u64> {
    let scored = u64::try_from(scored(context).len()).ok().filter(|scored| *scored > 0)?;
    let windows = u64::try_from(windows).ok()?;
    let tokens = windows.checked_mul(context.try_into().ok()?)?.checked_mul(4)?;
    let rows = row_bytes(vocabulary.try_into().ok()?)?.checked_mul(scored)?.checked_mul(windows)?;
    rows.checked_add(tokens)?.checked_add(HEADER)
}

impl KldFile {
    /// Reads the header and the tokens of a file.
    ///
    /// # Errors
    /// [`Error::NotAModel`] for a file of another kind; [`Error::Malformed`] for one whose numbers
    /// contradict each other or its size; [`Error::LimitsExceeded`].
    pub fn read(file: SourceFile, limits: &Limits) -> Result<Self> {
        let mut header = [0; HEADER as usize];
        let len = header.len().min(usize::try_from(file.len()).unwrap_or(usize::MAX));
        file.read_exact_at(&mut header[..len], 0)?;
        if !header.starts_with(MAGIC) {
            return Err(Error::NotAModel {
                path: file.path().into(),
                found: "a file of another kind".into(),
                expected: "a file of log-probabilities, which begins with _logits_",
                help: "give a file that `write_header` began or llama-perplexity --kl-divergence-base wrote",
            });
        }
        let number = |at: usize, name: &'static str| {
            let bytes = header.get(at..at + 4).and_then(|bytes| bytes.try_into().ok());
            let number = bytes.map_or(0, i32::from_le_bytes);
            u32::try_from(number).ok().filter(|number| *number > 0).ok_or_else(|| {
                malformed(
                    &file,
                    Place::Field(name, at as u64),
                    number.to_string(),
                    "a positive number",
                )
            })
        };
        let context = number(8, "tokens of a window")?;
        let vocabulary = number(12, "tokens of the vocabulary")?;
        let windows = number(16, "windows")?;
        let count = u64::from(context) * u64::from(windows);
        let size = file_bytes(context as usize, vocabulary as usize, windows as usize);
        if size != Some(file.len()) {
            let place = Place::Field("end of the rows", file.len());
            let expected = match size {
                Some(size) => format!(
                    "{size} bytes, for {windows} windows of {context} tokens and a vocabulary of {vocabulary}"
                ),
                None => "windows that can be scored".to_owned(),
            };
            return Err(malformed(&file, place, format!("{} bytes", file.len()), &expected));
        }
        let mut budget = gguf_io::Budget::new(limits);
        budget.admit(file.len());
        let len = usize::try_from(4 * count).unwrap_or(usize::MAX);
        let bytes = file.read_vec(HEADER, len, &mut budget)?;
        budget.debit_array(count, 4, file.path(), &Place::Field("tokens", HEADER))?;
        let tokens: Vec<u32> =
            bytes.as_chunks().0.iter().map(|bytes| u32::from_le_bytes(*bytes)).collect();
        if let Some(at) = tokens.iter().position(|token| *token >= vocabulary) {
            let place = Place::Field("tokens", HEADER + 4 * at as u64);
            let expected = format!("a token below {vocabulary}");
            return Err(malformed(&file, place, tokens[at].to_string(), &expected));
        }
        Ok(Self {
            context: context as usize,
            vocabulary: vocabulary as usize,
            tokens,
            rows_at: HEADER + 4 * count,
            file,
        })
    }

    /// Tokens of a window.
    pub fn context(&self) -> usize {
        self.context
    }

    /// Tokens of the vocabulary.
    pub fn vocabulary(&self) -> usize {
        self.vocabulary
    }

    /// The tokens of all windows, as the text has them.
    pub fn tokens(&self) -> &[u32] {
        &self.tokens
    }

    /// The windows, each with `bos` in its first place if texts begin with a token for it.
    pub fn windows(&self, bos: Option<u32>) -> Windows<'_> {
        Windows::of(&self.tokens, self.context, bos)
    }

    /// Reads the log-probabilities that the reference gave the tokens behind a position. `window` counts
    /// windows, `position` the tokens of a window.
    ///
    /// # Errors
    /// If the file cannot be read, or is asked for a position that is not scored.
    pub fn log_probabilities(
        &self,
        window: usize,
        position: usize,
        output: &mut Vec<f32>,
    ) -> Result<()> {
        let scored = scored(self.context);
        let row = window
            .checked_mul(scored.len())
            .and_then(|row| row.checked_add(position.checked_sub(scored.start)?))
            .filter(|_| scored.contains(&position))
            .map(|row| row as u64);
        let bytes = row_bytes(self.vocabulary as u64).unwrap_or(u64::MAX);
        let at = row.and_then(|row| row.checked_mul(bytes)?.checked_add(self.rows_at));
        let end = at.and_then(|at| at.checked_add(bytes));
        let (Some(at), true) = (at, end.is_some_and(|end| end <= self.file.len())) else {
            let place = Place::Field("rows", self.rows_at);
            let found = format!("position {position} of window {window}");
            return Err(malformed(&self.file, place, found, "one that is scored"));
        };
        let mut stored = vec![0; bytes as usize];
        self.file.read_exact_at(&mut stored, at)?;
        let (numbers, steps) = stored.split_at(8);
        let number =
            |at: usize| numbers[at..at + 4].try_into().map_or(f32::NAN, f32::from_le_bytes);
        let (step, least) = (number(0), number(4));
        if !step.is_finite() || !least.is_finite() {
            let place = Place::Field("rows", at);
            let found = format!("steps of {step} from {least}");
            return Err(malformed(&self.file, place, found, "finite numbers"));
        }
        output.clear();
        let steps = steps.as_chunks().0.iter().take(self.vocabulary);
        output.extend(steps.map(|bytes| f32::from(u16::from_le_bytes(*bytes)) * step + least));
        Ok(())
    }
}

fn malformed(file: &SourceFile, place: Place, found: String, expected: &str) -> Error {
    Error::Malformed {
        path: file.path().into(),
        place,
        found: found.into(),
        expected: expected.to_owned().into(),
        help: DAMAGED,
    }
}

/// Writes what comes before the rows: the size of windows, the vocabulary, and the tokens of all windows.
///
/// # Errors
/// Of the output; [`io::ErrorKind::InvalidInput`] if a number does not fit the format.
pub fn write_header(
    output: &mut impl Write,
    context: usize,
    vocabulary: usize,
    tokens: &[u32],
) -> io::Result<()> {
    let number = |number: usize| {
        let number = i32::try_from(number).map_err(|_| io::ErrorKind::InvalidInput)?;
        Ok::<_, io::Error>(number.to_le_bytes())
    };
    output.write_all(MAGIC)?;
    output.write_all(&number(context)?)?;
    output.write_all(&number(vocabulary)?)?;
    output.write_all(&number(tokens.len().checked_div(context).unwrap_or(0))?)?;
    for token in tokens {
        output.write_all(&token.to_le_bytes())?;
    }
    Ok(())
}

/// Writes the row of a position from its logits.
///
/// # Errors
/// Of the output.
pub fn write_row(output: &mut impl Write, logits: &[f32]) -> io::Result<()> {
    let (greatest, sum) = exponentials(logits);
    let log_sum = sum.ln() as f32;
    let least = logits.iter().copied().fold(greatest, f32::min).max(greatest - DEPTH);
    let step = (greatest - least) / STEPS;
    let mut row = Vec::with_capacity(8 + 4 * logits.len().div_ceil(2));
    row.extend(step.to_le_bytes());
    row.extend((least - greatest - log_sum).to_le_bytes());
    let inverse = if step > 0.0 { 1.0 / step } else { 0.0 };
    for logit in logits {
        let steps = (inverse * (logit - least).max(0.0)).round_ties_even();
        row.extend((steps as u16).to_le_bytes());
    }
    if logits.len() % 2 == 1 {
        row.extend([0; 2]);
    }
    output.write_all(&row)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kl::log_probabilities;

    /// Two windows of four tokens, of which one is scored each, and a vocabulary of three.
    fn bytes() -> Vec<u8> {
        let mut bytes = Vec::new();
        write_header(&mut bytes, 4, 3, &[0, 1, 2, 0, 2, 2, 1, 0]).unwrap();
        write_row(&mut bytes, &[1.0, -40.0, 0.5]).unwrap();
        write_row(&mut bytes, &[2.0; 3]).unwrap();
        bytes
    }

    fn read(bytes: Vec<u8>) -> Result<KldFile> {
        KldFile::read(SourceFile::from_bytes("base.kld", bytes), &Limits::default())
    }

    #[test]
    fn rows_come_back_within_half_a_step() {
        let file = read(bytes()).unwrap();
        assert_eq!((file.context(), file.vocabulary()), (4, 3));
        assert_eq!(file.tokens(), [0, 1, 2, 0, 2, 2, 1, 0]);
        let windows: Vec<_> = file.windows(Some(2)).iter().map(|window| window.tokens).collect();
        assert_eq!(windows, [[2, 1, 2, 0], [2, 2, 1, 0]]);
        let (mut found, mut expected) = (Vec::new(), Vec::new());
        file.log_probabilities(0, 2, &mut found).unwrap();
        log_probabilities(&[1.0, -15.0, 0.5], &mut expected);
        assert!(found.iter().zip(&expected).all(|(a, b)| (a - b).abs() < 1.3e-4), "{found:?}");
        file.log_probabilities(1, 2, &mut found).unwrap();
        assert!(found.iter().all(|log| (log + 3f32.ln()).abs() < 1e-6), "{found:?}");
        for (window, position) in [(0, 1), (0, 3), (2, 2), (usize::MAX, 2)] {
            assert!(file.log_probabilities(window, position, &mut found).is_err());
        }
    }

    #[test]
    fn the_bytes_are_those_of_the_format() {
        let bytes = bytes();
        assert_eq!(&bytes[..20], b"_logits_\x04\0\0\0\x03\0\0\0\x02\0\0\0");
        // Eight tokens, two rows of two numbers and four steps.
        assert_eq!(bytes.len(), 20 + 8 * 4 + 2 * (8 + 4 * 2));
        assert_eq!(file_bytes(4, 3, 2), Some(bytes.len() as u64));
        assert_eq!(&bytes[60..62], &u16::MAX.to_le_bytes());
        assert_eq!(&bytes[62..64], &0u16.to_le_bytes());
    }

    #[test]
    fn damaged_files_are_refused() {
        let with = |at: usize, value: u32| {
            let mut bytes = bytes();
            bytes[at..at + 4].copy_from_slice(&value.to_le_bytes());
            read(bytes).unwrap_err().to_string()
        };
        assert!(with(0, 0).contains("begins with _logits_"));
        assert!(with(8, 0).contains("a positive number"));
        assert!(with(8, 2).contains("found 84 bytes"), "{}", with(8, 2));
        assert!(with(12, u32::MAX).contains("a positive number"));
        assert!(with(16, i32::MAX as u32).contains("found 84 bytes"));
        assert!(with(20, 3).contains("a token below 3"));
        for len in 0..bytes().len() {
            assert!(read(bytes()[..len].to_vec()).is_err());
        }
        let mut nan = bytes();
        nan[52..56].copy_from_slice(&f32::NAN.to_le_bytes());
        assert!(read(nan).unwrap().log_probabilities(0, 2, &mut Vec::new()).is_err());
    }
}
