"""The parts of the service that run beside the site, each with a life of its own.

`wiring/build.py` makes the list. Here nothing is known of its members but these methods.
"""

from collections.abc import Awaitable, Callable, Sequence
from typing import Protocol, runtime_checkable

from twisted.logger import Logger

_log = Logger()


@runtime_checkable
class Component(Protocol):
    """Starts before the first request, and stops after the last one."""

    def start(self) -> None:
        """Begin. An exception ends the start of the service."""

    async def stop(self) -> None:
        """End, and release everything. Called after `start`, once."""


@runtime_checkable
class Retiring(Protocol):
    """What a component also has whose work must end before the requests do."""

    def retire(self) -> None:
        """Begin no more work, since another process or configuration takes over; then comes `stop`.

        Requests go on meanwhile, for minutes or hours.
        """


class OpenResource:
    """A component that was opened when it was made, and only has to be released."""

    def __init__(self, name: str, release: Callable[[], Awaitable[object] | object]) -> None:
        self._name = name
        self._release = release

    def __repr__(self) -> str:
        return self._name

    def start(self) -> None:
        """Nothing is left to do."""

    async def stop(self) -> None:
        released = self._release()
        if isinstance(released, Awaitable):
            await released


class Components:
    """Starts components in their order, and stops them in the opposite one."""

    def __init__(self, components: Sequence[Component]) -> None:
        self._components = components
        self._started: list[Component] = []

    async def start(self) -> None:
        """Start all; if one fails, stop those that were started and raise its exception."""
        try:
            for one in self._components:
                one.start()
                self._started.append(one)
        except BaseException:
            await self.stop()
            raise

    def retire(self) -> None:
        """Let no component begin new work."""
        for one in reversed(self._started):
            if isinstance(one, Retiring):
                try:
                    one.retire()
                except Exception:
                    _log.failure("Component {name} failed to retire", name=_name(one))

    async def stop(self) -> None:
        """Stop all that were started, one after another; failures are logged."""
        while self._started:
            one = self._started.pop()
            try:
                await one.stop()
            except Exception:
                _log.failure("Component {name} failed to stop", name=_name(one))


def _name(component: Component) -> str:
    return repr(component) if isinstance(component, OpenResource) else type(component).__name__
