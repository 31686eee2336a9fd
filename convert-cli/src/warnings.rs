//! Warnings of the library are held back until the command has succeeded: a refusal is one line.

use std::{
    io::{self, Write},
    sync::{Arc, Mutex},
};

/// Collected warnings.
#[derive(Clone, Default)]
pub(crate) struct Warnings(Arc<Mutex<Vec<u8>>>);

impl Write for Warnings {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap_or_else(|e| e.into_inner()).write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Starts to collect.
pub(crate) fn collect() -> Warnings {
    let warnings = Warnings::default();
    let writer = warnings.clone();
    tracing_subscriber::fmt()
        .with_max_level(tracing::Level::WARN)
        .with_writer(move || writer.clone())
        .with_target(false)
        .with_level(false)
        .with_ansi(false)
        .without_time()
        .init();
    warnings
}

impl Warnings {
    /// Prints what was collected, a line each.
    pub(crate) fn print(&self) {
        let bytes = std::mem::take(&mut *self.0.lock().unwrap_or_else(|e| e.into_inner()));
        for line in String::from_utf8_lossy(&bytes).lines() {
            crate::say(&format!("warning: {}", line.trim()));
        }
    }
}
