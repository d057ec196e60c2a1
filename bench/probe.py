"""Is a server still quick to answer while it has other work? One more process asks it."""

import json
import subprocess
import sys
from collections import Counter
from pathlib import Path

import attrs

from bench.address import Address
from bench.errors import Wrong
from bench.hammer import percentile
from bench.table import Table

PROGRAM = Path(__file__).with_name("prober.py")
PER_SECOND = 40


@attrs.frozen
class Seen:
    """Latencies in seconds; a request without an answer counts with the time it waited."""

    latencies: list[float]
    errors: Counter[str]

    def fill(self, table: Table, column: str, work: str) -> None:
        """Add the figures to a table."""
        answered = 1 - self.errors.total() / len(self.latencies)
        table.add(column, work, "show answered", "%", 100 * answered)
        table.add(column, work, "show p50", "ms", percentile(self.latencies, 0.50) * 1e3)
        table.add(column, work, "show p99", "ms", percentile(self.latencies, 0.99) * 1e3)

    @property
    def complaint(self) -> str | None:
        """What went wrong, if anything did."""
        if not self.errors:
            return None
        return f"of {len(self.latencies)} shows, errors: {dict(self.errors)}"


def probe(address: Address, document: str, seconds: float) -> Seen:
    """Ask for the document 40 times a second, on as many connections as that needs."""
    task = {
        "host": address.host,
        "port": address.port,
        "request": address.request("GET", document).decode(),
        "per_second": PER_SECOND,
        "seconds": seconds,
    }
    argv = [sys.executable, "-P", str(PROGRAM)]
    ended = subprocess.run(
        argv, input=json.dumps(task), capture_output=True, text=True, check=False
    )
    if ended.returncode:
        raise Wrong(f"the prober failed: {ended.stderr}")
    seen = json.loads(ended.stdout)
    return Seen(seen["latencies"], Counter(seen["errors"]))
