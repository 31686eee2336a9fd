//! Keys of a file below the name of its architecture.

use gguf_io::metadata::{Array, Value};
use gguf_model::{Architecture, Factor};
use quant_weights::Source;

use crate::Error;

#[derive(Clone, Copy)]
pub(crate) struct Keys<'a> {
    source: &'a dyn Source,
    architecture: &'static Architecture,
}

impl<'a> Keys<'a> {
    pub(crate) fn new(source: &'a dyn Source, architecture: &'static Architecture) -> Self {
        Self { source, architecture }
    }

    pub(crate) fn get(&self, name: &str) -> Option<&'a Value> {
        self.source.metadata().get(&format!("{}.{name}", self.architecture.name))
    }

    pub(crate) fn number(&self, name: &str) -> Option<usize> {
        self.at(name, 0)
    }

    /// The number for a layer, of a key with one for all or one for each.
    pub(crate) fn at(&self, name: &str, layer: usize) -> Option<usize> {
        let number = match self.get(name)? {
            Value::Array(Array::Uint32(all)) => u64::from(*all.get(layer)?),
            Value::Array(Array::Int32(all)) => u64::try_from(*all.get(layer)?).ok()?,
            other => other.as_u64()?,
        };
        usize::try_from(number).ok()
    }

    pub(crate) fn float(&self, name: &str) -> Option<f32> {
        match self.get(name)? {
            Value::Float32(value) => Some(*value),
            Value::Float64(value) => Some(*value as f32),
            _ => None,
        }
    }

    /// The number for a layer, of a whole key with one for all or one for each.
    pub(crate) fn whole_float(&self, key: &str, layer: usize) -> Option<f32> {
        match self.source.metadata().get(key)? {
            Value::Array(Array::Float32(all)) => all.get(layer).copied(),
            Value::Float32(value) => Some(*value),
            _ => None,
        }
    }

    pub(crate) fn flag(&self, name: &str) -> Option<bool> {
        match self.get(name)? {
            Value::Bool(value) => Some(*value),
            _ => None,
        }
    }

    /// The flag of a layer, of a key with one for each.
    pub(crate) fn flag_at(&self, name: &str, layer: usize) -> Option<bool> {
        match self.get(name)? {
            Value::Array(Array::Bool(all)) => all.get(layer).copied(),
            Value::Array(Array::Uint32(all)) => all.get(layer).map(|n| *n != 0),
            Value::Array(Array::Int32(all)) => all.get(layer).map(|n| *n != 0),
            _ => None,
        }
    }

    pub(crate) fn text(&self, name: &str) -> Option<&'a str> {
        self.get(name)?.as_str()
    }

    pub(crate) fn factor(&self, factor: Factor, width: usize) -> f32 {
        let layers = || self.number("block_count").unwrap_or(1).max(1) as f32;
        let value = |key| self.float(key).filter(|value| *value != 0.0);
        match factor {
            Factor::RootOfWidth => (width as f32).sqrt(),
            Factor::Key(key) => value(key).unwrap_or(1.0),
            Factor::Inverse(key) => value(key).map_or(1.0, |value| 1.0 / value),
            Factor::One => 1.0,
            Factor::Is(number) => number,
            Factor::OverRootOfLayers(number) => number / layers().sqrt(),
            Factor::OverWidth(number) => number / width.max(1) as f32,
        }
    }

    /// An error about the file.
    pub(crate) fn wrong(&self, message: String) -> Error {
        let file =
            self.source.files().first().map(|file| file.path().to_owned()).unwrap_or_default();
        Error::Model { file, message }
    }
}
