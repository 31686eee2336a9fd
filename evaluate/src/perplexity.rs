//! Perplexity, with the windows and the figures of llama-perplexity.

use std::{fmt, ops::Range};

use crate::logits::exponentials;

/// The least tokens of a window: one has to be scored, and it needs one before and one after it.
const SMALLEST: usize = 3;

/// A text too short for windows of a size, or a size too small.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct WindowsError {
    /// Tokens of the text.
    pub tokens: usize,
    /// Tokens of a window.
    pub size: usize,
}

impl fmt::Display for WindowsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { tokens, size } = self;
        if *size < SMALLEST {
            return write!(f, "a context of {size} tokens is too short: give at least {SMALLEST}");
        }
        write!(
            f,
            "the text has {tokens} tokens, too few for two windows of {size}: give a longer text or \
             a shorter context"
        )
    }
}

impl std::error::Error for WindowsError {}

/// The windows that a text is cut into: of one size, without overlap, the rest left out. In the second
/// half of each the next token is predicted, so that there is always something before it.
#[derive(Clone, Debug)]
pub struct Windows<'a> {
    tokens: &'a [u32],
    size: usize,
    bos: Option<u32>,
}

/// A part of a text that is run by itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Window {
    /// The tokens that are run. Where the vocabulary has texts begin with a token for it, that token
    /// stands in the first place, instead of the text's own.
    pub tokens: Vec<u32>,
}

impl<'a> Windows<'a> {
    /// The windows of a text. `bos` is the token that texts begin with, if they do
    /// ([`Tokenizer::bos`](gguf_model::Tokenizer::bos)); the text itself was tokenized with it too, as
    /// llama-perplexity does.
    ///
    /// # Errors
    /// If the text is shorter than two windows, or a window too short for a prediction.
    pub fn new(tokens: &'a [u32], size: usize, bos: Option<u32>) -> Result<Self, WindowsError> {
        if size < SMALLEST || tokens.len() / 2 < size {
            return Err(WindowsError { tokens: tokens.len(), size });
        }
        Ok(Self { tokens, size, bos })
    }

    /// The windows of a text that was cut before; of any number.
    pub(crate) fn of(tokens: &'a [u32], size: usize, bos: Option<u32>) -> Self {
        Self { tokens, size: size.max(1), bos }
    }

    /// Without the first windows; `None` if none is left.
    pub fn from(self, first: usize) -> Option<Self> {
        let left = first.checked_mul(self.size).and_then(|cut| self.tokens.get(cut..))?;
        (left.len() >= self.size).then_some(Self { tokens: left, ..self })
    }

    /// No more than so many of them.
    #[must_use]
    pub fn at_most(self, count: usize) -> Self {
        let tokens = self.tokens.chunks(count.saturating_mul(self.size).max(1)).next();
        Self { tokens: tokens.unwrap_or_default(), ..self }
    }

    /// Tokens of a window.
    pub fn size(&self) -> usize {
        self.size
    }

    /// The positions of a window whose next token is predicted. That of the last position is in the
    /// next window, and is left out.
    pub fn scored(&self) -> Range<usize> {
        scored(self.size)
    }

    /// The tokens of all windows, in their order; what a [`.kld` file](crate::kld) holds.
    pub fn tokens(&self) -> &'a [u32] {
        self.tokens.get(..self.len() * self.size).unwrap_or_default()
    }

    /// How many windows there are.
    pub fn len(&self) -> usize {
        self.tokens.len() / self.size
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The windows.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = Window> + 'a {
        let bos = self.bos;
        self.tokens.chunks_exact(self.size).map(move |tokens| {
            let mut tokens = tokens.to_vec();
            if let (Some(bos), Some(first)) = (bos, tokens.first_mut()) {
                *first = bos;
            }
            Window { tokens }
        })
    }
}

/// The positions that are scored of a window of so many tokens.
pub(crate) fn scored(size: usize) -> Range<usize> {
    size / 2..size.saturating_sub(1).max(size / 2)
}

impl Window {
    /// The positions whose next token is predicted.
    pub fn scored(&self) -> Range<usize> {
        scored(self.tokens.len())
    }

    /// The token behind a position.
    pub fn next(&self, position: usize) -> Option<u32> {
        self.tokens.get(position.checked_add(1)?).copied()
    }
}

/// The perplexity of the predictions so far.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Perplexity {
    sum: f64,
    squares: f64,
    count: u64,
}

impl Perplexity {
    /// Adds a prediction: the logits, a number for each token, and the token that came. A token that
    /// has no logit counts as impossible.
    pub fn add(&mut self, logits: &[f32], next: u32) {
        self.add_loss(loss(logits, next));
    }

