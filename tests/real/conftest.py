"""What the tests against a running service share."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.real.client import Client
from tests.real.service import Service, running


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    with running(tmp_path_factory.mktemp("service")) as started:
        yield started


@pytest.fixture
def client(service: Service) -> Client:
    return service.client


@pytest.fixture(scope="session")
def image_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return where image files of the whole session are made."""
    return tmp_path_factory.mktemp("image-files")
