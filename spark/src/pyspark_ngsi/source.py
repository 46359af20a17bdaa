"""The data source `ngsi`, as Spark finds it: the class `DefaultSource` of this package."""

from __future__ import annotations

from pyspark.sql.datasource import (
    DataSource,
    DataSourceReader,
    DataSourceStreamReader,
    DataSourceStreamWriter,
    DataSourceWriter,
)
from pyspark.sql.types import StructType

from pyspark_ngsi.errors import OptionError
from pyspark_ngsi.options import ReadOptions


class DefaultSource(DataSource):
    """Notifications from gateways of ngsi-ferry, and write-backs to them."""

    @classmethod
    def name(cls) -> str:
        """Give the name for `format`."""
        return "ngsi"

    def schema(self) -> str:
        """Give the columns that the options ask for."""
        return ReadOptions.from_options(self.options).columns.ddl

    def reader(self, schema: StructType) -> DataSourceReader:
        """Give the reader of `spark.read`."""
        from pyspark_ngsi.reader import NgsiBatchReader

        return NgsiBatchReader(self._read_options(schema))

    def streamReader(self, schema: StructType) -> DataSourceStreamReader:
        """Give the reader of `spark.readStream`."""
        from pyspark_ngsi.reader import NgsiStreamReader

        return NgsiStreamReader(self._read_options(schema))

    def writer(self, schema: StructType, overwrite: bool) -> DataSourceWriter:
        """Give the writer of `df.write`."""
        from pyspark_ngsi.writer import batch_writer

        return batch_writer(self.options, schema, overwrite)

    def streamWriter(self, schema: StructType, overwrite: bool) -> DataSourceStreamWriter:
        """Give the writer of `df.writeStream`."""
        from pyspark_ngsi.writer import stream_writer

        return stream_writer(self.options, schema, overwrite)

    def _read_options(self, schema: StructType) -> ReadOptions:
        options = ReadOptions.from_options(self.options)
        if schema.fieldNames() != list(options.columns.names):
            raise OptionError(
                "the columns of ngsi are fixed: leave .schema(…) out, and choose some of them "
                'with .option("columns", "gateway, seq, entityId, attrs")'
            )
        return options
