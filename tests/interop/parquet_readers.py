"""parquet_readers - what DuckDB, Polars and pyarrow each read in one table of the accounting data.

    parquet_readers.py DIRECTORY

DIRECTORY is a table below v1, with its dt= partitions. Prints a JSON object with one entry per
reader: the number of rows and of days and, per column in the order of the file, the type in words
common to all three (INT32, INT64, DOUBLE, BOOLEAN, TIMESTAMP for UTC microseconds, STRING), the
number of values that are not null, and the least, the greatest and the sum of them. Times are
microseconds since the epoch. Only numbers have a sum; a column without any value has null for all
three. A type beyond these words is printed as the reader names it, so that the caller finds it
different.
"""

import datetime
import json
import sys

import duckdb
import polars as pl
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds

EPOCH = datetime.datetime(1970, 1, 1, tzinfo=datetime.timezone.utc)
DUCKDB = {
    "INTEGER": "INT32", "BIGINT": "INT64", "DOUBLE": "DOUBLE", "BOOLEAN": "BOOLEAN",
    "TIMESTAMP WITH TIME ZONE": "TIMESTAMP", "VARCHAR": "STRING",
}
POLARS = {
    "Int32": "INT32", "Int64": "INT64", "Float64": "DOUBLE", "Boolean": "BOOLEAN",
    "Datetime(time_unit='us', time_zone='UTC')": "TIMESTAMP", "String": "STRING",
}
PYARROW = {
    "int32": "INT32", "int64": "INT64", "double": "DOUBLE", "bool": "BOOLEAN",
    "timestamp[us, tz=UTC]": "TIMESTAMP", "string": "STRING",
}
NUMBERS = ("INT32", "INT64", "DOUBLE")


def column(name, kind, count, low, high, total):
    return {"name": name, "type": kind, "count": count, "min": low, "max": high, "sum": total}


def with_duckdb(directory):
    con = duckdb.connect()
    con.execute("SET TimeZone='UTC'")
    table = "read_parquet(?, hive_partitioning=true, union_by_name=true)"
    files = [f"{directory}/**/*.parquet"]

    def ask(question):
        return con.execute(f"{question} FROM {table}", files).fetchone()

    described = con.execute(f"DESCRIBE SELECT * FROM {table}", files).fetchall()
    columns = []
    for name, kind, *_ in described:
        if name == "dt":
            continue
        kind = DUCKDB.get(kind, kind)
        value = f'epoch_us("{name}")' if kind == "TIMESTAMP" else f'"{name}"'
        total = f"sum({value})" if kind in NUMBERS else "NULL"
        edges = ask(f"SELECT count({value}), min({value}), max({value}), {total}")
        columns.append(column(name, kind, *edges))
    rows, days = ask("SELECT count(*), count(DISTINCT dt)")
    return {"rows": rows, "days": days, "columns": columns}


def with_polars(directory):
    scan = pl.scan_parquet(f"{directory}/", hive_partitioning=True, missing_columns="insert")
    frame = scan.collect()

    def plain(value):
        is_time = isinstance(value, datetime.datetime)
        return (value - EPOCH) // datetime.timedelta(microseconds=1) if is_time else value

    columns = []
    for name, kind in frame.schema.items():
        if name == "dt":
            continue
        kind = POLARS.get(str(kind), str(kind))
        values = frame[name].drop_nulls()
        wide = values.cast(pl.Int64) if kind == "INT32" else values
        total = wide.sum() if kind in NUMBERS and len(values) else None
        edges = (plain(values.min()), plain(values.max())) if len(values) else (None, None)
        columns.append(column(name, kind, len(values), *edges, total))
    return {"rows": frame.height, "days": frame["dt"].n_unique(), "columns": columns}


def with_pyarrow(directory):
    table = ds.dataset(directory, partitioning="hive").to_table()
    columns = []
    for field in table.schema:
        if field.name == "dt":
            continue
        kind = PYARROW.get(str(field.type), str(field.type))
        values = table[field.name].drop_null()
        numbers = values.cast(pa.int64()) if kind == "TIMESTAMP" else values
        edges = pc.min_max(numbers).as_py() if len(values) else {"min": None, "max": None}
        total = pc.sum(values).as_py() if kind in NUMBERS and len(values) else None
        columns.append(
            column(field.name, kind, len(values), edges["min"], edges["max"], total))
    return {"rows": table.num_rows, "days": len(pc.unique(table["dt"])), "columns": columns}


if __name__ == "__main__":
    where = sys.argv[1]
    readers = {"duckdb": with_duckdb, "polars": with_polars, "pyarrow": with_pyarrow}
    print(json.dumps({name: read(where) for name, read in readers.items()}))
