//! The keys that `[token.NAME]` and `[inventory.NAME]` have in common: server, re-auth, schedule.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::lifecycle::Schedule;

use super::super::finding::{ConfigErrorKind, WarningKind};
use super::super::key_positions::join;
use super::super::model::KeepAlive;
use super::super::raw::{Raw, RawToken};
use super::Validator;
use super::schedule::schedule_path;
use crate::duration;

impl Validator<'_> {
    /// `schedules`: the schedule of each server.
    pub(super) fn keep_alive(
        &mut self,
        (section, name): (&str, &str),
        written: &RawToken,
        raw: &Raw,
        schedules: &BTreeMap<&str, Schedule>,
    ) -> Option<KeepAlive> {
        let table = join(section, name);
        if let Some(reauth) = written.reauth.as_ref().filter(|name| !raw.reauth.contains_key(*name))
        {
            self.report_unknown_name((&table, "reauth"), ("reauth", reauth), raw.reauth.keys());
        }
        let reauth_before = self.reauth_before(&table, written, raw);
        self.warn_revoked_without_reauth(&table, written);
        let Some(server) = &written.server else {
            self.report_missing(
                &table,
                "server",
                "write server = \"NAME\", the name of a [server.NAME]",
            );
            return None;
        };
        let inherited = schedules.get(server.as_str()).copied();
        if inherited.is_none() {
            self.report_unknown_name((&table, "server"), ("server", server), raw.server.keys());
        }
        let inherited = inherited.unwrap_or_default();
        let schedule = match &written.schedule {
            None => inherited,
            Some(own) => {
                let own_path = schedule_path(section, name);
                let server_path = schedule_path("server", server);
                let mut levels = vec![(own_path.as_str(), own)];
                let servers = raw.server.get(server).and_then(|server| server.schedule.as_ref());
                levels.extend(servers.map(|schedule| (server_path.as_str(), schedule)));
                levels.push(("schedule", &raw.schedule));
                self.schedule(&levels, inherited)
            }
        };
        Some(KeepAlive {
            server: server.clone(),
            reauth: written.reauth.clone(),
            reauth_before,
            revoke_on_shutdown: written.revoke_on_shutdown == Some(true),
            readers: written
                .readers
                .iter()
                .flatten()
                .map(|reader| reader.as_str().into())
                .collect(),
            schedule,
        })
    }

    /// How long before its expiry a token is replaced. The nearest such key counts.
    fn reauth_before(&mut self, table: &str, written: &RawToken, raw: &Raw) -> Option<Duration> {
        if self.is_present(table, "reauth_before") && !self.is_present(table, "reauth") {
            self.error(
                (table, "reauth_before"),
                ConfigErrorKind::Missing,
                format!("`{}` has no effect without `reauth`", join(table, "reauth_before")),
                "add reauth = \"NAME\", the name of a [reauth.NAME], or remove it",
            );
        }
        let reauth = written.reauth.as_ref().and_then(|name| raw.reauth.get(name));
        let inherited = || reauth.and_then(|reauth| reauth.reauth_before.as_deref());
        let text = written.reauth_before.as_deref().or_else(inherited);
        text.and_then(|text| duration::parse(text).ok())
    }

    /// Warns if tokens are revoked at shutdown and have no re-authentication.
    fn warn_revoked_without_reauth(&mut self, table: &str, written: &RawToken) {
        if written.revoke_on_shutdown == Some(true) && !self.is_present(table, "reauth") {
            self.warning((table, "revoke_on_shutdown"),
                WarningKind::RevokedForGood,
                format!(
                    "[{table}] is revoked when the service stops and has no `reauth`: after each \
                     stop you must provide a new value"
                ),
                "write reauth = \"NAME\", the name of a [reauth.NAME], or revoke_on_shutdown = false",
            );
        }
    }
}
