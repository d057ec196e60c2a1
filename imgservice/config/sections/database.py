"""The database."""

import attrs

from imgservice.domain.options import option
from imgservice.domain.units import Duration, Secret


@attrs.frozen(kw_only=True)
class DatabaseOptions:
    url: Secret = option(
        Secret("sqlite:///var/imgservice.db"),
        "SQLAlchemy URL of the database; like every secret also {file: PATH} or {env: NAME}.",
    )
    threads: int = option(2, "Threads that read SQLite at the same time.")
    pool: int = option(10, "Most connections to PostgreSQL or MariaDB that a process has.")
    pool_timeout: Duration = option(
        Duration(30), "How long a request may wait for one of them; then it is answered 503."
    )
    connect_timeout: Duration = option(Duration(5), "How long connecting may take.")
    answer_timeout: Duration = option(
        Duration(60), "A server that does not answer for so long is taken to be gone."
    )
