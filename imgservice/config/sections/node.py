"""This node, and the other nodes that share its database."""

import attrs

from imgservice.config.forms import NODE_URL
from imgservice.domain.options import option


@attrs.frozen(kw_only=True)
class NodeOptions:
    url: str | None = option(
        None,
        "URL at which the other nodes reach this one, such as http://node1:9292.",
        form=NODE_URL,
    )
    peers: tuple[str, ...] | None = option(
        None,
        "URLs of the other nodes. Requests may be forwarded to them, with the caller's credentials."
        " null: the URLs that nodes have recorded in the database, except this host and link-local"
        " addresses.",
        form=NODE_URL,
    )
    ca_file: str | None = option(
        None, "PEM file with the authorities to trust there. null: those of the system."
    )
