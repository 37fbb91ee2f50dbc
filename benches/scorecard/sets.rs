//! The rows that are written: three data sets, as files whose reading costs little.

use std::fs::File;
use std::path::Path;
use std::sync::Arc;

use datafusion::arrow::array::{
    ArrayRef, Date32Array, Decimal128Array, Float64Array, Int32Array, Int64Array, RecordBatch,
    StringArray, TimestampNanosecondArray,
};
use parquet::arrow::ArrowWriter;
use parquet::basic::Compression;
use parquet::file::properties::WriterProperties;
use tpchgen::generators::{LineItem, LineItemGenerator};

use crate::data::{run, session};

/// One of them.
#[derive(Clone, Copy)]
pub(crate) struct Set {
    pub(crate) name: &'static str,
    /// Its columns in SQL.
    pub(crate) columns: &'static str,
    /// By which it is sorted, and does not come sorted.
    pub(crate) order: &'static str,
}

pub(crate) const SETS: [Set; 3] = [
    Set {
        name: "rows with a random string",
        columns: "id BIGINT, r BIGINT, grp INT, amount DOUBLE, text VARCHAR, at TIMESTAMP",
        order: "r",
    },
    Set {
        name: "TPC-H lineitem",
        columns: "l_orderkey BIGINT, l_partkey BIGINT, l_suppkey BIGINT, l_linenumber INT, \
                  l_quantity DECIMAL(15,2), l_extendedprice DECIMAL(15,2), l_discount DECIMAL(15,2), \
                  l_tax DECIMAL(15,2), l_returnflag VARCHAR, l_linestatus VARCHAR, l_shipdate DATE, \
                  l_commitdate DATE, l_receiptdate DATE, l_shipinstruct VARCHAR, l_shipmode VARCHAR, \
                  l_comment VARCHAR",
        order: "l_shipdate",
    },
    Set {
        name: "flights, repeated",
        columns: "year SMALLINT, month SMALLINT, day SMALLINT, dep_time INT, sched_dep_time INT, \
                  dep_delay INT, arr_time INT, sched_arr_time INT, arr_delay INT, carrier VARCHAR, \
                  flight INT, tailnum VARCHAR, origin VARCHAR, dest VARCHAR, air_time INT, distance INT, \
                  hour SMALLINT, minute SMALLINT, time_hour TIMESTAMP",
        order: "time_hour",
    },
];

/// Rows of a batch.
const BATCH: u64 = 8192;
/// Lines of `flights.csv.gz`.
const FLIGHTS: u64 = 51_955;
/// Rows of lineitem at scale 1.
const LINEITEM: f64 = 6_001_215.0;

impl Set {
    /// Writes some `rows` rows of it to `file`.
    pub(crate) async fn write(&self, rows: u64, file: &Path) {
        match self.name {
            "TPC-H lineitem" => write_all(lineitem(rows), file),
            "flights, repeated" => flights(rows, file).await,
            _ => write_all(random_strings(rows), file),
        }
    }
}

fn write_all(batches: impl Iterator<Item = RecordBatch>, file: &Path) {
    let properties = WriterProperties::builder()
        .set_compression(Compression::LZ4_RAW)
        .build();
    let mut writer = None;
    for batch in batches {
        let new = || {
            let file = File::create(file).unwrap();
            ArrowWriter::try_new(file, batch.schema(), Some(properties.clone())).unwrap()
        };
        writer.get_or_insert_with(new).write(&batch).unwrap();
    }
    writer.unwrap().close().unwrap();
}

fn random_strings(rows: u64) -> impl Iterator<Item = RecordBatch> {
    let batches = (0..rows).step_by(BATCH as usize);
    batches.map(move |first| {
        let ids = || (first..rows.min(first + BATCH)).map(|id| id as i64);
        let columns: [(&str, ArrayRef); 6] = [
            ("id", Arc::new(Int64Array::from_iter_values(ids()))),
            (
                "r",
                Arc::new(Int64Array::from_iter_values(
                    ids().map(|id| id * 7919 % 1_000_000),
                )),
            ),
            (
                "grp",
                Arc::new(Int32Array::from_iter_values(
                    ids().map(|id| (id % 97) as i32),
                )),
            ),
            (
                "amount",
                Arc::new(Float64Array::from_iter_values(
                    ids().map(|id| (id % 1009) as f64 / 8.0),
                )),
            ),
            (
                "text",
                Arc::new(StringArray::from_iter_values(ids().map(text))),
            ),
            (
                "at",
                Arc::new(TimestampNanosecondArray::from_iter_values(
                    ids().map(|id| id * 1_000_000_000),
                )),
            ),
        ];
        RecordBatch::try_from_iter(columns).unwrap()
    })
}

