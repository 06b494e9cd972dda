//! What is asked of whoever runs the Redis, read off `INFO`: what makes it unfit, and what is a risk. `docs/redis.md` tells
//! what each costs.

use std::collections::HashMap;

use tracing::{info, warn};

use crate::store::{Fitness, StoreError};

/// What was found at one Redis.
#[derive(Debug, Default, PartialEq, Eq)]
struct Findings {
    unfit: Option<String>,
    risks: Vec<&'static str>,
}

/// Says in the log what each node is like, and whether all will do.
pub(super) fn judge(told: &[Result<String, StoreError>], allow_eviction: bool) -> Fitness {
    for told in told {
        let fields = match told {
            Ok(told) => fields(told),
            Err(error) => {
                warn!(%error, "how this Redis is set up could not be checked");
                continue;
            }
        };
        let field = |name: &str| fields.get(name).copied().unwrap_or("unknown");
        info!(
            server = if fields.contains_key("valkey_version") { "valkey" } else { "redis" },
            version = fields.get("valkey_version").copied().unwrap_or_else(|| field("redis_version")),
            port = field("tcp_port"),
            mode = field("redis_mode"),
            role = field("role"),
            replicas = field("connected_slaves"),
            eviction = field("maxmemory_policy"),
            appendonly = field("aof_enabled"),
            "found Redis"
        );
        let findings = look(&fields, allow_eviction);
        for risk in findings.risks {
            warn!(port = field("tcp_port"), "{risk} (docs/redis.md)");
        }
        if let Some(why) = findings.unfit {
            return Fitness::Unfit(why);
        }
    }
    Fitness::Fit
}

fn fields(info: &str) -> HashMap<&str, &str> {
    info.lines().filter_map(|line| line.trim_end().split_once(':')).collect()
}

fn look(fields: &HashMap<&str, &str>, allow_eviction: bool) -> Findings {
    let field = |name: &str| fields.get(name).copied();
    let mut findings = Findings::default();
    let version = field("redis_version").unwrap_or_default();
    let major = version.split('.').next().and_then(|major| major.parse::<u32>().ok());
    if major.is_some_and(|major| major < 7) {
        findings.unfit = Some(format!("this is Redis {version}: 7.0 or newer, or Valkey, is needed"));
    }
    // A cluster's map was asked for, or this is one node.
    if field("redis_mode") == Some("sentinel") {
        findings.unfit = Some("this is a Sentinel: give --store redis+sentinel://host:port/master".to_owned());
    }
    match field("maxmemory_policy") {
        None | Some("noeviction") => {}
        Some(_) if allow_eviction => findings.risks.push(
            "Redis evicts keys when it is full: that logs visitors out at random, and forgets which sessions were destroyed",
        ),
        Some(policy) => {
            findings.unfit = Some(format!(
                "Redis evicts keys when it is full (maxmemory-policy {policy}), which logs visitors out at random: set \
                 maxmemory-policy noeviction, or start with --allow-eviction"
            ));
        }
    }
    if field("aof_enabled") == Some("0") {
        findings.risks.push(
            "Redis writes no append-only file: a restart loses what was saved since its last snapshot, and undoes logouts",
        );
    }
    let has_replicas = field("connected_slaves").is_some_and(|count| count != "0");
    if field("role") == Some("master") && has_replicas && field("min_slaves_good_slaves").is_none() {
        findings.risks.push(
            "Redis acknowledges writes that no replica has, even when it is cut off: set min-replicas-to-write 1",
        );
    }
    findings
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = "# Server\r\nredis_version:7.0.15\r\nredis_mode:standalone\r\nmaxmemory_policy:noeviction\r\n\
                        aof_enabled:1\r\nrole:master\r\nconnected_slaves:2\r\nmin_slaves_good_slaves:2\r\n";

    fn found(is: &str, instead_of: &str, allow_eviction: bool) -> Findings {
        let info = GOOD.replace(instead_of, is);
        assert!(is.is_empty() || info.contains(is));
        look(&fields(&info), allow_eviction)
    }

    #[test]
    fn a_redis_as_it_should_be_has_no_findings() {
        assert_eq!(look(&fields(GOOD), false), Findings::default());
    }

    #[test]
    fn what_makes_it_unfit_says_what_to_do() {
        for (is, instead_of, says) in [
            ("redis_version:6.2.7", "redis_version:7.0.15", "7.0 or newer"),
            ("redis_mode:sentinel", "redis_mode:standalone", "redis+sentinel://"),
            (
                "policy:allkeys-lru",
                "policy:noeviction",
                "set maxmemory-policy noeviction, or start with --allow-eviction",
            ),
        ] {
            let unfit = found(is, instead_of, false).unfit.unwrap_or_default();
            assert!(unfit.contains(says), "{is}: {unfit}");
        }
    }

    #[test]
    fn what_is_a_risk_is_told() {
        for (is, instead_of, says) in [
            ("policy:allkeys-lru", "policy:noeviction", "at random"),
            ("aof_enabled:0", "aof_enabled:1", "no append-only file"),
            ("", "min_slaves_good_slaves:2\r\n", "min-replicas-to-write 1"),
        ] {
            let findings = found(is, instead_of, true);
            assert_eq!(findings.unfit, None);
            assert!(findings.risks.len() == 1 && findings.risks[0].contains(says), "{is}: {findings:?}");
        }
    }
}
