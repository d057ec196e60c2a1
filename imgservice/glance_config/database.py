"""From [database] to database."""

from imgservice.config.sections import Config
from imgservice.db.engine.url import UrlError, parse_url
from imgservice.glance_config.conversion import Conversion
from imgservice.glance_config.values import whole

_USUAL = Config().database.pool


def convert_database(conversion: Conversion) -> None:
    names = ("database/connection", "DEFAULT/sql_connection", "database/sql_connection")
    one = conversion.given.find(*names)
    url = conversion.read(one, str)
    if one is None or not url:
        conversion.lose(
            "database",
            "[database] connection is not there: without database.url, images are recorded in a new"
            " SQLite file.",
        )
        if one is not None:
            conversion.ignore(one, "is empty")
    else:
        try:
            parse_url(url)
        except UrlError as error:
            conversion.wrong(one, str(error))
        conversion.put("database.url", conversion.secrets.take(one, url), one)
    _convert_pool(conversion)


def _convert_pool(conversion: Conversion) -> None:
    """Never open more connections than Glance would, nor fewer than we would ourselves."""
    one = conversion.given.find("database/max_pool_size", "DEFAULT/sql_max_pool_size")
    more = conversion.given.find("database/max_overflow", "DEFAULT/sql_max_overflow")
    size = conversion.read(one, whole(0)) if one is not None else 5
    extra = conversion.read(more, whole(-1)) if more is not None else 50
    if size is None or extra is None or one is more is None:
        return
    unlimited = size == 0 or extra < 0
    pool = max(size, _USUAL) if unlimited else min(size + extra, max(size, _USUAL))
    for source in (one, more):
        if source is not None:
            remark = f"in Glance {'any number' if unlimited else size + extra}"
            conversion.put("database.pool", pool, source, remark)
