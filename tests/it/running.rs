//! sessiond as whoever runs it sees it: how it starts and stops, what it tells, and what it keeps from one run to the next.

mod callers;
mod environment;
mod headers;
mod health;
mod listening;
mod logs;
mod metrics;
mod reflection;
mod refusals;
mod restarts;
mod shards;
mod stopping;
