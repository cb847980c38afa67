//! What a `[token.NAME]` and an `[inventory.NAME]` say alike: server, re-auth, schedule.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::lifecycle::Schedule;

use super::super::duration;
use super::super::fault::{FaultKind, WarningKind};
use super::super::marks::join;
use super::super::model::Upkeep;
use super::super::raw::{Raw, RawInventory, RawSchedule, RawToken};
use super::Judge;
use super::schedule::schedule_path;

/// The keys that both tables have, as they are written.
pub(super) struct Written<'a> {
    section: &'static str,
    pub(super) server: Option<&'a String>,
    pub(super) reauth: Option<&'a String>,
    reauth_before: Option<&'a str>,
    revoke_on_shutdown: bool,
    readers: &'a [String],
    schedule: Option<&'a RawSchedule>,
}

impl<'a> From<&'a RawToken> for Written<'a> {
    fn from(raw: &'a RawToken) -> Self {
        Self {
            section: "token",
            server: raw.server.as_ref(),
            reauth: raw.reauth.as_ref(),
            reauth_before: raw.reauth_before.as_deref(),
            revoke_on_shutdown: raw.revoke_on_shutdown.unwrap_or(false),
            readers: raw.readers.as_deref().unwrap_or_default(),
            schedule: raw.schedule.as_ref(),
        }
    }
}

impl<'a> From<&'a RawInventory> for Written<'a> {
    fn from(raw: &'a RawInventory) -> Self {
        Self {
            section: "inventory",
            server: raw.server.as_ref(),
            reauth: raw.reauth.as_ref(),
            reauth_before: raw.reauth_before.as_deref(),
            revoke_on_shutdown: raw.revoke_on_shutdown.unwrap_or(false),
            readers: raw.readers.as_deref().unwrap_or_default(),
            schedule: raw.schedule.as_ref(),
        }
    }
}

impl Judge<'_> {
    /// `schedules`: what holds for each server's tokens.
    pub(super) fn upkeep(
        &mut self,
        name: &str,
        written: &Written<'_>,
        raw: &Raw,
        schedules: &BTreeMap<&str, Schedule>,
    ) -> Option<Upkeep> {
        let table = join(written.section, name);
        if let Some(reauth) = written.reauth.filter(|name| !raw.reauth.contains_key(*name)) {
            self.unknown_name((&table, "reauth"), ("reauth", reauth), raw.reauth.keys());
        }
        let reauth_before = self.reauth_before(&table, written, raw);
        self.revoked_for_good(&table, written);
        let Some(server) = written.server else {
            self.missing(&table, "server", "write server = \"NAME\", the name of a [server.NAME]");
            return None;
        };
        let inherited = schedules.get(server.as_str()).copied();
        if inherited.is_none() {
            self.unknown_name((&table, "server"), ("server", server), raw.server.keys());
        }
        let inherited = inherited.unwrap_or_default();
        let schedule = match written.schedule {
            None => inherited,
            Some(own) => {
                let own_path = schedule_path(written.section, name);
                let server_path = schedule_path("server", server);
                let mut levels = vec![(own_path.as_str(), own)];
                let servers = raw.server.get(server).and_then(|server| server.schedule.as_ref());
                levels.extend(servers.map(|schedule| (server_path.as_str(), schedule)));
                levels.push(("schedule", &raw.schedule));
                self.schedule(&levels, inherited)
            }
        };
        Some(Upkeep {
            server: server.clone(),
            reauth: written.reauth.cloned(),
            reauth_before,
            revoke_on_shutdown: written.revoke_on_shutdown,
            readers: written.readers.iter().map(|reader| reader.as_str().into()).collect(),
            schedule,
        })
    }

    /// How long before its end a token is replaced: the nearest such key counts.
    fn reauth_before(&mut self, table: &str, written: &Written<'_>, raw: &Raw) -> Option<Duration> {
        if self.is_written(table, "reauth_before") && !self.is_written(table, "reauth") {
            self.report.fault(
                self.marks.near(table, "reauth_before"),
                FaultKind::Missing,
                format!("`{}` has no meaning without `reauth`", join(table, "reauth_before")),
                "write reauth = \"NAME\", the name of a [reauth.NAME], or remove it",
            );
        }
        let reauth = written.reauth.and_then(|name| raw.reauth.get(name));
        let inherited = || reauth.and_then(|reauth| reauth.reauth_before.as_deref());
        let text = written.reauth_before.or_else(inherited);
        text.and_then(|text| duration::parse(text).ok())
    }

    /// Warns where tokens are revoked at a stop and nothing makes up for that.
    fn revoked_for_good(&mut self, table: &str, written: &Written<'_>) {
        if written.revoke_on_shutdown && !self.is_written(table, "reauth") {
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
    }
}
