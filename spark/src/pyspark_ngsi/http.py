"""Requests to a gateway or relay: HTTP/1.1 over TLS, tried again while that can help."""

from __future__ import annotations

import http.client
import json
import os
import random
import socket
import ssl
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote, urlencode, urlsplit

from pyspark_ngsi.errors import (
    Conflict,
    Forgotten,
    Gone,
    OptionError,
    Refused,
    Unreachable,
    Untrusted,
)

DEFAULT_RETRY_TIMEOUT_S = 300.0
CONNECT_TIMEOUT_S = 15.0
# Longer than any request may take there: a dead line must end somewhere.
ANSWER_TIMEOUT_S = 90.0
FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.2, 10.0


@dataclass(frozen=True)
class Access:
    """How a job reaches one gateway or relay; small, hashable and picklable.

    Paths are read on the machine that connects: the driver and every executor.
    """

    url: str
    """`https://host:port`, without a path."""
    ca_file: str | None = None
    """Authority (PEM) of the gateway's certificate; the system's without it."""
    cert_file: str | None = None
    """The job's certificate chain (PEM)."""
    key_file: str | None = None
    """Its private key (PEM); in `cert_file` without it."""
    token_file: str | None = None
    """A file with a bearer token, read anew for each connection."""
    retry_timeout_s: float = DEFAULT_RETRY_TIMEOUT_S
    """For how long a request is tried again while the gateway cannot be reached."""

    @staticmethod
    def from_options(options: Mapping[str, str]) -> list[Access]:
        """Read the options `url` (several with commas), `caFile`, `certFile`, … of a job.

        Spark hands option names over in lower case or as a case-insensitive map.
        """
        options = {name.lower(): value for name, value in options.items()}
        urls = [url.strip() for url in options.get("url", "").split(",") if url.strip()]
        if not urls:
            raise OptionError('the option "url" is missing: .option("url", "https://gateway:8443")')
        wait = options.get("retrytimeout")
        return [
            Access(
                url=_checked_url(url),
                ca_file=_readable("caFile", options.get("cafile")),
                cert_file=_readable("certFile", options.get("certfile")),
                key_file=_readable("keyFile", options.get("keyfile")),
                token_file=_readable("tokenFile", options.get("tokenfile")),
                retry_timeout_s=DEFAULT_RETRY_TIMEOUT_S if wait is None else seconds(wait),
            )
            for url in urls
        ]


@dataclass(frozen=True)
class Answer:
    """A whole answer of the gateway."""

    status: int
    headers: Mapping[str, str]
    """Names in lower case."""
    body: bytes = field(repr=False)

    def json(self) -> Any:
        """Give the body, read as JSON."""
        return json.loads(self.body)


def request(
    access: Access,
    method: str,
    path: str,
    *,
    query: Mapping[str, Any] | None = None,
    body: bytes | Mapping[str, Any] | None = None,
    headers: Mapping[str, str] | None = None,
    wait_s: float = 0.0,
) -> Answer:
    """Send one request and give its 2xx answer.

    Parts of `path` that come from outside are put in by `segment`. A request that
    did not reach the gateway, or that it had no room or time for (503, 429), is
    sent again for up to `retry_timeout_s`: every request of the API may be
    repeated. `wait_s` is how long the gateway may hold the answer back (a long-poll).

    Raises `Unreachable`, `Untrusted`, `Gone`, `Conflict` or `Refused`.
    """
    if query:
        wanted = {name: value for name, value in query.items() if value is not None}
        path = f"{path}?{urlencode(wanted)}"
    sent = dict(headers or {})
    if body is not None and not isinstance(body, bytes):
        body = json.dumps(body).encode()
        sent.setdefault("Content-Type", "application/json")
    deadline = time.monotonic() + access.retry_timeout_s
    pause = FIRST_PAUSE_S
    while True:
        try:
            answer = _exchange(access, method, path, body, sent, wait_s)
        except ssl.SSLError as error:
            _drop(access)
            if not _is_passing(error):
                raise Untrusted(_untrusted(access, error)) from error
            problem = str(error)
        except (OSError, http.client.HTTPException) as error:
            _drop(access)
            problem = str(error) or type(error).__name__
        else:
            if 200 <= answer.status < 300:
                return answer
            if answer.status not in (429, 503):
                raise _refusal(access, method, path, answer)
            problem = _description(answer)
            pause = max(pause, min(_retry_after(answer), LONGEST_PAUSE_S))
        left = deadline - time.monotonic()
        if left <= 0:
            raise Unreachable(
                f"{access.url} could not be used for {access.retry_timeout_s:.0f} s: {problem}. "
                "Check that the gateway runs and that the line is up; a longer "
                'option "retryTimeout" lets the job wait for it'
            )
        time.sleep(min(left, pause * random.uniform(0.5, 1.0)))
        pause = min(pause * 2, LONGEST_PAUSE_S)


def segment(text: str) -> str:
    """Make one segment of a path from any text."""
    return quote(text, safe="")


def seconds(text: str) -> float:
    """Read a duration: a number of seconds, or `500ms`, `30s`, `5m`, `1h`."""
    units = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0}
    number, unit = text.strip(), "s"
    for name in units:
        if number.endswith(name) and number[: -len(name)].strip().replace(".", "", 1).isdigit():
            number, unit = number[: -len(name)], name
            break
    try:
        return float(number) * units[unit]
    except ValueError:
        raise OptionError(
            f"{text!r} is no duration: write a number of seconds, or 500ms, 30s, 5m, 1h"
        ) from None


