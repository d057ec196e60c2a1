"""Limits of time and size for the answers of other servers."""

import attrs


@attrs.frozen(kw_only=True)
class FetchLimits:
    """Times are in seconds, sizes in bytes."""

    connect: float = 30.0
    idle: float = 60.0
    """For the head of an answer, and from then on between any two pieces of its data."""
    permission: float = 5.0
    """For the word that data which must be asked for is wanted; then it is sent without."""
    head: int = 32 << 10
    """Of an answer's head."""
    answer: int | None = None
    """Of an answer's body, with the framing of its chunks; None: unlimited."""
    min_rate: float = 100.0
    """Least bytes a second, averaged over `min_rate_time` of waiting; 0: no minimum."""
    min_rate_time: float = 120.0
