"""How much the server takes: of a request, of a client, and of all that wait."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Limits:
    """What is refused, and when.

    Attributes:
        head_bytes: of the head of a request; h11 looks after a read, which may have more.
        body_bytes: of a request.
        body_seconds: in which a head has to arrive, or a body, or an answer has to be taken, but
            for the time that its bytes take at the speed `slowest`.
        slowest: bytes a second of a client whose body or answer takes longer than that.
        file_bytes: of a file to answer.
        texts: examples of a request.
        characters: of an example.
        waiting: examples that wait, of all requests together.
        waiting_characters: of those examples.
        seconds: in which a request is answered, or given up.
        rate: requests a second of a client, on average; None: as many as it likes.
        connections: open at a time; while there are more, every request but those of a
            supervisor and of the page is refused, and its connection closed.
    """

    head_bytes: int = 64 << 10
    body_bytes: int = 8 << 20
    body_seconds: float = 20.0
    slowest: int = 16 << 10
    file_bytes: int = 256 << 20
    texts: int = 2048
    characters: int = 200_000
    waiting: int = 20_000
    waiting_characters: int = 64 << 20
    seconds: float = 60.0
    rate: float | None = None
    connections: int = 2048
