"""Commands of operators, such as `imgservice check`, forked from a warm process.

What a test sees is what `subprocess` would show, and comes a second earlier.
"""

import os
from collections.abc import Mapping
from pathlib import Path
from subprocess import CompletedProcess, TimeoutExpired

from imgservice.process.control import hidden_file, read_hidden_file
from tests.real.warm import WarmProcess
from tests.summary import count_start

TIMEOUT = 120.0


class Command(WarmProcess):
    """A command whose output is kept until it has ended."""

    def __init__(
        self,
        *command: str | Path,
        cwd: Path | None = None,
        env: Mapping[str, str] | None = None,
        input: str = "",
        stderr: int | None = None,
    ) -> None:
        """The program is `IMGSERVICE` or `TWISTD`; `stderr` may be a terminal."""
        count_start("command")
        self._said = ("", "")
        files = [hidden_file(each) for each in (input.encode(), b"", b"")]
        self._outputs = files[1:]
        descriptors = files if stderr is None else [*files[:2], stderr]
        environment = os.environ if env is None else env
        super().__init__([str(each) for each in command], cwd or Path(), environment, descriptors)
        os.close(files[0])

    def communicate(self, timeout: float = TIMEOUT) -> tuple[str, str]:
        """Wait for its end, and return what it has written to standard output and errors."""
        self.wait(timeout)
        return self._said

    def _look(self, timeout: float | None) -> int | None:
        code = super()._look(timeout)
        if code is not None and self._outputs:
            output, errors = (_written(each) for each in self._outputs)
            self._said, self._outputs = (output, errors), []
        return code


def _written(descriptor: int) -> str:
    os.lseek(descriptor, 0, os.SEEK_SET)  # the offset is where the command has stopped writing
    return read_hidden_file(descriptor).decode()


def run_command(
    *command: str | Path,
    cwd: Path | None = None,
    env: Mapping[str, str] | None = None,
    input: str = "",
    stderr: int | None = None,
    timeout: float = TIMEOUT,
) -> CompletedProcess[str]:
    """Run a command as `subprocess.run` would with `capture_output` and `text`."""
    started = Command(*command, cwd=cwd, env=env, input=input, stderr=stderr)
    try:
        output, errors = started.communicate(timeout)
    except TimeoutExpired:
        started.kill()
        started.wait()
        raise
    return CompletedProcess(command, started.wait(), output, errors)
