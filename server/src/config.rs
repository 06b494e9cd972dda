//! The command line and the environment: the comment of a field is its help, and a test holds the README's table to it.

mod environment;
mod store_url;

use std::{ffi::OsString, num::NonZero, path::PathBuf, time::Duration};

use bytesize::ByteSize;
use clap::{
    CommandFactory, FromArgMatches, Parser, ValueEnum, builder::FalseyValueParser, error::ErrorKind, value_parser,
};

pub use self::store_url::StoreUrl;
use self::{environment::Environment, store_url::StoreUrlParser};
use crate::{Settings, grpc::EdgeLimits, rules::Limits, store::redis::RedisOptions};

/// A session service: web applications in any language keep their visitors' sessions behind one small gRPC API.
///
/// Started without anything it listens on 127.0.0.1:50051 and keeps sessions in memory, where they die with the process;
/// give it a Redis (7.0 or newer, or Valkey) with --store.
#[derive(Debug, Parser)]
#[command(name = "sessiond", version, max_term_width = 110, after_help = AFTER_HELP)]
pub struct Config {
    /// Address to serve gRPC on; port 0 picks a free one, which the first log line tells.
    #[arg(long, env = "SESSIOND_LISTEN", value_name = "HOST:PORT", default_value = "127.0.0.1:50051")]
    pub listen: String,

    /// Where sessions are kept: `memory`, or a Redis: `redis://`, `redis+sentinel://` or `redis+cluster://`, or with `rediss` over TLS.
    ///
    /// `redis://[[user]:password@]host[:port][/database]` is one node. `redis+sentinel://host[:port],host[:port]/master` is the
    /// master of that name, as these Sentinels tell it; user and password before the hosts are the master's.
    /// `redis+cluster://host[:port],host[:port]` is the cluster that these nodes are of.
    #[arg(long, env = "SESSIOND_STORE", value_name = "URL", default_value = "memory", hide_env_values = true, value_parser = StoreUrlParser)]
    pub store: StoreUrl,

    /// What every Redis key begins with; no braces, at most 128 bytes.
    #[arg(long, env = "SESSIOND_KEY_PREFIX", value_name = "TEXT", default_value = "session:", value_parser = key_prefix)]
    pub key_prefix: String,

    /// File with the password for Redis, instead of one in the URL; read again for each connection [default: none].
    #[arg(long, env = "SESSIOND_REDIS_PASSWORD_FILE", value_name = "PATH")]
    pub redis_password_file: Option<PathBuf>,

    /// File with the password for the Sentinels [default: none].
    #[arg(long, env = "SESSIOND_SENTINEL_PASSWORD_FILE", value_name = "PATH")]
    pub sentinel_password_file: Option<PathBuf>,

    /// PEM file with the CA that signed Redis's certificate [default: the public CAs].
    #[arg(long, env = "SESSIOND_REDIS_CA_FILE", value_name = "PATH")]
    pub redis_ca_file: Option<PathBuf>,

    /// PEM file with the certificate to show to Redis, where it asks for one [default: none].
    #[arg(long, env = "SESSIOND_REDIS_CERT_FILE", value_name = "PATH")]
    pub redis_cert_file: Option<PathBuf>,

    /// PEM file with that certificate's key [default: none].
    #[arg(long, env = "SESSIOND_REDIS_KEY_FILE", value_name = "PATH")]
    pub redis_key_file: Option<PathBuf>,

    /// Replicas that must have a Destroy or a new id before it is acknowledged (Redis's `WAIT`).
    #[arg(long, env = "SESSIOND_CONFIRM_REPLICAS", value_name = "NUMBER", default_value = "0", value_parser = value_parser!(u16).range(..=16))]
    pub confirm_replicas: u16,

    /// Use a Redis that evicts keys when it is full, and so logs visitors out at random.
    #[arg(long, env = "SESSIOND_ALLOW_EVICTION", value_parser = FalseyValueParser::new())]
    pub allow_eviction: bool,

    /// How long a session lives unopened, if its application names no time.
    #[arg(long, env = "SESSIOND_IDLE_TIMEOUT", value_name = "TIME", default_value = "24h", value_parser = lifetime)]
    pub idle_timeout: Duration,

