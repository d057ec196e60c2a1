"""What is measured: one module for each kind of work."""

from bench.items.crowd import CROWD
from bench.items.download import DOWNLOAD
from bench.items.idle import IDLE
from bench.items.keystone import KEYSTONE
from bench.items.list import LIST
from bench.items.memory import MEMORY
from bench.items.mixed import MIXED
from bench.items.profile import PROFILE
from bench.items.show import SHOW
from bench.items.slow import SLOW
from bench.items.startup import STARTUP
from bench.items.tls import TLS
from bench.items.upload import UPLOAD
from bench.items.write import PATCH, WRITE

_ALL = (
    STARTUP, SHOW, WRITE, PATCH, LIST, UPLOAD, DOWNLOAD, TLS, SLOW, IDLE, CROWD, MIXED,
    KEYSTONE, PROFILE, MEMORY,
)  # fmt: skip
ITEMS = {item.name: item for item in _ALL}
ON_REQUEST = (CROWD.name, PROFILE.name, MEMORY.name)
"""Only measured when they are asked for by name."""
