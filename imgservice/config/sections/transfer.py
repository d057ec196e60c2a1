"""Memory and threads for image data."""

import attrs

from imgservice.domain.options import option
from imgservice.domain.units import Size


@attrs.frozen(kw_only=True)
class TransferOptions:
    window: Size = option(Size(8 << 20), "Bytes of one upload that may wait in memory.")
    memory: Size = option(
        Size(256 << 20), "Bytes of all uploads together; their windows shrink to it."
    )
    threads: int = option(8, "Threads that hash, write and read the bytes of images.")
    accel: str | None = option(
        None,
        "Path, such as /stored, below which all of server.trusted_proxies find our files by"
        " themselves: downloads by way of them are answered with X-Accel-Redirect: PATH/STORE/FILE,"
        " and nginx sends the data; null: we send it.",
    )
