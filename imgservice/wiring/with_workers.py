"""A service of several processes: this one is their parent, and imports nothing that serves."""

import sys
from pathlib import Path

from imgservice.concurrency.reactor import Reactor
from imgservice.config.sections import Config
from imgservice.process.forking import ForkServer
from imgservice.process.processors import worker_count
from imgservice.process.worker_pool import WorkerPool
from imgservice.process.workers import Workers
from imgservice.wiring.forked_trials import ForkedTrials
from imgservice.wiring.main_process import MainProcess, ProcessOptions

FORK_SERVER = [sys.executable, "-P", "-m", "imgservice.fork_server"]
NOT_FOR_WORKERS = ("NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID", "LISTEN_FDNAMES")
"""Variables of the environment that are for this process alone."""


def make(
    reactor: Reactor, path: Path | None, options: ProcessOptions, config: Config
) -> tuple[MainProcess, WorkerPool]:
    """Make the parent, and what starts its workers."""
    forks = ForkServer(reactor, FORK_SERVER, NOT_FOR_WORKERS)
    trials = ForkedTrials(path, forks)
    trials.examine(config)
    process = MainProcess(reactor, path, options, config, trials)
    pool = Workers(reactor, worker_count(config), forks, options.log_path, process.give_up)
    return process, pool
