//! The power fails: what was written and not fsynced is gone. `tests/faults/fsync.c` notes what was. (Linux only.)

use std::{
    fs,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    sync::OnceLock,
};

use super::preload;

/// The variable that names the folder of the notes.
pub(crate) const FOLDER: &str = "SESSIOND_FAULTS_NOTES";

/// The variable that says how many milliseconds the disk takes.
pub(crate) const DISK: &str = "SESSIOND_FAULTS_DISK";

/// The library that makes the notes.
pub(crate) fn library() -> PathBuf {
    static LIBRARY: OnceLock<PathBuf> = OnceLock::new();
    LIBRARY.get_or_init(|| preload::library("fsync")).clone()
}

/// Cuts every file of the folder back to what was surely on the disk; gives how many bytes that took.
pub(crate) fn cut(folder: &Path, notes: &Path) -> u64 {
    let mut lost = 0;
    for file in fs::read_dir(folder).expect("an append-only file's folder").flatten() {
        let about = file.metadata().expect("it is there");
        let note = fs::read(notes.join(format!("fsynced-{}", about.ino())));
        let size = note.map_or(0, |note| u64::from_ne_bytes(note.try_into().expect("eight bytes")));
        if size < about.len() {
            let file = fs::File::options().write(true).open(file.path()).expect("it can be written");
            file.set_len(size).expect("it can be cut");
            lost += about.len() - size;
        }
    }
    lost
}
