"""Passes events on to listeners."""

from collections.abc import Iterable, Sequence

from twisted.logger import Logger

from imgservice.service.events import Event, Listener
from imgservice.troubles import Troubles

_log = Logger()


class EventHub:
    """The `Events` of a process: calls every listener that hears the class of an event.

    A listener that raises harms neither the caller nor other listeners. It is a trouble until it
    works again: logged once, with the traceback of its beginning.
    """

    def __init__(self, listeners: Iterable[Listener], troubles: Troubles) -> None:
        self.all = tuple(listeners)
        self._troubles = troubles
        self._by_class: dict[type[Event], Sequence[Listener]] = {}
        self._failing: set[int] = set()
        """By identity, since a listener may be a value that cannot be hashed."""

    def tell(self, event: Event) -> None:
        for listener in self.listeners(type(event)):
            try:
                listener.hear(event)
            except Exception as error:  # whatever it is, the change was made
                self._fails(listener, error)
            else:
                if self._failing:
                    self._works(listener)

    def listeners(self, kind: type[Event]) -> Sequence[Listener]:
        """Return the listeners that hear events of a class."""
        found = self._by_class.get(kind)
        if found is None:
            found = [one for one in self.all if issubclass(kind, one.hears)]
            self._by_class[kind] = found
        return found

    def _fails(self, listener: Listener, error: Exception) -> None:
        self._failing.add(id(listener))
        name = type(listener).__name__
        why = f"{type(error).__name__}: {error}"
        if self._troubles.report(_key(listener), f"The listener {name}", why, False):
            _log.failure("The listener {name} cannot handle an event", name=name)

    def _works(self, listener: Listener) -> None:
        if id(listener) in self._failing:
            self._failing.remove(id(listener))
            self._troubles.clear(_key(listener))


def _key(listener: Listener) -> str:
    return f"listener {type(listener).__name__}"
