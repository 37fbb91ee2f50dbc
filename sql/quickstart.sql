-- The quickstart: real flights, loaded into a supertable, corrected in SQL, queried.
--
--     cargo run --features cli -- -f sql/quickstart.sql
--
-- It can be run as often as you like. The table's place is named once, below; to keep it somewhere
-- else, an S3 bucket for example, change only that:
--
--     sed 's|target/quickstart/flights/|s3://my-bucket/flights/|' sql/quickstart.sql | cargo run --features cli
--
-- The data are described in sql/data/README.md.

-- 1. Two ordinary CSV files, as DataFusion reads them.
CREATE EXTERNAL TABLE airlines
STORED AS CSV LOCATION 'sql/data/airlines.csv'
OPTIONS ('format.has_header' 'true');

CREATE EXTERNAL TABLE flights_csv
STORED AS CSV LOCATION 'sql/data/flights.csv.gz'
OPTIONS ('format.has_header' 'true', 'format.compression' 'gzip');

-- 2. A supertable: immutable Parquet files that can nevertheless be changed. Nothing runs but this
--    process; the directory is the whole table. If it exists from the last run, it is opened.
CREATE EXTERNAL TABLE flights (
    year           SMALLINT NOT NULL,
    month          SMALLINT NOT NULL,
    day            SMALLINT NOT NULL,
    dep_time       INT,
    sched_dep_time INT,
    dep_delay      INT,
    arr_time       INT,
    sched_arr_time INT,
    arr_delay      INT,
    carrier        VARCHAR NOT NULL,
    flight         INT NOT NULL,
    tailnum        VARCHAR,
    origin         VARCHAR NOT NULL,
    dest           VARCHAR NOT NULL,
    air_time       INT,
    distance       INT,
    hour           SMALLINT,
    minute         SMALLINT,
    time_hour      TIMESTAMP,
    note           VARCHAR
) STORED AS SUPERTABLE LOCATION 'target/quickstart/flights/';

-- 3. Start from an empty table (the last run left its rows), then load it: 51,955 flights.
TRUNCATE TABLE flights;

INSERT INTO flights SELECT *, origin || '-' || dest FROM flights_csv;

SELECT 'loaded' AS step, carrier, count(*) AS flights, round(avg(dep_delay), 2) AS avg_delay
FROM flights GROUP BY carrier ORDER BY flights DESC LIMIT 5;

-- 4. Delete every flight of the airlines whose name begins with Express: 7,998 of them.
DELETE FROM flights
WHERE carrier IN (SELECT carrier FROM airlines WHERE name LIKE 'Express%');

SELECT 'after DELETE' AS step, count(*) AS flights, count(DISTINCT carrier) AS carriers FROM flights;

-- 5. Update: departures ahead of schedule in January count as on time, and say so. 13,605 of them.
SELECT 'before UPDATE' AS step, count(*) AS flights, min(dep_delay) AS earliest,
       round(avg(dep_delay), 2) AS avg_delay
FROM flights WHERE month = 1;

UPDATE flights SET dep_delay = 0, note = 'rebased ' || note WHERE dep_delay < 0 AND month = 1;

SELECT 'after UPDATE' AS step, count(*) AS flights, min(dep_delay) AS earliest,
       round(avg(dep_delay), 2) AS avg_delay
FROM flights WHERE month = 1;

SELECT month, day, carrier, flight, dep_delay, note
FROM flights WHERE note LIKE 'rebased %' ORDER BY month, day, carrier, flight LIMIT 3;

-- 6. The result: departures by airline.
SELECT a.name, count(*) AS flights, round(avg(f.dep_delay), 2) AS avg_delay
FROM flights f JOIN airlines a ON a.carrier = f.carrier
GROUP BY a.name ORDER BY flights DESC;

-- 7. What a statement would do, without doing it; and how the table is read.
EXPLAIN DELETE FROM flights WHERE tailnum IS NULL;

EXPLAIN SELECT count(*) FROM flights;

SELECT 'finished' AS step, count(*) AS flights FROM flights;
