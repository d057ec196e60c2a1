"""Keeps Twisted from making a reactor before a process has forked.

Modules such as `klein` import `twisted.internet.reactor` when they are imported, which makes a
reactor with an epoll descriptor. A process that forks must not have one: the kernel would share it
among all children, and each would get the events of the others.
"""

import importlib
import sys
from types import ModuleType

import twisted.internet

NAME = "twisted.internet.reactor"


class _LateReactor(ModuleType):
    """Stands in for the reactor, for modules that import it and use it later."""

    def __getattr__(self, name: str) -> object:
        if name.startswith("__"):  # what looks at all modules must not make a reactor
            raise AttributeError(name)
        if sys.modules.get(NAME) is self:
            raise RuntimeError(f"The reactor was used (its {name}) before the process has forked.")
        return getattr(sys.modules[NAME], name)


def postpone_reactor() -> None:
    """Put a stand-in in the reactor's place, until `make_reactor`."""
    if NAME in sys.modules:
        raise RuntimeError("There is a reactor already.")
    late = _LateReactor(NAME)
    sys.modules[NAME] = late
    setattr(twisted.internet, "reactor", late)  # noqa: B010  its type is that of a reactor


def make_reactor() -> None:
    """Make the reactor of this process; the stand-in then passes everything on to it."""
    if isinstance(sys.modules.get(NAME), _LateReactor):
        del sys.modules[NAME]
        importlib.import_module(NAME)
