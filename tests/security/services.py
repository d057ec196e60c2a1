"""Services for attackers: everything dangerous is turned on, and everything is logged."""

import socket
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import attrs

from tests.real.client import Client
from tests.real.roles import identity
from tests.real.service import Service

CAP = 1 << 20
"""Most bytes in an image."""
SECRET = "s3cr3t"
"""Stands in every credential of these tests, and must be in no log."""


class Attacked(Service):
    """Images whose data is elsewhere have no file, so a clean end looks otherwise."""

    def assert_clean(self) -> None:
        log = self.log.read_text()
        assert "Traceback" not in log, log[log.index("Traceback") - 200 :]
        assert self.rows("SELECT id FROM images WHERE status = 'saving'") == []
        assert self.rows("SELECT * FROM imgsvc_leases") == []
        assert SECRET not in log + self.said.read_text()

    def caller(self, project: str, roles: str = "member,reader") -> Client:
        return attrs.evolve(self.client, headers=identity(project, roles))

    def file(self, image_id: str) -> bytes | None:
        """Return what the store has of the image."""
        path = self.store / image_id
        return path.read_bytes() if path.exists() else None

    def has_nothing_of(self, image_id: str) -> bool:
        """Tell whether neither the store nor the database knows of any data."""
        found = self.rows(
            "SELECT status, size, checksum, os_hash_value FROM images WHERE id = ?", image_id
        )
        locations = self.rows(
            "SELECT id FROM image_locations WHERE image_id = ? AND deleted = 0", image_id
        )
        left = [name for name in self.files() if image_id in name]
        states = [(status, None, None, None) for status in ("queued", "deleted")]
        return all(one in states for one in found) and not locations and not left


def options(directory: Path, **more: Any) -> Mapping[str, Any]:
    return {
        "auth": {"mode": "trusted_headers"},
        "stores": {
            "local": {"type": "file", "path": str(directory / "images")},
            "web": {"type": "http"},
        },
        "locations": {"show": True, "direct_url": True},
        "import": {"filter": {"allowed_ports": [], "cidrs": ["127.0.0.1/32"]}},
        "logging": {"level": "debug"},
        **more,
        "limits": {"image_size": CAP, "properties": 4, "tags": 4, **more.get("limits", {})},
    }


@contextmanager
def attacked(directory: Path, **more: Any) -> Iterator[Attacked]:
    service = Attacked(directory, options(directory, **more))
    service.make_tables()
    try:
        service.start()
        yield service
        service.stop()
    finally:
        service.end()


@contextmanager
def another_node(service: Attacked, directory: Path) -> Iterator[Attacked]:
    """Run a second service on the database and the store of the first."""
    directory.mkdir()
    shared = {name: service.options[name] for name in ("database", "stores")}
    with attacked(directory, **shared) as other:
        other.database, other.store = service.database, service.store
        yield other


@attrs.frozen
class Tripwire:
    """A port that nobody may come to."""

    listener: socket.socket

    @property
    def port(self) -> int:
        number: int = self.listener.getsockname()[1]
        return number

    def assert_untouched(self) -> None:
        try:
            connection, _ = self.listener.accept()
        except BlockingIOError:
            return
        connection.close()
        raise AssertionError("a client connected")


@contextmanager
def tripwire(address: str = "127.0.0.1") -> Iterator[Tripwire]:
    with closing(socket.socket()) as listener:
        listener.bind((address, 0))
        listener.listen()
        listener.setblocking(False)
        yield Tripwire(listener)
