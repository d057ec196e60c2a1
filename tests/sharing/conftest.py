"""One node of ours on each kind of database, beside one of Glance."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import attrs
import pytest

from imgservice.db.schema.upgrade import upgrade
from tests.real.client import Client
from tests.real.roles import TRUSTED, caller
from tests.real.service import Service
from tests.sharing.other import Other


@attrs.frozen
class Cloud:
    """A database with its nodes."""

    service: Service
    other: Other

    @property
    def owner(self) -> Client:
        return caller(self.service, "ours")

    @property
    def member(self) -> Client:
        return caller(self.service, "friends")

    @property
    def admin(self) -> Client:
        return caller(self.service, "ops", "admin,member,reader")


def shared_url(request: pytest.FixtureRequest, kind: str, directory: Path) -> str:
    """Return the URL of a new database of the kind, with all tables."""
    name = f"shared_{directory.name.replace('-', '_')}"
    url = (
        f"sqlite:///{directory}/imgservice.db"
        if kind == "sqlite"
        else request.getfixturevalue(kind).create(name)
    )
    upgrade(url)
    return str(url)


@pytest.fixture(scope="module", params=["sqlite", "postgresql", "mariadb"])
def cloud(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Cloud]:
    directory = tmp_path_factory.mktemp(f"rules_{request.param}")
    url = shared_url(request, request.param, directory)
    options: dict[str, Any] = {**TRUSTED, "database": {"url": url}, "locations": {"show": True}}
    service = Service(directory, options)
    try:
        yield Cloud(service.start(), Other.on(url))
        assert "Traceback" not in service.log.read_text()
    finally:
        service.end()
