"""Makes what inspects data: not before the first upload, since what it imports takes long."""

from typing import TYPE_CHECKING

from imgservice.concurrency.threads import Threads
from imgservice.domain.format_rules import FormatRules

if TYPE_CHECKING:
    from imgservice.domain.formats import FormatCheck


class FormatChecks:
    """Makes the checks of uploads."""

    def __init__(self, threads: Threads) -> None:
        self._threads = threads
        self._make: type[FormatCheck] | None = None

    async def __call__(self, disk: str, container: str, rules: FormatRules) -> "FormatCheck":
        if self._make is None:
            self._make = await self._threads.run(_imported)
        return self._make(disk, container, rules)


def _imported() -> "type[FormatCheck]":
    from imgservice.domain.formats import FormatCheck

    return FormatCheck
