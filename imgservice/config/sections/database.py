"""The database, and the connections to it."""

import attrs

from imgservice.domain.options import option
from imgservice.domain.units import Duration, Secret


@attrs.frozen(kw_only=True)
class DatabaseOptions:
    url: Secret = option(
        Secret("sqlite:///var/imgservice.db"),
        "SQLAlchemy URL of the database. Like every secret, it may be {file: PATH} or {env: NAME}.",
    )
    threads: int = option(2, "Threads that read from SQLite.", ge=1)
    pool: int = option(
        10, "Maximum number of connections of each process to PostgreSQL or MariaDB.", ge=1
    )
    pool_timeout: Duration = option(
        Duration(30), "How long a request waits for a connection; then the response is 503."
    )
    connect_timeout: Duration = option(Duration(5), "Timeout for connecting.")
    answer_timeout: Duration = option(
        Duration(60), "A database server that does not respond for so long is considered down."
    )
