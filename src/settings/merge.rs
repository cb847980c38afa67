//! The layers laid over each other: files in their order, the environment on top.
//!
//! Only checked layers get here, so that no value is bent into a type that it has not.

use config::{Config, ConfigError, Map, Source, Value};

use super::raw::Raw;
use super::schema_check::Layer;

/// The configuration that `layers` make together; a later one wins, key by key.
pub(super) fn merge(layers: Vec<Layer>) -> Result<Raw, ConfigError> {
    let mut builder = Config::builder();
    for layer in layers {
        builder = builder.add_source(Checked(layer));
    }
    builder.build()?.try_deserialize()
}

#[derive(Debug, Clone)]
struct Checked(Layer);

impl Source for Checked {
    fn clone_into_box(&self) -> Box<dyn Source + Send + Sync> {
        Box::new(self.clone())
    }

    fn collect(&self) -> Result<Map<String, Value>, ConfigError> {
        Ok(self.0.clone())
    }
}
