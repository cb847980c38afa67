//! `[token.NAME]`

use std::collections::{BTreeMap, HashMap};

use crate::lifecycle::Schedule;

use super::super::finding::WarningKind;
use super::super::key_positions::join;
use super::super::model::{Source, Token};
use super::super::raw::{Raw, RawToken};
use super::Validator;

impl Validator<'_> {
    /// `schedules`: the schedule of each server.
    pub(super) fn token(
        &mut self,
        name: &str,
        token: &RawToken,
        raw: &Raw,
        schedules: &BTreeMap<&str, Schedule>,
    ) -> Option<Token> {
        self.require_exactly_one(&join("token", name), &["file", "credential", "env"]);
        let keep_alive = self.keep_alive(("token", name), token, raw, schedules)?;
        let source = match (&token.file, &token.credential, &token.env) {
            (Some(file), _, _) => Source::File(file.into()),
            (_, Some(credential), _) => Source::Credential(credential.clone()),
            (_, _, Some(variable)) => Source::Env(variable.clone()),
            (None, None, None) => return None,
        };
        let refresh = token.refresh.as_ref();
        let refresh =
            refresh.and_then(|raw| self.source(&join(&join("token", name), "refresh"), raw));
        let env_file = self.env_file(name, token);
        let metrics = token.metrics.unwrap_or(false);
        Some(Token { name: name.to_owned(), source, refresh, env_file, keep_alive, metrics })
    }

    /// Warns about tokens with the same source.
    pub(super) fn warn_shared_sources(&mut self, tokens: &[Token]) {
        let mut first = HashMap::new();
        for token in tokens {
            let Some(other) = first.insert(&token.source, &token.name) else { continue };
            let key = match token.source {
                Source::File(_) => "file",
                Source::Credential(_) => "credential",
                Source::Env(_) => "env",
            };
            let table = join("token", &token.name);
            self.warning(
                (&table, key),
                WarningKind::SharedSource,
                format!("[{table}] and [{}] have the same `{key}`", join("token", other)),
                "give each token a source of its own: re-authenticating one changes both",
            );
        }
    }
}