/// 24 hexadecimal digits.
fn text(id: i64) -> String {
    let mix = |x: u64| {
        let x = (x ^ (x >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let x = (x ^ (x >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        x ^ (x >> 31)
    };
    let seed = (id as u64 + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    format!("{:016x}{:08x}", mix(seed), mix(!seed) as u32)
}

fn lineitem(rows: u64) -> impl Iterator<Item = RecordBatch> {
    let generator = LineItemGenerator::new(rows as f64 / LINEITEM, 1, 1);
    let mut items = generator.into_iter();
    std::iter::from_fn(move || {
        let batch: Vec<LineItem<'static>> = items.by_ref().take(BATCH as usize).collect();
        (!batch.is_empty()).then(|| lineitem_batch(&batch))
    })
}

fn lineitem_batch(items: &[LineItem<'_>]) -> RecordBatch {
    let long = |f: &dyn Fn(&LineItem<'_>) -> i64| -> ArrayRef {
        Arc::new(Int64Array::from_iter_values(items.iter().map(f)))
    };
    let money = |f: &dyn Fn(&LineItem<'_>) -> i64| -> ArrayRef {
        let cents = items.iter().map(|item| i128::from(f(item)));
        let cents = Decimal128Array::from_iter_values(cents);
        Arc::new(cents.with_precision_and_scale(15, 2).unwrap())
    };
    let date = |f: &dyn Fn(&LineItem<'_>) -> i32| -> ArrayRef {
        Arc::new(Date32Array::from_iter_values(items.iter().map(f)))
    };
    let words = |f: &dyn for<'a> Fn(&'a LineItem<'_>) -> &'a str| -> ArrayRef {
        Arc::new(StringArray::from_iter_values(items.iter().map(f)))
    };
    let numbers = items.iter().map(|item| item.l_linenumber);
    let columns: [(&str, ArrayRef); 16] = [
        ("l_orderkey", long(&|item| item.l_orderkey)),
        ("l_partkey", long(&|item| item.l_partkey)),
        ("l_suppkey", long(&|item| item.l_suppkey)),
        (
            "l_linenumber",
            Arc::new(Int32Array::from_iter_values(numbers)),
        ),
        ("l_quantity", money(&|item| item.l_quantity * 100)),
        (
            "l_extendedprice",
            money(&|item| item.l_extendedprice.into_inner()),
        ),
        ("l_discount", money(&|item| item.l_discount.into_inner())),
        ("l_tax", money(&|item| item.l_tax.into_inner())),
        ("l_returnflag", words(&|item| item.l_returnflag)),
        ("l_linestatus", words(&|item| item.l_linestatus)),
        ("l_shipdate", date(&|item| item.l_shipdate.to_unix_epoch())),
        (
            "l_commitdate",
            date(&|item| item.l_commitdate.to_unix_epoch()),
        ),
        (
            "l_receiptdate",
            date(&|item| item.l_receiptdate.to_unix_epoch()),
        ),
        ("l_shipinstruct", words(&|item| item.l_shipinstruct)),
        ("l_shipmode", words(&|item| item.l_shipmode)),
        ("l_comment", words(&|item| item.l_comment)),
    ];
    RecordBatch::try_from_iter(columns).unwrap()
}

async fn flights(rows: u64, file: &Path) {
    let ctx = session();
    let [.., set] = SETS;
    let csv = concat!(env!("CARGO_MANIFEST_DIR"), "/sql/data/flights.csv.gz");
    run(
        &ctx,
        &format!(
            "CREATE EXTERNAL TABLE csv ({}) STORED AS CSV LOCATION '{csv}' \
             OPTIONS ('format.has_header' 'true', 'format.compression' 'gzip')",
            set.columns
        ),
    )
    .await;
    run(&ctx, "CREATE TABLE flights AS SELECT * FROM csv").await;
    let times = rows.div_ceil(FLIGHTS);
    run(
        &ctx,
        &format!(
            "COPY (SELECT flights.* FROM range(0, {times}) CROSS JOIN flights) TO '{}' \
             STORED AS PARQUET OPTIONS ('format.compression' 'lz4_raw')",
            file.display()
        ),
    )
    .await;
}
