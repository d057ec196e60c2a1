"""Memory and threads for image data."""

import attrs

from imgservice.config.forms import PATH_PREFIX
from imgservice.domain.options import option
from imgservice.domain.units import Size


@attrs.frozen(kw_only=True)
class TransferOptions:
    window: Size = option(Size(8 << 20), "Maximum memory of one upload.", ge=1 << 20)
    memory: Size = option(
        Size(256 << 20),
        "Maximum memory of all uploads in each process; with many uploads, each gets less. Stores"
        " of type s3, if there are any, have half of it for parts.",
        ge=1 << 20,
    )
    threads: int = option(8, "Threads that hash, write and read image data.", ge=1)
    accel: str | None = option(
        None,
        "URL path, such as /stored, under which nginx serves the files of the stores. Downloads"
        " through server.trusted_proxies are then answered with X-Accel-Redirect:"
        " PATH/STORE/FILE, and nginx sends the data. null: this service sends it.",
        form=PATH_PREFIX,
    )
