"""What the commands have in common."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import wraps
from typing import Concatenate, ParamSpec

import click

from imgservice.config.errors import OptionError
from imgservice.config.sections import Config
from imgservice.db.engine.url import UrlError
from imgservice.db.schema.database import SchemaError

P = ParamSpec("P")
DRY_RUN = click.option("--dry-run", is_flag=True, help="Print what would be done, and do nothing.")


def with_url(
    command: Callable[Concatenate[str, P], None],
) -> Callable[Concatenate[Config, P], None]:
    """Give a command the URL of the configured database, and name the option if it is wrong."""

    @wraps(command)
    def connected(config: Config, /, *arguments: P.args, **options: P.kwargs) -> None:
        with _naming_the_option():
            command(config.database.url.reveal(), *arguments, **options)

    return connected


@contextmanager
def _naming_the_option() -> Iterator[None]:
    try:
        yield
    except (SchemaError, UrlError) as error:
        raise OptionError(("database", "url"), str(error)) from None
