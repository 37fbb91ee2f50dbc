"""Runs the .slt files of this directory on DuckDB and compares with the results they expect.

The expected results of these files were not copied from this crate's output: this script shows
that an independent database agrees with them. Records marked `onlyif supertable` are skipped; they
are about this crate (locations, sessions, plans), or use what DuckDB does not have.

    pip install duckdb==2.0.0
    python sql/oracle.py            # all files; or name some
"""

import datetime
import decimal
import math
import pathlib
import re
import sys

import duckdb

HERE = pathlib.Path(__file__).resolve().parent


def records(path):
    """Yields (line, conditions, head, sql, expected) of each statement and query."""
    lines = path.read_text().splitlines()
    at, conditions = 0, []
    while at < len(lines):
        line = lines[at].strip()
        start = at + 1
        at += 1
        if not line or line.startswith("#"):
            continue
        if line.startswith(("onlyif ", "skipif ", "connection ")):
            conditions.append(line)
            continue
        sql, expected = [], None
        while at < len(lines) and lines[at].strip() and lines[at].strip() != "----":
            sql.append(lines[at])
            at += 1
        if at < len(lines) and lines[at].strip() == "----":
            at += 1
            expected = []
            while at < len(lines) and lines[at].strip():
                expected.append(" ".join(lines[at].split()))
                at += 1
        yield start, conditions, line, "\n".join(sql), expected
        conditions = []


def translate(sql):
    """From this crate's SQL to DuckDB's, where only the spelling differs."""
    sql = re.sub(r"\s*STORED AS SUPERTABLE.*$", "", sql, flags=re.S)
    sql = sql.replace("CREATE EXTERNAL TABLE", "CREATE TABLE")
    sql = re.sub(
        r"CREATE TABLE (\w+)\s+STORED AS CSV LOCATION '([^']*)'.*$",
        r"CREATE TABLE \1 AS SELECT * FROM read_csv('\2')",
        sql,
        flags=re.S,
    )
    sql = sql.replace("__DATA__", f"{HERE}/data/")
    sql = re.sub(r"(TINYINT|SMALLINT|INTEGER|BIGINT) UNSIGNED", r"U\1", sql)
    # DuckDB's / is not an integer division.
    sql = re.sub(r" / ", " // ", sql)
    return sql


def cell(value):
    if value is None:
        return "NULL"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, decimal.Decimal):
        text = f"{value:f}"
        return text.rstrip("0").rstrip(".") if "." in text else text
    if isinstance(value, float):
        if math.isnan(value):
            return "NaN"
        if math.isinf(value):
            return "Infinity" if value > 0 else "-Infinity"
        text = repr(float(f"{value:.11e}")).replace("e+", "e")
        return text[:-2] if text.endswith(".0") else text
    if isinstance(value, datetime.datetime):
        text = value.replace(tzinfo=None).isoformat()
        return text.rstrip("0") if "." in text else text
    if isinstance(value, bytes):
        return value.hex()
    text = str(value)
    return " ".join(text.split()) if text else "(empty)"


def run(path):
    database = duckdb.connect()
    database.execute("SET TimeZone = 'UTC'")
    wrong = done = skipped = 0
    for line, conditions, head, sql, expected in records(path):
        others = [c for c in conditions if c.startswith("onlyif") and c != "onlyif duckdb"]
        if others or "skipif duckdb" in conditions:
            skipped += 1
            continue
        done += 1
        words = head.split()
        try:
            rows = database.execute(translate(sql)).fetchall()
            got = [" ".join(cell(v) for v in row) for row in rows]
            error = None
        except duckdb.Error as e:
            got, error = None, str(e).splitlines()[0]
        if words[:2] == ["statement", "error"]:
            agree = error is not None
        elif words[:2] == ["statement", "ok"]:
            agree = error is None
        else:
            agree = error is None
            if agree and "rowsort" in words:
                got.sort()
            agree = agree and got == expected
        if not agree:
            wrong += 1
            print(f"{path.name}:{line}: {sql}\n  expected: {expected}\n  DuckDB:   {error or got}")
    print(f"{path.name}: {done} records compared, {skipped} are about supertables only, {wrong} differ")
    return wrong


if __name__ == "__main__":
    names = sys.argv[1:] or sorted(HERE.glob("*.slt"))
    sys.exit(1 if sum(run(pathlib.Path(name)) for name in names) else 0)
