"""The states of the service and of its workers.

Not by automat: its machines do not tell their state, which the state file reports, and each signal
would have to be declared for each phase in which it is ignored.
"""

import time
from collections.abc import Mapping
from enum import StrEnum


class Phase(StrEnum):
    """The state of the whole service."""

    STARTING = "starting"
    SERVING = "serving"
    DRAINING = "draining"
    """Health checks are refused, connections are still accepted."""
    DRAINED = "drained"
    """No connections are accepted."""
    STOPPING = "stopping"


class WorkerState(StrEnum):
    """The state of one worker."""

    STARTING = "starting"
    READY = "ready"
    RETIRING = "retiring"
    """It accepts no more, and hands its connections over to a successor."""
    STOPPING = "stopping"
    ENDED = "ended"


_NEXT: Mapping[Phase, frozenset[Phase]] = {
    Phase.STARTING: frozenset((Phase.SERVING, Phase.STOPPING)),
    Phase.SERVING: frozenset((Phase.DRAINING, Phase.STOPPING)),
    Phase.DRAINING: frozenset((Phase.DRAINED, Phase.SERVING, Phase.STOPPING)),
    Phase.DRAINED: frozenset((Phase.SERVING, Phase.STOPPING)),
    Phase.STOPPING: frozenset(),
}


class Life:
    """The present phase of the service, and since when."""

    def __init__(self) -> None:
        self._set(Phase.STARTING)

    def enter(self, phase: Phase) -> None:
        if phase not in _NEXT[self.phase]:
            raise ValueError(f"a service that is {self.phase} cannot be {phase} next")
        self._set(phase)

    def _set(self, phase: Phase) -> None:
        self.phase = phase
        self.since = time.time()
        """By the wall clock, for display."""
        self.began = time.monotonic()
        """By the monotonic clock, which the processes of a machine share."""

    @property
    def is_out_of_rotation(self) -> bool:
        """Whether load balancers send no requests here, or are about to."""
        return self.phase in (Phase.DRAINING, Phase.DRAINED)

    @property
    def is_changing(self) -> bool:
        """Whether it starts or stops, so that it need not serve at present."""
        return self.phase in (Phase.STARTING, Phase.STOPPING)
