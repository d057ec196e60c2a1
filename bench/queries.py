"""The lists that are asked for, as the paths that clients send."""

import re
from urllib.parse import urlencode

import attrs

from bench.population import FAMILIES, RARE, Population

NOBODY_HAS_IT = "none-has-this"


@attrs.frozen
class Query:
    """A list, and what to call it in a table."""

    name: str
    parameters: tuple[tuple[str, str], ...] = ()

    @property
    def path(self) -> str:
        """What is asked for."""
        return "/v2/images" + (f"?{urlencode(self.parameters)}" if self.parameters else "")


def queries(population: Population, names: str = "") -> list[Query]:
    """Return all lists whose names match; what they find is there, if not said otherwise."""
    family = str(7 % FAMILIES)
    found = [
        Query("first 25"),
        Query("25 after a marker", (("marker", population.place_seen(0.9)),)),
        Query("first 1,000", (("limit", "1000"),)),
        Query("name", (("name", "image-0000007"),)),
        Query("status", (("status", "queued"),)),
        Query("size_min", (("size_min", str(9 * 10**9)),)),
        Query("property, 1 in 50", (("os_distro", f"distribution-{family}"),)),
        Query("property, 1 in 1,000", (("build", RARE),)),
        Query("property, none", (("os_distro", NOBODY_HAS_IT),)),
        Query("tag, 1 in 50", (("tag", f"team-{family}"),)),
        Query("tag, none", (("tag", NOBODY_HAS_IT),)),
        Query("public", (("visibility", "public"),)),
        Query("shared, any status", (("visibility", "shared"), ("member_status", "all"))),
        Query("by created_at, oldest first", (("sort", "created_at:asc"),)),
        Query("by name", (("sort", "name:asc"),)),
        Query("by size", (("sort", "size:desc"),)),
        Query("by updated_at", (("sort", "updated_at:desc"),)),
    ]
    return [query for query in found if re.search(names, query.name)]
