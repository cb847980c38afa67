//! Finds out whether a token name belongs at the cursor, and which daemon to query. Pure: uses the
//! program's own argument parser.

use std::path::PathBuf;

use clap::{Arg, Command, FromArgMatches as _};

use crate::cli::installation::InstallationArgs;

/// Value name of arguments that are token names.
const NAME: &str = "NAME";

/// Placeholder for the word at the cursor. A shell cannot pass a NUL byte.
const CURSOR: &str = "\0";

/// A cursor position where a token name belongs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct CursorContext {
    /// The typed part of the name.
    pub(super) prefix: String,
    /// The options in the line that choose the installation.
    pub(super) installation: InstallationArgs,
    /// The socket path in the line.
    pub(super) socket: Option<PathBuf>,
    /// Whether the cursor is after `--`, so that a name may begin with a hyphen.
    pub(super) after_options: bool,
}

impl CursorContext {
    /// Analyzes `words`: the first is the program, the last is being typed.
    pub(super) fn find(program: &Command, words: &[String]) -> Option<Self> {
        let (prefix, before) = words.split_last()?;
        let after_options = before.iter().any(|word| word == "--");
        if prefix.starts_with('-') && !after_options {
            return None;
        }
        let line = before.iter().map(String::as_str).chain([CURSOR]);
        let matches = program.clone().try_get_matches_from(line).ok()?;
        let (command, matches) = matches.subcommand()?;
        let takes_cursor = |argument: &Arg| {
            let values = matches.try_get_many::<String>(argument.get_id().as_str());
            values.ok().flatten().is_some_and(|mut values| values.any(|value| value == CURSOR))
        };
        let mut arguments = program.find_subcommand(command)?.get_positionals();
        arguments.any(|argument| is_name(argument) && takes_cursor(argument)).then_some(())?;
        let installation = InstallationArgs::from_arg_matches(matches).ok()?;
        let socket = matches.try_get_one::<PathBuf>("socket").ok().flatten().cloned();
        Some(Self { prefix: prefix.clone(), installation, socket, after_options })
    }
}

/// Whether an argument names a token.
pub(super) fn is_name(argument: &Arg) -> bool {
    argument.is_positional() && argument.get_value_names().is_some_and(|known| known == [NAME])
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;
    use crate::cli::Arguments;

    fn find(line: &str) -> Option<CursorContext> {
        let mut program = Arguments::command();
        program.build();
        let words: Vec<_> = line.split(' ').map(str::to_owned).collect();
        CursorContext::find(&program, &words)
    }

    #[test]
    fn token_names_belong_to_the_commands_that_take_tokens() {
        for command in ["status", "events", "check", "reauth", "pause", "resume", "revoke", "token"]
        {
            let cursor = find(&format!("tokenkeep {command} quo"));
            assert_eq!(cursor.map(|cursor| cursor.prefix).as_deref(), Some("quo"), "{command}");
        }
        for command in ["run", "reload", "completions", "man", "probe", "nonsense"] {
            assert_eq!(find(&format!("tokenkeep {command} quo")), None, "{command}");
        }
        assert_eq!(find("tokenkeep quo"), None);
    }

    #[test]
    fn no_more_names_are_completed_than_the_command_takes() {
        assert!(find("tokenkeep check quotes orders ").is_some());
        assert_eq!(find("tokenkeep token quotes "), None);
        assert_eq!(find("tokenkeep status quotes "), None);
    }

    #[test]
    fn options_and_their_values_are_not_token_names() {
        assert_eq!(find("tokenkeep check --no"), None);
        assert_eq!(find("tokenkeep check --socket "), None);
        assert_eq!(find("tokenkeep --config "), None);
        assert!(find("tokenkeep check --no-wait quo").is_some());
    }

    #[test]
    fn config_and_socket_options_are_found_anywhere_in_the_line() {
        let paths = |line: &str| {
            let cursor = find(line).expect("a place");
            let installation = cursor.installation.choose().expect("one");
            (installation.config().to_owned(), cursor.socket)
        };
        let [config, socket] = ["c.toml", "s.sock"].map(PathBuf::from);
        let socket = Some(socket);
        assert_eq!(paths("tokenkeep --config c.toml check quo"), (config.clone(), None));
        assert_eq!(paths("tokenkeep check --socket s.sock quo").1, socket);
        assert_eq!(paths("tokenkeep status --config=c.toml --socket=s.sock "), (config, socket));
    }

    #[test]
    fn after_two_hyphens_a_name_may_begin_with_one() {
        assert!(!find("tokenkeep check quo").expect("a place").after_options);
        assert!(find("tokenkeep check -- -quo").expect("a place").after_options);
    }
}
