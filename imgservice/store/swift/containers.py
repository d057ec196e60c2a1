"""The containers of the store, of which some may have to be made."""

from imgservice.store.interface import StoreUnavailable
from imgservice.store.swift.client import Place, SwiftClient
from imgservice.store.swift.errors import Failures


class Containers:
    """Knows which containers there are, in one account."""

    def __init__(self, client: SwiftClient, failures: Failures, creates: bool) -> None:
        self._client = client
        self._failures = failures
        self._creates = creates
        self._known: set[str] = set()

    async def require(self, name: str) -> None:
        """See that the container exists; create it if that is allowed."""
        if name in self._known:
            return
        if not await self.exists(name):
            if not self._creates:
                raise self.missing(name)
            await self._client.told("PUT", Place(name), {"content-length": "0"})
        self._known.add(name)

    async def exists(self, name: str) -> bool:
        answer, _ = await self._client.told("HEAD", Place(name), allowed=[404])
        return answer.status != 404

    def missing(self, name: str) -> StoreUnavailable:
        """Note that the container does not exist, or not any more."""
        self._known.discard(name)
        return self._failures.unavailable(
            f"the container {name} does not exist; create it, or set create_container"
        )
