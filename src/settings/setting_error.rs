//! Errors about the value of one key, and how they name what the key accepts.

use super::finding::ConfigErrorKind;
use super::schema::Kind;
pub(super) use crate::text::shortened;

/// An invalid value. `message` continues a sentence that begins with the key's name.
#[derive(Debug)]
pub(super) struct SettingError {
    pub(super) kind: ConfigErrorKind,
    pub(super) message: String,
    pub(super) remedy: String,
}

pub(super) fn setting_error(
    kind: ConfigErrorKind,
    message: impl Into<String>,
    remedy: impl Into<String>,
) -> SettingError {
    SettingError { kind, message: message.into(), remedy: remedy.into() }
}

pub(super) fn invalid_value(message: impl Into<String>, remedy: impl Into<String>) -> SettingError {
    setting_error(ConfigErrorKind::BadValue, message, remedy)
}

pub(super) fn expected(kind: Kind) -> String {
    match kind {
        Kind::Path | Kind::AbsolutePath | Kind::SocketPath => "a path in quotes".to_owned(),
        Kind::Reference
        | Kind::Credential
        | Kind::Variable
        | Kind::ShellVariable
        | Kind::Group
        | Kind::ReplicaName
        | Kind::UserName => "a name in quotes".to_owned(),
        Kind::KeyPrefix => "a prefix of keys in quotes".to_owned(),
        Kind::Endpoints => "a list of URLs".to_owned(),
        Kind::Filter => "a level or filter in quotes".to_owned(),
        Kind::Url => "a URL in quotes".to_owned(),
        Kind::Address => "an address with a port, in quotes".to_owned(),
        Kind::Command
        | Kind::MaintenanceWindows
        | Kind::Readers
        | Kind::Hosts
        | Kind::Events
        | Kind::TokenPatterns => "a list of strings".to_owned(),
        Kind::Parameter => {
            "text in quotes, or a table with `file`, `credential` or `env`".to_owned()
        }
        Kind::Choice(words) => format!("one of {}", quoted_list(words)),
        Kind::Duration(..) => "a duration with its unit, in quotes".to_owned(),
        Kind::Fraction => "a number from 0 to 1".to_owned(),
        Kind::OpenFraction => "a number between 0 and 1, both excluded".to_owned(),
        Kind::Integer(min, max) => format!("a whole number from {min} to {max}"),
        Kind::Boolean => "true or false".to_owned(),
    }
}

pub(super) fn quoted_list(words: &[&str]) -> String {
    words.iter().map(|word| format!("{word:?}")).collect::<Vec<_>>().join(", ")
}
