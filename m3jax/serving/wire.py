"""What a server grants those who connect over HTTP: seconds and places."""

import dataclasses
import math


@dataclasses.dataclass(frozen=True)
class Wire:
    """Deadlines and limits of connections; those of calls are ``calls.Limits``.

    The defaults need fewer than 1,024 open files. A request's body takes no more memory
    than the largest call (``max_batch``), and a connection has one request at a time.

    Attributes:
      head_s: seconds for the head of a request, and for the handshake of TLS; also how
        long a connection waits for a place.
      body_s: seconds for the body of a request, after its head.
      write_s: seconds in which a caller must have taken an answer.
      idle_s: seconds for which an open connection may stay without a request. Longer
        than clients keep theirs, so that it is they who close them.
      grace_s: seconds for calls under way when the server is told to end.
      max_connections: most connections at once.
      max_per_address: most of them from one address.
      max_parked: most connections that wait for a place; further ones are refused.

    Raises:
      ValueError: seconds or a limit that are not positive, or more connections from one
        address than from all.

    Example:
      >>> Wire(head_s=2.0).body_s
      30.0
    """

    head_s: float = 10.0
    body_s: float = 30.0
    write_s: float = 30.0
    idle_s: float = 75.0
    grace_s: float = 10.0
    max_connections: int = 512
    max_per_address: int = 384
    max_parked: int = 256

    def __post_init__(self):
        for name, value in dataclasses.asdict(self).items():
            if name.endswith("_s"):
                low = 0.0 if name == "grace_s" else math.ulp(0.0)
                if not isinstance(value, int | float) or not low <= value < math.inf:
                    raise ValueError(f"{name} is {value}; give seconds above 0")
            elif type(value) is not int or value < (name != "max_parked"):
                raise ValueError(f"{name} is {value}; give a whole number from 1")
        if self.max_per_address > self.max_connections:
            raise ValueError(
                f"max_per_address is {self.max_per_address}; it cannot be above"
                f" max_connections, {self.max_connections}"
            )


DEFAULTS = Wire()
