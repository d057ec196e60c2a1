"""The databases that the contract of the repositories is checked against."""

import shutil
from collections.abc import AsyncIterator
from pathlib import Path
from typing import cast

import pytest
import pytest_twisted
from twisted.internet import reactor

from imgservice.db.engine.database import Database
from imgservice.db.engine.open import DatabaseLimits, open_database
from imgservice.db.schema.upgrade import upgrade


@pytest.fixture(scope="session")
def sqlite_template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A database with all tables, to be copied: creating one takes longer than most tests."""
    path = tmp_path_factory.mktemp("sqlite") / "template.db"
    upgrade(f"sqlite:///{path}")
    return path


@pytest.fixture
def sqlite_url(sqlite_template: Path, tmp_path: Path) -> str:
    path = tmp_path / "images.db"
    shutil.copy(sqlite_template, path)
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
