//! Small libraries in C that are preloaded into a process, to see or to change what it asks of the system. (Linux only,
//! and built by the C compiler that `scripts/test` asks for anyway.)

use std::{path::PathBuf, process::Command, sync::OnceLock};

use tempfile::TempDir;

/// Builds `tests/faults/NAME.c` into a folder that lives as long as this process, and gives the library.
pub(super) fn library(name: &str) -> PathBuf {
    static FOLDER: OnceLock<TempDir> = OnceLock::new();
    let folder = FOLDER.get_or_init(|| tempfile::tempdir().expect("a temporary folder")).path();
    // Each under a name of its own: two tests may build at once.
    let library = folder.join(format!("{name}-{}.so", uuid::Uuid::new_v4()));
    let source = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("faults").join(name).with_extension("c");
    let status = Command::new("cc")
        .args(["-O1", "-Wall", "-shared", "-fPIC", "-o"])
        .args([&library, &source])
        .arg("-ldl")
        .status()
        .expect("there is a C compiler (`scripts/test` says which)");
    assert!(status.success(), "{} does not build", source.display());
    library
}
