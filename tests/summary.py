"""Where the time went: what is told after the last test, about all processes of the tests."""

from collections import Counter, defaultdict
from contextlib import suppress
from typing import Any

import psutil
import pytest

SLOWEST = 20
"""Files that are listed."""
_started: Counter[str] = Counter()


def count_start(what: str) -> None:
    """Note that a test, or a fixture, has started one."""
    _started[what] += 1


@pytest.hookimpl(tryfirst=True)
def pytest_sessionfinish(session: pytest.Session) -> None:
    """Hand over what was counted here, if another process has started this one for its tests."""
    output: dict[str, Any] | None = getattr(session.config, "workeroutput", None)
    if output is not None:
        output["started"] = dict(_started)


def pytest_testnodedown(node: Any) -> None:
    _started.update(getattr(node, "workeroutput", {}).get("started", {}))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    seconds = _seconds(terminalreporter)
    terminalreporter.section("slowest files")
    for file in sorted(seconds, key=lambda one: -seconds[one])[:SLOWEST]:
        terminalreporter.write_line(f"{seconds[file]:7.1f} s  {file}")
    terminalreporter.write_line(f"{sum(seconds.values()):7.1f} s  in all, by all processes")
    cpu = f"{_cpu_seconds():7.1f} s  of CPU, with that of child processes, but not of daemons"
    terminalreporter.write_line(cpu)
    started = ", ".join(f"{count} x {what}" for what, count in sorted(_started.items()))
    terminalreporter.write_line(f"started: {started or 'nothing'}")
    seed = terminalreporter.config.getoption("randomly_seed", None)
    terminalreporter.write_line(f"order: {'that of the files' if seed is None else f'seed {seed}'}")


def _seconds(terminalreporter: pytest.TerminalReporter) -> dict[str, float]:
    """Return what the tests and fixtures of each file took."""
    seconds: defaultdict[str, float] = defaultdict(float)
    for reports in terminalreporter.stats.values():
        for report in reports:
            if isinstance(report, pytest.TestReport):
                seconds[report.nodeid.partition("::")[0]] += report.duration
    return seconds


def _cpu_seconds() -> float:
    """Return what this process and its descendants have used, living and dead."""
    own, used = psutil.Process(), 0.0
    for one in (own, *own.children(recursive=True)):
        with suppress(psutil.NoSuchProcess):
            used += sum(one.cpu_times()[:4])
    return used
