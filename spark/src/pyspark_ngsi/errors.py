"""What can go wrong between a job and its gateway, in words for the job's author."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


class GatewayError(Exception):
    """Something that the job cannot go on with. The text says what to do."""


class OptionError(GatewayError):
    """An option of the job is missing or has a wrong value."""


class Unreachable(GatewayError):
    """The gateway did not answer within `retryTimeout`."""


class Untrusted(GatewayError):
    """TLS failed: one side does not accept the other's certificate."""


class Refused(GatewayError):
    """The gateway answered, and refused."""

    def __init__(self, text: str, status: int, answer: Mapping[str, Any]) -> None:
        super().__init__(text)
        self.status = status
        """HTTP status of the answer."""
        self.answer = dict(answer)
        """The answer's JSON, `{"error": …, "description": …}` and more."""

    def __reduce__(self) -> tuple[Any, ...]:
        # Errors travel from executors to the driver.
        return (type(self), (str(self), self.status, self.answer))


class Gone(Refused):
    """410: what was asked for is not there any more."""


class Forgotten(Gone):
    """The gateway does not know any more which batches of this query it applied."""


class Conflict(Refused):
    """409: what was asked for does not fit what the gateway has."""

    @property
    def ends_at(self) -> int | None:
        """Where the log ends, if what was asked for lies beyond that."""
        is_beyond = self.answer.get("error") == "BeyondEnd"
        return int(self.answer["next"]) if is_beyond else None


class DataLoss(GatewayError):
    """Records that the job had not read are gone."""


class ConsumerTaken(GatewayError):
    """Another query reads as the same consumer."""
