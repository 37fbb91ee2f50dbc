#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic)]

use arrow::array::{
    AsArray, BooleanArray, Decimal128Array, Float64Array, Int32Array, Int64Array, StringArray,
    TimestampNanosecondArray, new_null_array,
};
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use proptest::prelude::*;

use super::*;

const ALL: Free = Free {
    codec: true,
    dictionary: true,
    encoding: true,
};
const GROUP: usize = 1 << 20;

/// Numbers that look random, the same ones each time.
fn random(n: u64) -> u64 {
    let x = (n + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    let x = (x ^ (x >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    let x = (x ^ (x >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    x ^ (x >> 31)
}

fn numbers(number: impl Fn(u64) -> i64) -> ArrayRef {
    Arc::new(Int64Array::from_iter_values(
        (0..SAMPLE_ROWS as u64).map(number),
    ))
}

fn strings(string: impl Fn(u64) -> String) -> ArrayRef {
    Arc::new(StringArray::from_iter_values(
        (0..SAMPLE_ROWS as u64).map(string),
    ))
}

fn chosen(values: &ArrayRef) -> Choice {
    choose(values, GROUP, ALL).unwrap()
}

#[test]
fn ascending_numbers_and_times_are_differences_without_dictionary_and_codec() {
    let times = (0..SAMPLE_ROWS as i64).map(|i| i * 1_000_000_000);
    for values in [
        numbers(|i| i as i64),
        numbers(|i| (i / 4) as i64),
        numbers(|i| -(i as i64) * 60),
        Arc::new(TimestampNanosecondArray::from_iter_values(times)) as ArrayRef,
    ] {
        let choice = chosen(&values);
        assert_eq!(choice.encoding, Encoding::DELTA_BINARY_PACKED);
        assert!(!choice.dictionary);
    }
    assert_eq!(
        chosen(&numbers(|i| i as i64)).codec,
        Compression::UNCOMPRESSED
    );
}

#[test]
fn many_distinct_numbers_of_few_bits_are_packed_and_have_no_dictionary() {
    let choice = chosen(&numbers(|i| (random(i) % 1_000_000) as i64));
    let packed = Choice {
        dictionary: false,
        encoding: Encoding::DELTA_BINARY_PACKED,
        codec: Compression::UNCOMPRESSED,
    };
    assert_eq!(choice, packed);
}

#[test]
fn what_nothing_makes_smaller_is_written_plainly() {
    let plain = Choice {
        dictionary: false,
        encoding: Encoding::PLAIN,
        codec: Compression::UNCOMPRESSED,
    };
    assert_eq!(chosen(&numbers(|i| random(i) as i64)), plain);
}

#[test]
fn few_distinct_values_have_a_dictionary() {
    let words = ["apple", "pear", "quince", "medlar"];
    assert!(chosen(&strings(|i| words[(random(i) % 4) as usize].to_owned())).dictionary);
    assert!(chosen(&strings(|i| format!("note {}", i % 5003))).dictionary);
    let floats = (0..SAMPLE_ROWS).map(|i| (i % 1009) as f64 / 8.0);
    assert!(chosen(&(Arc::new(Float64Array::from_iter_values(floats)) as ArrayRef)).dictionary);
}

#[test]
fn a_dictionary_that_grows_with_the_rows_is_none() {
    // Each value stands four times, and never again.
    assert!(!chosen(&strings(|i| format!("order {:08}", i / 4))).dictionary);
    assert!(
        !chosen(&strings(|i| format!(
            "{:016x}{:08x}",
            random(i),
            random(i) >> 40
        )))
        .dictionary
    );
    // 100,000 words, of which a sample shows each once or twice.
    assert!(!chosen(&strings(|i| format!("customer {}", random(i) % 100_000))).dictionary);
}

#[test]
fn text_is_compressed_and_short_noise_is_not() {
    let words = [
        "furiously",
        "ironic",
        "deposits",
        "sleep",
        "among",
        "final",
        "the",
    ];
    let text = |i: u64| {
        let word = |j: u64| words[(random(i * 16 + j) % 7) as usize];
        (0..6).map(word).collect::<Vec<_>>().join(" ")
    };
    assert!(matches!(chosen(&strings(text)).codec, Compression::ZSTD(_)));
    let noise: String = (33..127_u8).map(char::from).collect();
    let noise = |i: u64| {
        let letter = |j: u64| {
            noise
                .chars()
                .nth((random(i * 32 + j) % 94) as usize)
                .unwrap()
        };
        (0..20).map(letter).collect::<String>()
    };
    assert_eq!(chosen(&strings(noise)).codec, Compression::UNCOMPRESSED);
}

#[test]
fn long_values_are_judged_by_few_of_them() {
    let long = strings(|i| format!("{:016x}", random(i)).repeat(256));
    assert!(within_bytes(&long).len() < 300);
    let choice = chosen(&long);
    assert!(
        !choice.dictionary && matches!(choice.codec, Compression::ZSTD(_) | Compression::LZ4_RAW)
    );
    let short = numbers(|i| i as i64);
    assert_eq!(within_bytes(&short).len(), SAMPLE_ROWS);
}

#[test]
fn what_is_set_is_kept_and_few_rows_or_nulls_decide_nothing() {
    let words = strings(|i| format!("note {}", i % 7));
    let no_dictionary = Free {
        dictionary: false,
        ..ALL
    };
    assert!(!choose(&words, GROUP, no_dictionary).unwrap().dictionary);
    assert_eq!(choose(&words, GROUP, Free::default()), None);
    assert_eq!(choose(&words.slice(0, FEWEST_ROWS - 1), GROUP, ALL), None);
    assert_eq!(
        choose(&new_null_array(&DataType::Int64, 5000), GROUP, ALL),
        None
    );

    let schema = Schema::new(vec![
        Field::new("own", DataType::Utf8, true),
        Field::new("free", DataType::Utf8, true),
        Field::new("a.b", DataType::Utf8, true),
    ]);
    let columns = vec![Arc::clone(&words); 3];
    let batch = RecordBatch::try_new(Arc::new(schema.clone()), columns).unwrap();
    let mut options = TableParquetOptions::default();
    let own = options
        .column_specific_options
        .entry("own".to_owned())
        .or_default();
    own.compression = Some("snappy".to_owned());
    own.dictionary_enabled = Some(false);
    choose_columns(
        &mut options,
        ALL,
        &schema,
        std::slice::from_ref(&batch),
        GROUP,
    );
    let of = |name: &str| options.column_specific_options.get(name);
    let own = of("own").unwrap();
    assert_eq!(own.compression.as_deref(), Some("snappy"));
    assert_eq!(own.dictionary_enabled, Some(false));
    assert!(own.encoding.is_some());
    assert_eq!(of("free").unwrap().dictionary_enabled, Some(true));
    assert!(of("a.b").is_none());
    let mut untouched = TableParquetOptions::default();
    choose_columns(&mut untouched, Free::default(), &schema, &[batch], GROUP);
    assert_eq!(untouched, TableParquetOptions::default());
}

#[test]
fn a_sample_comes_from_beginning_middle_and_end() {
    let column: Vec<ArrayRef> = (0..10)
        .map(|i| Arc::new(Int64Array::from_iter_values(i * 5000..(i + 1) * 5000)) as ArrayRef)
        .collect();
    let values = sample(&column.iter().collect::<Vec<_>>()).unwrap();
    let values = values
        .as_primitive::<arrow::datatypes::Int64Type>()
        .values();
    assert_eq!(values.len(), SAMPLE_ROWS);
    assert_eq!((values[0], values[SAMPLE_ROWS - 1]), (0, 49_999));
    assert!(values.is_sorted());
}

/// Columns of all types for which there is a decision.
fn columns() -> impl Strategy<Value = ArrayRef> {
    let rows = FEWEST_ROWS..3000;
    (rows, 0..7_u8, 1..5000_u64, any::<u64>(), 0..3_u64).prop_map(
        |(rows, kind, values, seed, nulls)| {
            let value = |i: usize| {
                let x = random(seed.wrapping_add(i as u64));
                (nulls == 0 || !x.is_multiple_of(nulls * 5)).then_some(x % values)
            };
            let all = (0..rows).map(value);
            match kind {
                0 => Arc::new(Int64Array::from_iter(
                    all.map(|v| v.map(|v| v as i64 - 2000)),
                )) as ArrayRef,
                1 => Arc::new(Int32Array::from_iter(all.map(|v| v.map(|v| v as i32)))),
                2 => Arc::new(Float64Array::from_iter(
                    all.map(|v| v.map(|v| v as f64 / 8.0)),
                )),
                3 => Arc::new(StringArray::from_iter(
                    all.map(|v| v.map(|v| "x".repeat(v as usize % 40))),
                )),
                4 => Arc::new(BooleanArray::from_iter(all.map(|v| v.map(|v| v % 2 == 0)))),
                5 => Arc::new(
                    Decimal128Array::from_iter(all.map(|v| v.map(i128::from)))
                        .with_precision_and_scale(12, 2)
                        .unwrap(),
                ),
                _ => Arc::new(
                    Decimal128Array::from_iter(all.map(|v| v.map(|v| i128::from(v) << 70)))
                        .with_precision_and_scale(38, 0)
                        .unwrap(),
                ),
            }
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn whatever_is_chosen_is_the_same_each_time_and_the_values_are_read_back(
        values in columns(), codec: bool, dictionary: bool, encoding: bool
    ) {
        let free = Free { codec, dictionary, encoding };
        let schema = Arc::new(Schema::new(vec![Field::new("c", values.data_type().clone(), true)]));
        let batch = RecordBatch::try_new(Arc::clone(&schema), vec![values]).unwrap();
        let options = || {
            let mut options = TableParquetOptions::default();
            options.global.skip_arrow_metadata = true;
            choose_columns(&mut options, free, &schema, std::slice::from_ref(&batch), GROUP);
            options
        };
        prop_assert_eq!(options(), options());
        let properties = parquet::file::properties::WriterPropertiesBuilder::try_from(&options());
        let mut file = Vec::new();
        let properties = properties.unwrap().build();
        let mut writer = ArrowWriter::try_new(&mut file, Arc::clone(&schema), Some(properties)).unwrap();
        writer.write(&batch).unwrap();
        writer.close().unwrap();
        let reader = ParquetRecordBatchReaderBuilder::try_new(bytes::Bytes::from(file)).unwrap();
        let read: Vec<RecordBatch> = reader.build().unwrap().map(|b| b.unwrap()).collect();
        let read = arrow::compute::concat_batches(&batch.schema(), &read).unwrap();
        prop_assert_eq!(read, batch);
    }

    #[test]
    fn distinct_values_are_counted_and_never_expected_to_be_more_than_rows(values in columns(), rows in 3000..5_000_000_u32) {
        let distinct = Distinct::of(&values).unwrap();
        let known = distinct.firsts.len();
        prop_assert!(distinct.once + distinct.twice <= known as f64);
        let expected = distinct.expected(f64::from(rows));
        prop_assert!(expected >= known as f64 && expected <= f64::from(rows), "{expected}");
    }
}
