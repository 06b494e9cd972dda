//! Which right a Redis user lacks, as far as the error of a denied command says so.
//!
//! Redis names the command in the error of a direct call. In the error of a script, Redis 7.0 and 7.1 name only the line that
//! called the command; the command is then looked up in the script's text. Nothing else of an error's text is repeated, as
//! it may quote arguments.

use std::fmt;

use redis::RedisError;

/// The longest name of a command that is repeated from an error, in bytes.
const MAX_NAME: usize = 32;

/// A right that the Redis user lacks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum MissingRight {
    /// To run this command, in lower case: `get`, `cluster|slots`. Several where a script's line calls several; none where the
    /// error does not say which.
    Command(Vec<String>),
    /// To access the keys that begin with this service's prefix.
    Keys,
    /// To subscribe to a channel.
    Channel,
}

impl MissingRight {
    /// The right whose lack this error reports, if it is that kind of error.
    pub(super) fn of(error: &RedisError) -> Option<Self> {
        Self::read(error.code()?, error.detail()?, "")
    }

    /// The same for an error of this script.
    pub(super) fn of_script(error: &RedisError, script: &str) -> Option<Self> {
        Self::read(error.code()?, error.detail()?, script)
    }

    fn read(code: &str, text: &str, script: &str) -> Option<Self> {
        // In a script, by version: `ERR The user executing the script can't …`, `ERR ACL failure in script: …` or `NOPERM …`.
        let in_script = text.starts_with("ACL failure in script") || text.starts_with("The user executing the script");
        if code != "NOPERM" && !in_script {
            return None;
        }
        if text.contains(" access ") && text.contains(" key") {
            return Some(Self::Keys);
        }
        if text.contains(" channel") {
            return Some(Self::Channel);
        }
        Some(Self::Command(named(text).map_or_else(|| called(text, script), |name| vec![name])))
    }

    /// What to tell the operator. `prefix` is what the service's keys begin with.
    pub(super) fn advice(&self, prefix: &str) -> String {
        match self {
            Self::Command(names) if names.is_empty() => {
                "the Redis user may not run a command that a script calls: grant what SECURITY.md lists".to_owned()
            }
            Self::Command(names) => {
                let grants: Vec<_> = names.iter().map(|name| format!("+{name}")).collect();
                let names = names.join(" or ").to_uppercase().replace('|', " ");
                format!("the Redis user may not run {names}: grant {} (SECURITY.md)", grants.join(" "))
            }
            Self::Keys => {
                let pattern = escaped(prefix);
                format!(
                    "the Redis user may not access keys that begin with {prefix:?}: grant ~{pattern}* or change \
                     --key-prefix (SECURITY.md)"
                )
            }
            Self::Channel => "the Redis user may not subscribe to a channel: grant what SECURITY.md lists".to_owned(),
        }
    }
}

impl fmt::Display for MissingRight {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.advice("PREFIX"))
    }
}

/// The command in `… has no permissions to run the 'get' command`.
fn named(text: &str) -> Option<String> {
    let (_, rest) = text.rsplit_once("run the '")?;
    let (name, _) = rest.split_once("' command")?;
    let is_name = |name: &str| name.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '|' | '-' | '_' | '.'));
    (name.len() <= MAX_NAME && is_name(name)).then(|| name.to_lowercase())
}

/// The commands that the script calls in the line that the error names.
fn called(text: &str, script: &str) -> Vec<String> {
    let number = text.rsplit_once("@user_script:").map(|(_, rest)| rest.split(|c: char| !c.is_ascii_digit()));
    let number = number.and_then(|mut digits| digits.next()?.parse::<usize>().ok());
    let line = number.and_then(|number| script.lines().nth(number.checked_sub(1)?)).unwrap_or_default();
    let calls = line.split("call('").skip(1).filter_map(|rest| rest.split('\'').next());
    calls.map(str::to_lowercase).collect()
}

/// As a literal in a pattern of keys.
fn escaped(prefix: &str) -> String {
    let mut pattern = String::with_capacity(prefix.len());
    for c in prefix.chars() {
        if matches!(c, '*' | '?' | '[' | ']' | '\\') {
            pattern.push('\\');
        }
        pattern.push(c);
    }
    pattern
}

#[cfg(test)]
mod tests {
    use super::*;

    const SCRIPT: &str = "#!lua\nredis.call('TIME')\nredis.pcall('PEXPIREAT', key, redis.call('PEXPIRETIME', key))\n";

    fn command(names: &[&str]) -> Option<MissingRight> {
        Some(MissingRight::Command(names.iter().map(|name| (*name).to_owned()).collect()))
    }

    /// The texts of Redis 7.0, of 7.2 and newer, and of Valkey.
    #[test]
    fn the_missing_right_is_read_in_every_wording() {
        for (code, text, right) in [
            ("NOPERM", "this user has no permissions to run the 'get' command", command(&["get"])),
            ("NOPERM", "User ada has no permissions to run the 'cluster|slots' command", command(&["cluster|slots"])),
            (
                "ERR",
                "ACL failure in script: User ada has no permissions to run the 'setex' command script: 6df3, on \
                 @user_script:3.",
                command(&["setex"]),
            ),
            (
                "NOPERM",
                "ACL failure in script: User ada has no permissions to run the 'setex' command",
                command(&["setex"]),
            ),
            (
                "ERR",
                "The user executing the script can't run this command or subcommand script: 6df3, on @user_script:2.",
                command(&["time"]),
            ),
            (
                "ERR",
                "The user executing the script can't run this command or subcommand script: 6df3, on @user_script:3.",
                command(&["pexpireat", "pexpiretime"]),
            ),
            (
                "ERR",
                "The user executing the script can't run this command or subcommand script: 6df3, on @user_script:99.",
                command(&[]),
            ),
            (
                "NOPERM",
                "this user has no permissions to access one of the keys used as arguments",
                Some(MissingRight::Keys),
            ),
            ("NOPERM", "No permissions to access a key", Some(MissingRight::Keys)),
            (
                "ERR",
                "The user executing the script can't access at least one of the keys mentioned in the command arguments",
                Some(MissingRight::Keys),
            ),
            (
                "NOPERM",
                "this user has no permissions to access one of the channels used as arguments",
                Some(MissingRight::Channel),
            ),
            ("NOPERM", "No permissions to access a channel", Some(MissingRight::Channel)),
            ("NOPERM", "run the 'hunter2 and more' command", command(&[])),
            ("ERR", "unknown command 'GET', with args beginning with: ", None),
            ("OOM", "command not allowed when used memory > 'maxmemory'.", None),
        ] {
            assert_eq!(MissingRight::read(code, text, SCRIPT), right, "{code} {text}");
        }
    }

    #[test]
    fn the_advice_names_what_to_grant() {
        let advice = |right: Option<MissingRight>| right.map(|right| right.advice("a[1]:")).unwrap_or_default();
        assert!(advice(command(&["script|load"])).contains("may not run SCRIPT LOAD: grant +script|load"));
        assert!(advice(Some(MissingRight::Keys)).contains(r"grant ~a\[1\]:* or"));
    }
}
