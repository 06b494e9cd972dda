"""What a session costs an application: the CPU of its worker for each request, and its requests per second.

    python adapters/python/bench/cost.py [--rounds 9] [--seconds 2] [--json FILE]

README.md beside this file says what is compared and how to read it.
"""

import argparse
import json
import os
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
from contextlib import ExitStack
from importlib.metadata import version
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests" / "neighbours"))
from servers import TARGET, Gunicorn, Redis, Sessiond  # noqa: E402
from visitor import Visitor  # noqa: E402

CONTESTANTS = {
    "none": "no sessions",
    "snippet": "the pasted snippet (pickle)",
    "flask-session": "Flask-Session, default",
    "flask-session-no-refresh": "Flask-Session, refresh off",
    "sessiond": "sessiond",
}
KINDS = ["read", "change"]
PACKAGES = ["Flask", "Flask-Session", "redis", "hiredis", "gunicorn"]

# The first is the workers', one of which is at work at a time; everything else shares the others.
CORES = sorted(os.sched_getaffinity(0))

# The musts: what of sessiond, of whom it is a multiple, and the bound; "at most" for costs, "at least" for rates.
MUSTS = [
    ("cpu", "read", "flask-session", "at most", 0.5),
    ("cpu", "read", "flask-session-no-refresh", "at most", 1.0),
    ("cpu", "change", "flask-session", "at most", 0.8),
    ("rate", "read", "flask-session", "at least", 1.05),
    ("rate", "change", "flask-session", "at least", 0.85),
]


def cpu_of(pid):
    """The CPU time of a process so far, in µs: of all its threads, as the scheduler counts it."""
    tasks = Path(f"/proc/{pid}/task").iterdir()
    return sum(int((task / "schedstat").read_text().split()[0]) for task in tasks) / 1000


class Contestant:
    """An application in a gunicorn of its own with one sync worker, and a visitor who has a session there."""

    def __init__(self, kind, folder, redis, sessiond, stack):
        self.kind, self.services = kind, [redis, sessiond]
        environment = {"SESSIONS": kind, "SESSIOND_ADDRESS": sessiond.address, "REDIS_URL": redis.url}
        self.gunicorn = stack.enter_context(Gunicorn(folder, "costing:app", **environment))
        (self.worker,) = self.gunicorn.workers()
        os.sched_setaffinity(self.worker, {min(CORES)})
        self.visitor = Visitor(self.gunicorn.port, {"session": "none"} if kind == "none" else {})
        if kind != "none":
            self.visitor.get("/sign-in")
        self.check()

    def check(self):
        """Does it do what is measured? A fast answer may be a wrong one."""
        assert self.visitor.get("/read").text == "ada"
        if self.kind != "none":
            before = int(self.visitor.get("/visits").text)
            self.visitor.get("/change")
            assert int(self.visitor.get("/visits").text) == before + 1

    def measure(self, path, seconds):
        cookies = "; ".join(f"{name}={value}" for name, value in self.visitor.cookies.items())
        watched = [self.worker, *(service.pid for service in self.services)]
        before = [cpu_of(pid) for pid in watched]
        load = ["wrk", "--threads", "1", "--connections", "4", "--duration", f"{seconds}s", "--header", f"Cookie: {cookies}"]
        said = subprocess.run(
            [*load, f"http://127.0.0.1:{self.gunicorn.port}/{path}"], capture_output=True, text=True, check=True
        ).stdout
        used = [cpu_of(pid) - begin for pid, begin in zip(watched, before, strict=True)]
        assert "Non-2xx" not in said, said
        requests = int(re.search(r"(\d+) requests in", said)[1])
        cpu, redis, sessiond = (time / requests for time in used)
        rate = float(re.search(r"Requests/sec: *([\d.]+)", said)[1])
        return {"cpu": cpu, "redis": redis, "sessiond": sessiond, "rate": rate}


def run(rounds, seconds):
    """All contestants in turn, again and again, so that what the machine does besides meets all of them alike."""
    results = []
    os.sched_setaffinity(0, CORES[1:] or CORES)
    with ExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory())
        redis = stack.enter_context(Redis(folder))
        program = os.environ.get("SESSIOND_TEST_SERVER") or str(TARGET / "release" / "sessiond")
        sessiond = stack.enter_context(Sessiond(folder, redis.url, program=program))
        contestants = [Contestant(kind, folder, redis, sessiond, stack) for kind in CONTESTANTS]
        for contestant in contestants:
            contestant.measure("read", 1)
        for number in range(rounds):
            turn = contestants[number % len(contestants) :] + contestants[: number % len(contestants)]
            cells = {(c.kind, kind): c.measure(kind, seconds) for kind in KINDS for c in turn}
            for (_, path), cell in cells.items():
                # Above an application without sessions, in this very round.
                cell["above"] = cell["cpu"] - cells["none", path]["cpu"]
            results.append(cells)
            print(f"round {number + 1} of {rounds}", file=sys.stderr)
        for contestant in contestants:
            contestant.check()
    return results


def spread(values, digits=0):
    return f"{statistics.median(values):.{digits}f} [{min(values):.{digits}f}–{max(values):.{digits}f}]"


def costs(results, path):
    """Lines of a table: each contestant's costs, medians with [least–most] over the rounds."""
    yield "| sessions | worker CPU µs/request | above none µs | requests/s | Redis µs | sessiond µs |"
    yield "|---|---|---|---|---|---|"
    for kind, name in CONTESTANTS.items():
        cells = [cells[kind, path] for cells in results]
        columns = [spread([cell[what] for cell in cells]) for what in ("cpu", "above", "rate", "redis")]
        service = spread([cell["sessiond"] for cell in cells]) if kind == "sessiond" else ""
        yield f"| {name} | {' | '.join(columns)} | {service} |"


def verdicts(results):
    """The musts, each as (line of a table, whether it is met): the median of the ratios within a round."""
    yield "| sessiond's | over | ratio | must be | |", True
    yield "|---|---|---|---|---|", True
    for what, path, other, bound, limit in MUSTS:
        column, name = ("above", "worker CPU above none") if what == "cpu" else ("rate", "requests/s")
        ratios = [cells["sessiond", path][column] / cells[other, path][column] for cells in results]
        median = statistics.median(ratios)
        met = median <= limit if bound == "at most" else median >= limit
        line = (
            f"| {name}, {path} | {CONTESTANTS[other]} | {spread(ratios, 2)} | {bound} {limit} | {'met' if met else 'MISSED'} |"
        )
        yield line, met


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--seconds", type=int, default=2, help="of each contestant and kind in each round")
    parser.add_argument("--json", type=Path, help="where to keep every figure of every round")
    arguments = parser.parse_args()
    if not shutil.which("wrk"):
        parser.error("there is no wrk on PATH, which sends the requests (Debian: apt-get install wrk)")
    results = run(arguments.rounds, arguments.seconds)
    print(f"Python {sys.version.split()[0]}", *(f"{p} {version(p)}" for p in PACKAGES), f"{os.cpu_count()} cores", sep=", ")
    for path in KINDS:
        print(f"\n**A request that {path}s**, medians [least–most] of {arguments.rounds} rounds of {arguments.seconds} s\n")
        print(*costs(results, path), sep="\n")
    print()
    lines = list(verdicts(results))
    print(*(line for line, _ in lines), sep="\n")
    if arguments.json:
        flat = [{f"{kind} {path}": cell for (kind, path), cell in cells.items()} for cells in results]
        arguments.json.write_text(json.dumps(flat, indent=1))
    sys.exit(not all(met for _, met in lines))


if __name__ == "__main__":
    main()
