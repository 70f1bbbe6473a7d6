"""By which names the server may be asked.

A page of the web may make its own name point at this machine (DNS rebinding): a browser then takes
what listens here for that page's server, and lets it read the answers. The browser says in the
header Host which name it asks, so a server without keys answers to the names alone that it knows.
An address is no name of anybody's, and always taken.
"""

from __future__ import annotations

from collections.abc import Iterable
from ipaddress import ip_address

from bertolt.serve.errors import RefusedError

_SHOWN = 80


class Hosts:
    """The names by which a server may be asked, beside addresses and `localhost`.

    Args:
        names: of hosts, without a port.
    """

    def __init__(self, names: Iterable[str] = ()) -> None:
        self.names = {"localhost", *map(_plain, names)}

    def require(self, headers: Iterable[str]) -> None:
        """Refuse another name.

        Args:
            headers: each Host of a request; a client that sends none is no browser.

        Raises:
            RefusedError: 421, for one that is neither known nor an address.
        """
        for header in headers:
            name = _name_in(header)
            if name not in self.names and not _is_address(name):
                raise RefusedError(
                    421,
                    f"the server is not asked by the name {name[:_SHOWN]!r}",
                    fix="ask by its address or as localhost; who starts it may allow a name by "
                    "--allowed-hosts NAME, or have it ask for keys by --keys",
                    param="Host",
                    code="unknown_host",
                )


def _name_in(header: str) -> str:
    """The name or the address in a header, without its port."""
    header = header.strip()
    if header.startswith("["):
        address, _, port = header[1:].partition("]")
        return address if _is_port(port) else header
    name, colon, port = header.rpartition(":")
    return _plain(name if _is_port(colon + port) else header)


def _is_port(text: str) -> bool:
    """Whether it is a colon and a number, which may be left out, as may both."""
    return not text or (text[0] == ":" and (text[1:] or "0").isdecimal())


def _plain(name: str) -> str:
    return name.strip().removesuffix(".").lower()


def _is_address(name: str) -> bool:
    try:
        ip_address(name)
    except ValueError:
        return False
    return True
