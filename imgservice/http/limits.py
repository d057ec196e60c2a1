"""The limits of the HTTP server."""

import attrs

from imgservice.http.minimum_rate import MinimumRate

LINGER_IDLE = 5.0


@attrs.frozen
class ServerLimits:
    """What one connection may take: times in seconds, lengths in bytes."""

    keepalive: bool = True
    """Whether a connection may serve more than one request."""
    idle_timeout: float = 900.0
    header_timeout: float = 60.0
    max_header_line: int = 16384
    max_headers_size: int = 65536
    max_headers: int = 200
    minimum_rate: MinimumRate | None = None
    answer_memory: int = 64 << 20
    """Memory for large answers, in the whole process."""
    linger_time: float = 30.0
    """How long a client may go on sending after it was answered early."""
    linger_idle: float = LINGER_IDLE
    """How long it may send nothing during that, before the connection is closed."""
    crowded_idle: float = 10.0
    """How long a connection may be idle while new connections have to wait."""
    sweep_interval: float = 1.0
    """How often the deadlines of all connections are checked."""
