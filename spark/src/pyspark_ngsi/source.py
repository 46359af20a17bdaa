"""The data source `ngsi`."""

from __future__ import annotations

from pyspark.sql.datasource import DataSource, DataSourceStreamWriter, DataSourceWriter
from pyspark.sql.types import StructType


class DefaultSource(DataSource):
    """What Spark looks for in a package `pyspark_*`."""

    @classmethod
    def name(cls) -> str:
        """Give the name for `format`."""
        return "ngsi"

    def writer(self, schema: StructType, overwrite: bool) -> DataSourceWriter:
        """See `pyspark_ngsi.writer`."""
        from pyspark_ngsi.writer import batch_writer

        return batch_writer(self.options, schema, overwrite)

    def streamWriter(self, schema: StructType, overwrite: bool) -> DataSourceStreamWriter:
        """See `pyspark_ngsi.writer`."""
        from pyspark_ngsi.writer import stream_writer

        return stream_writer(self.options, schema, overwrite)
