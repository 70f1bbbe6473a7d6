"""What each user of locust does: send one request after the other, as `outside.py` wrote them.

Locust runs it in an environment of its own, so nothing of this repository is imported.
"""

import json
import os
from itertools import count
from pathlib import Path

from locust import FastHttpUser, constant, task

ASKED = json.loads(Path(os.environ["ASKED"]).read_text(encoding="utf-8"))
TURN = count()


class User(FastHttpUser):
    """One user, who waits for each answer and not between them."""

    wait_time = constant(0)

    @task
    def ask(self) -> None:
        """The next request of all."""
        body = ASKED["bodies"][next(TURN) % len(ASKED["bodies"])]
        headers = {"Content-Type": "application/json"}
        self.client.post(ASKED["path"], data=body.encode(), headers=headers)
