//! `[notify.NAME]`

use std::time::Duration;

use url::Url;

use super::super::finding::{ConfigErrorKind, WarningKind};
use super::super::key_positions::join;
use super::super::model::{Notify, NotifyTarget, Token, Webhook};
use super::super::name_pattern::NamePattern;
use super::super::raw::RawNotify;
use super::super::setting_error::shortened;
use super::{Validator, duration_or, is_plain_http};
use crate::event::EventName;

const TIMEOUT: Duration = Duration::from_secs(30);

/// Events that are never delivered: they are only log lines, or nothing can deliver them any more.
const NEVER_DELIVERED: [EventName; 4] = [
    EventName::StartFailed,
    EventName::DaemonStopped,
    EventName::ChecksSummary,
    EventName::EventsSuppressed,
];

impl Validator<'_> {
    pub(super) fn notify(&mut self, name: &str, raw: &RawNotify) -> Option<Notify> {
        let table = join("notify", name);
        self.require_exactly_one(&table, &["command", "webhook"]);
        if !self.is_present(&table, "webhook") {
            for key in ["webhook_header_credential", "ca_file", "proxy"] {
                self.notify_key_without_webhook(&table, key);
            }
        }
        let target = match (&raw.command, &raw.webhook) {
            (Some(command), _) => NotifyTarget::Command(command.clone()),
            (None, Some(url)) => NotifyTarget::Webhook(self.webhook(&table, url, raw)?),
            (None, None) => return None,
        };
        let (events, tokens) = (raw.events.as_ref(), raw.tokens.as_ref());
        let events: Option<Vec<EventName>> =
            events.map(|events| events.iter().filter_map(|name| EventName::named(name)).collect());
        self.warn_never_delivered(&table, events.as_deref().unwrap_or_default());
        Some(Notify {
            name: name.to_owned(),
            events,
            tokens: tokens.map(|tokens| {
                // The schema check has reported invalid ones.
                tokens.iter().filter_map(|text| NamePattern::parse(text).ok()).collect()
            }),
            target,
            timeout: duration_or(raw.timeout.as_deref(), TIMEOUT),
        })
    }

    fn notify_key_without_webhook(&mut self, table: &str, key: &str) {
        if self.is_present(table, key) {
            self.collector.error(
                self.positions.nearest(table, key),
                ConfigErrorKind::Conflict,
                format!("`{}` has no effect without `webhook`", join(table, key)),
                "remove it, or write `webhook` in place of `command`",
            );
        }
    }

    fn webhook(&mut self, table: &str, url: &str, raw: &RawNotify) -> Option<Webhook> {
        let url = Url::parse(url).ok()?;
        if is_plain_http(&url) {
            self.collector.error(
                self.positions.nearest(table, "webhook"),
                ConfigErrorKind::BadValue,
                format!("`{}` is plain http to another machine", join(table, "webhook")),
                "use https; plain http is accepted only to this machine, such as http://127.0.0.1",
            );
        }
        Some(Webhook {
            url,
            header_credential: raw.webhook_header_credential.clone(),
            ca_file: raw.ca_file.as_deref().map(Into::into),
            proxy: raw.proxy.as_deref().and_then(|proxy| Url::parse(proxy).ok()),
        })
    }

    fn warn_never_delivered(&mut self, table: &str, events: &[EventName]) {
        for event in events.iter().filter(|event| NEVER_DELIVERED.contains(event)) {
            let event = event.as_str();
            self.collector.warning(
                self.positions.nearest(table, "events"),
                WarningKind::NeverDelivered,
                format!("`{}` names {event}, which is never delivered", join(table, "events")),
                "remove it; this event is only written to the log",
            );
        }
    }

    /// Warns about names and patterns in `tokens` that match no token. Tokens of inventories are
    /// not known here, so a configuration with inventories has no such warning.
    pub(super) fn warn_unmatched_patterns(&mut self, notifies: &[Notify], tokens: &[Token]) {
        for notify in notifies {
            let table = join("notify", &notify.name);
            for pattern in notify.tokens.iter().flatten() {
                if !tokens.iter().any(|token| pattern.matches(&token.name)) {
                    let (key, text) = (join(&table, "tokens"), shortened(pattern.as_str()));
                    self.collector.warning(
                        self.positions.nearest(&table, "tokens"),
                        WarningKind::UnmatchedPattern,
                        format!("`{key}` contains {text}, which matches no token"),
                        "write the name of a [token.NAME], or a pattern such as \"quotes-*\"",
                    );
                }
            }
        }
    }
}
