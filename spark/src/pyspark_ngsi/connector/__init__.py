"""For jobs of the FIWARE PySpark Connector: the names they know, on the gateway's safe path.

A job moves by its import, `from pyspark_ngsi.connector import *` in place of the
old one, and by telling `RECV_SINGLETON` where the gateway is. Written from what is
known of the Connector's behaviour; none of its code is in here. See
`docs/moving-over.md` for what differs.
"""

from __future__ import annotations

from pyspark_ngsi.connector.events import (
    NGSIAttribute,
    NGSIEntityLD,
    NGSIEntityv2,
    NGSIEventLD,
    NGSIEventv2,
)
from pyspark_ngsi.connector.prime import Prime
from pyspark_ngsi.connector.replies import (
    ReplyToBroker,
    SemistructuredReplyToBroker,
    UnstructuredReplyToBroker,
)
from pyspark_ngsi.connector.settings import RECV_SINGLETON, REPL_SINGLETON

__all__ = [
    "RECV_SINGLETON",
    "REPL_SINGLETON",
    "NGSIAttribute",
    "NGSIEntityLD",
    "NGSIEntityv2",
    "NGSIEventLD",
    "NGSIEventv2",
    "Prime",
    "ReplyToBroker",
    "SemistructuredReplyToBroker",
    "UnstructuredReplyToBroker",
]
