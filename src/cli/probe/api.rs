//! What the profile of the probed server permits.

use std::collections::BTreeSet;

use super::Probe;
use crate::cli::profile::{NATIVE, check_parameters as check_known};
use crate::daemon::Effective;
use crate::lifecycle::{RandomFraction, Reading, Renewal, Schedule, check_wait};
use crate::outcome::ENDLESS;
use crate::profile::Profile;
use crate::settings::Server;
use crate::text::format_duration;

/// The API of a server; `None` is the native one.
#[derive(Debug, Clone)]
pub(super) struct Api(Option<std::sync::Arc<Profile>>);

/// Whether the lives of tokens on `server` are assumed.
pub(super) fn is_assumed(server: &Server) -> bool {
    Effective::new(server.renewal, server.profile.as_deref(), true).assumed
}

impl Api {
    pub(super) fn of(server: &Server) -> Self {
        Self(server.profile.clone())
    }

    /// Whether a renewal sends the refresh token.
    pub(super) fn renews_with_refresh_token(&self) -> bool {
        self.0.as_ref().is_some_and(|profile| profile.renews_with_refresh_token())
    }

    /// The name of the call that renews, for people.
    pub(super) const fn renewing_call(&self) -> &'static str {
        if self.0.is_some() { "the profile's `renew`" } else { "RenewSessionToken" }
    }

    /// Checks that the profile can do what the options request. Returns the permitted calls.
    ///
    /// # Errors
    ///
    /// A sentence with its remedy.
    pub(super) fn check(&self, probe: &Probe, server: &Server) -> Result<Renewal, String> {
        let Some(profile) = &self.0 else { return check_native(probe, server) };
        let name = &profile.name;
        check_parameters(profile, probe, server)?;
        if probe.login && profile.login.is_none() {
            return Err(format!("profile {name} has no `login`; remove --login"));
        }
        let renewal = match (&profile.query, &profile.renew, server.renewal) {
            (None, _, Renewal::Query) => {
                return Err(format!("profile {name} has no `query`; write --renewal renew"));
            }
            (_, None, Renewal::Renew) => {
                return Err(format!("profile {name} has no `renew`; remove --renewal renew"));
            }
            (None, Some(_), _) => Renewal::Renew,
            (Some(_), None, _) => Renewal::Query,
            (_, _, renewal) => renewal,
        };
        let spends = renewal == Renewal::Renew && self.renews_with_refresh_token();
        if spends && server.renewal != Renewal::Renew {
            return Err(format!(
                "profile {name} has no `query`, and its `renew` spends the refresh token; if that is \
                 what you want, add --renewal renew"
            ));
        }
        if spends && probe.refresh_file.is_none() {
            return Err(format!(
                "the `renew` of profile {name} sends the refresh token; add --refresh-file PATH: the \
                 refresh token is spent, and the new one is written to that file"
            ));
        }
        if probe.prove_renewal && profile.assume.is_some() {
            return Err(format!(
                "--prove-renewal: the API of profile {name} reports no life, so no renewal can be \
                 proven; remove it"
            ));
        }
        if probe.prove_renewal && self.renews_with_refresh_token() {
            return Err(format!(
                "--prove-renewal: each renewal by profile {name} spends a refresh token; probe once \
                 with --renewal renew instead"
            ));
        }
        Ok(renewal)
    }

    /// When the daemon would check the token next, as a line; empty for the native API.
    pub(super) fn next_check(&self, reading: &Reading) -> String {
        if self.0.is_none() {
            return String::new();
        }
        let schedule = Schedule::default();
        let life = reading.remaining().min(ENDLESS);
        // The jitter makes a check earlier, never later.
        let [latest, earliest] =
            [0.0, 1.0].map(|jitter| check_wait(life, &schedule, RandomFraction::new(jitter)));
        format!(
            "the daemon would check it again after {} to {}\n",
            format_duration(earliest),
            format_duration(latest)
        )
    }
}

fn check_native(probe: &Probe, server: &Server) -> Result<Renewal, String> {
    let options = [
        ("--with", !server.with.is_empty()),
        ("--refresh-file", probe.refresh_file.is_some()),
        ("--login", probe.login),
    ];
    match options.into_iter().find(|(_, is_given)| *is_given) {
        Some((option, _)) => {
            Err(format!("{option} needs a profile other than {NATIVE}; add --profile PROFILE"))
        }
        None => Ok(server.renewal),
    }
}

/// Checks that the calls have all their parameters, and that no other is given.
fn check_parameters(profile: &Profile, probe: &Probe, server: &Server) -> Result<(), String> {
    let login = profile.login.as_ref().filter(|_| probe.login);
    let calls = [profile.query.as_ref(), profile.renew.as_ref(), login];
    let used: BTreeSet<_> =
        calls.into_iter().flatten().flat_map(|call| call.parameters()).collect();
    let missing: Vec<_> =
        used.iter().filter(|name| !server.with.contains_key(**name)).copied().collect();
    let name = &profile.name;
    if let [first, ..] = missing[..] {
        return Err(format!(
            "profile {name} needs {}; add --with {first}=VALUE, or --with {first}=@FILE for a secret",
            missing.join(", ")
        ));
    }
    check_known(Some(profile), &server.with)
}
