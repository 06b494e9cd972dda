"""Flask's and Flask-Login's own tests, with our sessions in place of the default ones.

Their source distributions come from PyPI, pinned and verified (`suites.txt`), into `target/`: none of their code is here.
`in_place.py` is what is changed in them, and names the tests that cannot pass, with the reason.
"""

import os
import re
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest
from servers import APPS, TARGET

HERE = Path(__file__).resolve().parent

# What is run of each, with what in the environment, and how many tests of it pass: a run that collects less than it should
# fails as well. Of Flask, everything but the tests of the command line, which ask for another pytest and know no sessions.
FLASK = ["tests", "--ignore=tests/test_cli.py"]
RUNS = {
    "Flask": ("flask-3.1.3", FLASK, {}, 427),
    "Flask, its cookie sent with every change": ("flask-3.1.3", FLASK, {"RESEND": "1"}, 428),
    "Flask-Login": ("Flask-Login-0.6.3", ["tests"], {}, 114),
}


@pytest.fixture(scope="module")
def sources():
    """The folder with the unpacked distributions; fetched once."""
    folder = TARGET / "python-suites"
    wanted = (HERE / "suites.txt").read_text()
    made_from = folder / "made-from"
    if not made_from.exists() or made_from.read_text() != wanted:
        folder.mkdir(parents=True, exist_ok=True)
        pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "download", "--quiet", "--no-deps"]
        pip += ["--no-binary", ":all:", "--require-hashes", "--dest", folder, "--requirement", HERE / "suites.txt"]
        subprocess.run(pip, check=True)
        for suite, *_ in RUNS.values():
            with tarfile.open(folder / f"{suite}.tar.gz") as archive:
                archive.extractall(folder, filter="data")
        made_from.write_text(wanted)
    return folder


@pytest.mark.parametrize("run", RUNS)
def test_their_own_tests_pass_with_our_sessions(run, sources, sessiond):
    suite, arguments, variables, passes = RUNS[run]
    path = os.pathsep.join([str(HERE), str(APPS)])
    run = subprocess.run(
        [sys.executable, "-m", "pytest", "-p", "in_place", "-p", "no:cacheprovider", "-q", "-ra", *arguments],
        cwd=sources / suite,
        env={**os.environ, "PYTHONPATH": path, "SESSIOND_ADDRESS": sessiond.address, **variables},
        capture_output=True,
        text=True,
    )
    assert run.returncode == 0, run.stdout + run.stderr
    assert int(re.search(r"sessions opened: (\d+)", run.stdout)[1]) > 50
    assert int(re.search(r"(\d+) passed", run.stdout)[1]) == passes, run.stdout
