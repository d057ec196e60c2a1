"""Requests one document at a steady rate and times the answers, in a process of its own.

Run as `python prober.py`; reads what to do from stdin and writes what it saw to stdout, as JSON.
A request is sent when it is due, whether or not earlier ones were answered.
"""

import asyncio
import json
import re
import sys
import time
from collections import Counter
from dataclasses import dataclass, field

PATIENCE_SECONDS = 8.0

Connection = tuple[asyncio.StreamReader, asyncio.StreamWriter]


@dataclass
class Prober:
    """`idle` holds the connections that wait for their next request."""

    host: str
    port: int
    request: str
    latencies: list[float] = field(default_factory=list)
    errors: Counter[str] = field(default_factory=Counter)
    idle: list[Connection] = field(default_factory=list)

    async def run(self, per_second: float, seconds: float) -> None:
        """Ask for `seconds`, then wait for the answers that are still due."""
        count, begin = round(per_second * seconds), time.monotonic()
        async with asyncio.TaskGroup() as asking:
            for number in range(count):
                await asyncio.sleep(begin + number / per_second - time.monotonic())
                asking.create_task(self._timed())
        for _, writer in self.idle:
            writer.close()

    async def _timed(self) -> None:
        """An error counts with the time it took."""
        begin = time.monotonic()
        try:
            async with asyncio.timeout(PATIENCE_SECONDS):
                status = await self._ask()
            if status != 200:
                self.errors[f"answered {status}"] += 1
        except (OSError, EOFError) as error:
            self.errors[type(error).__name__] += 1
        self.latencies.append(time.monotonic() - begin)

    async def _ask(self) -> int:
        connection = self.idle.pop() if self.idle else None
        reader, writer = connection or await asyncio.open_connection(self.host, self.port)
        try:
            writer.write(self.request.encode())
            head = await reader.readuntil(b"\r\n\r\n")
            length = re.search(rb"(?i)\ncontent-length: *(\d+)", head)
            await reader.readexactly(int(length[1]) if length else 0)
        except BaseException:
            writer.close()
            raise
        if re.search(rb"(?i)\nconnection: *close", head):
            writer.close()
        else:
            self.idle.append((reader, writer))
        return int(head[9:12])


def main() -> None:
    """Do what stdin says."""
    task = json.load(sys.stdin)
    prober = Prober(task["host"], task["port"], task["request"])
    asyncio.run(prober.run(task["per_second"], task["seconds"]))
    json.dump({"latencies": prober.latencies, "errors": prober.errors}, sys.stdout)


if __name__ == "__main__":
    main()
