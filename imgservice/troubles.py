"""What does not work at present: logged when it begins, and when it is over.

Components `report` what fails, as often as they like, and `clear` what works again; from any
thread. Of a service of several processes the parent logs, so that one cause is one line.
"""

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime
from threading import Lock

import attrs
from twisted.logger import Logger
from twisted.python.threadable import isInIOThread

from imgservice.concurrency.reactor import ThreadedReactor

MOST = 100
"""Troubles that are kept; further ones are neither logged nor shown."""
LONGEST = 300
"""Characters of a reason that are kept."""

_log = Logger()


@attrs.frozen
class Trouble:
    key: str
    """Names what fails: `database`, `store local`."""
    what: str
    """The same for operators, with its place and without credentials."""
    why: str
    since: float
    """When it began, by the wall clock; for display only."""
    began: float
    """The same by the monotonic clock, which the processes of a machine share."""
    is_essential: bool = True
    """Whether requests had better go to another node."""

    @property
    def moment(self) -> str:
        return datetime.fromtimestamp(self.since, UTC).strftime("%Y-%m-%d %H:%M:%SZ")


class Troubles:
    """The troubles of this process."""

    def __init__(
        self,
        reactor: ThreadedReactor | None = None,
        changed: Callable[[Sequence[Trouble]], None] | None = None,
    ) -> None:
        """Call `changed` with all present troubles whenever one begins, changes or ends."""
        self._reactor = reactor
        self._changed = changed or TroubleLog().listener(self)
        self._lock = Lock()
        self._present: dict[str, Trouble] = {}

    def report(self, key: str, what: str, why: str, is_essential: bool = True) -> bool:
        """Note that it fails; return whether that is new."""
        with self._lock:
            known = self._present.get(key)
            if known is None and len(self._present) >= MOST:
                return False
            since = (time.time(), time.monotonic()) if known is None else (known.since, known.began)
            trouble = Trouble(key, what, why[:LONGEST], *since, is_essential)
            self._present[key] = trouble
        if trouble != known:
            self._tell()
        return known is None

    def clear(self, key: str) -> None:
        """Note that it works."""
        if key not in self._present:
            return
        with self._lock:
            known = self._present.pop(key, None)
        if known is not None:
            self._tell()

    def has(self, key: str) -> bool:
        return key in self._present

    @property
    def present(self) -> Sequence[Trouble]:
        """Return the present troubles, the oldest first."""
        with self._lock:
            return sorted(self._present.values(), key=lambda one: one.began)

    def _tell(self) -> None:
        if self._reactor is None or isInIOThread():  # type: ignore[no-untyped-call]
            self._changed(self.present)
        else:
            self._reactor.callFromThread(lambda: self._changed(self.present))


class TroubleLog:
    """Logs the beginning and the end of the troubles of one process or of several."""

    def __init__(self) -> None:
        self._sources: dict[object, Sequence[Trouble]] = {}
        self._told: Mapping[str, Trouble] = {}

    def listener(self, source: object) -> Callable[[Sequence[Trouble]], None]:
        return lambda present: self.update(source, present)

    def update(self, source: object, present: Sequence[Trouble]) -> None:
        """Note all troubles of one source; the same of several sources counts once."""
        if present == self._sources.get(source, ()):
            return
        self._sources[source] = present
        self._compare()

    def forget(self, source: object) -> None:
        """Note that there is no such source any more."""
        if self._sources.pop(source, None):
            self._compare()

    @property
    def present(self) -> Sequence[Trouble]:
        return list(self._told.values())

    def _compare(self) -> None:
        before, self._told = self._told, _merged(self._sources.values())
        for key in self._told.keys() - before.keys():
            _log_beginning(self._told[key])
        for key in before.keys() - self._told.keys():
            _log_end(before[key])


def _merged(sources: Iterable[Sequence[Trouble]]) -> Mapping[str, Trouble]:
    """Return the troubles of all sources by key, each with its earliest beginning."""
    everything = sorted((one for present in sources for one in present), key=lambda one: -one.began)
    return {one.key: one for one in everything}


def _log_beginning(one: Trouble) -> None:
    log = _log.error if one.is_essential else _log.warn
    log("{what} fails: {why} (since {since}, retrying)",
        what=one.what, why=one.why, since=one.moment)  # fmt: skip


def _log_end(one: Trouble) -> None:
    # Not at info: those who see that it began must see that it is over.
    _log.warn("{what} works again after {seconds:.0f} s (since {since}: {why})", what=one.what,
              seconds=time.monotonic() - one.began, since=one.moment, why=one.why)  # fmt: skip
