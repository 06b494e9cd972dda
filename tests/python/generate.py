"""Generates Go and Python stubs with the commands of docs/generate.md, and compiles and imports them.

Called by .ci/run with the folder to work in, which is deleted first. It needs buf on PATH and grpcio-tools. Go's plugins are
installed into target/tools/bin. Without Go, or if Go's plugins cannot be fetched, the Go part is skipped, and says so.
"""

import os
import shutil
import subprocess
import sys
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]
PAGE = (REPOSITORY / "docs/generate.md").read_text(encoding="utf-8")
FOLDER = Path(sys.argv[1]).resolve()
TOOLS = REPOSITORY / "target/tools/bin"
ENVIRONMENT = {**os.environ, "GOBIN": str(TOOLS), "PATH": f"{TOOLS}{os.pathsep}{os.environ['PATH']}"}


def block(language, words):
    """The page's only code block in this language that contains these words."""
    blocks = [rest.split("\n```")[0] for rest in PAGE.split(f"\n```{language}\n")[1:]]
    (found,) = [block for block in blocks if words in block]
    return found + "\n"


def run(script, folder):
    subprocess.run(["sh", "-ec", script], cwd=folder, env=ENVIRONMENT, check=True)


def new_folder(name):
    folder = FOLDER / name
    folder.mkdir()
    (folder / "proto").symlink_to(REPOSITORY / "proto")
    return folder


def python_stubs_can_be_imported():
    folder = new_folder("python")
    commands = block("sh", "grpc_tools.protoc").splitlines()
    assert commands[0].startswith("python -m pip install"), "pip has run already"
    run("\n".join(commands[1:]).replace("python ", f"'{sys.executable}' "), folder)
    assert (folder / "gen/sessiond/v1/session_service_pb2.pyi").exists()
    sys.path.insert(0, str(folder / "gen"))
    from sessiond.v1 import error_reason_pb2, session_service_pb2, session_service_pb2_grpc

    assert error_reason_pb2.ERROR_REASON_DEADLINE and session_service_pb2_grpc.SessionServiceStub
    request = session_service_pb2.SaveRequest(replace_all=True)
    assert session_service_pb2.SaveRequest.FromString(request.SerializeToString()) == request


def go_stubs_compile():
    if shutil.which("go") is None:
        return "go is not on PATH"
    try:
        run(block("sh", "go install"), FOLDER)
    except subprocess.CalledProcessError:
        return "the plugins for Go could not be fetched"
    folder = new_folder("go")
    run("go mod init example.com/shop", folder)
    for name, language, words in [
        ("buf.gen.yaml", "yaml", "# buf.gen.yaml"),
        ("buf.gen.module.yaml", "yaml", "# buf.gen.module.yaml"),
        ("main.go", "go", "package main"),
    ]:
        (folder / name).write_text(block(language, words), encoding="utf-8")
    run(block("sh", "buf generate proto"), folder)
    run("go mod tidy", folder)
    compiles = "go vet ./... && go build -o shop ."
    run(compiles, folder)
    shutil.rmtree(folder / "gen")
    run(f"buf generate --template buf.gen.module.yaml proto && {compiles}", folder)


shutil.rmtree(FOLDER, ignore_errors=True)
FOLDER.mkdir(parents=True)
for check in [python_stubs_can_be_imported, go_stubs_compile]:
    why_not = check()
    print(f"SKIPPED: {check.__name__}: {why_not}" if why_not else f"ok: {check.__name__}", flush=True)
