//! Statements: what they may hold, what they cost, and what a row is.
//!
//! Whatever DataFusion evaluates in a `SELECT` may stand in a `DELETE`, `UPDATE`, `MERGE` or `INSERT`: subqueries, also on the
//! table itself, correlated ones, parameters. All references to a table read one version, the one before the
//! statement. The result is the exact number of rows. `EXPLAIN` shows the plan and changes nothing; `EXPLAIN ANALYZE` carries
//! the statement out.
//!
//! # More forms than DataFusion plans
//!
//! `sql()`) and the command line also take these, on supertables, under `EXPLAIN` and `PREPARE` too:
//!
//! ```sql
//! WITH gone AS (SELECT …) DELETE FROM t USING gone AS g WHERE t.id = g.id;   -- WITH before each statement; aliases
//! UPDATE t AS x SET v = s.v, w = DEFAULT FROM s JOIN r ON … WHERE x.id = s.id;
//! DELETE FROM t WHERE … ORDER BY ts LIMIT 1000;                               -- UPDATE … LIMIT, too
//! MERGE INTO t USING s ON t.id = s.id WHEN MATCHED THEN UPDATE SET * WHEN NOT MATCHED THEN INSERT *;
//! INSERT INTO t BY NAME SELECT …;  INSERT INTO t VALUES (1, DEFAULT);  INSERT INTO t DEFAULT VALUES;
//! DELETE FROM t WHERE … RETURNING id, v + 1;                                  -- INSERT, UPDATE and MERGE, too
//! ```
//!
//! - A row that several rows of `USING` match is deleted once. One that several rows of `FROM` match is refused, as in
//!   `MERGE`. A column that several of the tables have must be qualified.
//! - `INSERT` keeps the order of its rows: those of `ORDER BY`, and those of each partition of its query, are in that order in
//!   their superfiles. Partitions with enough rows are written side by side, into superfiles of their own.
//! - Exactly the rows of `ORDER BY … LIMIT` are changed; of equal ones any. The order means the old values.
//! - `*` in `MERGE` stands for the columns that table and source have in common by name; an inserted row has defaults in the
//!   others. `BY NAME` finds the query's columns by their names, each of which the table must have.
//! - `RETURNING` yields the new rows, of a `DELETE` the old ones, once the statement is committed, and those of the attempt
//!   that was. Until then they are kept in the session's memory pool; what does not fit fails the statement, and changes
//!   nothing. A `DELETE` with it conflicts with every change of the table's rows meanwhile, as if it were `serializable`. Its
//!   list holds expressions of the table's columns: no subqueries, no columns of `USING` or `FROM`. A `MERGE` that deletes
//!   has none.
//!
//! # Constraints and defaults
//!
//! `NOT NULL`, `DEFAULT`, and conditions as table options (see [`options`](super::options)). `INSERT`, `INSERT OVERWRITE`,
//! `UPDATE` and `MERGE` enforce them on every row that they write, before anything is visible. The error is of
//! [`ErrorKind::Constraint`](crate::ErrorKind::Constraint) and names the condition. As in SQL, FALSE violates and NULL passes.
//! A target row of a `MERGE` that two source rows would change is refused with the same kind of error.
//!
//! # Names
//!
//! A name that is not quoted is lower case, in every statement, unless the session says otherwise
//! (`datafusion.sql_parser.enable_ident_normalization`), which `ALTER TABLE`, the table functions and
//! `supertable.cluster_by` follow too. DataFusion's `UPDATE` alone takes the names behind `SET` as they are written: through
//! `sql()`) and at the command line they follow the rule; through `SessionContext::sql` they have to be
//! written in lower case, and of two columns that differ in case only (`id` and `"ID"`) the second cannot be set, because
//! the plan does not tell which of them was meant.
//!
//! # Said, not lost
//!
//! Refused, each by an error that says what to do instead: a `MERGE` clause that names columns of the side that has no row
//! where it applies; a value with a field of a struct that the column does not have; columns of types that cannot be written
//! to Parquet (`INTERVAL`), and columns without a name. Through `sql()`) and at the command line also what
//! DataFusion's plans no longer show: `GENERATED`, `IDENTITY`, `AUTO_INCREMENT` and `COMMENT` in a declaration, and statements
//! that would change `"t@v7"`. There a column declared `TIMESTAMP WITH TIME ZONE` in a session without a time zone
//! has UTC; through `SessionContext::sql` it has none.
//!
//! # Creating a table of a catalog
//!
//! `CREATE [OR REPLACE] TABLE [IF NOT EXISTS] t (…) [WITH ORDER (…)] [OPTIONS (…)] [AS …]`, by `sql()`) and at
//! the command line. Both clauses mean what they mean in `CREATE EXTERNAL TABLE`; options begin with `supertable.`. The
//! table appears with the rows of its query, or not at all. An order and options of `OR REPLACE` must be those that the
//! table has. A location inside of a catalog that the session has open is refused by `CREATE EXTERNAL TABLE`, unless a
//! table is there to be opened.
//!
//! # `INSERT … ON CONFLICT`
//!
//! ```sql
//! INSERT INTO t (id, v) VALUES (1, 10), (2, 20) ON CONFLICT (id) DO NOTHING;
//! INSERT INTO t (id, v) SELECT id, v FROM s ON CONFLICT (id) DO UPDATE SET v = t.v + excluded.v WHERE excluded.v > 0;
//! ```
//!
//! By `sql()`) and at the command line, on a table with a declared [key](super::columns#keys). It is the `MERGE` that means the
//! same, and counts and conflicts as that. The columns in parentheses are those of a key (`ON CONSTRAINT name` names it); they
//! can be left out where there is one key. As in PostgreSQL, `excluded` is the new row, a column without a table's name is the
//! table's, a second row with one key is left out by `DO NOTHING` and an error of `DO UPDATE`, and a key that is not named is
//! enforced all the same. A new row has a value for each column of the key.
//!
//! # `SHOW CREATE TABLE`
//!
//! It shows, in a session with `datafusion.catalog.information_schema`, the statement that makes the same table at an empty
//! place: columns in their order with types, `NOT NULL` and defaults, keys, the declared order, and every option that is set,
//! conditions among them. It is the table as this session knows it now, after each `ALTER TABLE`. The name and the
//! `LOCATION` are those of this session (a table that Rust opened has its directory's name); a table of a catalog is shown
//! with its catalog and schema, in the form that `sql()`) and the command line take. Rows, history and what
//! older rows have in added columns are no part of it.
//!
//! A type that DataFusion's SQL has no name for, or gives the time zone of the session that reads it, is shown by its name
//! in Arrow: `at ARROW('Timestamp(ns, "+00:00")')`. A session with this crate understands that wherever a type stands, also
//! in `CREATE`, `ALTER TABLE` and `CAST`. A string is `VARCHAR`, which each session holds in memory as it likes. The
//! definition is NULL if nothing would be read as the type of a column (nested fields with quotes in their names).
//!
//! `information_schema.columns` has names, types and `is_nullable`; its `column_default` is NULL in DataFusion 55.2, so
//! read defaults here or from `supertable_properties('t')`.
//!
//! # What is cheap
//!
//! - `count(*)` reads no data file, also after deletes.
//! - A `DELETE` drops a superfile without reading it when its statistics prove that the predicate is true for every
//!   row; `DELETE FROM t` drops them all. Proofs cover comparisons, `BETWEEN`, `IN` lists, `IS [NOT] NULL`, `AND` and `OR`
//!   over columns and constants. A column with NULLs or NaN in a superfile proves nothing about it.
//! - A statement whose predicate prunes every superfile reads none. One that changes no row makes no version.
//! - `MERGE`, `UPDATE … FROM`, `DELETE … USING`, `IN (SELECT …)` and `EXISTS` read their source first. Where an equality of a
//!   column with a value of the source must hold, the source's values prune the table as literals would. `EXPLAIN` shows it
//!   as `SourceFirstJoinExec`, with the columns in `pruned_by`. Columns of floats do not prune, nor does a `MERGE` with
//!   `NOT MATCHED BY SOURCE`, `NOT IN`, or an `ON` with `OR`.
//! - A point `DELETE` by a sorted key touches one superfile and takes at most five round trips to the store.
//! - What a commit writes follows from what changed, not from the number of superfiles.
//!
//! # Memory
//!
//! Rows stream; deleted positions are kept in bitmaps. `MERGE` keeps its source in memory, not the table. In a session with a
//! bounded memory pool, a source of more than an eighth of it goes to disk, and source and table are joined by sorting,
//! which spills. Other joins of a statement that might not fit are planned as sort-merge joins; that takes
//! `target_partitions` of at least 2. What still does not fit fails with DataFusion's `ResourcesExhausted`, and changes
//! nothing.
//!
//! # Renaming a table
//!
//! `ALTER TABLE [IF EXISTS] t RENAME TO u` gives a table of a catalog another name in its schema, through
//! `sql()`), at the command line, and as `supertable_alter('t', 'RENAME TO u')` everywhere; in Rust
//! [`SupertableCatalog::rename_table`](crate::SupertableCatalog::rename_table) does it. Nothing is moved or copied.
//!
//! - It takes effect at one moment, for everybody, and costs five requests, one after the other (seven if the
//!   table was renamed before); to find a renamed table costs no more than any other. It is no version of
//!   the table: history, earlier versions and row ids stay, under the new name.
//! - The old name is free at once, and the new one must be. Of several sessions that want one name, by renaming or
//!   creating, one gets it, and the others are told that the table exists.
//! - The next statement of every session finds the table under the new name only. What runs or is planned goes on.
//! - A process that dies in the middle leaves the table under the old name or the new one. If it had reserved the new
//!   name already, the next session that wants that name waits for two seconds before taking it.
//! - A table of `CREATE EXTERNAL TABLE` has the name that the session has given it: drop that, which leaves the data, and
//!   create another one at the same location. A swap of two names takes three renames, between which there
//!   is no table of one of the names; `CREATE OR REPLACE TABLE … AS` and `INSERT OVERWRITE` replace rows in one step.
//!
//! # Row ids
//!
//! Every row has a 128-bit id that `UPDATE`, `MERGE`, compaction and restore keep. It is not a column: `SELECT *`, `INSERT`
//! without a column list and `information_schema` do not know of it, and no statement can set it. Where the session or the
//! table sets `supertable.expose_row_id`, the function `_id(t.c)` gives the id of `t`'s row in any clause of any statement; its
//! argument, any column of the table, says which table is meant.
//!
//! ```sql
//! SELECT _id(id) AS rid, * FROM t;
//! DELETE FROM t WHERE _id(id) = 33127952630095272843148758351873;
//! MERGE INTO t USING edits AS e ON _id(t.id) = e.rid WHEN MATCHED THEN UPDATE SET v = e.v;
//! ```
//!
//! With `supertable.expose_row_id = 'column'` the tables that a query (or an `UPDATE`) reads also have the column `_id`, the
//! last of `SELECT *`: `SELECT * FROM t WHERE _id = 33127952630095272843148758351873`. `DELETE FROM t WHERE …` itself knows only the function.
//!
//! An id has more digits than DataFusion's own SQL planner can hold in a number: it makes a rounded float of them. The command
//! line and `datafusion_supertable::sql` read a number that an id is compared with (by `=`, `<` and their like, `IN`,
//! `BETWEEN`) exactly; through `ctx.sql` such a comparison is refused, and the id is written as text: `_id(id) = '3312…'`.
//!
//! (DataFusion has no hidden columns: what is in a table's schema is in `SELECT *` and in `INSERT`, and what is not cannot
//! be named.) Refused: above `GROUP BY`, `DISTINCT` or `UNION`, where rows are merged, and on an outer query's table.
//!
//! # Conditions mean what they say
//!
//! DataFusion 55.2 rewrites some conditions into others that are TRUE for other rows. In a statement over supertables it
//! sees only forms that it is known to keep: `AND` and `OR` over comparisons of a column with a value or another column,
//! `IS [NOT] NULL`, `IN` lists, `LIKE 'text%'`. These prune files, row groups and pages. Every other expression is
//! evaluated as it is written, for each row, and prunes nothing; in a query, functions of a row stay visible. `EXPLAIN`
//! shows such an expression as its text, with the columns that it reads behind it. Subqueries that DataFusion gets wrong
//! become joins with the distinct outer values (Neumann and Kemper, "Unnesting Arbitrary Queries", 2015). A prepared
//! statement is planned with its parameters, as a direct one is.
//!
//! An expression that fails for some row (a cast, a division) may fail the statement although `AND`, `OR` or `CASE` would
//! have left the row out: rows are evaluated by the batch. Nothing is changed then.
//!
//! Refused: a correlated subquery over rows that differ from one reading to the next (`random()`, `LIMIT` without `ORDER BY`),
//! in the condition of an outer join (or of `MERGE`'s `ON`) that needs columns of both sides, over `LATERAL`, `unnest` or a
//! recursive query; write it as a join. Through `SessionContext::sql`, of `UPDATE t SET a = 1, a = 2` one assignment wins;
//! through `sql()`) and at the command line that is refused.
