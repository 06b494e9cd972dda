//! What is asked of whoever runs the Redis, read off `INFO`: what makes it unfit, and what is a risk. `docs/redis.md` tells
//! what each costs.

use std::collections::HashMap;

use tracing::{info, warn};

use crate::store::{Fitness, StoreError};

/// What a Redis has to be for this service.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Terms {
    pub(super) is_cluster: bool,
    pub(super) allow_eviction: bool,
    pub(super) confirm_replicas: u16,
}

/// What was found at one Redis.
#[derive(Debug, Default, PartialEq, Eq)]
struct Findings {
    unfit: Option<String>,
    risks: Vec<&'static str>,
}

impl Terms {
    /// Says in the log what each node is like, and whether all will do.
    pub(super) fn judge(&self, told: &[Result<String, StoreError>]) -> Fitness {
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
                mode = mode(&fields).unwrap_or("unknown"),
                role = field("role"),
                replicas = field("connected_slaves"),
                eviction = field("maxmemory_policy"),
                appendonly = field("aof_enabled"),
                "found Redis"
            );
            let findings = self.look(&fields);
            for risk in findings.risks {
                warn!(port = field("tcp_port"), "{risk} (docs/redis.md)");
            }
            if let Some(why) = findings.unfit {
                return Fitness::Unfit(why);
            }
        }
        Fitness::Fit
    }

    fn look(&self, fields: &HashMap<&str, &str>) -> Findings {
        let field = |name: &str| fields.get(name).copied();
        let mut findings = Findings::default();
        if mode(fields) == Some("cluster") && !self.is_cluster {
            findings.unfit = Some("this Redis is of a cluster: give --store redis+cluster://host:port".to_owned());
        }
        match field("maxmemory_policy") {
            None | Some("noeviction") => {}
            Some(_) if self.allow_eviction => findings.risks.push(
                "Redis evicts keys when it is full: that logs visitors out at random, and forgets which sessions were \
                 destroyed",
            ),
            Some(policy) => {
                findings.unfit = Some(format!(
                    "Redis evicts keys when it is full (maxmemory-policy {policy}), which logs visitors out at random: \
                     set maxmemory-policy noeviction, or start with --allow-eviction"
                ));
            }
        }
        if field("aof_enabled") == Some("0") {
            findings.risks.push(
                "Redis writes no append-only file: a restart loses what was saved since its last snapshot, and undoes \
                 logouts",
            );
        }
        let replicas: u16 = field("connected_slaves").and_then(|count| count.parse().ok()).unwrap_or_default();
        if field("role") == Some("master") {
            if replicas > 0 && field("min_slaves_good_slaves").is_none() {
                findings.risks.push(
                    "Redis acknowledges writes that no replica has, even when it is cut off: set min-replicas-to-write 1",
                );
            }
            if replicas < self.confirm_replicas {
                findings.risks.push(
                    "Redis has fewer replicas than --confirm-replicas asks for: no logout and no login can be acknowledged",
                );
            }
        }
        findings
    }
}

/// What kind of server it is. Valkey has its own name for the field.
fn mode<'a>(fields: &HashMap<&str, &'a str>) -> Option<&'a str> {
    fields.get("redis_mode").or_else(|| fields.get("server_mode")).copied()
}

fn fields(info: &str) -> HashMap<&str, &str> {
    info.lines().filter_map(|line| line.trim_end().split_once(':')).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = "# Server\r\nredis_mode:standalone\r\nmaxmemory_policy:noeviction\r\n\
                        aof_enabled:1\r\nrole:master\r\nconnected_slaves:2\r\nmin_slaves_good_slaves:2\r\n";

    /// What is found where this stands instead of that.
    fn found(terms: Terms, instead_of: &str, is: &str) -> Findings {
        assert!(GOOD.contains(instead_of));
        terms.look(&fields(&GOOD.replace(instead_of, is)))
    }

    #[test]
    fn a_redis_as_it_should_be_has_no_findings() {
        let terms = Terms { confirm_replicas: 2, ..Terms::default() };
        assert_eq!(terms.look(&fields(GOOD)), Findings::default());
    }

    #[test]
    fn what_makes_it_unfit_says_what_to_do() {
        for (instead_of, is, says) in [
            ("redis_mode:standalone", "redis_mode:cluster", "redis+cluster://"),
            ("redis_mode:standalone", "server_mode:cluster", "redis+cluster://"),
            (
                "policy:noeviction",
                "policy:allkeys-lru",
                "set maxmemory-policy noeviction, or start with --allow-eviction",
            ),
        ] {
            let unfit = found(Terms::default(), instead_of, is).unfit.unwrap_or_default();
            assert!(unfit.contains(says), "{is}: {unfit}");
        }
    }

    #[test]
    fn what_is_a_risk_is_told() {
        let terms = Terms { is_cluster: true, allow_eviction: true, confirm_replicas: 2 };
        for (instead_of, is, says) in [
            ("policy:noeviction", "policy:allkeys-lru", "at random"),
            ("aof_enabled:1", "aof_enabled:0", "no append-only file"),
            ("min_slaves_good_slaves:2\r\n", "", "min-replicas-to-write 1"),
            ("connected_slaves:2", "connected_slaves:1", "no logout"),
        ] {
            let findings = found(terms, instead_of, is);
            assert_eq!(findings.unfit, None);
            assert!(findings.risks.len() == 1 && findings.risks[0].contains(says), "{is}: {findings:?}");
        }
    }
}
