//! The fault bench: Redis servers that lose their power, fail over and move house, a proxy that does to connections what
//! networks do, and a load that keeps account of what it was promised.
//!
//! - [`proxy`]: cuts, delays, black-holes; loses answers, and mixes them up.
//! - `fsync`: a power that fails.
//! - [`ipv6`]: a machine without IPv6, or where an IPv6 socket refuses IPv4.
//! - [`names`]: a name that moves to another address.
//! - [`topology`]: Sentinels with a master and two replicas; a cluster of six.
//! - [`load`]: calls at a rate, and the ledger of their answers.

pub(crate) mod fsync;
pub mod ipv6;
pub mod load;
pub mod names;
mod preload;
pub mod proxy;
mod resp;
pub mod topology;
