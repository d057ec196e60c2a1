"""From the configuration to addresses and to the keys of TLS; nothing is bound."""

from imgservice.config.errors import OptionError
from imgservice.config.sections import Config
from imgservice.process.addresses import Address, ListenError, read_address
from imgservice.process.tls.files import read_material
from imgservice.process.tls.material import TlsMaterial


def addresses(config: Config) -> tuple[Address, ...]:
    """Read the addresses to listen on."""
    found = []
    for index, description in enumerate(config.server.listen):
        try:
            found.append(read_address(description, config.server.backlog, index))
        except ListenError as error:
            raise OptionError(("server", "listen", index), str(error)) from None
    return tuple(found)


def tls_material(config: Config) -> TlsMaterial | None:
    """Read the files of `server.tls`, if there are any."""
    if config.server.tls is None:
        return None
    try:
        return read_material(config.server.tls)
    except ListenError as error:
        raise OptionError(("server", "tls"), str(error)) from None


def check_exposure(config: Config) -> None:
    """Refuse addresses at which other machines could do too much, or read credentials."""
    danger = _danger(config)
    for index, address in enumerate(addresses(config)):
        if danger and not address.is_loopback:
            raise OptionError(
                ("server", "listen", index),
                f"{address.description!r} can be reached from other machines, and auth.mode"
                f" {config.auth.mode} {danger}",
            )


def _danger(config: Config) -> str:
    """Return what makes the configuration unsafe beyond this machine, and what to do about it."""
    auth = config.auth
    if auth.mode == "none" and not auth.none.anywhere:
        return (
            "gives everyone full access; listen on 127.0.0.1, choose another auth.mode, or set"
            " auth.none.anywhere: true"
        )
    if auth.mode in ("basic", "tokens") and not (config.server.tls or auth.clear_text):
        return (
            "needs TLS there, since passwords and tokens could be read on the network; set"
            " server.tls, listen on 127.0.0.1 behind a proxy that does TLS, or set auth.clear_text:"
            " true"
        )
    return ""
