//! The configuration as written: every key is optional, nothing is validated.
//!
//! The layers are merged into this form, and `print` writes it.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// A whole configuration. Its keys are those of the schema.
#[derive(Debug, Default, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Raw {
    pub(super) state_dir: Option<String>,
    pub(super) max_hooks: Option<u32>,
    pub(super) keep_removed: Option<String>,
    pub(super) log: RawLog,
    pub(super) control: RawControl,
    pub(super) schedule: RawSchedule,
    pub(super) cluster: Option<RawCluster>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub(super) server: BTreeMap<String, RawServer>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub(super) reauth: BTreeMap<String, RawReauth>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub(super) token: BTreeMap<String, RawToken>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub(super) inventory: BTreeMap<String, RawToken>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub(super) notify: BTreeMap<String, RawNotify>,
    /// Read by `profile::parse`.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub(super) profile: BTreeMap<String, toml::Table>,
}

#[derive(Debug, Default, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct RawLog {
    pub(super) format: Option<String>,
    pub(super) level: Option<String>,
}

#[derive(Debug, Default, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct RawControl {
    pub(super) socket: Option<String>,
    pub(super) listen: Option<String>,
    pub(super) listen_names: Option<bool>,
    pub(super) listen_hosts: Option<Vec<String>>,
}

#[derive(Debug, Default, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct RawCluster {
    pub(super) etcd: Option<Vec<String>>,
    pub(super) allow_http: Option<bool>,
    pub(super) name: Option<String>,
    pub(super) prefix: Option<String>,
    pub(super) user: Option<String>,
    pub(super) failover: Option<String>,
    pub(super) ca_file: Option<String>,
    pub(super) client_cert_file: Option<String>,
    pub(super) client_key_file: Option<String>,
    pub(super) password: Option<RawSource>,
    pub(super) key: Option<RawSource>,
    pub(super) old_key: Option<RawSource>,
}

#[derive(Debug, Default, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct RawSchedule {
    pub(super) check_after: Option<f64>,
    pub(super) jitter: Option<f64>,
    pub(super) min_interval: Option<String>,
    pub(super) max_interval: Option<String>,
    pub(super) retry_initial: Option<String>,
    pub(super) retry_max: Option<String>,
}

#[derive(Debug, Default, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct RawServer {
    pub(super) url: Option<String>,
    pub(super) allow_http: Option<bool>,
    pub(super) profile: Option<String>,
    pub(super) with: Option<BTreeMap<String, RawParameter>>,
    pub(super) renewal: Option<String>,
    pub(super) timeout: Option<String>,
    pub(super) connect_timeout: Option<String>,
    pub(super) max_in_flight: Option<u32>,
    pub(super) rate_limit: Option<u32>,
    pub(super) ca_file: Option<String>,
    pub(super) client_cert_file: Option<String>,
    pub(super) client_cert_credential: Option<String>,
    pub(super) client_key_file: Option<String>,
    pub(super) client_key_credential: Option<String>,
    pub(super) proxy: Option<String>,
    pub(super) proxy_credentials_file: Option<String>,
    pub(super) proxy_credential: Option<String>,
    pub(super) schedule: Option<RawSchedule>,
}

/// A parameter of a profile: a text, or its source.
#[derive(Debug, Deserialize, Serialize)]
#[serde(untagged)] // its errors do not matter: the schema has been checked
pub(super) enum RawParameter {
    Text(String),
    Source(RawSource),
}

/// The source of a value. Exactly one key is present.
#[derive(Debug, Default, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct RawSource {
    pub(super) file: Option<String>,
    pub(super) credential: Option<String>,
    pub(super) env: Option<String>,
}

#[derive(Debug, Default, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct RawReauth {
    pub(super) command: Option<Vec<String>>,
    pub(super) api_key_file: Option<String>,
    pub(super) api_key_credential: Option<String>,
    pub(super) login: Option<bool>,
    pub(super) with: Option<BTreeMap<String, RawParameter>>,
    pub(super) minutes: Option<u16>,
    pub(super) timeout: Option<String>,
    pub(super) delay: Option<String>,
    pub(super) delay_max: Option<String>,
    pub(super) max_attempts: Option<u32>,
    pub(super) window: Option<String>,
    pub(super) max_failures_all: Option<u32>,
    pub(super) quiet: Option<Vec<String>>,
    pub(super) reauth_before: Option<String>,
}

/// The keys of `[token.NAME]` and `[inventory.NAME]`; the schema says which of them each may have.
#[derive(Debug, Default, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct RawToken {
    pub(super) server: Option<String>,
    pub(super) file: Option<String>,
    pub(super) dir: Option<String>,
    pub(super) command: Option<Vec<String>>,
    pub(super) strict: Option<bool>,
    pub(super) timeout: Option<String>,
    pub(super) credential: Option<String>,
    pub(super) env: Option<String>,
    pub(super) refresh: Option<RawSource>,
    pub(super) env_file: Option<String>,
    pub(super) env_name: Option<String>,
    pub(super) env_group: Option<String>,
    pub(super) reauth: Option<String>,
    pub(super) reauth_before: Option<String>,
    pub(super) revoke_on_shutdown: Option<bool>,
    pub(super) readers: Option<Vec<String>>,
    pub(super) metrics: Option<bool>,
    pub(super) schedule: Option<RawSchedule>,
}

#[derive(Debug, Default, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct RawNotify {
    pub(super) events: Option<Vec<String>>,
    pub(super) tokens: Option<Vec<String>>,
    pub(super) command: Option<Vec<String>>,
    pub(super) webhook: Option<String>,
    pub(super) webhook_header_credential: Option<String>,
    pub(super) ca_file: Option<String>,
    pub(super) proxy: Option<String>,
    pub(super) timeout: Option<String>,
}
