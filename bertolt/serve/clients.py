"""Who may ask: keys from a file, and how often each client does."""

from __future__ import annotations

import hashlib
import hmac
import threading
import time
from collections import OrderedDict
from pathlib import Path
from typing import NamedTuple

from bertolt.base.errors import UsageError
from bertolt.serve.errors import RefusedError

_SHORTEST = 16
_REMEMBERED = 10_000


class Client(NamedTuple):
    """Who asks: the digest of its key, and whether it is an administrator."""

    digest: str
    rules: bool


class Keys:
    """The keys of a server; a client has one of them.

    They are kept as digests, and compared in a time that does not tell how much of one was right.

    Args:
        keys: that may ask.
        admin: that may load and unload too.
    """

    def __init__(self, keys: list[str], admin: list[str]) -> None:
        self._path: Path | None = None
        self._keys = [(_digest(key), False) for key in keys]
        self._keys += [(_digest(key), True) for key in admin]

    @classmethod
    def read(cls, path: Path) -> Keys:
        """Read keys from a file: one a line; a line that begins with "admin " has one that may
        load and unload. Empty lines and lines that begin with # are left out.

        Raises:
            UsageError: the file cannot be read, has no key, or a short one.
        """
        try:
            lines = path.read_text(encoding="utf-8-sig").splitlines()  # as editors of Windows save
        except (OSError, UnicodeDecodeError) as error:
            raise UsageError(
                f"the keys cannot be read: {error}", place="--keys", fix="name a file of keys"
            ) from error
        keys: list[str] = []
        admin: list[str] = []
        for number, line in enumerate(map(str.strip, lines), start=1):
            if not line or line.startswith("#"):
                continue
            key = line.removeprefix("admin ").strip()
            if len(key) < _SHORTEST or not key.isascii() or not key.isprintable() or " " in key:
                raise UsageError(
                    f"a key has at least {_SHORTEST} characters of ASCII and no spaces",
                    place=f"{path}, line {number}",
                    fix="make one: openssl rand -hex 24",
                )
            (admin if line.startswith("admin ") else keys).append(key)
        if not keys and not admin:
            raise UsageError("there is no key", place=str(path), fix="write one a line")
        known = cls(keys, admin)
        known._path = path
        return known

    def read_again(self) -> None:
        """Take the keys that are in the file now; if it cannot be read, those before stay.

        Raises:
            UsageError: as of `read`.
        """
        if self._path is not None:
            if not self._path.is_file():  # a pipe would be waited for, and has been read
                gone = "the keys are in no file that can be read again"
                raise UsageError(gone, place="--keys", fix="start the server again")
            self._keys = self.read(self._path)._keys

    @property
    def rules(self) -> bool:
        """Whether one of them is an administrator's."""
        return any(rules for _, rules in self._keys)

    def client(self, header: str | None) -> Client:
        """Who has the key in an Authorization header.

        Raises:
            RefusedError: there is no such key.
        """
        kind, _, key = (header or "").partition(" ")
        digest = _digest(key.strip())
        known, rules = False, False
        for other, may_rule in self._keys:  # all of them, so that time tells nothing
            same = hmac.compare_digest(digest, other)
            known |= same
            rules |= same and may_rule
        if kind.lower() != "bearer" or not known:
            raise RefusedError(
                401,
                "this is none of the keys" if header else "no key was given",
                fix="send the header Authorization: Bearer KEY",
                code="invalid_api_key",
            )
        return Client(digest.hex(), rules)


def _digest(key: str) -> bytes:
    return hashlib.sha256(key.encode()).digest()


class Rate:
    """How often clients ask: each may ask `rate` times a second on average, and a second's worth
    more at once.

    Args:
        rate: requests a second.
    """

    def __init__(self, rate: float) -> None:
        self.rate, self.burst = rate, max(1.0, rate)
        self._clients: OrderedDict[str, tuple[float, float]] = OrderedDict()
        self._lock = threading.Lock()

    def take(self, client: str, now: float | None = None) -> None:
        """Count one request of a client.

        Raises:
            RefusedError: it asks too often.
        """
        now = time.monotonic() if now is None else now
        with self._lock:
            left, before = self._clients.pop(client, (self.burst, now))
            left = min(self.burst, left + (now - before) * self.rate)
            self._clients[client] = (left - 1 if left >= 1 else left, now)
            if len(self._clients) > _REMEMBERED:
                self._clients.popitem(last=False)
        if left < 1:
            raise RefusedError(
                429,
                f"a client may ask {self.rate:g} times a second",
                fix="ask less often",
                retry_after=(1 - left) / self.rate,
            )