    /// Adds a negative log-likelihood.
    pub(crate) fn add_loss(&mut self, loss: f64) {
        self.sum += loss;
        self.squares += loss * loss;
        self.count += 1;
    }

    /// Predictions so far.
    pub fn count(&self) -> u64 {
        self.count
    }

    /// The mean of the negative log-likelihoods, NaN without any.
    pub fn mean_loss(&self) -> f64 {
        self.sum / self.count as f64
    }

    /// The standard error of [`mean_loss`](Self::mean_loss), 0 where it cannot be told.
    pub fn loss_error(&self) -> f64 {
        standard_error(self.sum, self.squares, self.count)
    }

    /// The perplexity, NaN without predictions.
    pub fn value(&self) -> f64 {
        self.mean_loss().exp()
    }

    /// Its standard error, 0 where it cannot be told.
    pub fn error(&self) -> f64 {
        self.value() * self.loss_error()
    }
}

/// The standard error of a mean, 0 where it cannot be told.
pub(crate) fn standard_error(sum: f64, squares: f64, count: u64) -> f64 {
    if count < 2 {
        return 0.0;
    }
    let count = count as f64;
    let mean = sum / count;
    let variance = squares / count - mean * mean;
    if variance > 0.0 { (variance / (count - 1.0)).sqrt() } else { 0.0 }
}

/// The negative log-likelihood of a token.
fn loss(logits: &[f32], next: u32) -> f64 {
    let Some(&logit) = logits.get(next as usize) else { return f64::INFINITY };
    let (greatest, sum) = exponentials(logits);
    f64::from(greatest - logit) + sum.ln()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn windows_do_not_overlap_and_begin_with_the_token_for_it() {
        let tokens: Vec<u32> = (10..31).collect();
        let windows = Windows::new(&tokens, 8, Some(1)).unwrap();
        let all: Vec<Window> = windows.iter().collect();
        assert_eq!(all[0].tokens, [1, 11, 12, 13, 14, 15, 16, 17]);
        assert_eq!(all[1].tokens, [1, 19, 20, 21, 22, 23, 24, 25]);
        assert_eq!((all.len(), windows.len(), windows.scored()), (2, 2, 4..7));
        assert_eq!((all[0].next(6), all[0].next(7)), (Some(17), None));
        assert_eq!(windows.tokens(), &tokens[..16]);
        assert_eq!(windows.clone().at_most(1).iter().count(), 1);
        assert_eq!(windows.clone().at_most(9).iter().count(), 2);
        let plain = Windows::new(&tokens, 7, None).unwrap();
        assert_eq!(plain.iter().next().unwrap().tokens, &tokens[..7]);
        assert_eq!(plain.scored(), 3..6);
        assert_eq!(plain.from(1).unwrap().iter().next().unwrap().tokens, &tokens[7..14]);
    }

    #[test]
    fn short_texts_and_contexts_are_refused() {
        let says = |tokens: &[u32], size| Windows::new(tokens, size, None).unwrap_err().to_string();
        assert!(says(&[1; 15], 8).contains("15 tokens, too few for two windows of 8"));
        assert!(says(&[1; 15], 2).contains("at least 3"));
        assert!(Windows::new(&[1; 16], 8, None).is_ok());
        let from = |first| Windows::new(&[1; 23], 8, None).unwrap().from(first);
        assert_eq!(from(1).map(|windows| windows.len()), Some(1));
        assert!(from(2).is_none() && from(usize::MAX).is_none());
    }

    #[test]
    fn perplexity_of_known_predictions() {
        let mut uniform = Perplexity::default();
        for next in 0..4 {
            uniform.add(&[2.5; 4], next);
        }
        assert!((uniform.value() - 4.0).abs() < 1e-9);
        assert_eq!((uniform.error(), uniform.count()), (0.0, 4));
        let mut two = Perplexity::default();
        // Probabilities of 3/4 and 1/4.
        let logits = [3f32.ln(), 0.0];
        two.add(&logits, 0);
        two.add(&logits, 1);
        let (a, b) = ((4f64 / 3.0).ln(), 4f64.ln());
        assert!((two.mean_loss() - (a + b) / 2.0).abs() < 1e-7);
        assert!((two.loss_error() - (b - a) / 2.0).abs() < 1e-7);
        // Large logits do not overflow, and a token that is none is impossible.
        let mut odd = Perplexity::default();
        odd.add(&[1e30, -1e30], 0);
        assert_eq!(odd.value(), 1.0);
        odd.add(&[0.0], 7);
        assert_eq!(odd.value(), f64::INFINITY);
        assert!(Perplexity::default().value().is_nan());
    }
}
