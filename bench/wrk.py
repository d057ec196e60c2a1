"""wrk, the load generator for requests that are all the same."""

import json
import shutil
import subprocess
from pathlib import Path

import attrs

from bench.address import Address
from bench.errors import LeftOut, Wrong

REPORT = Path(__file__).with_name("wrk_report.lua")


@attrs.frozen
class Load:
    """What wrk saw: latencies in seconds."""

    requests: int
    seconds: float
    p50: float
    p99: float

    @property
    def rate(self) -> float:
        """Answers per second."""
        return self.requests / self.seconds


def wrk(address: Address, path: str, connections: int, seconds: int) -> Load:
    """GET `path` as fast as the server answers; `Wrong` when an answer is not a 2xx or 3xx."""
    if not shutil.which("wrk"):
        raise LeftOut("wrk is not installed (Debian's package: wrk)")
    threads = min(2, connections)
    argv = ["wrk", f"-t{threads}", f"-c{connections}", f"-d{seconds}s", "--timeout", "20s"]
    for name, value in address.identity:
        argv += ["-H", f"{name}: {value}"]
    argv += ["-s", str(REPORT), address.url(path)]
    ended = subprocess.run(argv, capture_output=True, text=True, check=False)
    return _load(ended.stdout, ended.stderr)


def _load(output: str, complaints: str) -> Load:
    _, found, line = output.partition("\nresult ")
    if not found:
        raise Wrong(f"wrk gave no result: {complaints or output}")
    result = json.loads(line)
    if result["refused"] or not result["requests"]:
        raise Wrong(f"{result['refused']} of {result['requests']} answers were errors")
    if result["broken"]:
        raise Wrong(f"{result['broken']} connections broke, {result['requests']} answers")
    return Load(
        requests=result["requests"],
        seconds=result["microseconds"] / 1e6,
        p50=result["p50"] / 1e6,
        p99=result["p99"] / 1e6,
    )
