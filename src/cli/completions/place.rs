//! Whether the name of a token belongs where the cursor is, and which daemon knows it. Pure:
//! it goes by the program's own definition of its arguments.

use std::path::PathBuf;

use clap::{Arg, Command};

/// What arguments that name tokens are called in the help.
const NAME: &str = "NAME";

/// A place where the name of a token belongs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Place {
    /// What is typed of the name.
    pub(super) prefix: String,
    /// The configuration that the line names.
    pub(super) config: Option<PathBuf>,
    /// The socket that the line names.
    pub(super) socket: Option<PathBuf>,
    /// A name may begin with a hyphen here: it is not taken for an option.
    pub(super) after_options: bool,
}

impl Place {
    /// The place at the end of `words`, of which the first is the program and the last is being
    /// typed.
    pub(super) fn find(program: &Command, words: &[String]) -> Option<Self> {
        let (prefix, before) = words.split_last()?;
        let mut place =
            Self { prefix: prefix.clone(), config: None, socket: None, after_options: false };
        let (mut command, mut names) = (program, 0);
        let mut before = before.iter().skip(1);
        while let Some(word) = before.next() {
            if place.after_options || !word.starts_with('-') {
                if command.has_subcommands() {
                    command = command.find_subcommand(word)?;
                } else {
                    names += 1;
                }
            } else if word == "--" {
                place.after_options = true;
            } else if let Some(option) = word.strip_prefix("--") {
                let (option, value) = match option.split_once('=') {
                    Some((option, value)) => (option, Some(value)),
                    None => (option, None),
                };
                if takes_value(command, option) {
                    // Where the line ends with the option, its value is being typed.
                    let value = value.or_else(|| before.next().map(String::as_str))?;
                    match option {
                        "config" => place.config = Some(value.into()),
                        "socket" => place.socket = Some(value.into()),
                        _ => {}
                    }
                }
            }
        }
        let is_option = prefix.starts_with('-') && !place.after_options;
        (!is_option && command.get_positionals().any(|argument| takes(argument, names)))
            .then_some(place)
    }
}

fn takes_value(command: &Command, option: &str) -> bool {
    let mut options = command.get_arguments();
    options.any(|known| known.get_long() == Some(option) && known.get_action().takes_values())
}

/// Whether an argument names a token.
pub(super) fn is_name(argument: &Arg) -> bool {
    argument.is_positional() && argument.get_value_names().is_some_and(|known| known == [NAME])
}

/// Whether a token's name is still wanted after so many of them.
fn takes(argument: &Arg, names: usize) -> bool {
    is_name(argument) && argument.get_num_args().is_some_and(|number| names < number.max_values())
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;
    use crate::cli::Arguments;

    fn find(line: &str) -> Option<Place> {
        let mut program = Arguments::command();
        program.build();
        let words: Vec<_> = line.split(' ').map(str::to_owned).collect();
        Place::find(&program, &words)
    }

    #[test]
    fn names_belong_to_each_command_that_asks_for_tokens() {
        for command in ["status", "check", "reauth", "pause", "resume", "revoke", "token"] {
            let place = find(&format!("tokenkeep {command} quo"));
            assert_eq!(place.map(|place| place.prefix).as_deref(), Some("quo"), "{command}");
        }
        for command in ["run", "reload", "completions", "man", "probe", "nonsense"] {
            assert_eq!(find(&format!("tokenkeep {command} quo")), None, "{command}");
        }
        assert_eq!(find("tokenkeep quo"), None);
    }

    #[test]
    fn as_many_names_are_wanted_as_the_command_takes() {
        assert!(find("tokenkeep check quotes orders ").is_some());
        assert_eq!(find("tokenkeep token quotes "), None);
        assert_eq!(find("tokenkeep status quotes "), None);
    }

    #[test]
    fn options_and_their_values_are_no_names() {
        assert_eq!(find("tokenkeep check --no"), None);
        assert_eq!(find("tokenkeep check --socket "), None);
        assert_eq!(find("tokenkeep --config "), None);
        assert!(find("tokenkeep check --no-wait quo").is_some());
    }

    #[test]
    fn the_daemon_that_the_line_names_is_told_wherever_it_stands_in_it() {
        let paths = |line: &str| {
            let place = find(line).expect("a place");
            [place.config, place.socket].map(|path| path.map(|path| path.display().to_string()))
        };
        let [config, socket] = ["c.toml", "s.sock"].map(|path| Some(path.to_owned()));
        assert_eq!(paths("tokenkeep --config c.toml check quo"), [config.clone(), None]);
        assert_eq!(paths("tokenkeep check --socket s.sock quo"), [None, socket.clone()]);
        assert_eq!(paths("tokenkeep status --config=c.toml --socket=s.sock "), [config, socket]);
    }

    #[test]
    fn after_two_hyphens_a_name_may_begin_with_one() {
        assert!(!find("tokenkeep check quo").expect("a place").after_options);
        assert!(find("tokenkeep check -- -quo").expect("a place").after_options);
    }
}
