"""Trials by children of the fork server, so that their parent imports nothing for it."""

import os
import pickle
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path

import attrs

from imgservice.config.errors import ConfigError
from imgservice.config.sections import Config
from imgservice.process.control import hidden_file
from imgservice.process.fork_server import TRIAL
from imgservice.process.forking import ForkServer
from imgservice.wiring.trials import Examined

QUESTION, ANSWER = 3, 4
"""Descriptors of its process."""


@attrs.frozen
class Question:
    """What a process is to try."""

    path: Path | None
    config: Config
    is_examined: bool
    """Whether it is known already that the service can be built."""
    prepares: bool


@attrs.frozen
class Answer:
    """What it has found out."""

    mistake: str | None = None
    failure: str | None = None
    """The traceback of an unexpected error."""
    imported: Sequence[str] = ()
    """The modules that the build has needed, which the fork server had not imported."""


class ForkedTrials:
    """Asks a new child each time."""

    def __init__(self, path: Path | None, forks: ForkServer) -> None:
        self._path = path
        self._forks = forks
        self._examined = Examined()

    def examine(self, config: Config) -> None:
        self._begin(Question(self._path, config, is_examined=False, prepares=False))()
        self._examined.add(config)

    def prepare(self, config: Config) -> Callable[[], None]:
        self._forks.renew()
        return self._begin(Question(self._path, config, config in self._examined, prepares=True))

    def _begin(self, question: Question) -> Callable[[], None]:
        try:
            ours = self._ask(question)
        except OSError as error:
            raise ConfigError(f"the configuration cannot be tried: {error.strerror}") from None
        return lambda: self._forks.share(_wait(ours))

    def _ask(self, question: Question) -> int:
        """Return the descriptor from which the answer can be read."""
        with ExitStack() as stack:
            asked = hidden_file(pickle.dumps(question))
            stack.callback(os.close, asked)
            ours, theirs = os.pipe()
            stack.callback(os.close, theirs)
            self._forks.fork([TRIAL], {QUESTION: asked, ANSWER: theirs}, lambda why, by: None)
        return ours


def _wait(answers: int) -> Sequence[str]:
    """Return the modules that are worth sharing; raise what the trial has found."""
    with os.fdopen(answers, "rb") as pipe:
        data = pipe.read()
    if not data:
        raise ConfigError("the configuration cannot be tried: the process that does it has ended")
    answer: Answer = pickle.loads(data)  # noqa: S301  it comes from our own process
    if answer.failure is not None:
        raise RuntimeError(f"The trial of the configuration failed:\n{answer.failure}")
    if answer.mistake is not None:
        raise ConfigError(answer.mistake)
    return answer.imported
