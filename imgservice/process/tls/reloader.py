"""Notices when the files of TLS change, and takes over what is in them.

Not by `concurrency.file_watch`, which looks when a request begins, in the process that reads: here
the parent looks for its workers, and without root's rights the privileged helper does.
"""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Protocol

from twisted.application.service import Service
from twisted.logger import Logger

from imgservice.concurrency.reactor import Clock, looping_call
from imgservice.process.addresses import ListenError
from imgservice.process.tls.material import TlsMaterial, doubts

INTERVAL = 1.0
"""Seconds between two looks at the files."""
REMIND = timedelta(days=1)
"""After which a warning of an expiring certificate is repeated."""


_log = Logger()


class Replaceable(Protocol):
    """What serves connections, in this process or in others."""

    @property
    def material(self) -> TlsMaterial: ...

    def replace(self, material: TlsMaterial) -> None: ...


class TlsReloader(Service):
    """Looks at the files regularly, and takes over what has changed in them.

    It waits until they have not changed between two looks: key and certificate are not written in
    one moment. Files that cannot be used are logged once and tried again with every look; until
    then the previous certificates stay in use.
    """

    def __init__(
        self,
        clock: Clock,
        read: Callable[[], TlsMaterial],
        signature: Callable[[], object],
        contexts: Replaceable,
        interval: float = INTERVAL,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._read = read
        self._signature = signature
        self._contexts = contexts
        self._now = now
        self._last_look: object = contexts.material.signature
        self._complaint = ""
        self._reminded: datetime | None = None
        self._interval = interval
        self._looks = looping_call(clock, self._look)

    def startService(self) -> None:
        super().startService()
        self._looks.start(self._interval)

    def stopService(self) -> None:
        super().stopService()
        self._looks.stop()

    def reload(self) -> None:
        """Read the files now, whether or not they look changed."""
        try:
            material = self._read()
        except ListenError as error:
            self._complain(str(error))
            return
        self._complaint = ""
        if material != self._contexts.material:
            files = ", ".join(pair.file for pair in material.pairs)
            _log.info("TLS: reloaded {files} for new connections", files=files)
            self._reminded = None
        self._contexts.replace(material)

    def _look(self) -> None:
        found = self._signature()
        is_quiet, self._last_look = found == self._last_look, found
        if is_quiet and found != self._contexts.material.signature:
            self.reload()
        now = self._now()
        if self._reminded is None or now >= self._reminded + REMIND:
            self._reminded = now
            for doubt in doubts(self._contexts.material, now):
                _log.warn("TLS: {doubt}", doubt=doubt)

    def _complain(self, complaint: str) -> None:
        if complaint != self._complaint:
            self._complaint = complaint
            _log.error("TLS: {complaint}; keeping the previous certificates", complaint=complaint)