    /// The longest idle timeout an application may ask for (at most 100d); longer ones are cut.
    #[arg(long, env = "SESSIOND_MAX_IDLE_TIMEOUT", value_name = "TIME", default_value = "31d", value_parser = lifetime)]
    pub max_idle_timeout: Duration,

    /// How long a session lives at most, however busy it is; a login begins anew.
    #[arg(long, env = "SESSIOND_MAX_LIFETIME", value_name = "TIME", default_value = "31d", value_parser = lifetime)]
    pub max_lifetime: Duration,

    /// How large the data of a session may be, encoded (at most 900KiB).
    #[arg(long, env = "SESSIOND_MAX_SESSION_BYTES", value_name = "SIZE", default_value = "64KiB", value_parser = session_bytes)]
    pub max_session_bytes: ByteSize,

    /// The most time a call may take; a caller's shorter deadline wins.
    #[arg(long, env = "SESSIOND_DEADLINE", value_name = "TIME", default_value = "2s", value_parser = deadline)]
    pub deadline: Duration,

    /// How long calls that are under way may take to end, once told to stop.
    #[arg(long, env = "SESSIOND_DRAIN", value_name = "TIME", default_value = "20s", value_parser = span)]
    pub drain: Duration,

    /// Threads that serve, each with its own connections to Redis [default: one per core].
    #[arg(long, env = "SESSIOND_SHARDS", value_name = "NUMBER")]
    pub shards: Option<NonZero<u16>>,

    /// Address to answer Prometheus on, at /metrics [default: off].
    #[arg(long, env = "SESSIOND_METRICS_LISTEN", value_name = "HOST:PORT")]
    pub metrics_listen: Option<String>,

    /// Do not tell the schema to grpcurl and its like (gRPC server reflection).
    #[arg(long, env = "SESSIOND_NO_REFLECTION", value_parser = FalseyValueParser::new())]
    pub no_reflection: bool,

    /// How to log. What to log is up to RUST_LOG (default: info; sessiond=debug shows each call).
    #[arg(long, env = "SESSIOND_LOG_FORMAT", value_name = "FORMAT", default_value = "text")]
    pub log_format: LogFormat,

    #[arg(skip)]
    environment: Environment,
}

const AFTER_HELP: &str = "\
Times are written as 500ms, 30s, 15m, 24h or 31d. Each flag can be set by its variable instead; the flag wins.
A blank variable is the same as no variable, except SESSIOND_STORE and SESSIOND_*_FILE: these are refused if blank.

Try it, while it runs:
  grpcurl -plaintext 127.0.0.1:50051 list
  grpcurl -plaintext 127.0.0.1:50051 describe sessiond.v1.SaveRequest";

/// How a log line looks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// For people.
    Text,
    /// One JSON object a line, for collectors.
    Json,
}

impl Config {
    /// Reads the command line and the environment; ends the process with advice where they cannot be read.
    pub fn read() -> Self {
        Self::try_read(std::env::args_os()).unwrap_or_else(|refusal| refusal.exit())
    }

    /// As [`Config::read`], from these arguments, of which the first is the program's name.
    ///
    /// # Errors
    /// clap's error, but never with a value that may hold a password. It names the variable where one was the source.
    pub fn try_read<T: Into<OsString> + Clone>(arguments: impl IntoIterator<Item = T>) -> Result<Self, clap::Error> {
        let arguments: Vec<OsString> = arguments.into_iter().map(Into::into).collect();
        let (command, environment, refusal) = Environment::read(Self::command(), &arguments);
        let matches = match command.try_get_matches_from(&arguments) {
            Ok(matches) => matches,
            // Again with blank variables, which the help names as well.
            Err(error) if error.kind() == ErrorKind::DisplayHelp => {
                return Err(Self::command().try_get_matches_from(&arguments).err().unwrap_or(error));
            }
            Err(error) => return Err(environment.name_variables_in(without_password(error))),
        };
        refusal.map_or(Ok(()), Err)?;
        Ok(Self { environment, ..Self::from_arg_matches(&matches)? })
    }

    /// Checks the flags against each other.
    ///
    /// # Errors
    /// A sentence that says which flags (or variables) contradict each other and what to do.
    pub fn check(&self) -> Result<(), String> {
        self.check_together().map_err(|refusal| self.name_variables(&refusal))
    }

