//! Warnings of the library are held back until the command has succeeded: a refusal is one line.

use std::{
    fmt::{Debug, Write},
    sync::{Arc, Mutex},
};

use serde::Serialize;
use tracing::{
    Event, Subscriber,
    field::{Field, Visit},
};
use tracing_subscriber::{
    Layer, filter::LevelFilter, layer::Context, layer::SubscriberExt, util::SubscriberInitExt,
};

use crate::input;

/// Something that the user should know although the command succeeds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Warning {
    /// What it is about, in a word or two for scripts; `general` for what has no name of its own.
    pub(crate) kind: String,
    /// The whole of it, for people.
    pub(crate) message: String,
    /// The tensor that it is about.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) tensor: Option<String>,
}

impl Warning {
    pub(crate) fn new(kind: &str, message: String) -> Self {
        Self { kind: kind.into(), message, tensor: None }
    }
}

/// Collected warnings, in the order in which they came up.
#[derive(Clone, Default)]
pub(crate) struct Warnings(Arc<Mutex<Vec<Warning>>>);

/// Starts to collect.
pub(crate) fn collect() -> Warnings {
    let warnings = Warnings::default();
    let layer = warnings.clone().with_filter(LevelFilter::WARN);
    tracing_subscriber::registry().with(layer).init();
    warnings
}

impl Warnings {
    /// Takes what was collected. Of warnings that say the same, one is kept.
    pub(crate) fn take(&self) -> Vec<Warning> {
        let all = std::mem::take(&mut *self.0.lock().unwrap_or_else(|e| e.into_inner()));
        let told = |warning: Warning| Warning { message: input::told(warning.message), ..warning };
        let mut seen = std::collections::HashSet::new();
        all.into_iter().map(told).filter(|warning| seen.insert(warning.message.clone())).collect()
    }
}

impl<S: Subscriber> Layer<S> for Warnings {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        let mut fields = Fields::default();
        event.record(&mut fields);
        let Fields { kind, mut message, tensor, others } = fields;
        if !others.is_empty() {
            let _ = write!(message, " ({others})");
        }
        let kind = kind.unwrap_or_else(|| "general".into());
        let message = crate::hints::in_words(&message);
        let mut all = self.0.lock().unwrap_or_else(|e| e.into_inner());
        all.push(Warning { kind, message, tensor });
    }
}

/// The fields of an event.
#[derive(Default)]
struct Fields {
    kind: Option<String>,
    message: String,
    tensor: Option<String>,
    /// Those that messages do not repeat.
    others: String,
}

impl Fields {
    fn put(&mut self, field: &Field, value: String) {
        match field.name() {
            "message" => self.message = value,
            "kind" => self.kind = Some(value),
            "tensor" => self.tensor = Some(value),
            // What the bridge from the `log` crate adds.
            name if name.starts_with("log.") => {}
            name => {
                let separator = if self.others.is_empty() { "" } else { ", " };
                let _ = write!(self.others, "{separator}{name}: {value}");
            }
        }
    }
}

impl Visit for Fields {
    fn record_str(&mut self, field: &Field, value: &str) {
        self.put(field, value.into());
    }

    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        self.put(field, format!("{value:?}"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_become_warnings_with_their_fields() {
        let warnings = Warnings::default();
        let layer = warnings.clone().with_filter(LevelFilter::WARN);
        tracing::subscriber::with_default(tracing_subscriber::registry().with(layer), || {
            let name = "blk.0.ffn_up.weight";
            tracing::warn!(kind = "zero-importance", tensor = %name, "all of it is {}", 0);
            tracing::warn!(id = 7, token = "<x>", "a token is left out");
            tracing::warn!(id = 7, token = "<x>", "a token is left out");
            tracing::info!("not a warning");
        });
        let zero = Warning {
            kind: "zero-importance".into(),
            message: "all of it is 0".into(),
            tensor: Some("blk.0.ffn_up.weight".into()),
        };
        let token = Warning::new("general", "a token is left out (id: 7, token: <x>)".into());
        assert_eq!(warnings.take(), [zero, token]);
        assert!(warnings.take().is_empty());
    }
}
