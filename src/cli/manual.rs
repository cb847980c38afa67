//! Generates the manual pages from the command line arguments and from the commented default
//! configuration.

use std::io;

use clap::{Command, ValueEnum};
use clap_mangen::Man;
use clap_mangen::roff::{Inline, Roff, bold, roman};

use super::doctor;
use super::{EX_CONFIG, EX_DEAD, EX_NOPERM, EX_SOFTWARE, EX_TEMPFAIL, EX_UNAVAILABLE, EX_USAGE};

const CONFIGURATION: &str = include_str!("../../config/tokenkeep.toml");

/// A manual page.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum ManPage {
    /// The program
    Tokenkeep,
    /// Its configuration
    #[value(name = "tokenkeep.toml")]
    Configuration,
}

impl ManPage {
    /// Renders the page as roff, for `man -l`.
    pub(super) fn render(self, command: Command) -> io::Result<String> {
        let mut page = Vec::new();
        match self {
            Self::Tokenkeep => program(command, &mut page)?,
            Self::Configuration => configuration().to_writer(&mut page)?,
        }
        Ok(String::from_utf8_lossy(&page).into_owned())
    }
}

fn program(command: Command, page: &mut Vec<u8>) -> io::Result<()> {
    let mut rest = Roff::new();
    rest.control("SH", ["COMMANDS"]);
    for (mut usage, inner) in commands(&command) {
        for argument in inner.get_positionals().filter(|argument| !argument.is_hide_set()) {
            let names = argument.get_value_names().unwrap_or_default();
            usage.extend(names.iter().map(|name| roman(format!(" [{name}]"))));
        }
        let about = inner.get_about().map(ToString::to_string).unwrap_or_default();
        tagged(&mut rest, usage, &about);
        options(&mut rest, inner);
    }
    rest.control("SH", ["SIGNALS"]);
    tagged(
        &mut rest,
        [bold("SIGHUP")],
        "Reload the configuration. A configuration with errors is rejected and changes nothing.",
    );
    tagged(
        &mut rest,
        [bold("SIGTERM"), roman(", "), bold("SIGINT")],
        "Stop. A login, renewal or write in progress gets up to 10 s to finish; a second signal \
         stops at once.",
    );
    rest.control("SH", ["EXIT STATUS"]);
    for (status, meaning) in [
        (0, "Success, or the daemon was stopped."),
        (
            EX_DEAD,
            "Not all tokens are alive, the requested or probed token has expired or was rejected, \
             a command failed for at least one token, or init, add or remove did nothing. doctor: \
             there are warnings.",
        ),
        (doctor::EX_ERRORS, "doctor: there are errors."),
        (EX_USAGE, "Invalid command line."),
        (
            EX_UNAVAILABLE,
            "Another tokenkeep uses the same state directory, no daemon responds on the control \
             socket, or the server did not respond to probe or add. In a cluster: another replica \
             checks the token, etcd cannot be used, or another replica has the same name.",
        ),
        (EX_SOFTWARE, "A system call failed, for example a write to standard output."),
        (EX_TEMPFAIL, "The command has not finished in time; its result is not known."),
        (EX_NOPERM, "Not permitted by the control socket, or a file may not be written."),
        (EX_CONFIG, "An error in the configuration. systemd does not restart the service then."),
    ] {
        tagged(&mut rest, [bold(status.to_string())], meaning);
    }
    rest.control("SH", ["FILES"]);
    for (path, meaning) in [
        ("/etc/tokenkeep/tokenkeep.toml", "The configuration; see tokenkeep.toml(5)."),
        ("/etc/tokenkeep/conf.d/*.toml", "Read after it, in the order of their names."),
        (
            "/run/tokenkeep/control.sock",
            "The control socket. $RUNTIME_DIRECTORY/control.sock where systemd sets that variable.",
        ),
        ("/var/lib/tokenkeep", "Token files, and the state database."),
        (
            "~/.config/tokenkeep/tokenkeep.toml",
            "The configuration of a user's own service, with conf.d beside it. Its state is in \
             ~/.local/state/tokenkeep, its control socket in $XDG_RUNTIME_DIR/tokenkeep.",
        ),
        (
            "/usr/share/doc/tokenkeep",
            "The documentation: one page for each question of an operator.",
        ),
    ] {
        tagged(&mut rest, [bold(path)], meaning);
    }
    rest.control("SH", ["SEE ALSO"]);
    rest.text([bold("tokenkeep.toml"), roman("(5), "), bold("systemctl"), roman("(1), ")]);
    rest.text([bold("journalctl"), roman("(1), "), bold("systemd.exec"), roman("(5)")]);

    let man = Man::new(command.disable_help_subcommand(true)).manual("tokenkeep").date("");
    man.render_title(page)?;
    man.render_name_section(page)?;
    man.render_synopsis_section(page)?;
    man.render_description_section(page)?;
    man.render_options_section(page)?;
    rest.to_writer(page)
}

