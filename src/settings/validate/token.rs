//! `[token.NAME]`

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use crate::lifecycle::Schedule;

use super::super::duration;
use super::super::fault::{FaultKind, WarningKind};
use super::super::marks::join;
use super::super::model::{Source, Token};
use super::super::raw::{Raw, RawToken};
use super::Judge;
use super::schedule::schedule_path;

impl Judge<'_> {
    /// `schedules`: what holds for each server's tokens.
    pub(super) fn token(
        &mut self,
        name: &str,
        token: &RawToken,
        raw: &Raw,
        schedules: &BTreeMap<&str, Schedule>,
    ) -> Option<Token> {
        let table = join("token", name);
        self.exactly_one(&table, &["file", "credential", "env"]);
        if let Some(reauth) = token.reauth.as_ref().filter(|name| !raw.reauth.contains_key(*name)) {
            self.unknown_name((&table, "reauth"), ("reauth", reauth), raw.reauth.keys());
        }
        let reauth_before = self.reauth_before(&table, token, raw);
        let revoke_on_shutdown = self.revoke_on_shutdown(&table, token);
        let Some(server) = &token.server else {
            self.missing(&table, "server", "write server = \"NAME\", the name of a [server.NAME]");
            return None;
        };
        let inherited = schedules.get(server.as_str()).copied();
        if inherited.is_none() {
            self.unknown_name((&table, "server"), ("server", server), raw.server.keys());
        }
        let inherited = inherited.unwrap_or_default();
        let schedule = match &token.schedule {
            None => inherited,
            Some(own) => {
                let own_path = schedule_path("token", name);
                let server_path = schedule_path("server", server);
                let mut levels = vec![(own_path.as_str(), own)];
                let servers = raw.server.get(server).and_then(|server| server.schedule.as_ref());
                levels.extend(servers.map(|schedule| (server_path.as_str(), schedule)));
                levels.push(("schedule", &raw.schedule));
                self.schedule(&levels, inherited)
            }
        };
        let source = match (&token.file, &token.credential, &token.env) {
            (Some(file), _, _) => Source::File(file.into()),
            (_, Some(credential), _) => Source::Credential(credential.clone()),
            (_, _, Some(variable)) => Source::Env(variable.clone()),
            (None, None, None) => return None,
        };
        Some(Token {
            name: name.to_owned(),
            server: server.clone(),
            source,
            reauth: token.reauth.clone(),
            reauth_before,
            revoke_on_shutdown,
            schedule,
        })
    }

    /// How long before its end the token is replaced: the nearest such key counts.
    fn reauth_before(&mut self, table: &str, token: &RawToken, raw: &Raw) -> Option<Duration> {
        if self.is_written(table, "reauth_before") && !self.is_written(table, "reauth") {
            self.report.fault(
                self.marks.near(table, "reauth_before"),
                FaultKind::Missing,
                format!("`{}` has no meaning without `reauth`", join(table, "reauth_before")),
                "write reauth = \"NAME\", the name of a [reauth.NAME], or remove it",
            );
        }
        let reauth = token.reauth.as_ref().and_then(|name| raw.reauth.get(name));
        let inherited = || reauth.and_then(|reauth| reauth.reauth_before.as_deref());
        let text = token.reauth_before.as_deref().or_else(inherited);
        text.and_then(|text| duration::parse(text).ok())
    }

    /// Whether the token is revoked at a stop; warns where nothing makes up for that.
    fn revoke_on_shutdown(&mut self, table: &str, token: &RawToken) -> bool {
        let revoke = token.revoke_on_shutdown.unwrap_or(false);
        if revoke && !self.is_written(table, "reauth") {
            self.report.warning(
                self.marks.near(table, "revoke_on_shutdown"),
                WarningKind::RevokedForGood,
                format!(
                    "[{table}] is revoked whenever the service stops and has no `reauth`: after \
                     each stop it needs a new value by hand"
                ),
                "write reauth = \"NAME\", the name of a [reauth.NAME], or revoke_on_shutdown = false",
            );
        }
        revoke
    }

    /// Warns of tokens that take their value from the same place.
    pub(super) fn shared_sources(&mut self, tokens: &[Token]) {
        let mut first = HashMap::new();
        for token in tokens {
            let Some(other) = first.insert(&token.source, &token.name) else { continue };
            let key = match token.source {
                Source::File(_) => "file",
                Source::Credential(_) => "credential",
                Source::Env(_) => "env",
            };
            let table = join("token", &token.name);
            self.report.warning(
                self.marks.near(&table, key),
                WarningKind::SharedSource,
                format!("[{table}] and [{}] have the same `{key}`", join("token", other)),
                "give each token a source of its own: re-authenticating one changes both",
            );
        }
    }
}
