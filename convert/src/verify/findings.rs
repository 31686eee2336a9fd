//! What a check has found.

/// What was checked and what was found.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
#[must_use = "it says whether the model is sound"]
pub struct Findings {
    /// What the input is, e.g. `GGUF version 3`.
    pub format: String,
    /// Files it consists of.
    pub files: u64,
    /// Tensors, or entries of an importance matrix.
    pub tensors: u64,
    /// Bytes of all files.
    pub bytes: u64,
    /// What was checked, and how many problems there were with it.
    pub checks: Vec<(&'static str, u64)>,
    /// What was left out, and why.
    pub notes: Vec<String>,
    /// The first problems, one line each.
    pub problems: Vec<String>,
    /// How many problems there are.
    pub count: u64,
}

impl Findings {
    /// How many problems are kept. The others are only counted, so that a hostile file cannot fill the
    /// memory.
    const KEPT: usize = 24;

    /// Whether nothing is wrong.
    pub fn is_sound(&self) -> bool {
        self.count == 0
    }

    pub(super) fn problem(&mut self, problem: impl FnOnce() -> String) {
        if self.problems.len() < Self::KEPT {
            self.problems.push(problem());
        }
        self.count = self.count.saturating_add(1);
    }

    pub(super) fn note(&mut self, note: &str) {
        self.notes.push(note.to_owned());
    }

    /// Runs a check and keeps the problem it finds, if any.
    pub(super) fn check<T, E: ToString>(
        &mut self,
        what: &'static str,
        check: impl FnOnce(&mut Self) -> Result<T, E>,
    ) -> Option<T> {
        let before = self.count;
        let result = check(self);
        let kept = match result {
            Ok(value) => Some(value),
            Err(error) => {
                self.problem(|| error.to_string());
                None
            }
        };
        self.checks.push((what, self.count.saturating_sub(before)));
        kept
    }
}
