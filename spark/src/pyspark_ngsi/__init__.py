"""FIWARE NGSI notifications in Apache Spark, through the gateway ngsi-ferry.

`spark.readStream.format("ngsi")` and `df.writeStream.format("ngsi")` are found by
Spark 4 without `register()`, wherever this package is installed (on the driver
and on every executor).
"""

from __future__ import annotations

from pyspark_ngsi.attributes import attr, attr_metadata, attr_type, observed_at, unit_code
from pyspark_ngsi.entities import entities
from pyspark_ngsi.errors import GatewayError
from pyspark_ngsi.variant import with_variant

__version__ = "0.1.0"
__all__ = [
    "GatewayError",
    "__version__",
    "attr",
    "attr_metadata",
    "attr_type",
    "entities",
    "observed_at",
    "unit_code",
    "with_variant",
]

try:
    import pyspark.sql.datasource  # noqa: F401
except ImportError:
    # Spark 3.5 has no data sources in Python; there the rest of the package is used.
    pass
else:
    from pyspark_ngsi.source import DefaultSource as DefaultSource

    __all__ += ["DefaultSource"]
