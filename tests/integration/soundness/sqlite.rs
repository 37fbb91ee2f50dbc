//! The oracle's oracle: SQLite, for predicates that mean the same there.

use datafusion::arrow::array::{Array, AsArray, RecordBatch};
use datafusion::arrow::compute::cast;
use datafusion::arrow::datatypes::{DataType, Int64Type};
use rusqlite::Connection;
use rusqlite::types::Value;

/// The ids of the rows of `t` for which `predicate` is true.
pub(super) fn true_rows(
    tables: &[(&str, &RecordBatch)],
    predicate: &str,
) -> Result<Vec<i64>, String> {
    let db = Connection::open_in_memory().unwrap();
    db.execute_batch("PRAGMA case_sensitive_like = ON").unwrap();
    for (name, batch) in tables {
        let columns: Vec<_> = batch
            .schema()
            .fields()
            .iter()
            .map(|field| match field.data_type() {
                DataType::Int64 => format!("{} INTEGER", field.name()),
                _ => format!("{} TEXT", field.name()),
            })
            .collect();
        db.execute_batch(&format!("CREATE TABLE {name} ({})", columns.join(", ")))
            .unwrap();
        for row in 0..batch.num_rows() {
            let values = batch.columns().iter().map(|column| {
                if column.is_null(row) {
                    return Value::Null;
                }
                match column.data_type() {
                    DataType::Int64 => {
                        Value::Integer(column.as_primitive::<Int64Type>().value(row))
                    }
                    _ => {
                        let text = cast(column, &DataType::Utf8).unwrap();
                        Value::Text(text.as_string::<i32>().value(row).to_owned())
                    }
                }
            });
            let marks = vec!["?"; columns.len()].join(", ");
            db.execute(
                &format!("INSERT INTO {name} VALUES ({marks})"),
                rusqlite::params_from_iter(values),
            )
            .unwrap();
        }
    }
    let sql = format!("SELECT t.id FROM t WHERE {predicate} ORDER BY t.id");
    let mut query = db.prepare(&sql).map_err(|e| e.to_string())?;
    let found = query
        .query_map([], |row| row.get(0))
        .map_err(|e| e.to_string())?
        .collect::<Result<Vec<i64>, _>>();
    found.map_err(|e| e.to_string())
}
