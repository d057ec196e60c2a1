"""Builds the service once and throws it away, to find what does not work before it starts."""

from collections.abc import Awaitable, Callable
from functools import partial
from queue import SimpleQueue
from typing import cast

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.python.failure import Failure

from imgservice.concurrency.reactor import Reactor
from imgservice.concurrency.threads import Threads
from imgservice.config.errors import OptionError
from imgservice.config.sections import Config
from imgservice.store.interface import Store, StoreError
from imgservice.wiring.build import build
from imgservice.wiring.listen import check_exposure
from imgservice.wiring.stores import connects, make_stores

Warn = Callable[[str], None]


def try_build(config: Config, warn: Warn = lambda warning: None) -> None:
    """Build the service; `OptionError` for what cannot work, and `warn` gets possible mistakes.

    Nothing of it was started, so nothing has to be stopped.
    """
    check_exposure(config)
    build(config, cast(Reactor, TrialReactor()), warn=warn)


def check_stores(config: Config) -> None:
    """Check that every store on this machine works and takes data.

    Whether servers can be reached may change at any time: that is no condition for the start.
    """
    trial = TrialReactor()
    threads = Threads(trial, 1, "check")
    try:
        for store_id, store in make_stores(config, threads, cast(Reactor, trial)).items():
            if not connects(config, store_id):
                trial.wait(partial(check_store, store_id, store))
    finally:
        threads.stop()


async def check_store(store_id: str, store: Store) -> None:
    """Check a store; `OptionError` says why it takes no data."""
    try:
        await store.check()
    except StoreError as error:
        # The message for users names no path; operators need it.
        cause = f" ({error.__cause__})" if error.__cause__ else ""
        raise OptionError(("stores", store_id), f"{error}{cause}") from None


class TrialReactor(Clock):
    """As much of a reactor as is used before the service runs: its time stands still."""

    def __init__(self) -> None:
        super().__init__()
        self._calls: SimpleQueue[Callable[[], object]] = SimpleQueue()

    def callFromThread(self, function: Callable[..., object], /, *args: object) -> None:
        self._calls.put(lambda: function(*args))

    def wait(self, work: Callable[[], Awaitable[None]]) -> None:
        """Run `work` to its end, with what its threads call back, and raise what it raised."""

        async def run() -> None:
            await work()

        ended: list[object] = []
        Deferred.fromCoroutine(run()).addBoth(ended.append)
        while not ended:
            self._calls.get()()
        if isinstance(ended[0], Failure):
            ended[0].raiseException()
