//! What every language's client is held to: the vectors in `tests/vectors`, against the Rust client's public API.

mod cookies;

use serde_json::Value;

/// The vectors of this file.
fn vectors(file: &str) -> Value {
    let path = format!("{}/vectors/{file}", env!("CARGO_MANIFEST_DIR"));
    let text = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{path}: {error}"));
    serde_json::from_str(&text).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// A list of them, which must hold some: a test of nothing passes.
fn list<'a>(vectors: &'a Value, name: &str) -> &'a [Value] {
    let list = vectors[name].as_array().unwrap_or_else(|| panic!("there is a list {name}"));
    assert!(!list.is_empty(), "{name} holds vectors");
    list
}
