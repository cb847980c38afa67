//! Shell completions: generates the scripts, and completes token names.
//!
//! `clap_complete` generates the scripts from the arguments. An addition calls a hidden command,
//! which gets token names from the running daemon. If that command fails, everything else is still
//! completed.
//!
//! The hidden command must be quick and must not print errors.

mod cursor;
mod line;
mod names;

use clap::{Args, Command, CommandFactory as _};
use clap_complete::{Shell, generate};

use self::cursor::{CursorContext, is_name};
use self::line::{Line, quoted};
use super::{Arguments, CliError, EX_DEAD, print};

const PROGRAM: &str = "tokenkeep";

/// The completion script for a shell.
pub(super) fn script(shell: Shell) -> String {
    let mut script = Vec::new();
    generate(shell, &mut visible_commands(), PROGRAM, &mut script);
    let script = String::from_utf8_lossy(&script).into_owned();
    match shell {
        Shell::Bash => script + include_str!("names.bash"),
        Shell::Zsh => zsh_script(&script),
        Shell::Fish => script + include_str!("names.fish"),
        _ => script,
    }
}

/// The program without hidden commands.
fn visible_commands() -> Command {
    let program = Arguments::command();
    let commands = program.get_subcommands().filter(|command| !command.is_hide_set());
    Command::new(PROGRAM)
        .version(env!("CARGO_PKG_VERSION"))
        .args(program.get_arguments())
        .subcommands(commands.cloned().collect::<Vec<_>>())
}

/// Makes the generated zsh function complete token names. Saves the words first, because the
/// function shifts them.
fn zsh_script(script: &str) -> String {
    const BEGIN: &str = "_tokenkeep() {";
    const WORDS: &str = "    local tokenkeep_words=\"${words[1,CURRENT-1]}\"";
    let program = Arguments::command();
    let positionals = program.get_subcommands().flat_map(Command::get_positionals);
    let names: Vec<_> = positionals
        .filter(|argument| is_name(argument))
        .map(|argument| format!(":{} -- ", argument.get_id()))
        .collect();
    let mut with_names = String::new();
    for line in script.lines() {
        let anything = line.strip_suffix(":_default' \\");
        match anything.filter(|line| names.iter().any(|name| line.contains(name))) {
            Some(line) => with_names += &format!("{line}:_tokenkeep_names' \\\n"),
            None if line == BEGIN => {
                with_names += &format!("{}{BEGIN}\n{WORDS}\n", include_str!("names.zsh"));
            }
            None => with_names += &format!("{line}\n"),
        }
    }
    with_names
}

/// What a script knows.
#[derive(Debug, Args)]
pub(super) struct CompletionArgs {
    /// Only tell by the exit status whether a token's name belongs at the cursor
    #[arg(long)]
    place: bool,
    /// The command up to the cursor
    line: String,
    /// What the shell will replace: names are quoted then, and begin with it
    replaced: Option<String>,
}

/// Prints the candidate token names, one per line. Fails if no token name belongs at the cursor.
pub(super) fn run(typed: &CompletionArgs) -> Result<(), CliError> {
    let Line { words, open } = Line::parse(&typed.line, std::env::var("HOME").ok().as_deref());
    let mut program = Arguments::command();
    program.build();
    let cursor = CursorContext::find(&program, &words)
        .ok_or(CliError::AlreadyReported { status: EX_DEAD })?;
    if typed.place {
        return Ok(());
    }
    let candidates = names::fetch(&cursor)?;
    // If the list is incomplete, add the typed prefix, so that the shell does not complete a common
    // prefix that other names may not share.
    let more = candidates.more.then(|| cursor.prefix.clone());
    let lines = more.iter().chain(&candidates.names).map(|name| match &typed.replaced {
        Some(replaced) => {
            let rest = name.strip_prefix(&cursor.prefix).unwrap_or_default();
            format!("{replaced}{}\n", quoted(rest, open))
        }
        None => format!("{name}\n"),
    });
    print(&lines.collect::<String>())
}

#[cfg(test)]
mod tests {
    use clap::ValueEnum as _;

    use super::*;

    #[test]
    fn zsh_completes_names_for_all_commands_with_tokens() {
        let program = Arguments::command();
        let positionals = program.get_subcommands().flat_map(Command::get_positionals);
        let script = script(Shell::Zsh);
        let wanted = positionals.filter(|argument| is_name(argument)).count();
        assert_eq!(script.matches(":_tokenkeep_names' \\").count(), wanted, "{script}");
        assert_eq!(script.matches("local tokenkeep_words=").count(), 1, "{script}");
    }

    #[test]
    fn hidden_commands_are_not_completed() {
        let asked_for = "complete-names -- ";
        for shell in Shell::value_variants() {
            let offered = script(*shell).replace(asked_for, "").replace("complete-names --p", "");
            assert!(!offered.contains("complete-names") && !offered.contains("demo-login"));
            assert!(offered.contains("check-config"), "{offered}");
        }
    }
}
