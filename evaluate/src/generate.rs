//! Goes on with a text, token by token.

use gguf_model::Tokenizer;

use crate::{measure::Predictor, sample::Sampler};

/// Makes a text longer.
#[derive(Debug)]
pub struct Generator<'a, P> {
    predictor: &'a mut P,
    sampler: Sampler,
    /// Tokens read.
    read: usize,
    logits: Vec<f32>,
    /// The token made last, which was not read yet.
    last: Option<u32>,
}

impl<'a, P: Predictor> Generator<'a, P> {
    /// Reads the tokens to go on with.
    ///
    /// # Errors
    /// The predictor's.
    pub fn new(predictor: &'a mut P, prompt: &[u32], sampler: Sampler) -> Result<Self, P::Error> {
        predictor.restart();
        let mut generator = Self { predictor, sampler, read: 0, logits: Vec::new(), last: None };
        generator.read(prompt)?;
        Ok(generator)
    }

    fn read(&mut self, tokens: &[u32]) -> Result<(), P::Error> {
        let end = self.read + tokens.len();
        let logits = &mut self.logits;
        self.predictor.read(tokens, end.saturating_sub(1)..end, &mut |_, row| {
            logits.clear();
            logits.extend_from_slice(row);
        })?;
        self.read = end;
        Ok(())
    }

    /// The next token; `None` if there is none, as after an error in the model.
    ///
    /// The token is read only when the one after it is asked for.
    ///
    /// # Errors
    /// The predictor's.
    pub fn next_token(&mut self) -> Result<Option<u32>, P::Error> {
        if let Some(last) = self.last.take() {
            self.read(&[last])?;
        }
        self.last = self.sampler.pick(&self.logits);
        Ok(self.last)
    }

    /// Tokens read so far, those of the prompt included.
    pub fn tokens(&self) -> usize {
        self.read
    }
}

/// Puts the bytes of tokens together to text: a character may come in several tokens.
#[derive(Clone, Debug, Default)]
pub struct TextStream {
    pending: Vec<u8>,
}

impl TextStream {
    /// The text that a token completes. Control tokens have none.
    pub fn push(&mut self, tokenizer: &Tokenizer, token: u32) -> String {
        self.push_bytes(&tokenizer.piece(token, false))
    }

    /// The text that bytes complete.
    fn push_bytes(&mut self, bytes: &[u8]) -> String {
        self.pending.extend_from_slice(bytes);
        let mut text = String::new();
        let mut whole = 0;
        for chunk in self.pending.utf8_chunks() {
            let end = whole + chunk.valid().len() + chunk.invalid().len();
            text.push_str(chunk.valid());
            whole += chunk.valid().len();
            // What is at the end may go on in the next token.
            let is_cut =
                std::str::from_utf8(chunk.invalid()).is_err_and(|e| e.error_len().is_none());
            if end == self.pending.len() && is_cut {
                break;
            }
            if !chunk.invalid().is_empty() {
                text.push(char::REPLACEMENT_CHARACTER);
            }
            whole = end;
        }
        self.pending.drain(..whole);
        text
    }

    /// What is left at the end.
    pub fn finish(&mut self) -> String {
        String::from_utf8_lossy(&std::mem::take(&mut self.pending)).into_owned()
    }
}

#[cfg(test)]
mod tests {
    use std::ops::Range;

    use super::*;
    use crate::sample::SampleOptions;

    /// Counts: after a token comes the next.
    struct Counter {
        calls: Vec<usize>,
    }

    impl Predictor for Counter {
        type Error = ();

        fn vocabulary(&self) -> usize {
            5
        }

        fn restart(&mut self) {
            self.calls.clear();
        }

        fn read(
            &mut self,
            tokens: &[u32],
            wanted: Range<usize>,
            logits: &mut dyn FnMut(usize, &[f32]),
        ) -> Result<(), ()> {
            let position = self.calls.iter().sum::<usize>() + tokens.len() - 1;
            assert_eq!(wanted, position..position + 1);
            self.calls.push(tokens.len());
            let mut row = [0.0; 5];
            row[(*tokens.last().ok_or(())? as usize + 1) % 5] = 1.0;
            logits(position, &row);
            Ok(())
        }
    }

    #[test]
    fn a_token_is_read_when_the_next_is_asked_for() {
        let mut counter = Counter { calls: Vec::new() };
        let greedy = Sampler::new(SampleOptions { temperature: 0.0, ..SampleOptions::default() });
        let mut generator = Generator::new(&mut counter, &[7, 2], greedy).unwrap();
        let made: Vec<_> = (0..4).map(|_| generator.next_token().unwrap().unwrap()).collect();
        assert_eq!((made, generator.tokens()), (vec![3, 4, 0, 1], 5));
        assert_eq!(counter.calls, [2, 1, 1, 1]);
    }

    #[test]
    fn characters_may_come_in_parts() {
        let mut stream = TextStream::default();
        let euro = "a€".as_bytes();
        assert_eq!(stream.push_bytes(&euro[..2]), "a");
        assert_eq!(stream.push_bytes(&euro[2..3]), "");
        assert_eq!(stream.push_bytes(&euro[3..]), "€");
        assert_eq!(stream.push_bytes(b"\xFFb\xE2"), "\u{FFFD}b");
        assert_eq!(stream.push_bytes(b"c"), "\u{FFFD}c");
        assert_eq!(stream.push_bytes(b"\xE2\x82"), "");
        assert_eq!((stream.finish(), stream.finish()), ("\u{FFFD}".into(), String::new()));
    }
}