    /// The same sentence, with variables in the place of the flags that they decide for.
    pub fn name_variables(&self, sentence: &str) -> String {
        self.environment.name_variables(sentence)
    }

    /// The value of `RUST_LOG`; `None` if it is unset or blank.
    pub fn rust_log() -> Option<String> {
        environment::text("RUST_LOG")
    }

    fn check_together(&self) -> Result<(), String> {
        const CEILING: Duration = Duration::from_secs(100 * 24 * 3600);
        if self.max_idle_timeout > CEILING {
            return Err("--max-idle-timeout is more than 100d: choose a shorter one".to_owned());
        }
        for (name, value) in [("--max-idle-timeout", self.max_idle_timeout), ("--max-lifetime", self.max_lifetime)] {
            if self.idle_timeout > value {
                return Err(format!(
                    "--idle-timeout ({}) is above {name} ({}): lower the one or raise the other",
                    shown(self.idle_timeout),
                    shown(value),
                ));
            }
        }
        match (&self.redis_cert_file, &self.redis_key_file) {
            (Some(_), None) => return Err("--redis-cert-file needs its key: give --redis-key-file too".to_owned()),
            (None, Some(_)) => {
                return Err("--redis-key-file needs its certificate: give --redis-cert-file too".to_owned());
            }
            _ => {}
        }
        self.check_redis()
    }

    fn check_redis(&self) -> Result<(), String> {
        let (url, options) = match &self.store {
            StoreUrl::Redis(url) => (url, self.redis_options()),
            StoreUrl::Memory => {
                let given = [
                    ("--redis-password-file", self.redis_password_file.is_some()),
                    ("--sentinel-password-file", self.sentinel_password_file.is_some()),
                    ("--redis-ca-file", self.redis_ca_file.is_some()),
                    ("--redis-cert-file", self.redis_cert_file.is_some()),
                    ("--confirm-replicas", self.confirm_replicas > 0),
                ];
                return match given.iter().find(|(_, given)| *given) {
                    Some((flag, _)) => Err(format!("{flag} is for a Redis: give one with --store")),
                    None => Ok(()),
                };
            }
        };
        options.check(url)
    }

    /// How Redis is to be spoken to.
    pub fn redis_options(&self) -> RedisOptions {
        RedisOptions {
            prefix: self.key_prefix.as_str().into(),
            password_file: self.redis_password_file.clone(),
            sentinel_password_file: self.sentinel_password_file.clone(),
            ca_file: self.redis_ca_file.clone(),
            identity: self.redis_cert_file.clone().zip(self.redis_key_file.clone()),
            confirm_replicas: self.confirm_replicas,
            allow_eviction: self.allow_eviction,
        }
    }

    /// What the service needs to know of it.
    pub fn settings(&self) -> Settings {
        let cores = || std::thread::available_parallelism().map_or(1, NonZero::get);
        Settings {
            shards: self.shards.map_or_else(cores, |shards| shards.get().into()),
            drain: self.drain,
            reflection: !self.no_reflection,
            limits: Limits {
                idle_timeout: self.idle_timeout,
                max_idle_timeout: self.max_idle_timeout,
                max_lifetime: self.max_lifetime,
                max_session_bytes: self.max_session_bytes.as_u64() as usize,
            },
            edge: EdgeLimits { deadline: self.deadline, max_calls: 8192 },
        }
    }
}

/// The error; or another, if it may quote a URL with a password in it.
fn without_password(error: clap::Error) -> clap::Error {
    match error.kind() {
        ErrorKind::UnknownArgument if error.to_string().contains("://") => clap::Error::raw(
            ErrorKind::UnknownArgument,
            "there is a URL where none is expected (not shown, as it may hold a password): give it with --store\n\n\
             For more information, try '--help'.\n",
        ),
        _ => error,
    }
}

/// A span in the largest unit that divides it: humantime would tell 31d as a month and some hours.
fn shown(span: Duration) -> String {
    let units = [("d", 86_400), ("h", 3600), ("m", 60)];
    let whole = units.iter().find(|(_, seconds)| span.as_secs().is_multiple_of(*seconds) && span.subsec_nanos() == 0);
    whole.map_or_else(|| format!("{span:?}"), |(unit, seconds)| format!("{}{unit}", span.as_secs() / seconds))
}

