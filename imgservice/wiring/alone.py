"""A service of one process: imports all that it needs to serve."""

from collections.abc import Callable
from functools import partial
from pathlib import Path

from imgservice.concurrency.reactor import Reactor
from imgservice.config.sections import Config
from imgservice.process.in_process import InProcess
from imgservice.process.serving import Built
from imgservice.process.worker_pool import WorkerPool
from imgservice.troubles import Troubles
from imgservice.wiring.build import build
from imgservice.wiring.examination import examine, prepare
from imgservice.wiring.listeners import make_listeners
from imgservice.wiring.main_process import MainProcess, ProcessOptions
from imgservice.wiring.trials import Examined


class OwnTrials:
    """Tries in this process."""

    def __init__(self, path: Path | None) -> None:
        self._path = path
        self._examined = Examined()

    def examine(self, config: Config) -> None:
        examine(self._path, config)
        self._examined.add(config)

    def prepare(self, config: Config) -> Callable[[], None]:
        return partial(prepare, self._path, config, config in self._examined)


def make(
    reactor: Reactor, path: Path | None, options: ProcessOptions, config: Config
) -> tuple[MainProcess, WorkerPool]:
    """Make the process, and what serves in it."""
    trials = OwnTrials(path)
    trials.examine(config)
    process = MainProcess(reactor, path, options, config, trials)

    def make_built(config: Config, troubles: Troubles) -> Built:
        return build(config, reactor, make_listeners(config, process.output), troubles)

    return process, InProcess(reactor, make_built)
