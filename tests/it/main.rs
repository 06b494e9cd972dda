//! The service against the real thing: a real process, a real Redis, a real network. One file per question.

mod errors;
mod lifecycle;
mod papers;
mod promises;
mod raw;
mod stores;
