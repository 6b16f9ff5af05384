//! The list of commands in `kubby --help`, in groups. clap itself knows groups of flags only.

use std::fmt::Write;

use clap::Command;

/// The groups and their commands, in the order of the help.
const GROUPS: [(&str, &str); 5] = [
    (
        "Clusters",
        "start status list stop pause suspend resume delete run node",
    ),
    ("Saved states", "snapshot fork template"),
    (
        "Inside the cluster",
        "kubectl service host-port dashboard addon certs ssh logs ip port",
    ),
    ("Images", "image node-image"),
    ("This host and kubby", "doctor version completion help"),
];

/// Replaces the flat list of commands in the help by the groups.
pub(super) fn with_groups(command: Command) -> Command {
    let mut built = command.clone();
    built.build();
    let header = built.get_styles().get_header();
    let literal = built.get_styles().get_literal();
    let mut text = String::from("{about}\n\n{usage-heading} {usage}\n");
    for (title, names) in GROUPS {
        let _ = writeln!(text, "\n{header}{title}:{header:#}");
        for name in names.split(' ') {
            let Some(command) = built.find_subcommand(name) else {
                continue;
            };
            let about = command.get_about().map(ToString::to_string);
            let aliases: Vec<&str> = command.get_visible_aliases().collect();
            let alias = match aliases.join(", ") {
                aliases if aliases.is_empty() => String::new(),
                aliases => format!(" [alias: {aliases}]"),
            };
            let about = about.unwrap_or_default();
            let _ = writeln!(text, "  {literal}{name:<11}{literal:#} {about}{alias}");
        }
    }
    let _ = write!(
        text,
        "\n{header}Global options:{header:#}\n{{options}}{{after-help}}"
    );
    command.help_template(text)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use clap::CommandFactory;

    use super::*;
    use crate::cli::Cli;

    #[test]
    fn every_visible_command_is_in_one_group() {
        let mut command = Cli::command();
        command.build();
        let visible: BTreeSet<&str> = command
            .get_subcommands()
            .filter(|command| !command.is_hide_set())
            .map(Command::get_name)
            .collect();
        let listed: Vec<&str> = GROUPS
            .iter()
            .flat_map(|(_, names)| names.split(' '))
            .collect();
        assert_eq!(listed.iter().copied().collect::<BTreeSet<_>>(), visible);
        assert_eq!(listed.len(), visible.len(), "{listed:?}");
    }
}
