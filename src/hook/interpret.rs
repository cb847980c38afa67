//! Interprets how a command ended and what it printed. Pure.

use std::io;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::ExitStatus;
use std::time::Duration;

use crate::process;
use crate::secret::{Mistake, TokenValue, TokenValueError};
use crate::token_source::sandbox_hint;

/// Maximum output of a command. A token has at most 4 KiB; the rest is for messages of tools. More
/// is a mistake, and the command is killed.
pub const MAX_OUTPUT_BYTES: usize = 64 * 1024;

/// Exit status of an inconclusive command: `EX_TEMPFAIL` of sysexits.
pub const EXIT_TRY_AGAIN: i32 = 75;

/// What a command that succeeded has produced.
#[derive(Debug)]
pub enum HookOutput {
    /// It printed a new token value.
    NewValue(TokenValue),
    /// It printed nothing, so that it has written the token's file itself.
    WroteFile,
}

/// Why a command returned no new value. Contains nothing that the command printed.
#[derive(Debug, thiserror::Error)]
pub enum HookError {
    /// The program or its interpreter does not exist.
    #[error(
        "the command {program} does not exist, or the interpreter in its first line does not; correct \
         `command`, or install it{}",
        sandbox_hint(Path::new(&**program)).unwrap_or_default()
    )]
    NotFound {
        /// The program as configured.
        program: Box<str>,
    },
    /// The program is not executable for the service's user.
    #[error(
        "the service's user may not run the command {program}; run `chmod +x` on it, use its full \
         path, and check its directories and `noexec` mounts{}",
        sandbox_hint(Path::new(&**program)).unwrap_or_default()
    )]
    NotExecutable {
        /// The program as configured.
        program: Box<str>,
    },
    /// The system could not start the program for another reason.
    #[error(
        "the command {program} could not be started ({error}); a script must begin with `#!` and \
         its interpreter"
    )]
    CannotStart {
        /// The program as configured.
        program: Box<str>,
        /// The system's error.
        #[source]
        error: io::Error,
    },
    /// This process has no free descriptor, process or memory for the command.
    #[error("{remedy}")]
    NoResources {
        /// What is missing, and the remedy.
        remedy: Box<str>,
    },
    /// It ended with [`EXIT_TRY_AGAIN`].
    #[error(
        "the re-auth command asked for a retry (exit status {EXIT_TRY_AGAIN}); it runs again later, and the attempt does not count"
    )]
    NoConclusion,
    /// It ended with a status other than 0 and [`EXIT_TRY_AGAIN`].
    #[error(
        "the re-auth command ended with exit status {code}; run it by hand as the service's user to see why"
    )]
    Exit {
        /// The status, 1 to 255 without [`EXIT_TRY_AGAIN`].
        code: i32,
    },
    /// A signal ended it that this process did not send.
    #[error(
        "the re-auth command was killed by signal {signal}; check for a crash, a memory limit or a \
         `kill`"
    )]
    Signal {
        /// The signal's number.
        signal: i32,
    },
    /// It timed out.
    #[error(
        "the re-auth command was still running after {after:?} and was killed with its child \
         processes; raise `timeout`, or find out what it waits for"
    )]
    TimedOut {
        /// The time-out.
        after: Duration,
    },
    /// It printed more than a token.
    #[error(
        "the re-auth command printed more than {MAX_OUTPUT_BYTES} bytes and was killed; it must \
         print only the token"
    )]
    TooMuchOutput,
    /// It was killed because its end could not be awaited.
    #[error("the re-auth command was killed: {0}")]
    WaitFailed(#[source] io::Error),
    /// Its first line is not text.
    #[error("the first line that the re-auth command printed is not UTF-8; it must be the token")]
    NotText,
    /// Its first line is not a token.
    #[error("the first line that the re-auth command printed is not a token: {0}")]
    NotAToken(#[source] TokenValueError),
    /// Its first line is obviously not a token, such as JSON or HTML.
    #[error("the first line that the re-auth command printed is not a token: {0}")]
    Mistaken(#[source] Mistake),
}

impl HookError {
    /// The exit status of the command, if it ended by itself and not with 0.
    pub const fn exit_status(&self) -> Option<i32> {
        match self {
            Self::Exit { code } => Some(*code),
            Self::NoConclusion => Some(EXIT_TRY_AGAIN),
            Self::NotFound { .. }
            | Self::NotExecutable { .. }
            | Self::CannotStart { .. }
            | Self::NoResources { .. }
            | Self::Signal { .. }
            | Self::TimedOut { .. }
            | Self::TooMuchOutput
            | Self::WaitFailed(_)
            | Self::NotText
            | Self::NotAToken(_)
            | Self::Mistaken(_) => None,
        }
    }

    /// Whether the result says nothing about the login, so that the attempt counts toward no
    /// budget: exit status [`EXIT_TRY_AGAIN`], or a lack of resources in this process. Every other
    /// failure may have cost a login.
    pub const fn is_inconclusive(&self) -> bool {
        matches!(self, Self::NoConclusion | Self::NoResources { .. })
    }
}

/// Why the command `program` did not start: that of a `reauth` or of a `[notify.NAME]`.
pub(super) fn start_error(program: &str, error: io::Error) -> HookError {
    let program = program.into();
    match error.kind() {
        io::ErrorKind::NotFound => HookError::NotFound { program },
        io::ErrorKind::PermissionDenied => HookError::NotExecutable { program },
        _ => match process::spawn_limit_error(&error) {
            Some(remedy) => HookError::NoResources { remedy: remedy.into() },
            None => HookError::CannotStart { program, error },
        },
    }
}

/// Interprets the status and the standard output of a command that ended by itself.
pub(super) fn interpret(status: ExitStatus, output: &[u8]) -> Result<HookOutput, HookError> {
    if let Some(signal) = status.signal() {
        return Err(HookError::Signal { signal });
    }
    match status.code() {
        Some(0) => interpret_output(output),
        Some(EXIT_TRY_AGAIN) => Err(HookError::NoConclusion),
        code => Err(HookError::Exit { code: code.unwrap_or(-1) }),
    }
}

fn interpret_output(output: &[u8]) -> Result<HookOutput, HookError> {
    if output.trim_ascii().is_empty() {
        return Ok(HookOutput::WroteFile);
    }
    let line = output.split(|byte| *byte == b'\n').next().unwrap_or_default();
    let line = str::from_utf8(line).map_err(|_| HookError::NotText)?;
    // Checked before the general rules, because JSON or HTML usually breaks those too, and this
    // error names the remedy.
    if let Some(mistake) = Mistake::of(line).filter(|mistake| mistake.is_certain()) {
        return Err(HookError::Mistaken(mistake));
    }
    TokenValue::parse(line).map(HookOutput::NewValue).map_err(HookError::NotAToken)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A wait status as the kernel encodes it, for an exit code.
    fn exited(code: i32, output: &[u8]) -> Result<HookOutput, HookError> {
        ended(code << 8, output)
    }

    fn ended(wait_status: i32, output: &[u8]) -> Result<HookOutput, HookError> {
        interpret(ExitStatus::from_raw(wait_status), output)
    }

    fn value(result: Result<HookOutput, HookError>) -> String {
        match result {
            Ok(HookOutput::NewValue(value)) => value.expose().to_owned(),
            other => panic!("{other:?}"),
        }
    }

    fn fault(result: Result<HookOutput, HookError>) -> HookError {
        match result {
            Err(fault) => fault,
            Ok(output) => panic!("{output:?}"),
        }
    }

    #[test]
    fn first_line_is_the_new_token() {
        for output in ["new-1", "new-1\n", "new-1\r\n\n\n", " new-1 \nnoise of a tool\n"] {
            assert_eq!(value(exited(0, output.as_bytes())), "new-1", "{output:?}");
        }
    }

    #[test]
    fn no_output_means_that_the_file_was_written() {
        for output in ["", "\n", " \r\n\n"] {
            assert!(
                matches!(exited(0, output.as_bytes()), Ok(HookOutput::WroteFile)),
                "{output:?}"
            );
        }
    }

    #[test]
    fn failed_exit_counts_regardless_of_the_output() {
        let fault = fault(exited(3, b"new-1\n"));
        assert_eq!(fault.exit_status(), Some(3));
        assert!(!format!("{fault} {fault:?}").contains("new-1"));
    }

    #[test]
    fn signal_is_distinguished_from_an_exit() {
        assert!(matches!(fault(ended(9, b"new-1")), HookError::Signal { signal: 9 }));
    }

    #[test]
    fn invalid_first_line_is_rejected_and_not_repeated() {
        for (output, expected) in [
            (&b"\nnew-1\n"[..], TokenValueError::Empty),
            (b"two words\n", TokenValueError::NotOneWord),
            (b"bell\x07\n", TokenValueError::NotOneWord),
            (&[b'x'; 5000], TokenValueError::TooLong),
        ] {
            let fault = fault(exited(0, output));
            assert!(matches!(fault, HookError::NotAToken(found) if found == expected), "{fault}");
            assert!(!fault.to_string().contains("bell"));
        }
    }

    #[test]
    fn exit_status_75_alone_is_inconclusive() {
        let inconclusive = fault(exited(75, b"new-1\n"));
        assert!(inconclusive.is_inconclusive());
        assert_eq!(inconclusive.exit_status(), Some(75));
        for code in [1, 2, 74, 76, 124, 127, 255] {
            assert!(!fault(exited(code, b"")).is_inconclusive(), "{code}");
        }
        for output in [&b"null\n"[..], b"two words\n", b"\xff\n"] {
            assert!(!fault(exited(0, output)).is_inconclusive(), "{output:?}");
        }
        assert!(!fault(ended(9, b"")).is_inconclusive());
        assert!(!HookError::TimedOut { after: Duration::from_secs(1) }.is_inconclusive());
    }

    #[test]
    fn output_that_is_obviously_no_token_is_rejected_with_a_remedy_and_not_repeated() {
        for (output, remedy) in [
            ("null\n", "jq -er"),
            ("OK\n", "print the token alone"),
            ("\"s3cr3t\"\n", "jq -er"),
            ("'s3cr3t'\n", "quotation marks"),
            ("{\"SessionToken\": \"s3cr3t\"}\n", "jq -er .Result.SessionToken"),
            ("{\n  \"SessionToken\": \"s3cr3t\"\n}\n", "jq -er .Result.SessionToken"),
            ("[\"s3cr3t\"]\n", "jq -er"),
            ("<html><body>s3cr3t\n", "HTML"),
            ("<!DOCTYPE html PUBLIC \"s3cr3t\">\n", "curl --fail"),
        ] {
            let fault = fault(exited(0, output.as_bytes()));
            assert!(matches!(fault, HookError::Mistaken(_)), "{output}: {fault}");
            assert!(fault.to_string().contains(remedy), "{output}: {fault}");
            assert!(!format!("{fault} {fault:?}").contains("s3cr3t"), "{fault:?}");
        }
    }

    #[test]
    fn output_that_may_be_a_token_is_accepted() {
        for output in ["KEY=new-1", "sv=1&sig=2", "new\u{200b}1", "nullable", "QUJD=="] {
            assert_eq!(value(exited(0, output.as_bytes())), output);
        }
    }

    #[test]
    fn first_line_that_is_not_utf8_is_rejected() {
        assert!(matches!(fault(exited(0, b"\xff\xfe\n")), HookError::NotText));
    }

    #[test]
    fn invalid_utf8_after_the_first_line_is_harmless() {
        assert_eq!(value(exited(0, b"new-1\n\xff\xfe")), "new-1");
    }

    #[test]
    fn error_names_the_command_that_could_not_start_and_the_remedy() {
        for (kind, remedy) in [
            (io::ErrorKind::NotFound, "install it"),
            (io::ErrorKind::PermissionDenied, "chmod +x"),
            (io::ErrorKind::OutOfMemory, "begin with `#!`"),
        ] {
            let sentence = start_error("/opt/relogin", kind.into()).to_string();
            assert!(sentence.contains("/opt/relogin") && sentence.contains(remedy), "{sentence}");
        }
    }
}
