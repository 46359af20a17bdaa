"""FIWARE NGSI notifications in Apache Spark, through the gateway ngsi-ferry.

`spark.readStream.format("ngsi")` and `df.writeStream.format("ngsi")` are found by
Spark 4 without `register()`, wherever this package is installed (on the driver
and on every executor).
"""

from __future__ import annotations

from pyspark_ngsi.errors import GatewayError

__version__ = "0.1.0"
__all__ = ["GatewayError", "__version__"]

try:
    from pyspark_ngsi.source import DefaultSource
except ImportError:  # Spark 3.5 has no Python data sources.
    pass
else:
    __all__ += ["DefaultSource"]
