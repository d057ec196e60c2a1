"""How long other servers are waited for, and how much they may send."""

import attrs


@attrs.frozen(kw_only=True)
class FetchLimits:
    """Times are in seconds, sizes in bytes."""

    connect: float = 30.0
    idle: float = 60.0
    """For the head of an answer, and from then on between any two pieces of its data."""
    head: int = 32 << 10
    """Of an answer's head."""
    answer: int | None = None
    """Of what follows the head, with all that goes around the data; None: any number."""
    min_rate: float = 100.0
    """Bytes a second that must come, on the average of `min_rate_time` in which we wait; 0: any."""
    min_rate_time: float = 120.0
