//! Collects what is found, so that everything can be said at once and in order.

use super::fault::{Fault, FaultKind, Finding, Warning, WarningKind};
use super::source::{Sources, Spot};
use crate::secret::mask;

/// What was found so far, by position.
#[derive(Default)]
pub(super) struct Report {
    faults: Vec<Entry<FaultKind>>,
    warnings: Vec<Entry<WarningKind>>,
    incomplete: bool,
}

struct Entry<K> {
    spot: Spot,
    kind: K,
    message: String,
    remedy: String,
}

impl<K> Entry<K> {
    /// `is_key`: it stands at a key or a table's name.
    fn into_finding(self, sources: &Sources, is_key: bool) -> Finding<K> {
        let Self { spot, kind, message, remedy } = self;
        let (place, excerpt) = (sources.place(spot), sources.excerpt(spot, is_key));
        // Names and values are part of both; a token pasted in place of one is not shown.
        let (message, remedy) = (mask(&message).into_owned(), mask(&remedy).into_owned());
        Finding { kind, place, message, remedy, excerpt }
    }
}

impl Report {
    pub(super) fn fault(
        &mut self,
        spot: Spot,
        kind: FaultKind,
        message: impl Into<String>,
        remedy: impl Into<String>,
    ) {
        let (message, remedy) = (message.into(), remedy.into());
        self.faults.push(Entry { spot, kind, message, remedy });
    }

    /// A fault that keeps a part of the configuration from being seen at all.
    pub(super) fn unreadable(
        &mut self,
        spot: Spot,
        message: impl Into<String>,
        remedy: impl Into<String>,
    ) {
        self.incomplete = true;
        self.fault(spot, FaultKind::Unreadable, message, remedy);
    }

    /// As [`Self::unreadable`], for text that is not TOML.
    pub(super) fn syntax(
        &mut self,
        spot: Spot,
        message: impl Into<String>,
        remedy: impl Into<String>,
    ) {
        self.incomplete = true;
        self.fault(spot, FaultKind::Syntax, message, remedy);
    }

    pub(super) fn warning(
        &mut self,
        spot: Spot,
        kind: WarningKind,
        message: impl Into<String>,
        remedy: impl Into<String>,
    ) {
        let (message, remedy) = (message.into(), remedy.into());
        self.warnings.push(Entry { spot, kind, message, remedy });
    }

    /// Whether a part of the configuration could not be seen, so that what seems missing
    /// may stand there.
    pub(super) const fn is_incomplete(&self) -> bool {
        self.incomplete
    }

    /// All that was found, in the order of the sources and of the lines in them.
    pub(super) fn finish(mut self, sources: &Sources) -> (Vec<Fault>, Vec<Warning>) {
        self.faults.sort_by_key(|entry| entry.spot);
        self.warnings.sort_by_key(|entry| entry.spot);
        let fault = |entry: Entry<FaultKind>| {
            let is_key = !matches!(entry.kind, FaultKind::Syntax | FaultKind::Unreadable);
            entry.into_finding(sources, is_key)
        };
        (
            self.faults.into_iter().map(fault).collect(),
            self.warnings.into_iter().map(|entry| entry.into_finding(sources, true)).collect(),
        )
    }
}
