"""Where the time of a running Python program goes: samples of its stacks, by named parts."""

import os
import signal
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from bench.errors import Wrong

REPOSITORY = f"{Path(__file__).parents[1]}/"
PATIENCE_SECONDS = 20
POLL_SECONDS = 0.05
OTHER = "other"
PARTS = {
    "imgservice/db/repositories/rows.py": "rows to images",
    "imgservice/db/engine/statement.py": "statements and their values",
    "sqlalchemy/": "statements and their values",
    "imgservice/db/engine/postgresql.py": "database driver",
    "psycopg": "database driver",
    "pymysql/": "database driver",
    "imgservice/db/engine/sqlite.py": "database driver",
    "imgservice/db/engine/mysql.py": "database driver",
    "imgservice/db/engine/reactor.py": "pool and transactions",
    "imgservice/db/engine/threaded.py": "pool and transactions",
    "imgservice/concurrency/threads.py": "pool and transactions",
    "imgservice/db/": "repositories",
    "imgservice/api/v2/documents.py": "documents and JSON",
    "imgservice/api/v2/schemas.py": "documents and JSON",
    "fastjsonschema/": "documents and JSON",
    "imgservice/http/response.py": "documents and JSON",
    "imgservice/http/conditional.py": "documents and JSON",
    "imgservice/telemetry/": "access log",
    "imgservice/policy/": "policy",
    "imgservice/domain/access.py": "policy",
    "imgservice/domain/protections.py": "policy",
    "imgservice/policy/property_protections.py": "policy",
    "imgservice/concurrency/file_watch.py": "policy",
    "imgservice/api/middleware/": "steps of the pipeline",
    "imgservice/http/pipeline.py": "steps of the pipeline",
    "imgservice/http/routing.py": "Klein and routing",
    "imgservice/api/root.py": "Klein and routing",
    "klein/": "Klein and routing",
    "werkzeug/": "Klein and routing",
    "imgservice/http/": "HTTP",
    "twisted/web/": "HTTP",
    "twisted/protocols/": "HTTP",
    "twisted/internet/defer.py": "coroutines and Deferreds",
    "twisted/internet/": "reactor and sockets",
    "twisted/python/": "reactor and sockets",
    "imgservice/": "routes and services",
}
"""How the paths of the files begin, and what these do; the first that fits counts."""


def sampled(pid: int, stacks: Path, seconds: float) -> Counter[str]:
    """Let the process, a `sampled.py`, sample itself; return the number of samples of each part."""
    stacks.unlink(missing_ok=True)
    os.kill(pid, signal.SIGUSR2)
    time.sleep(seconds)
    os.kill(pid, signal.SIGUSR2)
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not stacks.exists():
        if time.monotonic() > deadline:
            raise Wrong(f"no samples were written in {PATIENCE_SECONDS} s")
        time.sleep(POLL_SECONDS)
    found: Counter[str] = Counter()
    for line in stacks.read_text().splitlines():
        stack, _, count = line.rpartition(" ")
        found[part_of(stack.split(";"))] += int(count)
    return found


def part_of(stack: Sequence[str]) -> str:
    """Return the part to which the innermost frame belongs that belongs to any."""
    for file in reversed(stack):
        path = file.rpartition("/site-packages/")[2].removeprefix(REPOSITORY)
        for begin, part in PARTS.items():
            if path.startswith(begin):
                return part
    return OTHER