# One connection for each thread and gateway, kept open between requests.
_connections = threading.local()


def _exchange(
    access: Access,
    method: str,
    path: str,
    body: bytes | None,
    headers: dict[str, str],
    wait_s: float,
) -> Answer:
    connection = _connection(access)
    if access.token_file:
        with open(access.token_file, encoding="utf-8") as file:
            words = file.read().split()
        if not words:
            # Just being written anew, perhaps: this is tried again.
            raise OSError(f"{access.token_file} is empty")
        headers = {**headers, "Authorization": f"Bearer {words[-1]}"}
    if connection.sock is None:
        connection.connect()
        connection.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    connection.sock.settimeout(ANSWER_TIMEOUT_S + wait_s)
    connection.request(method, path, body=body, headers=headers)
    response = connection.getresponse()
    read = response.read()
    if connection.sock is None:
        # The gateway has closed it. The next one reads the certificates anew.
        _drop(access)
    return Answer(response.status, {k.lower(): v for k, v in response.getheaders()}, read)


def _connection(access: Access) -> http.client.HTTPSConnection:
    # A forked worker must not share its parent's connections.
    mine = (os.getpid(), access)
    known: dict[Any, http.client.HTTPSConnection] = _connections.__dict__.setdefault("known", {})
    if mine not in known:
        target = urlsplit(access.url)
        known[mine] = http.client.HTTPSConnection(
            target.hostname or "",
            target.port or 443,
            timeout=CONNECT_TIMEOUT_S,
            context=_tls(access),
        )
    return known[mine]


def _drop(access: Access) -> None:
    known = _connections.__dict__.get("known", {})
    connection = known.pop((os.getpid(), access), None)
    if connection is not None:
        connection.close()


def _tls(access: Access) -> ssl.SSLContext:
    try:
        context = ssl.create_default_context(cafile=access.ca_file)
        context.minimum_version = ssl.TLSVersion.TLSv1_3
        if access.cert_file:
            context.load_cert_chain(access.cert_file, access.key_file)
    except (OSError, ssl.SSLError) as error:
        raise Untrusted(
            "the certificates of the options caFile, certFile and keyFile cannot be used "
            f"({access.ca_file}, {access.cert_file}, {access.key_file}): {error}. They are PEM "
            "files, and must be on the driver and on every executor"
        ) from error
    return context


def _is_passing(error: ssl.SSLError) -> bool:
    """Tell a line that was cut in the middle from a certificate that is refused."""
    return isinstance(
        error, (ssl.SSLEOFError, ssl.SSLZeroReturnError, ssl.SSLWantReadError, ssl.SSLSyscallError)
    )


def _untrusted(access: Access, error: ssl.SSLError) -> str:
    text = str(error)
    if isinstance(error, ssl.SSLCertVerificationError):
        why = error.verify_message
        if "self" in why or "issuer" in why:
            hint = 'set the option "caFile" to the gateway\'s authority (its data_dir/pki/ca.pem)'
        elif "match" in why or "mismatch" in why.lower():
            hint = (
                "the certificate is for other names: use one of them in the url, or make it anew "
                "on the gateway with `ngsi-ferry pki init --name NAME`"
            )
        elif "expired" in why or "not yet" in why:
            hint = "renew it on the gateway (`ngsi-ferry pki renew`), or mend one side's clock"
        else:
            hint = "see the gateway's certificate"
        return f"the certificate of {access.url} is not accepted: {why}; {hint}"
    if "CERTIFICATE_REQUIRED" in text.upper() or "certificate required" in text:
        return (
            f"{access.url} wants a client certificate: set the options certFile and keyFile "
            "(`ngsi-ferry pki client NAME` makes them), or tokenFile where it takes tokens"
        )
    if "ALERT" in text.upper():
        return (
            f"{access.url} does not accept the certificate {access.cert_file}: it must be of the "
            f"gateway's own authority and not denied or expired ({error.reason})"
        )
    if "WRONG_VERSION" in text.upper() or "http request" in text.lower():
        return f"{access.url} does not speak TLS: is it the port of spark.listen? ({error.reason})"
    return f"no TLS connection to {access.url}: {text}"


def _refusal(access: Access, method: str, path: str, answer: Answer) -> Refused:
    text = f"{access.url} answered {answer.status} to {method} {path}: {_description(answer)}"
    kind = {409: Conflict, 410: Gone}.get(answer.status, Refused)
    document = _document(answer)
    if kind is Gone and document.get("error") == "Forgotten":
        kind = Forgotten
    return kind(text, answer.status, document)


def _document(answer: Answer) -> dict[str, Any]:
    try:
        document = answer.json()
    except ValueError:
        return {}
    return document if isinstance(document, dict) else {}


def _description(answer: Answer) -> str:
    text = answer.body[:500].decode("utf-8", "replace")
    return str(_document(answer).get("description") or text or answer.status)


def _retry_after(answer: Answer) -> float:
    try:
        return float(answer.headers.get("retry-after", "0"))
    except ValueError:
        return 0.0


def _checked_url(url: str) -> str:
    target = urlsplit(url)
    if target.scheme != "https" or not target.hostname or target.path not in ("", "/"):
        raise OptionError(
            f'"{url}" in the option "url" is no address of a gateway: '
            "https://HOST:PORT, the address of spark.listen there"
        )
    return f"https://{target.netloc}"


def _readable(option: str, path: str | None) -> str | None:
    if path is not None and not os.access(path, os.R_OK):
        raise OptionError(f'the file {path} of the option "{option}" cannot be read here')
    return path
