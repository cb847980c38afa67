//! Reads a token value or a URL from the terminal or standard input.
//!
//! A token is not echoed. Signals restore the terminal before they end the process.

use std::io::{self, IsTerminal as _, Write as _};
use std::thread;

use rustix::io::{Errno, ioctl_fionread, read};
use rustix::process::Signal;
use rustix::termios::{
    LocalModes, OptionalActions, QueueSelector, SpecialCodeIndex, Termios, tcflush, tcgetattr,
    tcsetattr,
};
use signal_hook::iterator::Signals;
use signal_hook::low_level::emulate_default_handler;
use zeroize::Zeroizing;

use crate::cli::{CliError, EX_SOFTWARE, EX_USAGE, eprint_message};
use crate::secret::{MAX_VALUE_BYTES, Mistake, TokenValue, TokenValueError};

/// More than any token, and than its line break and white space around it.
const MAX_INPUT_BYTES: usize = 2 * MAX_VALUE_BYTES;

/// No key has the function of a special code with this value (`_POSIX_VDISABLE` of Linux).
const DISABLED: u8 = 0;

/// A terminal cuts longer lines without notice (`N_TTY_BUF_SIZE` of Linux, less the line break).
const MAX_TERMINAL_LINE: usize = 4_095;

/// Reads a token value: on a terminal, asks with `prompt` and does not echo it; otherwise, all of
/// standard input.
pub(super) fn read_token(prompt: &str) -> Result<TokenValue, CliError> {
    if !io::stdin().is_terminal() {
        let mut bytes = buffer();
        read_until(&mut bytes, |_| false).map_err(|error| read_failed(&error))?;
        return parse(&bytes);
    }
    let bytes = read_silently(prompt).map_err(|error| read_failed(&error))?;
    if bytes.split(|byte| *byte == b'\n').any(|line| line.len() >= MAX_TERMINAL_LINE) {
        return Err(CliError::Usage(format!(
            "a terminal cuts lines at {MAX_TERMINAL_LINE} bytes; pass the token on standard input, \
             with `< FILE`; nothing was written"
        )));
    }
    parse(&bytes)
}

/// Asks with `prompt` for one line on the terminal. `None` at the end of the input.
pub(super) fn read_line(prompt: &str) -> Result<Option<String>, CliError> {
    write_to_terminal(prompt);
    let mut line = String::new();
    let length = io::stdin().read_line(&mut line).map_err(|error| read_failed(&error))?;
    end_prompt_line(line.as_bytes());
    Ok((length > 0).then(|| line.trim().to_owned()))
}

fn read_failed(error: &io::Error) -> CliError {
    let sentence = format!("standard input cannot be read: {error}; nothing was written");
    CliError::Failed { sentence, status: EX_SOFTWARE }
}

fn parse(bytes: &[u8]) -> Result<TokenValue, CliError> {
    let invalid = |reason: &str| CliError::Failed {
        sentence: format!("the token is not valid: {reason}; nothing was written"),
        status: EX_USAGE,
    };
    let text = str::from_utf8(bytes).map_err(|_| invalid("it is not UTF-8 text"))?;
    let mistake = Mistake::of(text);
    if let Some(mistake) = mistake.filter(|mistake| mistake.is_certain()) {
        return Err(invalid(&mistake.to_string()));
    }
    let value = TokenValue::parse(text).map_err(|error| match error {
        TokenValueError::Empty => {
            invalid("it is empty; enter it, or pass it on standard input, alone on one line")
        }
        error => invalid(&error.to_string()),
    })?;
    if let Some(mistake) = mistake {
        eprint_message(&format!("warning: the token looks wrong: {mistake}"));
    }
    Ok(value)
}

/// A buffer that never grows: a reallocation would leave a copy of the secret in memory.
fn buffer() -> Zeroizing<Vec<u8>> {
    Zeroizing::new(Vec::with_capacity(MAX_INPUT_BYTES))
}

