//! The findings of `doctor` and how they are printed: one line each, errors first.

use std::fmt;
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::secret::mask;

/// Severity of a finding, in the order of printing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Severity {
    /// Something will fail.
    Error,
    /// Something may fail, or could not be checked.
    Warning,
    /// Nothing is wrong.
    Ok,
}

/// All findings so far, of all threads.
#[derive(Debug, Default)]
pub(super) struct Diagnosis(Mutex<Vec<(Severity, String)>>);

impl Diagnosis {
    /// Adds something that will fail. `text` says what, then the remedy.
    pub(super) fn error(&self, text: impl Into<String>) {
        self.add(Severity::Error, text.into());
    }

    /// Adds something that may fail. `text` says what, then the remedy.
    pub(super) fn warning(&self, text: impl Into<String>) {
        self.add(Severity::Warning, text.into());
    }

    /// Adds a successful check.
    pub(super) fn ok(&self, text: impl Into<String>) {
        self.add(Severity::Ok, text.into());
    }

    fn add(&self, severity: Severity, text: String) {
        self.findings().push((severity, text));
    }

    fn findings(&self) -> MutexGuard<'_, Vec<(Severity, String)>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn errors(&self) -> usize {
        self.count(Severity::Error)
    }

    pub(super) fn warnings(&self) -> usize {
        self.count(Severity::Warning)
    }

    fn count(&self, severity: Severity) -> usize {
        self.findings().iter().filter(|(known, _)| *known == severity).count()
    }
}

impl fmt::Display for Diagnosis {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut findings = self.findings().clone();
        findings.sort_by_key(|(severity, _)| *severity);
        findings.dedup();
        for (severity, text) in findings {
            let word = match severity {
                Severity::Error => "error",
                Severity::Warning => "warning",
                Severity::Ok => "ok",
            };
            let line = text.replace(|c: char| c.is_control(), " ");
            writeln!(f, "{word}: {}", mask(&line))?;
        }
        let plural = |count, word| format!("{count} {word}{}", if count == 1 { "" } else { "s" });
        let (errors, warnings) = (self.errors(), self.warnings());
        writeln!(f, "{}, {}", plural(errors, "error"), plural(warnings, "warning"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_come_first_each_on_one_line_and_secrets_are_masked() {
        let diagnosis = Diagnosis::default();
        diagnosis.ok("a");
        diagnosis.warning("b\nc");
        diagnosis.error("S3CR3T");
        let expected = "error: ***\nwarning: b c\nok: a\n1 error, 1 warning\n";
        assert_eq!(diagnosis.to_string(), expected);
    }
}
