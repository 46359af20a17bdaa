"""Replies to the context broker, through the gateway: kept there, and replayed in order.

Each is sent until the gateway has it on stable storage, and raises where the
gateway refuses it: the task fails then, and Spark tries it again. So a reply may
go more than once; `df.writeStream.format("ngsi")` applies each once.
"""

from __future__ import annotations

import http.client
import json
import time
from collections.abc import Iterable
from typing import Any
from urllib.parse import urlsplit

from pyspark_ngsi.connector.settings import RECV_SINGLETON, REPL_SINGLETON
from pyspark_ngsi.errors import GatewayError, OptionError, Refused, Unreachable
from pyspark_ngsi.http import DEFAULT_RETRY_TIMEOUT_S, request, seconds, segment

METHODS = ("POST", "PUT", "PATCH", "DELETE")
TIMEOUT_S = 30.0


def ReplyToBroker(values: Iterable[Any], api_url: str, api_method: str = "POST") -> str:
    """Fill the blueprint (`REPL_SINGLETON.blueprint_file`) with values and send it.

    Each value takes the place of one `placeholder_string`, in order: text as it is,
    everything else as JSON. Gives the body of the answer, mostly empty.
    """
    path = REPL_SINGLETON.blueprint_file
    if not path:
        raise OptionError("ReplyToBroker needs REPL_SINGLETON.blueprint_file, a JSON file")
    try:
        with open(path, encoding="utf-8") as file:
            blueprint = file.read()
    except OSError as error:
        raise OptionError(
            f"REPL_SINGLETON.blueprint_file cannot be read: {error}; it must be on every executor"
        ) from error
    return SemistructuredReplyToBroker(values, blueprint, api_url, api_method)


def SemistructuredReplyToBroker(
    values: Iterable[Any], body: str, api_url: str, api_method: str = "POST"
) -> str:
    """Fill the placeholders in `body` with values, in order, and send it."""
    placeholder = REPL_SINGLETON.placeholder_string
    pieces = str(body).split(placeholder)
    texts = [value if isinstance(value, str) else json.dumps(value) for value in values]
    if len(texts) != len(pieces) - 1:
        raise ValueError(
            f"the body has {len(pieces) - 1} placeholders {placeholder!r}, "
            f"and there are {len(texts)} values"
        )
    filled = pieces[0] + "".join(text + piece for text, piece in zip(texts, pieces[1:]))
    return UnstructuredReplyToBroker(filled, api_url, api_method)


def UnstructuredReplyToBroker(body: Any, api_url: str, api_method: str = "POST") -> str:
    """Send `body` (text, or what is JSON) to the path of `api_url`.

    It goes to the gateway of `REPL_SINGLETON`, or else of `RECV_SINGLETON`; with
    neither url set to the host in `api_url` itself, which is then the gateway's
    `[pass_through]`. Raises where it is not accepted.
    """
    method = api_method.upper()
    if method not in METHODS:
        raise ValueError(f"{api_method!r} is no method for a reply: {', '.join(METHODS)}")
    data = body.encode() if isinstance(body, str) else body
    if not isinstance(data, (bytes, bytearray)):
        data = json.dumps(data).encode()
    target = urlsplit(api_url)
    path = (target.path or "/") + (f"?{target.query}" if target.query else "")
    settings = REPL_SINGLETON if REPL_SINGLETON.url else RECV_SINGLETON
    access = settings.access()
    if access is None:
        return _send_plainly(method, api_url, path, bytes(data))
    if settings.gateway:
        path = f"/gateways/{segment(settings.gateway)}{path}"
    return request(access, method, path, body=bytes(data), headers=_headers()).body.decode()


def _headers() -> dict[str, str]:
    given = {
        "Content-Type": REPL_SINGLETON.content_type,
        "Fiware-Service": REPL_SINGLETON.fiware_service,
        "Fiware-Servicepath": REPL_SINGLETON.fiware_servicepath,
    }
    return {name: value for name, value in given.items() if value}


def _send_plainly(method: str, api_url: str, path: str, body: bytes) -> str:
    target = urlsplit(api_url)
    if target.scheme not in ("http", "https") or not target.hostname:
        raise GatewayError(
            f"{api_url!r} is no address: set REPL_SINGLETON.url to the gateway, "
            "or write the gateway's pass-through into the address"
        )
    kinds = {"http": http.client.HTTPConnection, "https": http.client.HTTPSConnection}
    wait = REPL_SINGLETON.retry_timeout
    retry_for = DEFAULT_RETRY_TIMEOUT_S if wait is None else seconds(str(wait))
    deadline, pause = time.monotonic() + retry_for, 0.2
    while True:
        connection = kinds[target.scheme](target.hostname, target.port, timeout=TIMEOUT_S)
        try:
            connection.request(method, path, body=body, headers=_headers())
            answer = connection.getresponse()
            text = answer.read().decode("utf-8", "replace")
        except (OSError, http.client.HTTPException) as error:
            problem = str(error) or type(error).__name__
        else:
            if 200 <= answer.status < 300:
                return text
            problem = f"{answer.status} {text[:500]}"
            if answer.status not in (429, 503):
                raise Refused(f"{method} {api_url} was answered {problem}", answer.status, {})
        finally:
            connection.close()
        if time.monotonic() + pause > deadline:
            raise Unreachable(
                f"{method} {api_url} was not accepted within {retry_for:.0f} s: {problem}"
            )
        time.sleep(pause)
        pause = min(2 * pause, 10.0)
