//! Parameters of profiles: the sources in `with` of servers and `reauth` methods.

use std::collections::BTreeMap;
use std::path::PathBuf;

use super::diagnosis::Diagnosis;
use super::files;
use crate::cli::unit::variable;
use crate::settings::{Parameter, ReauthMethod, Settings};
use crate::token_source::read_parameter;

/// The parameters of one table.
type Parameters = BTreeMap<String, Parameter>;

/// All `with` tables, by the name of their table.
fn tables(settings: &Settings) -> impl Iterator<Item = (String, &Parameters)> {
    let servers = settings.servers.iter().map(|server| {
        let table = format!("server.{}", server.name);
        (table, &server.with)
    });
    let reauths = settings.reauths.iter().filter_map(|reauth| match &reauth.method {
        ReauthMethod::Login { with, .. } => Some((format!("reauth.{}", reauth.name), with)),
        ReauthMethod::Command(_) | ReauthMethod::ApiKey { .. } => None,
    });
    servers.chain(reauths)
}

/// Reads each parameter as the daemon will.
pub(super) fn check(settings: &Settings, diagnosis: &Diagnosis) {
    for (table, parameters) in tables(settings) {
        for (name, parameter) in parameters {
            let key = format!("`{table}.with.{name}`");
            match read_parameter(parameter, &variable) {
                Ok(found) => found
                    .warnings
                    .iter()
                    .for_each(|warning| diagnosis.warning(format!("{key}, {warning}"))),
                Err(error) => {
                    files::unreadable(&error.kind, format!("{key}, {error}"), diagnosis);
                }
            }
        }
    }
}

/// The keys and paths of the files.
pub(super) fn files(settings: &Settings) -> impl Iterator<Item = (String, &PathBuf)> {
    tables(settings).flat_map(|(table, parameters)| {
        parameters.iter().filter_map(move |(name, parameter)| match parameter {
            Parameter::File(path) => Some((format!("{table}.with.{name}"), path)),
            Parameter::Text(_) | Parameter::Credential(_) | Parameter::Env(_) => None,
        })
    })
}
