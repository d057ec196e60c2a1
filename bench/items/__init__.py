"""What is measured: one module for each kind of work."""

from bench.items.download import DOWNLOAD
from bench.items.idle import IDLE
from bench.items.keystone import KEYSTONE
from bench.items.list import LIST
from bench.items.mixed import MIXED
from bench.items.show import SHOW
from bench.items.slow import SLOW
from bench.items.startup import STARTUP
from bench.items.tls import TLS
from bench.items.upload import UPLOAD
from bench.items.write import PATCH, WRITE

_ALL = (
    STARTUP, SHOW, WRITE, PATCH, LIST, UPLOAD, DOWNLOAD, TLS, SLOW, IDLE, MIXED, KEYSTONE,
)  # fmt: skip
ITEMS = {item.name: item for item in _ALL}
