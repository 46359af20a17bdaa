"""Attributes as a VARIANT, for Spark 4."""

from __future__ import annotations

from pyspark.sql import DataFrame
from pyspark.sql import functions as f

from pyspark_ngsi.errors import GatewayError


def with_variant(df: DataFrame, column: str = "attrs", into: str = "attrsVariant") -> DataFrame:
    """Add the JSON of a column as a VARIANT, read once for any number of paths.

    Then `variant_get(attrsVariant, '$.temperature.value', 'double')` in SQL. Null
    where the text is no JSON. Raises `GatewayError` on Spark 3.5, which has none.
    """
    if not hasattr(f, "try_parse_json"):
        raise GatewayError(
            "this Spark has no VARIANT, which came with 4.0: use "
            'attr(df, "temperature", "double") of pyspark_ngsi instead'
        )
    return df.withColumn(into, f.try_parse_json(f.col(column)))
