//! `[reauth.NAME]`

use std::num::NonZeroU32;
use std::time::Duration;

use crate::lifecycle::ReauthPolicy;

use super::super::finding::ConfigErrorKind;
use super::super::key_positions::join;
use super::super::model::{KeySource, Reauth, ReauthMethod};
use super::super::raw::RawReauth;
use super::{Validator, at_least_one, duration_or};
use crate::duration;

/// The API's own default.
const MINUTES: u16 = 30;
const TIMEOUT: Duration = Duration::from_secs(60);
const DELAY: Duration = Duration::from_secs(1);
const DELAY_MAX: Duration = Duration::from_secs(300);
/// Few enough that no account is locked because of wrong credentials.
const MAX_ATTEMPTS: NonZeroU32 = NonZeroU32::new(5).unwrap();
/// Enough for many tokens to fail independently, and few enough that no account is locked.
const MAX_FAILURES_ALL: NonZeroU32 = NonZeroU32::new(20).unwrap();
const WINDOW: Duration = Duration::from_secs(3_600);

impl Validator<'_> {
    pub(super) fn reauth(&mut self, name: &str, raw: &RawReauth) -> Option<Reauth> {
        let table = join("reauth", name);
        let methods = ["command", "api_key_file", "api_key_credential", "login"];
        let one = self.require_exactly_one(&table, &methods);
        self.reject_unless_beside(&table, "with", &["login"]);
        if raw.login == Some(false) {
            let message = format!("`{}` is false", join(&table, "login"));
            let remedy = "write login = true, or another way to a new value in place of it";
            self.error((&table, "login"), ConfigErrorKind::BadValue, message, remedy);
        }
        if one && self.is_present(&table, "command") && self.is_present(&table, "minutes") {
            self.error(
                (&table, "minutes"),
                ConfigErrorKind::Conflict,
                format!("`{}` has no effect together with `command`", join(&table, "minutes")),
                "remove it; the command decides how long its token lives",
            );
        }
        let policy = self.reauth_policy(&table, raw);
        let minutes = raw.minutes.unwrap_or(MINUTES);
        let api_key = |key| ReauthMethod::ApiKey { key, minutes };
        let method = match (&raw.command, &raw.api_key_file, &raw.api_key_credential) {
            (Some(command), _, _) => ReauthMethod::Command(command.clone()),
            (_, Some(file), _) => api_key(KeySource::File(file.into())),
            (_, _, Some(credential)) => api_key(KeySource::Credential(credential.clone())),
            (None, None, None) if raw.login == Some(true) => {
                ReauthMethod::Login { with: self.parameters(&table, raw.with.as_ref()), minutes }
            }
            (None, None, None) => return None,
        };
        let timeout = duration_or(raw.timeout.as_deref(), TIMEOUT);
        let max_failures_all = at_least_one(raw.max_failures_all, MAX_FAILURES_ALL);
        let maintenance_windows =
            raw.quiet.iter().flatten().filter_map(|window| window.parse().ok()).collect();
        Some(Reauth {
            name: name.to_owned(),
            method,
            timeout,
            policy,
            max_failures_all,
            maintenance_windows,
        })
    }

    fn reauth_policy(&mut self, table: &str, raw: &RawReauth) -> ReauthPolicy {
        let policy = ReauthPolicy {
            delay: duration_or(raw.delay.as_deref(), DELAY),
            delay_max: duration_or(raw.delay_max.as_deref(), DELAY_MAX),
            max_attempts: at_least_one(raw.max_attempts, MAX_ATTEMPTS),
            window: duration_or(raw.window.as_deref(), WINDOW),
        };
        if policy.delay_max < policy.delay {
            let key = if raw.delay_max.is_some() { "delay_max" } else { "delay" };
            let by_default = if raw.delay_max.is_some() { "" } else { " by default" };
            let message = format!(
                "in [{table}] `delay_max` ({}{by_default}) is less than `delay` ({})",
                duration::show(policy.delay_max),
                duration::show(policy.delay),
            );
            let remedy = "raise `delay_max` or lower `delay`";
            self.error((table, key), ConfigErrorKind::Conflict, message, remedy);
        }
        policy
    }
}
