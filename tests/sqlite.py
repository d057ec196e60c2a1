"""The database of tests/contract/databases.py, for tests that need only one kind: SQLite."""

import pytest

from tests.contract.databases import database, sqlite_url

__all__ = ["database", "database_url", "sqlite_url"]


@pytest.fixture
def database_url(sqlite_url: str) -> str:
    return sqlite_url
