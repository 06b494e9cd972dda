//! Keeps the committed code equal to what the schema says. On a difference it writes the new code, fails once and
//! says so: look at the difference, commit it, and run again.

use std::{fs, path::Path};

#[test]
fn the_committed_code_is_what_the_schema_generates() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let fresh = tempfile::tempdir().unwrap();

    let mut compiler = protox::Compiler::new([root]).unwrap();
    compiler.include_imports(true).include_source_info(true);
    compiler.open_files(["sessiond/v1/session_service.proto", "sessiond/v1/error_reason.proto"]).unwrap();
    // The encoded set keeps the options that the decoded one drops (debug_redact among them).
    fs::write(fresh.path().join("sessiond_v1.bin"), compiler.encode_file_descriptor_set()).unwrap();

    tonic_prost_build::configure()
        .out_dir(fresh.path())
        .extern_path(".google.protobuf.Struct", "crate::RawStruct")
        // prost ignores debug_redact: what holds an id or a request_id has no generated Debug at all.
        .skip_debug(
            ["Session", "OpenRequest", "OpenResponse", "SaveRequest", "SaveResponse", "DestroyRequest"]
                .map(|message| format!("sessiond.v1.{message}")),
        )
        .build_transport(false)
        .emit_rerun_if_changed(false)
        .compile_fds(compiler.file_descriptor_set())
        .unwrap();
    fs::rename(fresh.path().join("sessiond.v1.rs"), fresh.path().join("sessiond_v1.rs")).unwrap();

    let committed = root.join("src/generated");
    let mut changed = Vec::new();
    for name in ["sessiond_v1.rs", "sessiond_v1.bin"] {
        let new = fs::read(fresh.path().join(name)).unwrap();
        if fs::read(committed.join(name)).ok().as_ref() != Some(&new) {
            fs::create_dir_all(&committed).unwrap();
            fs::write(committed.join(name), new).unwrap();
            changed.push(name);
        }
    }
    assert!(
        changed.is_empty(),
        "proto/src/generated was out of date and has been written anew: {changed:?}. Commit it and run again."
    );
}