/// The visible commands, each with its name; those of a command with commands behind its name.
fn commands(program: &Command) -> Vec<(Vec<Inline>, &Command)> {
    let visible = program.get_subcommands().filter(|command| !command.is_hide_set());
    let named = visible.flat_map(|command| {
        let name = bold(command.get_name());
        if !command.has_subcommands() {
            return vec![(vec![name], command)];
        }
        let below = command.get_subcommands();
        let named = |inner: &'_ Command| vec![name.clone(), roman(" "), bold(inner.get_name())];
        below.map(|inner| (named(inner), inner)).collect()
    });
    named.collect()
}

/// Appends the options of a command, indented.
fn options(page: &mut Roff, command: &Command) {
    page.control("RS", []);
    for option in command.get_arguments().filter(|argument| !argument.is_positional()) {
        let Some(long) = option.get_long() else { continue };
        let mut usage = vec![bold(format!("--{long}"))];
        if option.get_action().takes_values() {
            let names = option.get_value_names().unwrap_or_default();
            usage.extend(names.iter().map(|name| roman(format!(" {name}"))));
        }
        let help = option.get_long_help().or(option.get_help());
        tagged(page, usage, &help.map(ToString::to_string).unwrap_or_default());
    }
    page.control("RE", []);
}

/// The page of the configuration file: each key, followed by its comment in the default file.
fn configuration() -> Roff {
    let version = concat!("tokenkeep ", env!("CARGO_PKG_VERSION"));
    let mut page = Roff::new();
    page.control("TH", ["tokenkeep.toml", "5", "", version, "tokenkeep"]);
    page.control("SH", ["NAME"]);
    page.text([roman("tokenkeep.toml - configuration file of tokenkeep")]);
    page.control("SH", ["DESCRIPTION"]);
    let mut remark = String::new();
    let mut told_of_keys = false;
    for line in CONFIGURATION.lines() {
        let Some(setting) = line.strip_prefix('#').filter(|rest| !rest.starts_with(' ')) else {
            if line.is_empty() {
                paragraph(&mut page, &std::mem::take(&mut remark));
            } else {
                remark.push_str(line.trim_start_matches('#'));
            }
            continue;
        };
        if setting.is_empty() {
            paragraph(&mut page, &std::mem::take(&mut remark));
            continue;
        }
        if !std::mem::replace(&mut told_of_keys, true) {
            page.control("SH", ["KEYS"]);
        }
        if setting.starts_with('[') {
            page.control("SS", [setting]);
            paragraph(&mut page, &std::mem::take(&mut remark));
        } else {
            tagged(&mut page, [bold(setting)], &std::mem::take(&mut remark));
        }
    }
    page.control("SH", ["SEE ALSO"]);
    page.text([bold("tokenkeep"), roman("(1), "), bold("systemd.exec"), roman("(5)")]);
    page
}

fn paragraph(page: &mut Roff, text: &str) {
    if !text.is_empty() {
        page.control("PP", []);
        page.text([roman(text.trim())]);
    }
}

fn tagged(page: &mut Roff, tag: impl Into<Vec<Inline>>, text: &str) {
    page.control("TP", []);
    page.text(tag.into());
    page.text([roman(text.trim())]);
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::super::Arguments;
    use super::*;

    fn rendered(page: ManPage) -> String {
        // As a reader sees it: roff's escapes stand for hyphens and the like.
        page.render(Arguments::command()).unwrap().replace('\\', "")
    }

    #[test]
    fn the_program_s_page_lists_all_visible_commands() {
        let page = rendered(ManPage::Tokenkeep);
        for command in Arguments::command().get_subcommands() {
            let tag = format!(".TP\nfB{}fR", command.get_name());
            assert_eq!(page.contains(&tag), !command.is_hide_set(), "{}", command.get_name());
        }
        assert!(page.contains(".TP\nfB--token-filefR PATH"), "{page}");
        for inner in ["status", "rekey"] {
            assert!(page.contains(&format!(".TP\nfBclusterfR fB{inner}fR\n")), "{page}");
        }
    }

    #[test]
    fn the_configuration_s_page_lists_all_keys_with_their_comments() {
        let page = rendered(ManPage::Configuration);
        let keys = CONFIGURATION.lines().filter_map(|line| line.strip_prefix('#'));
        for key in keys.filter(|key| !key.is_empty() && !key.starts_with(' ')) {
            assert!(page.contains(key), "{key}\n{page}");
        }
        assert!(page.contains("Re-auth commands at once, all tokens together."));
    }
}
