//! What the options of tables and sessions make of superfiles, seen by opening them.

use std::fs::File;
use std::path::Path;

use datafusion::prelude::SessionContext;
use parquet::basic::{Compression, Encoding};
use parquet::file::metadata::{PageIndexPolicy, ParquetMetaData, ParquetMetaDataReader};

async fn run(session: &SessionContext, sql: &str) {
    datafusion_supertable::sql(session, sql)
        .await
        .unwrap()
        .collect()
        .await
        .unwrap();
}

/// The footers of a table's superfiles, oldest first.
fn superfiles(place: &Path) -> Vec<ParquetMetaData> {
    let mut files: Vec<_> = std::fs::read_dir(place.join("t/superfiles"))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|e| e == "parquet"))
        .collect();
    files.sort_by_key(|path| std::fs::metadata(path).unwrap().modified().unwrap());
    files
        .iter()
        .map(|path| {
            ParquetMetaDataReader::new()
                .with_page_index_policy(PageIndexPolicy::Optional)
                .parse_and_finish(&File::open(path).unwrap())
                .unwrap()
        })
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn superfiles_are_written_as_the_table_says_and_before_that_as_the_session_says() {
    let place = tempfile::tempdir().unwrap();
    let session = SessionContext::new();
    datafusion_supertable::register(&session).unwrap();
    let create = format!(
        "CREATE EXTERNAL TABLE t (id INT, name VARCHAR) STORED AS SUPERTABLE LOCATION '{}/t/' OPTIONS (
            'supertable.write.compression' 'lz4_raw', 'supertable.write.row_group_rows' '400',
            'supertable.write.page_rows' '100', 'supertable.write.dictionary' 'false',
            'supertable.write.bloom_filter_columns' 'name')",
        place.path().display()
    );
    run(&session, &create).await;
    let insert = "INSERT INTO t SELECT value, 'n' || value FROM range(0, 1000)";
    run(&session, insert).await;

    let files = superfiles(place.path());
    let [file] = files.as_slice() else {
        panic!("{} superfiles", files.len());
    };
    let rows: Vec<i64> = file.row_groups().iter().map(|g| g.num_rows()).collect();
    assert_eq!(rows, [400, 400, 200]);
    let [id, name] = file.row_group(0).columns() else {
        panic!("two columns");
    };
    assert_eq!(id.compression(), Compression::LZ4_RAW);
    assert!(id.bloom_filter_offset().is_none() && name.bloom_filter_offset().is_some());
    assert!(!name.encodings().any(|e| e == Encoding::RLE_DICTIONARY));
    let pages = file.offset_index().unwrap()[0][0].page_locations().len();
    assert_eq!(pages, 4);
    assert!(id.column_index_offset().is_some());

    // The session's settings come first; the table's others stay.
    run(&session, "SET supertable.write.compression = 'snappy'").await;
    run(&session, "SET supertable.write.page_index = false").await;
    run(
        &session,
        "ALTER TABLE t SET ('supertable.write.row_group_rows' = '250')",
    )
    .await;
    run(&session, insert).await;
    let files = superfiles(place.path());
    let newest = files.last().unwrap();
    assert_eq!(newest.num_row_groups(), 4);
    let id = newest.row_group(0).column(0);
    assert_eq!(id.compression(), Compression::SNAPPY);
    assert!(id.column_index_offset().is_none());
    datafusion_supertable::wait_for_background_work(&session).await;
}

/// Ids of nested fields are in the files: that is what finds them after a rename.
#[tokio::test(flavor = "multi_thread")]
async fn every_field_of_a_superfile_has_its_id() {
    let place = tempfile::tempdir().unwrap();
    let session = SessionContext::new();
    datafusion_supertable::register(&session).unwrap();
    let create = format!(
        "CREATE EXTERNAL TABLE t (id INT, s STRUCT<a INT, l STRUCT<b INT>[]>) STORED AS SUPERTABLE \
         LOCATION '{}/t/'",
        place.path().display()
    );
    run(&session, &create).await;
    run(
        &session,
        "INSERT INTO t SELECT 1, named_struct('a', 1, 'l', [named_struct('b', 2)])",
    )
    .await;
    let files = superfiles(place.path());
    let root = files[0].file_metadata().schema();
    let s = &root.get_fields()[1];
    let ids = |fields: &[parquet::schema::types::TypePtr]| -> Vec<i32> {
        fields.iter().map(|f| f.get_basic_info().id()).collect()
    };
    assert_eq!(ids(root.get_fields()), [1, 2]);
    assert_eq!(ids(s.get_fields()), [3, 4]);
    datafusion_supertable::wait_for_background_work(&session).await;
}
