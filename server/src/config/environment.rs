//! Environment variables as a source of settings: what a blank one means, and which one a refusal must name.

use std::{any::TypeId, env, ffi::OsString, path::PathBuf};

use clap::{Arg, Command, builder::Resettable, error::ErrorKind};

use super::StoreUrl;

/// The text of a variable; `None` if it is unset or blank. One that is not UTF-8 has its stray bytes replaced.
pub(super) fn text(variable: &str) -> Option<String> {
    let text = env::var_os(variable)?.to_string_lossy().into_owned();
    (!text.trim().is_empty()).then_some(text)
}

/// What a blank variable (empty, or only whitespace) means for its flag.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Blank {
    /// The same as no variable: the default holds.
    Unset,
    /// Nothing: sessiond does not start, since the default would be less safe than any value.
    Refused,
}

impl Blank {
    /// Decided by the kind of value, so that it holds for flags added later too: without its store sessiond would lose sessions,
    /// and a file holds a credential or what is trusted.
    fn of(flag: &Arg) -> Self {
        let value = flag.get_value_parser().type_id();
        let is_refused = value == TypeId::of::<StoreUrl>() || value == TypeId::of::<PathBuf>();
        if is_refused { Self::Refused } else { Self::Unset }
    }
}

/// The flags whose value comes from a variable.
#[derive(Clone, Debug, Default)]
pub(super) struct Environment(Vec<Source>);

/// A flag and the variable that decides for it.
#[derive(Clone, Debug)]
struct Source {
    /// As users write it: `--idle-timeout`.
    flag: String,
    /// As clap writes it: `--idle-timeout <TIME>`.
    usage: String,
    variable: String,
    is_utf8: bool,
}

impl Environment {
    /// Makes clap ignore blank variables, and finds those that decide: a flag among the arguments wins over its variable.
    ///
    /// The last value is the refusal, if a variable is blank that must not be.
    pub(super) fn read(command: Command, arguments: &[OsString]) -> (Command, Self, Option<clap::Error>) {
        let (mut sources, mut refused) = (Vec::new(), Vec::new());
        let command = command.mut_args(|flag| {
            let (Some(variable), Some(name)) = (flag.get_env(), flag.get_long()) else { return flag };
            let (variable, name) = (variable.to_string_lossy().into_owned(), format!("--{name}"));
            let Some(value) = env::var_os(&variable) else { return flag };
            if arguments.iter().any(|argument| is_flag(argument, &name)) {
                return flag;
            }
            if !value.to_string_lossy().trim().is_empty() {
                let value_name = flag.get_value_names().and_then(|names| names.first());
                let usage = value_name.map_or_else(|| name.clone(), |value_name| format!("{name} <{value_name}>"));
                sources.push(Source { flag: name, usage, variable, is_utf8: value.to_str().is_some() });
                return flag;
            }
            if Blank::of(&flag) == Blank::Refused {
                refused.push(variable);
            }
            flag.env(Resettable::Reset)
        });
        let refusal = (!refused.is_empty()).then(|| blank(&refused));
        (command, Self(sources), refusal)
    }

    /// The same sentence, with variables in the place of the flags that they decide for.
    pub(super) fn name_variables(&self, sentence: &str) -> String {
        let mut named = sentence.to_owned();
        for Source { flag, usage, variable, .. } in &self.0 {
            let variable = format!("{variable} (environment)");
            named = replace_flag(&named.replace(usage, &variable), flag, &variable);
        }
        named
    }

    /// The same for clap's own refusals.
    pub(super) fn name_variables_in(&self, refusal: clap::Error) -> clap::Error {
        let kind = refusal.kind();
        if matches!(kind, ErrorKind::DisplayHelp | ErrorKind::DisplayVersion) {
            return refusal;
        }
        if kind == ErrorKind::InvalidUtf8
            && let Some(source) = self.0.iter().find(|source| !source.is_utf8)
        {
            return error(kind, &format!("{} (environment) is not valid UTF-8", source.variable));
        }
        let text = refusal.to_string();
        let named = self.name_variables(&text);
        if named == text {
            return refusal;
        }
        clap::Error::raw(kind, named.strip_prefix("error: ").unwrap_or(&named))
    }
}

fn blank(variables: &[String]) -> clap::Error {
    let (is, them) = if variables.len() == 1 { ("is", "it") } else { ("are", "them") };
    let named = variables.join(" and ");
    error(ErrorKind::ValueValidation, &format!("{named} {is} blank: set {them}, or remove {them} from the environment"))
}

fn error(kind: ErrorKind, sentence: &str) -> clap::Error {
    clap::Error::raw(kind, format!("{sentence}\n\nFor more information, try '--help'.\n"))
}

/// Whether the argument gives this flag: `--drain` or `--drain=5s`.
fn is_flag(argument: &OsString, flag: &str) -> bool {
    let rest = argument.to_str().and_then(|argument| argument.strip_prefix(flag));
    rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('='))
}

/// Replaces a flag wherever it stands as a whole word.
fn replace_flag(sentence: &str, flag: &str, by: &str) -> String {
    let mut parts = sentence.split(flag);
    let mut replaced = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let goes_on = part.starts_with(|c: char| c.is_alphanumeric() || c == '-');
        replaced.push_str(if goes_on { flag } else { by });
        replaced.push_str(part);
    }
    replaced
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;
    use crate::config::Config;

    /// A new flag is added here once it is clear which of the two its blank variable must mean. If neither the type of its value
    /// nor `Blank::Unset` fits, extend `Blank::of`.
    #[test]
    fn every_flag_is_classified() {
        let unset = [
            "listen",
            "key-prefix",
            "confirm-replicas",
            "allow-eviction",
            "idle-timeout",
            "max-idle-timeout",
            "max-lifetime",
            "max-session-bytes",
            "deadline",
            "drain",
            "shards",
            "metrics-listen",
            "no-reflection",
            "log-format",
        ];
        let refused = [
            "store",
            "redis-password-file",
            "sentinel-password-file",
            "redis-ca-file",
            "redis-cert-file",
            "redis-key-file",
        ];
        let command = Config::command();
        let flags: Vec<_> = command.get_arguments().filter(|flag| flag.get_env().is_some()).collect();
        assert_eq!(flags.len(), unset.len() + refused.len());
        for flag in flags {
            let name = flag.get_long().expect("every flag is a long one");
            let expected = match Blank::of(flag) {
                Blank::Unset => &unset[..],
                Blank::Refused => &refused[..],
            };
            assert!(expected.contains(&name), "--{name} is {:?}", Blank::of(flag));
            assert!(!name.ends_with("-file") || Blank::of(flag) == Blank::Refused, "--{name} names a file");
        }
    }

    #[test]
    fn a_flag_is_replaced_as_a_whole_word() {
        let sentence = "--store and --store-more; give one with --store";
        assert_eq!(replace_flag(sentence, "--store", "S"), "S and --store-more; give one with S");
    }
}
