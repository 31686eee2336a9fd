//! One vector for a whole text.

use gguf_io::metadata::Value;

use super::{session::Session, watch::Watch};
use crate::{Error, Model, Result};

/// How the vectors of tokens become that of a text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Pooling {
    /// Their mean.
    Mean,
    /// The vector of the first token.
    First,
    /// The vector of the last token.
    Last,
}

impl Model {
    /// How the file says that texts are pooled (`pooling_type`); `None` if it does not.
    pub fn pooling(&self) -> Option<Pooling> {
        let key = format!("{}.pooling_type", self.forward.architecture);
        match self.metadata().get(&key).and_then(Value::as_u64) {
            Some(1) => Some(Pooling::Mean),
            Some(2) => Some(Pooling::First),
            Some(3) => Some(Pooling::Last),
            _ => None,
        }
    }
}

impl Session<'_> {
    /// The vector of a text, from the vectors that come out of the last norm, and the matrices behind the
    /// pooling if there are any. It is not brought to length one. The session is empty before and after.
    ///
    /// # Errors
    /// As [`forward`](Self::forward).
    pub fn embed(&mut self, tokens: &[u32], pooling: Pooling) -> Result<Vec<f32>> {
        let last = tokens.len().checked_sub(1).ok_or(Error::Empty)?;
        let wanted = match pooling {
            Pooling::Mean => 0..tokens.len(),
            Pooling::First => 0..1,
            Pooling::Last => last..tokens.len(),
        };
        let count = wanted.len() as f32;
        self.truncate(0);
        let mut sum = vec![0.0f32; self.model().width()];
        let result = self.vectors(tokens, wanted, &mut Watch(None), &mut |_, row| {
            sum.iter_mut().zip(row).for_each(|(sum, v)| *sum += v / count);
        });
        self.truncate(0);
        result?;
        for matrix in &self.model().weights.behind_pooling {
            sum = matrix.times(self.runner(), &sum, 1)?;
        }
        Ok(sum)
    }
}
