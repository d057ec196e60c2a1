"""The databases that the contract of the repositories is checked against."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import cast

import pytest
import pytest_twisted
from twisted.internet import reactor

from imgservice.db.engine.database import Database
from imgservice.db.engine.open import DatabaseLimits, open_database
from tests.real.service import empty_database


@pytest.fixture
def sqlite_url(tmp_path: Path) -> str:
    path = tmp_path / "images.db"
    path.write_bytes(empty_database())
    return f"sqlite:///{path}"


@pytest.fixture(params=["sqlite", "postgresql", "mariadb"])
def database_url(request: pytest.FixtureRequest) -> str:
    """The URL of a new database with all tables; a kind is the name of a fixture *_url."""
    return cast(str, request.getfixturevalue(f"{request.param}_url"))


@pytest_twisted.async_yield_fixture
async def database(database_url: str) -> AsyncIterator[Database]:
    opened = open_database(database_url, DatabaseLimits(), reactor)
    yield opened
    await opened.close()