/// Reads standard input, without a buffer of its own, until its end, until `is_enough` or until
/// `bytes` is full.
fn read_until(bytes: &mut Vec<u8>, is_enough: impl Fn(&[u8]) -> bool) -> io::Result<()> {
    let mut some = Zeroizing::new([0; 512]);
    while bytes.len() < MAX_INPUT_BYTES && !is_enough(bytes) {
        match read(io::stdin(), &mut some[..]) {
            Ok(0) => break,
            Ok(length) => {
                let room = MAX_INPUT_BYTES - bytes.len();
                bytes.extend_from_slice(&some[..length.min(room)]);
            }
            Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

/// Reads one line from the terminal, which does not show it.
fn read_silently(prompt: &str) -> io::Result<Zeroizing<Vec<u8>>> {
    let mut bytes = buffer();
    {
        let _echo_off = EchoOff::new()?;
        write_to_terminal(prompt);
        read_until(&mut bytes, |bytes| bytes.contains(&b'\n'))?;
        end_prompt_line(&bytes);
        if ioctl_fionread(io::stdin()).is_ok_and(|more| more > 0) {
            // The following lines of a paste must not reach the shell. The parser rejects the line
            // break.
            bytes.truncate(MAX_INPUT_BYTES - 1);
            bytes.push(b'.');
        }
        let _ = tcflush(io::stdin(), QueueSelector::IFlush);
    }
    Ok(bytes)
}

fn write_to_terminal(prompt: &str) {
    let mut stderr = io::stderr().lock();
    // An error of standard error cannot be reported anywhere.
    let _ = write!(stderr, "{prompt}").and_then(|()| stderr.flush());
}

/// Ends the line of the prompt if the answer, which Ctrl-D ended, has no line break.
fn end_prompt_line(answer: &[u8]) {
    if !answer.contains(&b'\n') {
        write_to_terminal("\n");
    }
}

/// Switches off the terminal's echo until it is dropped, or a signal ends the process.
struct EchoOff {
    original: Termios,
}

impl EchoOff {
    fn new() -> io::Result<Self> {
        let original = tcgetattr(io::stdin())?;
        let signals = [Signal::INT, Signal::TERM, Signal::HUP, Signal::QUIT].map(Signal::as_raw);
        let mut signals = Signals::new(signals)?;
        let restored = original.clone();
        // Runs until the end of the process: without it, the signals would have no effect.
        thread::Builder::new().spawn(move || {
            for signal in signals.forever() {
                let _ = tcsetattr(io::stdin(), OptionalActions::Now, &restored);
                write_to_terminal("\n");
                let _ = emulate_default_handler(signal);
            }
        })?;
        let mut silent = original.clone();
        silent.local_modes.remove(LocalModes::ECHO);
        silent.local_modes.insert(LocalModes::ECHONL);
        // After Ctrl-Z and `fg`, the shell's modes would be in force, with the echo.
        silent.special_codes[SpecialCodeIndex::VSUSP] = DISABLED;
        tcsetattr(io::stdin(), OptionalActions::Now, &silent)?;
        Ok(Self { original })
    }
}

impl Drop for EchoOff {
    fn drop(&mut self) {
        let _ = tcsetattr(io::stdin(), OptionalActions::Now, &self.original);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_one_word_on_one_line_is_a_token() {
        for text in ["abc-123", "abc-123\n", "abc-123\r\n", " abc-123 \n"] {
            assert_eq!(parse(text.as_bytes()).unwrap().expose(), "abc-123");
        }
        let long = "x".repeat(MAX_VALUE_BYTES + 1);
        for (text, reason) in [
            ("", "empty"),
            ("\n", "empty"),
            ("S3CR3T\nS3CR3T", "line break"),
            ("S3CR3T\n.", "line break"),
            ("S3CR3T\u{7}", "control character"),
            ("S3CR3T\0", "control character"),
            ("{\"SessionToken\":\"S3CR3T\"}", "JSON object"),
            ("null", "the word `null`"),
            (&long, "longer than 4096 bytes"),
        ] {
            let error = parse(text.as_bytes()).unwrap_err();
            assert_eq!(error.status(), EX_USAGE, "{error}");
            let error = error.to_string();
            assert!(error.contains(reason) && !error.contains("S3CR3T"), "{error}");
        }
        assert!(parse(b"\xff\xfe").is_err());
    }
}
