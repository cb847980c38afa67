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
pub(super) struct Diagnosis {
    findings: Mutex<Vec<(Severity, String)>>,
    /// Words that are printed although they look like secrets.
    public: Mutex<Vec<String>>,
}

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

    /// Prints `word` in findings, although it looks like a secret. It must not be one.
    pub(super) fn publish(&self, word: String) {
        self.public.lock().unwrap_or_else(PoisonError::into_inner).push(word);
    }

    fn add(&self, severity: Severity, text: String) {
        self.findings().push((severity, text));
    }

    fn findings(&self) -> MutexGuard<'_, Vec<(Severity, String)>> {
        self.findings.lock().unwrap_or_else(PoisonError::into_inner)
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
        let public = self.public.lock().unwrap_or_else(PoisonError::into_inner);
        for (severity, text) in findings {
            let word = match severity {
                Severity::Error => "error",
                Severity::Warning => "warning",
                Severity::Ok => "ok",
            };
            let line = text.replace(|c: char| c.is_control(), " ");
            writeln!(f, "{word}: {}", mask_except(&line, &public))?;
        }
        let plural = |count, word| format!("{count} {word}{}", if count == 1 { "" } else { "s" });
        let (errors, warnings) = (self.errors(), self.warnings());
        writeln!(f, "{}, {}", plural(errors, "error"), plural(warnings, "warning"))
    }
}

/// `line` with what looks like a secret masked, except for `public` words.
fn mask_except(line: &str, public: &[String]) -> String {
    match public.iter().find_map(|word| Some((line.split_once(word.as_str())?, word))) {
        Some(((before, after), word)) => {
            format!("{}{word}{}", mask_except(before, public), mask_except(after, public))
        }
        None => mask(line).into_owned(),
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

    #[test]
    fn published_word_is_printed_and_the_rest_is_masked() {
        let diagnosis = Diagnosis::default();
        diagnosis.publish("8d35f2a1c09b7e64".to_owned());
        diagnosis.error("key 8d35f2a1c09b7e64, not S3CR3T, 8d35f2a1c09b7e64.");
        diagnosis.warning("key 9d35f2a1c09b7e64");
        let expected = "error: key 8d35f2a1c09b7e64, not ***, 8d35f2a1c09b7e64.\n\
                        warning: key 9d35***\n1 error, 1 warning\n";
        assert_eq!(diagnosis.to_string(), expected);
    }
}
