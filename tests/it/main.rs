//! The service against the real thing: a real process, a real Redis, a real network. One file per question.

mod lifecycle;