fn span(text: &str) -> Result<Duration, String> {
    let span =
        humantime::parse_duration(text).map_err(|error| format!("{error}: write for example 30s, 15m or 24h"))?;
    if span.is_zero() { Err("must be more than zero: write for example 30s, 15m or 24h".to_owned()) } else { Ok(span) }
}

fn lifetime(text: &str) -> Result<Duration, String> {
    let span = span(text)?;
    if span < Duration::from_secs(1) || span > Duration::from_secs(10 * 366 * 24 * 3600) {
        return Err("must be from 1s to 10 years".to_owned());
    }
    Ok(span)
}

fn deadline(text: &str) -> Result<Duration, String> {
    let span = span(text)?;
    if span < Duration::from_millis(10) || span > Duration::from_secs(60) {
        return Err("must be from 10ms to 60s".to_owned());
    }
    Ok(span)
}

fn session_bytes(text: &str) -> Result<ByteSize, String> {
    let size: ByteSize = text.parse().map_err(|_| "is no size: write for example 64KiB".to_owned())?;
    if !(ByteSize::b(1)..=ByteSize::kib(900)).contains(&size) {
        return Err("must be from 1B to 900KiB: a message on the wire has at most 1MiB".to_owned());
    }
    Ok(size)
}

fn key_prefix(text: &str) -> Result<String, String> {
    if text.contains(['{', '}']) || text.len() > 128 {
        return Err("must have no braces (Redis Cluster reads them) and at most 128 bytes".to_owned());
    }
    Ok(text.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(arguments: &[&str]) -> Result<Config, String> {
        let config = Config::try_read(["sessiond"].iter().chain(arguments)).map_err(|error| error.to_string())?;
        config.check().map(|()| config)
    }

    #[test]
    fn nothing_needs_to_be_given() {
        let settings = parse(&[]).unwrap().settings();
        assert_eq!(settings.limits.max_session_bytes, 65_536);
        assert_eq!(settings.limits.idle_timeout, Duration::from_secs(86_400));
    }

    #[test]
    fn a_refusal_says_what_is_wrong_and_what_to_do() {
        for (arguments, says) in [
            (["--deadline", "0s"], "must be more than zero"),
            (["--drain", "soon"], "write for example 30s"),
            (["--idle-timeout", "32d"], "is above --max-idle-timeout (31d): lower the one or raise the other"),
            (["--max-idle-timeout", "101d"], "choose a shorter one"),
            (["--max-session-bytes", "1MiB"], "must be from 1B to 900KiB"),
            (["--key-prefix", "{s}"], "must have no braces"),
            (["--shards", "0"], "--shards"),
            (["--store", "memcached://:hunter2@h"], "redis://"),
            (["redis://:hunter2@h", "--no-reflection"], "give it with --store"),
            (["--store", "redis+magic://:hunter2@h"], "redis+sentinel://"),
            (["--redis-cert-file", "cert.pem"], "--redis-key-file"),
            (["--confirm-replicas", "1"], "is for a Redis: give one with --store"),
            (["--confirm-replicas", "17"], "17"),
        ] {
            let refusal = parse(&arguments).err().unwrap_or_default();
            assert!(refusal.contains(says), "{arguments:?}: {refusal}");
            assert!(!refusal.contains("hunter2"), "a password was quoted: {refusal}");
        }
    }

    #[test]
    fn what_a_redis_cannot_need_or_read_is_refused() {
        for (store, flag, says) in [
            ("redis://h", "--redis-ca-file", "is for TLS: write rediss"),
            ("redis://h", "--sentinel-password-file", "is for Sentinels: write redis+sentinel://"),
            ("redis://:hunter2@h", "--redis-password-file", "leave one of them out"),
            ("rediss://h", "--redis-ca-file", "cannot read nowhere"),
            ("redis://h", "--redis-password-file", "cannot read nowhere"),
        ] {
            let refusal = parse(&["--store", store, flag, "nowhere"]).err().unwrap_or_default();
            assert!(refusal.contains(says), "{store} {flag}: {refusal}");
            assert!(!refusal.contains("hunter2"), "a password was quoted: {refusal}");
        }
    }
}
