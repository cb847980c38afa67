//! Completions: the scripts for shells, and the names of tokens that these ask for.
//!
//! The scripts are `clap_complete`'s, made from the arguments; what is added here calls a hidden
//! command for the one thing that only a running daemon knows. All but names goes on working
//! where that command is not there, or fails.
//!
//! Nothing that a script calls may complain, or take longer than a prompt may.

mod cursor;
mod line;
mod names;

use clap::{Args, Command, CommandFactory as _};
use clap_complete::{Shell, generate};

use self::cursor::{CursorContext, is_name};
use self::line::{Line, quoted};
use super::{Arguments, CliError, EX_DEAD, print};

const PROGRAM: &str = "tokenkeep";

/// The completions for a shell.
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

/// The program without what only programs call.
fn visible_commands() -> Command {
    let program = Arguments::command();
    let commands = program.get_subcommands().filter(|command| !command.is_hide_set());
    Command::new(PROGRAM)
        .version(env!("CARGO_PKG_VERSION"))
        .args(program.get_arguments())
        .subcommands(commands.cloned().collect::<Vec<_>>())
}

/// Has the generated function ask for names where one belongs, by the words as they are before
/// that function shifts them.
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

/// Prints the names of tokens that may be typed, a line for each; fails where none belongs.
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
    // What is typed so far stands for names that are not told: no shell may take what the
    // others have in common for what all of them have.
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
    fn every_command_that_asks_for_tokens_completes_their_names_in_zsh() {
        let program = Arguments::command();
        let positionals = program.get_subcommands().flat_map(Command::get_positionals);
        let script = script(Shell::Zsh);
        let wanted = positionals.filter(|argument| is_name(argument)).count();
        assert_eq!(script.matches(":_tokenkeep_names' \\").count(), wanted, "{script}");
        assert_eq!(script.matches("local tokenkeep_words=").count(), 1, "{script}");
    }

    #[test]
    fn no_shell_offers_what_only_programs_call() {
        let asked_for = "complete-names -- ";
        for shell in Shell::value_variants() {
            let offered = script(*shell).replace(asked_for, "").replace("complete-names --p", "");
            assert!(!offered.contains("complete-names") && !offered.contains("demo-login"));
            assert!(offered.contains("check-config"), "{offered}");
        }
    }
}
