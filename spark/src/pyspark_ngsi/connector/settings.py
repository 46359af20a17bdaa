"""The two settings objects that jobs of the PySpark Connector know.

They are set on the driver, mostly; replies are sent from executors. So what is
set goes with every Python function that Spark ships, in an environment variable
of its workers.
"""

from __future__ import annotations

import json
import os
from typing import Any

from pyspark_ngsi.errors import OptionError
from pyspark_ngsi.http import Access

VARIABLE = "PYSPARK_NGSI_CONNECTOR"


class Settings:
    """Settings with defaults; an unknown name is an error instead of being ignored."""

    def __init__(self, name: str, defaults: dict[str, Any]) -> None:
        object.__setattr__(self, "_name", name)
        object.__setattr__(self, "_values", dict(defaults))

    def __getattr__(self, name: str) -> Any:
        values = self.__dict__.get("_values", {})
        if name in values:
            return values[name]
        raise AttributeError(self._unknown(name))

    def __setattr__(self, name: str, value: Any) -> None:
        if name not in self._values:
            raise AttributeError(self._unknown(name))
        self._values[name] = value
        share()

    def _unknown(self, name: str) -> str:
        known = ", ".join(sorted(self.__dict__.get("_values", {})))
        return f"{self.__dict__.get('_name')} has no {name!r}; it has {known}"

    def __reduce__(self) -> str:
        # A job's function that names it means the one of the worker.
        return self._name

    def access(self) -> Access | None:
        """How to reach the gateway of these settings; none where no url is set."""
        if not self.url:
            return None
        names = {"url": "url", "ca": "caFile", "cert": "certFile", "key": "keyFile"}
        names |= {"token_file": "tokenFile", "retry_timeout": "retryTimeout"}
        options = {
            option: str(self._values[name])
            for name, option in names.items()
            if self._values[name] is not None
        }
        accesses = Access.from_options(options)
        if len(accesses) != 1:
            raise OptionError(f"{self._name}.url names several gateways; the connector reads one")
        return accesses[0]


_GATEWAY = {
    "url": None,
    "ca": None,
    "cert": None,
    "key": None,
    "token_file": None,
    "retry_timeout": None,
}

RECV_SINGLETON = Settings(
    "RECV_SINGLETON",
    {
        # The gateway's, in place of the sockets below.
        **_GATEWAY,
        "gateway": None,
        "stream": "default",
        "consumer": "connector",
        "max_records": 100_000,
        "partitions": None,
        "fail_on_data_loss": True,
        # The old ones. The gateway listens now; only the third has a meaning.
        "http_address": "localhost",
        "http_port": 8061,
        "request_completeness": True,
        "socket_address": "localhost",
        "socket_port": 9998,
        "socket_buffer": None,
        "max_concurrent_connections": None,
    },
)
"""Where notifications come from: `url`, `ca`, `cert`, `key`, `stream`, `consumer`."""

REPL_SINGLETON = Settings(
    "REPL_SINGLETON",
    {
        **_GATEWAY,
        "gateway": None,
        "fiware_service": None,
        "fiware_servicepath": None,
        "content_type": "application/json",
        "blueprint_file": None,
        "placeholder_string": "%%TOREPLACE%%",
    },
)
"""What replies carry, and which gateway takes them; that of `RECV_SINGLETON` by default."""


def share(context: Any = None) -> None:
    """Have workers that are started from now on know the settings as they are."""
    if context is None:
        from pyspark import SparkContext

        context = SparkContext._active_spark_context
    if context is not None:
        context.environment[VARIABLE] = json.dumps([RECV_SINGLETON._values, REPL_SINGLETON._values])


def _take_over() -> None:
    """In a worker: take the driver's settings."""
    shared = os.environ.get(VARIABLE)
    if shared:
        for settings, values in zip((RECV_SINGLETON, REPL_SINGLETON), json.loads(shared)):
            settings._values.update(values)


_take_over()
