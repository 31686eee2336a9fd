//! Runs predictors over the windows of a text, to say how good they are.
//!
//! What predicts is a [`Predictor`]: a model's session, or anything else that gives a number to each
//! token of a vocabulary.

use std::{
    ops::{ControlFlow, Range},
    path::Path,
};

use crate::{
    Error, Session,
    importance::Importance,
    kl::{Divergence, log_probabilities},
    kld::KldFile,
    perplexity::{Perplexity, Window, Windows},
};

/// Reads tokens and predicts the next.
pub trait Predictor {
    /// Why it cannot.
    type Error;

    /// How many tokens there are to choose from: the length of a row of logits.
    fn vocabulary(&self) -> usize;

    /// Forgets what it has read.
    fn restart(&mut self);

    /// Reads tokens after those read so far. `logits` is called for the positions in `wanted`, counted
    /// from the first token since it was restarted, in order.
    ///
    /// # Errors
    /// The predictor's own.
    fn read(
        &mut self,
        tokens: &[u32],
        wanted: Range<usize>,
        logits: &mut dyn FnMut(usize, &[f32]),
    ) -> Result<(), Self::Error>;
}

impl Predictor for Session<'_> {
    type Error = Error;

    fn vocabulary(&self) -> usize {
        self.model().vocabulary()
    }

    fn restart(&mut self) {
        self.truncate(0);
    }

    fn read(
        &mut self,
        tokens: &[u32],
        wanted: Range<usize>,
        logits: &mut dyn FnMut(usize, &[f32]),
    ) -> Result<(), Error> {
        self.forward(tokens, wanted, logits)
    }
}

/// Adds what meets a model's tensors in each window to an importance matrix that
/// [expects](Importance::for_model) them; of the windows so far, if it is broken off. `output` is whether
/// the output's tensor is among them: its product is left out otherwise.
///
/// # Errors
/// As [`Session::observe`]. What could not be added, [`Importance::check`] tells.
pub fn importance(
    session: &mut Session<'_>,
    windows: &Windows<'_>,
    importance: &mut Importance,
    output: bool,
    progress: Progress<'_>,
) -> Result<(), Error> {
    for (i, window) in windows.iter().enumerate() {
        session.truncate(0);
        let wanted = if output { 0..window.tokens.len() } else { 0..0 };
        session.observe(&window.tokens, wanted, importance, |_, _| {})?;
        importance.chunks = importance.chunks.saturating_add(1);
        if progress(i + 1, windows.len()).is_break() {
            break;
        }
    }
    Ok(())
}

/// Hears how many windows are done, of how many, and may break off.
pub type Progress<'a> = &'a mut dyn FnMut(usize, usize) -> ControlFlow<()>;

/// The perplexity of a predictor; of the windows so far, if it is broken off.
///
/// # Errors
/// The predictor's.
pub fn perplexity<P: Predictor>(
    predictor: &mut P,
    windows: &Windows<'_>,
    progress: Progress<'_>,
) -> Result<Perplexity, P::Error> {
    let mut perplexity = Perplexity::default();
    for (i, window) in windows.iter().enumerate() {
        predictor.restart();
        for (tokens, wanted) in parts(&window, usize::MAX) {
            let tokens = window.tokens.get(tokens).unwrap_or_default();
            predictor.read(tokens, wanted, &mut |position, logits| {
                if let Some(next) = window.next(position) {
                    perplexity.add(logits, next);
                }
            })?;
        }
        if progress(i + 1, windows.len()).is_break() {
            break;
        }
    }
    Ok(perplexity)
}

/// What candidates are compared with.
#[derive(Debug)]
pub enum Reference<'a, P> {
    /// A predictor, which reads beside them. The function gets its logits, in order, and may write them
    /// to a file.
    Predictor(&'a mut P, Keep<'a>),
    /// What a model predicted before. The windows have to be the file's.
    File(&'a KldFile),
}

/// What happens to the logits of a reference besides.
pub struct Keep<'a>(pub &'a mut dyn FnMut(&[f32]));

impl std::fmt::Debug for Keep<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Keep")
    }
}

/// Why predictors cannot be compared.
#[derive(Debug)]
#[non_exhaustive]
pub enum DivergenceError<E> {
    /// A predictor failed.
    Predictor(E),
    /// The reference's file cannot be read.
    File(gguf_io::Error),
    /// A candidate has another vocabulary.
    Vocabulary {
        /// Which candidate, counted from 0.
        candidate: usize,
        /// Tokens of its vocabulary.
        found: usize,
        /// Tokens of the reference's.
        expected: usize,
    },
}

