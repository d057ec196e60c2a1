"""What a service says to systemd, and what it is given by it."""

import os
import socket
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import attrs

from tests.process.observed import ObservedService
from tests.real.service import wait_until


@attrs.define
class Told:
    """One message."""

    at: float
    fields: Mapping[str, str]


@attrs.define
class Manager:
    """Listens where NOTIFY_SOCKET leads, as systemd does."""

    address: str
    told: list[Told] = attrs.field(factory=list)

    def read(self, listener: socket.socket) -> None:
        """Keep messages, until one is empty."""
        while message := listener.recv(1 << 16):
            fields = dict(line.split("=", 1) for line in message.decode().splitlines())
            self.told.append(Told(time.monotonic(), fields))

    def all_of(self, name: str) -> list[Told]:
        return [one for one in self.told if name in one.fields]

    def until(self, name: str, value: str, seconds: float = 30.0) -> Told:
        """Wait until this was said, and return it."""

        def said() -> list[Told]:
            return [one for one in self.all_of(name) if one.fields[name] == value]

        wait_until(said, seconds)
        return said()[-1]

    def environment(self, **more: Any) -> Mapping[str, str]:
        """Return what lets a service tell us."""
        return {"NOTIFY_SOCKET": self.address, **{name: str(more[name]) for name in more}}


@contextmanager
def manager(directory: Path, is_abstract: bool = False, listens: bool = True) -> Iterator[Manager]:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
        path = f"@imgservice-{os.getpid()}" if is_abstract else str(directory / "notify")
        listener.bind("\0" + path[1:] if is_abstract else path)
        found = Manager(path)
        reading = threading.Thread(target=found.read, args=(listener,))
        if listens:
            reading.start()
        try:
            yield found
        finally:
            if listens:
                with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
                    sender.sendto(b"", listener.getsockname())
                reading.join()


@contextmanager
def told(
    service: ObservedService, manager: Manager, workers: int, **environment: Any
) -> Iterator[None]:
    """Run the service with us as its manager; stop it in the end, if it still runs."""
    service.environment = manager.environment(**environment)
    service.make_tables()
    try:
        service.start()
        service.until(workers or 1)
        yield
    finally:
        service.end()
