//! `probe --login`: opens a session by the profile's login call.

use std::collections::BTreeMap;
use std::path::Path;

use secrecy::SecretString;

use super::{Probe, error_text};
use crate::api::{Client, LoginErrorKind, NewSession};
use crate::cli::{CliError, EX_CONFIG, EX_DEAD, EX_SOFTWARE, EX_UNAVAILABLE, print_text};
use crate::secret::TokenValue;
use crate::settings::{Parameter, Server};
use crate::token_source::{read_parameter, replace};

/// The requested life of the session, for APIs that have a parameter for it.
const MINUTES: u16 = 30;

/// Logs in, and writes the refresh token, then the value.
pub(super) async fn run(client: &Client, server: &Server, probe: &Probe) -> Result<(), CliError> {
    let parameters = parameters(server)?;
    let new = client.login_with(&parameters, MINUTES, server.timeout).await;
    let NewSession { value, refresh, refresh_error } = new.map_err(|error| CliError::Failed {
        sentence: format!("login: {}", error_text(&error.fault)),
        status: match error.kind {
            LoginErrorKind::Refused | LoginErrorKind::Useless => EX_DEAD,
            LoginErrorKind::Misconfigured => EX_CONFIG,
            LoginErrorKind::Throttled { .. } | LoginErrorKind::Unavailable => EX_UNAVAILABLE,
        },
    })?;
    if let Some(error) = refresh_error {
        print_text(&format!("login: {error}\n"))?;
    }
    match (&refresh, &probe.refresh_file) {
        (Some(refresh), Some(path)) => write(path, refresh, "refresh token")?,
        (Some(_), None) => print_text(
            "login: the response has a refresh token, which is dropped; --refresh-file PATH keeps \
             it\n",
        )?,
        (None, _) => {}
    }
    write(&probe.token_file, &value, "value")
}

fn parameters(server: &Server) -> Result<BTreeMap<String, SecretString>, CliError> {
    let read = |(name, parameter): (&String, &Parameter)| {
        let found = read_parameter(parameter, &|_| None).map_err(|error| CliError::Failed {
            sentence: format!("--with {name}: {error}"),
            status: EX_CONFIG,
        })?;
        Ok((name.clone(), found.value))
    };
    server.with.iter().map(read).collect()
}

fn write(path: &Path, value: &TokenValue, what: &str) -> Result<(), CliError> {
    replace(path, value).map_err(|error| CliError::Failed {
        sentence: format!("login: the new {what} cannot be written: {error}"),
        status: EX_SOFTWARE,
    })?;
    print_text(&format!("login: new {what} written to {}\n", path.display()))
}
