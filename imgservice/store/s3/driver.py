"""What the registry knows of this type. Only a store that is configured imports botocore."""

from imgservice.concurrency.memory import SharedMemory
from imgservice.concurrency.reactor import Reactor
from imgservice.concurrency.threads import Threads
from imgservice.store.interface import Store
from imgservice.store.registry import Driver
from imgservice.store.s3.config import S3Config


def _create(
    store_id: str, config: S3Config, threads: Threads, reactor: Reactor, memory: SharedMemory
) -> Store:
    from imgservice.store.s3.store import S3Store

    return S3Store(store_id, config, threads, reactor, memory)


DRIVER = Driver(config=S3Config, create=_create, connects=True, buffers=True)
