"""What engines that know nothing of supertables read in superfiles.

    python3 engines.py PHYSICAL_NAME,… FILE…

Each engine opens the files with these columns by their physical names. One line of JSON for each engine:
its name, and all rows, ordered.
"""

import json
import os
import sys

import daft
import duckdb
import polars
import pyarrow.parquet


def read_pyarrow(file, columns):
    return pyarrow.parquet.read_table(file, columns=columns, use_threads=False).to_pylist()


def read_duckdb(file, columns):
    names = ", ".join(f'"{column}"' for column in columns)
    return duckdb.sql(f"SELECT {names} FROM read_parquet('{file}')").to_arrow_table().to_pylist()


def read_polars(file, columns):
    return polars.read_parquet(file, columns=columns).to_dicts()


def read_daft(file, columns):
    return daft.read_parquet(file).select(*columns).to_pylist()


def main():
    columns, files = sys.argv[1].split(","), sys.argv[2:]
    engines = {"pyarrow": read_pyarrow, "duckdb": read_duckdb, "polars": read_polars, "daft": read_daft}
    for engine, read in engines.items():
        rows = [[row[column] for column in columns] for file in files for row in read(file, columns)]
        rows.sort(key=lambda row: json.dumps(row, default=str))
        print(json.dumps({"engine": engine, "rows": rows}, default=str), flush=True)
    # Without the ends of the engines' threads, which abort the process now and then.
    os._exit(0)


if __name__ == "__main__":
    main()
