//! Merges the layers: files in their order, then environment variables.
//!
//! All layers have been checked against the schema, so no value is converted to another type.

use config::{Config, ConfigError, Map, Source, Value};

use super::raw::Raw;
use super::schema_check::Layer;

/// Merges `layers` key by key; later layers win.
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
