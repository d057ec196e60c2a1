"""A delete of the image only as the client has seen it."""

import pytest
import pytest_twisted

from imgservice.db.repositories.images import Images
from imgservice.domain.errors import ImageNotFound, PreconditionFailed
from imgservice.domain.image import Image
from imgservice.service.ports import JobRepository
from tests.contract.databases import database, database_url, sqlite_url
from tests.contract.test_repository import (
    CONTENT,
    added,
    clock,
    jobs,
    new_job,
    recorded,
    repository,
)

__all__ = [  # fixtures
    "clock",
    "database",
    "database_url",
    "jobs",
    "repository",
    "sqlite_url",
]


def refuse(image: Image) -> None:
    raise PreconditionFailed("It is not what it was.")


@pytest_twisted.ensureDeferred
async def test_a_refusal_leaves_everything(repository: Images, jobs: JobRepository) -> None:
    image = await added(repository, tags=("a",), locations=(CONTENT.location,))
    with pytest.raises(PreconditionFailed):
        await repository.delete(image.id, new_job(image.id, kind="delete"), refuse)
    assert await repository.get(image.id) == image
    assert await recorded(jobs) == []


@pytest_twisted.ensureDeferred
async def test_the_whole_image_is_looked_at(repository: Images) -> None:
    image = await added(repository, tags=("a",), properties={"b": "c"})
    seen: list[Image] = []
    await repository.delete(image.id, new_job(image.id, kind="delete"), seen.append)
    assert seen == [image]
    with pytest.raises(ImageNotFound):
        await repository.get(image.id)


@pytest_twisted.ensureDeferred
async def test_what_is_gone_is_not_looked_at(repository: Images) -> None:
    with pytest.raises(ImageNotFound):
        await repository.delete("nothing", new_job("nothing"), refuse)
