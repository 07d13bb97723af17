"""What makes a Redis be left for the one that took over."""

from __future__ import annotations

import pytest
from coredis.exceptions import ReadOnlyError, ResponseError, WrongTypeError

from luthien_guard.sinks.redis_failures import left_if_replica

SAYS = "You can't write against a read only replica."
#: Redis 6, of a script.
WITHIN = f"Error running script (call to f_4ca2): @user_script:10: @user_script: 10: -READONLY {SAYS}"


class Client:
    """As far as it is asked for its connections."""

    def __init__(self) -> None:
        self.connection_pool = self
        self.left = False

    def disconnect(self) -> None:
        self.left = True


@pytest.mark.parametrize(
    ("error", "left"),
    [
        (ReadOnlyError(SAYS), True),
        (ResponseError(WITHIN), True),
        (WrongTypeError("wrong kind of value"), False),
    ],
    ids=["a command", "a script", "another"],
)
def test_a_replica_is_left_however_it_says_so(error: ResponseError, left: bool) -> None:
    client = Client()
    with pytest.raises(ResponseError), left_if_replica(client):
        raise error
    assert client.left is left