/// The parts in which a window is read: tokens, and the positions whose predictions are wanted, at most so
/// many. All that is not scored goes with the first part; what the last token predicts is not scored.
pub(crate) fn parts(
    window: &Window,
    at_once: usize,
) -> impl Iterator<Item = (Range<usize>, Range<usize>)> + use<> {
    let scored = window.scored();
    let mut start = 0;
    std::iter::from_fn(move || {
        let first = start.max(scored.start);
        let end = scored.end.min(first.saturating_add(at_once.max(1)));
        let part = (start..end, first..end);
        (start < scored.end).then(|| {
            start = end;
            part
        })
    })
}

/// How many positions' predictions [`divergence`] asks for together, of a vocabulary of so many tokens.
pub fn at_once(vocabulary: usize) -> usize {
    (KEPT / vocabulary.max(1)).clamp(32, 512)
}

/// Numbers that are kept of the reference's predictions, unless one position has more.
const KEPT: usize = 16 << 20;

/// Compares candidates with a reference, all in lock-step, so that the reference's predictions need not
/// be kept; those of the windows so far, if it is broken off.
///
/// # Errors
/// Of a predictor or the file; [`DivergenceError::Vocabulary`] before anything is read.
pub fn divergence<P: Predictor>(
    mut reference: Reference<'_, P>,
    candidates: &mut [P],
    windows: &Windows<'_>,
    progress: Progress<'_>,
) -> Result<Vec<Divergence>, DivergenceError<P::Error>> {
    let expected = match &reference {
        Reference::Predictor(predictor, _) => predictor.vocabulary(),
        Reference::File(file) => file.vocabulary(),
    };
    for (candidate, found) in candidates.iter().map(Predictor::vocabulary).enumerate() {
        if found != expected {
            return Err(DivergenceError::Vocabulary { candidate, found, expected });
        }
    }
    let mut found = vec![Divergence::default(); candidates.len()];
    let mut rows: Vec<Vec<f32>> = Vec::new();
    for (i, window) in windows.iter().enumerate() {
        candidates.iter_mut().for_each(Predictor::restart);
        if let Reference::Predictor(predictor, _) = &mut reference {
            predictor.restart();
        }
        for (tokens, wanted) in parts(&window, at_once(expected)) {
            let tokens = window.tokens.get(tokens).unwrap_or_default();
            rows.resize_with(wanted.len(), Vec::new);
            match &mut reference {
                Reference::Predictor(predictor, keep) => {
                    let mut into = rows.iter_mut();
                    predictor
                        .read(tokens, wanted.clone(), &mut |_, logits| {
                            if let Some(row) = into.next() {
                                log_probabilities(logits, row);
                                (keep.0)(logits);
                            }
                        })
                        .map_err(DivergenceError::Predictor)?;
                }
                Reference::File(file) => {
                    for (position, row) in wanted.clone().zip(&mut rows) {
                        file.log_probabilities(i, position, row).map_err(DivergenceError::File)?;
                    }
                }
            }
            for (candidate, found) in candidates.iter_mut().zip(&mut found) {
                let mut rows = rows.iter();
                candidate
                    .read(tokens, wanted.clone(), &mut |position, logits| {
                        if let (Some(row), Some(next)) = (rows.next(), window.next(position)) {
                            found.add(row, logits, next);
                        }
                    })
                    .map_err(DivergenceError::Predictor)?;
            }
        }
        if progress(i + 1, windows.len()).is_break() {
            break;
        }
    }
    Ok(found)
}

impl<E: std::fmt::Display> std::fmt::Display for DivergenceError<E> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Predictor(error) => error.fmt(f),
            Self::File(error) => error.fmt(f),
            Self::Vocabulary { candidate, found, expected } => write!(
                f,
                "candidate {} has a vocabulary of {found} tokens, the reference one of {expected}: \
                 compare models with the same tokenizer",
                candidate + 1
            ),
        }
    }
}

impl<E: std::error::Error + 'static> std::error::Error for DivergenceError<E> {}

/// Whether a file begins as a [`.kld` file](KldFile) does.
///
/// # Errors
/// If it cannot be read.
pub fn is_kld_file(path: &Path) -> std::io::Result<bool> {
    use std::io::Read;
    let mut start = Vec::new();
    std::fs::File::open(path)?.take(8).read_to_end(&mut start)?;
    Ok(start == b"_logits_")
}

#[cfg(test)]
mod tests {
    use gguf_io::{Limits, SourceFile};

    use super::*;
    use crate::kld::{write_header, write_row};

    /// Predicts by the last token alone.
    struct Bigrams {
        sharpness: f32,
        read: usize,
        vocabulary: usize,
    }

