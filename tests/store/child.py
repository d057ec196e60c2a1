"""A process of its own that adds one object to a file store, under circumstances.

python -m tests.store.child CIRCUMSTANCE DIRECTORY IMAGE_ID MIBS [FILE_MODE]

Prints what became of it: "added", or the name of the error and its message.
"""

import os
import resource
import sys
from collections.abc import AsyncIterator, Callable
from typing import Any, cast

from twisted.internet import reactor as installed_reactor
from twisted.internet.defer import Deferred
from twisted.internet.task import react

from imgservice.concurrency.threads import Threads
from imgservice.store.file.config import FileConfig
from imgservice.store.file.store import FileStore
from imgservice.store.interface import StoreError

MIB = 1024 * 1024
NOBODY = 65534


def nothing_special() -> None:
    pass


def small_files_only() -> None:
    resource.setrlimit(resource.RLIMIT_FSIZE, (2 * MIB, 2 * MIB))


def nobody() -> None:
    os.setegid(NOBODY)
    os.seteuid(NOBODY)


def open_umask() -> None:
    os.umask(0o000)


def strict_umask() -> None:
    os.umask(0o077)


CIRCUMSTANCES: dict[str, Callable[[], None]] = {
    "plain": nothing_special,
    "small-files-only": small_files_only,
    "nobody": nobody,
    "open-umask": open_umask,
    "strict-umask": strict_umask,
}


async def add(directory: str, image_id: str, count: int, file_mode: str | None) -> str:
    threads = Threads(cast(Any, installed_reactor), 2, "child")
    store = FileStore("child", FileConfig(path=directory, file_mode=file_mode), threads)
    try:
        await store.check()
        await store.add(image_id, blocks(count), None)
    except StoreError as error:
        return f"{type(error).__name__}: {error}"
    finally:
        threads.stop()
    return "added"


async def blocks(count: int) -> AsyncIterator[bytes]:
    for number in range(count):
        yield bytes([number % 256]) * MIB


def main(circumstance: str, directory: str, image_id: str, count: str, *mode: str) -> None:
    CIRCUMSTANCES[circumstance]()

    async def run(reactor: object) -> None:
        print(await add(directory, image_id, int(count), mode[0] if mode else None))

    react(lambda reactor: Deferred.fromCoroutine(run(reactor)))


if __name__ == "__main__":
    main(*sys.argv[1:])
