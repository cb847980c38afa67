//! The configuration: read, merged, validated.

mod model;

pub use model::{
    Control, KeySource, Log, LogFormat, Reauth, ReauthMethod, Server, Settings, Source, Token,
};