    impl Bigrams {
        fn new(sharpness: f32) -> Self {
            Self { sharpness, read: 0, vocabulary: 7 }
        }
    }

    impl Predictor for Bigrams {
        type Error = String;

        fn vocabulary(&self) -> usize {
            self.vocabulary
        }

        fn restart(&mut self) {
            self.read = 0;
        }

        fn read(
            &mut self,
            tokens: &[u32],
            wanted: Range<usize>,
            logits: &mut dyn FnMut(usize, &[f32]),
        ) -> Result<(), String> {
            for token in tokens {
                if wanted.contains(&self.read) {
                    let near = |next: u32| -(token.abs_diff(next) as f32) * self.sharpness;
                    let row: Vec<f32> = (0..self.vocabulary as u32).map(near).collect();
                    logits(self.read, &row);
                }
                self.read += 1;
            }
            if tokens.contains(&99) { Err("no such token".into()) } else { Ok(()) }
        }
    }

    fn text() -> Vec<u32> {
        (0..64u32).map(|i| i * i % 7).collect()
    }

    fn on(_: usize, _: usize) -> ControlFlow<()> {
        ControlFlow::Continue(())
    }

    #[test]
    fn each_scored_position_counts_once() {
        let text = text();
        let windows = Windows::new(&text, 16, None).unwrap();
        let found = perplexity(&mut Bigrams::new(0.0), &windows, &mut on).unwrap();
        assert_eq!(found.count(), 4 * 7);
        assert!((found.value() - 7.0).abs() < 1e-5);
        let one = perplexity(&mut Bigrams::new(0.0), &windows, &mut |done, all| {
            assert_eq!((done, all), (1, 4));
            ControlFlow::Break(())
        });
        assert_eq!(one.unwrap().count(), 7);
        let bad = vec![99; 32];
        let windows = Windows::new(&bad, 16, None).unwrap();
        assert!(perplexity(&mut Bigrams::new(0.0), &windows, &mut on).is_err());
    }

    #[test]
    fn candidates_are_compared_side_by_side() {
        let text = text();
        // Longer than what is kept at once.
        let long: Vec<u32> = text.iter().cycle().take(2400).copied().collect();
        for (text, size, scored) in [(&text, 16, 4 * 7), (&long, 1200, 2 * 599)] {
            let windows = Windows::new(text, size, None).unwrap();
            let mut base = Bigrams::new(1.0);
            let mut candidates = [Bigrams::new(1.0), Bigrams::new(0.5), Bigrams::new(0.0)];
            let mut kept = Vec::new();
            write_header(&mut kept, size, 7, windows.tokens()).unwrap();
            let mut keep = |logits: &[f32]| write_row(&mut kept, logits).unwrap();
            let reference = Reference::Predictor(&mut base, Keep(&mut keep));
            let found = divergence(reference, &mut candidates, &windows, &mut on).unwrap();
            let found: Vec<_> = found.iter().map(|found| found.statistics().unwrap()).collect();
            assert!(found.iter().all(|found| found.count == scored));
            assert!(found[0].mean_kld.abs() < 1e-6);
            assert!(found[1].mean_kld > 1e-2 && found[2].mean_kld > found[1].mean_kld);
            let alone = perplexity(&mut Bigrams::new(0.5), &windows, &mut on).unwrap();
            assert!((found[1].ppl - alone.value()).abs() < 1e-4);

            let file = SourceFile::from_bytes("base.kld", kept);
            let file = KldFile::read(file, &Limits::default()).unwrap();
            let again =
                divergence(Reference::File(&file), &mut candidates, &file.windows(None), &mut on);
            let again: Vec<_> = again.unwrap().iter().map(|f| f.statistics().unwrap()).collect();
            for (a, b) in found.iter().zip(&again) {
                assert!((a.mean_kld - b.mean_kld).abs() < 1e-3, "{a:?} {b:?}");
                assert!((a.reference_ppl - b.reference_ppl).abs() < 1e-3 * a.reference_ppl);
            }
        }
    }

    #[test]
    fn vocabularies_have_to_be_equal() {
        let text = text();
        let windows = Windows::new(&text, 16, None).unwrap();
        let mut base = Bigrams::new(1.0);
        let mut candidates = [Bigrams::new(1.0), Bigrams { vocabulary: 9, ..Bigrams::new(1.0) }];
        let reference = Reference::Predictor(&mut base, Keep(&mut |_| {}));
        let error = divergence(reference, &mut candidates, &windows, &mut on).unwrap_err();
        let message = error.to_string();
        assert!(message.contains("candidate 2 has a vocabulary of 9 tokens"), "{message}");
    }
}
