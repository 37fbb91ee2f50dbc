//! The settings that change plans, each with its other values.
//!
//! Owns the list. A program takes DataFusion's defaults, or flips each of these at random.

use super::random::Random;

/// Names after `datafusion.`, and values.
const ENGINE: &[(&str, &[&str])] = &[
    ("execution.batch_size", &["1", "3", "16"]),
    ("execution.target_partitions", &["1", "2", "3", "5"]),
    ("execution.coalesce_batches", &["false"]),
    ("execution.collect_statistics", &["false"]),
    ("execution.planning_concurrency", &["1"]),
    ("execution.enable_migration_aggregate", &["false"]),
    ("execution.split_file_groups_by_statistics", &["true"]),
    ("execution.keep_partition_by_columns", &["true"]),
    ("execution.enable_file_stream_work_stealing", &["false"]),
    (
        "execution.skip_partial_aggregation_probe_ratio_threshold",
        &["0.1"],
    ),
    (
        "execution.skip_partial_aggregation_probe_rows_threshold",
        &["1"],
    ),
    (
        "execution.use_row_number_estimates_to_optimize_partitioning",
        &["true"],
    ),
    ("execution.enforce_batch_size_in_joins", &["true"]),
    ("execution.perfect_hash_join_small_build_threshold", &["0"]),
    // Not 0.0: DataFusion then allocates by the span of the keys, whatever it is.
    ("execution.perfect_hash_join_min_key_density", &["0.05"]),
    ("execution.hash_join_buffering_capacity", &["100000"]),
    ("execution.sort_in_place_threshold_bytes", &["1"]),
    ("execution.parquet.enable_page_index", &["false"]),
    ("execution.parquet.pruning", &["false"]),
    ("execution.parquet.skip_metadata", &["false"]),
    ("execution.parquet.metadata_size_hint", &["8"]),
    ("execution.parquet.pushdown_filters", &["true"]),
    ("execution.parquet.reorder_filters", &["true"]),
    ("execution.parquet.force_filter_selections", &["true"]),
    ("execution.parquet.schema_force_view_types", &["false"]),
    ("execution.parquet.bloom_filter_on_read", &["false"]),
    ("execution.parquet.max_predicate_cache_size", &["0"]),
    ("execution.parquet.max_in_list_size", &["0", "2"]),
    (
        "optimizer.enable_distinct_aggregation_soft_limit",
        &["false"],
    ),
    ("optimizer.enable_round_robin_repartition", &["false"]),
    ("optimizer.enable_topk_aggregation", &["false"]),
    ("optimizer.enable_window_limits", &["false"]),
    ("optimizer.enable_window_topn", &["true"]),
    ("optimizer.enable_topk_repartition", &["false"]),
    ("optimizer.enable_topk_dynamic_filter_pushdown", &["false"]),
    (
        "optimizer.enable_physical_uncorrelated_scalar_subquery",
        &["false"],
    ),
    ("optimizer.enable_join_dynamic_filter_pushdown", &["false"]),
    (
        "optimizer.enable_aggregate_dynamic_filter_pushdown",
        &["false"],
    ),
    ("optimizer.enable_dynamic_filter_pushdown", &["false"]),
    ("optimizer.filter_null_join_keys", &["true"]),
    ("optimizer.repartition_aggregations", &["false"]),
    ("optimizer.repartition_file_min_size", &["1"]),
    ("optimizer.repartition_joins", &["false"]),
    ("optimizer.repartition_file_scans", &["false"]),
    ("optimizer.preserve_file_partitions", &["1"]),
    ("optimizer.repartition_windows", &["false"]),
    ("optimizer.repartition_sorts", &["false"]),
    ("optimizer.subset_repartition_threshold", &["1"]),
    ("optimizer.prefer_existing_sort", &["true"]),
    ("optimizer.skip_failed_rules", &["true"]),
    ("optimizer.max_passes", &["1", "8"]),
    ("optimizer.top_down_join_key_reordering", &["false"]),
    ("optimizer.join_reordering", &["false"]),
    ("optimizer.use_statistics_registry", &["true"]),
    ("optimizer.prefer_hash_join", &["false"]),
    ("optimizer.enable_piecewise_merge_join", &["true"]),
    ("optimizer.hash_join_single_partition_threshold", &["0"]),
    (
        "optimizer.hash_join_single_partition_threshold_rows",
        &["0"],
    ),
    ("optimizer.hash_join_inlist_pushdown_max_size", &["0"]),
    (
        "optimizer.hash_join_inlist_pushdown_max_distinct_values",
        &["0", "2"],
    ),
    ("optimizer.default_filter_selectivity", &["1", "100"]),
    ("optimizer.prefer_existing_union", &["true"]),
    ("optimizer.expand_views_at_output", &["true"]),
    ("optimizer.enable_sort_pushdown", &["false"]),
    ("optimizer.enable_leaf_expression_pushdown", &["false"]),
    ("optimizer.enable_unions_to_filter", &["true"]),
    ("sql_parser.enable_subquery_sort_elimination", &["false"]),
];

/// The crate's own, after `supertable.`.
const WRITING: &[(&str, &[&str])] = &[
    (
        "write.compression",
        &["uncompressed", "snappy", "lz4_raw", "zstd(1)"],
    ),
    ("write.dictionary", &["false", "true"]),
    ("write.row_group_rows", &["1", "3", "7"]),
    ("write.page_bytes", &["1", "64"]),
    ("write.page_rows", &["1", "2"]),
    ("write.page_index", &["false", "true"]),
    ("write.target_file_rows", &["2", "4", "9"]),
    ("write.target_file_bytes", &["100"]),
    ("write.bloom_filter_fpp", &["0.5"]),
    ("write.bloom_filter_ndv", &["3"]),
];

/// What a program's sessions set: statements, none for the defaults.
pub(super) fn of_program(random: &mut Random) -> Vec<String> {
    let mut set = Vec::new();
    let engine = match random.below(4) {
        0 => 0,
        1 => 10,
        _ => 3,
    };
    for (name, values) in ENGINE {
        if engine > 0 && random.one_in(engine) {
            set.push(format!(
                "SET datafusion.{name} = '{}'",
                random.choose(values)
            ));
        }
    }
    if random.one_in(2) {
        for (name, values) in WRITING {
            if random.one_in(3) {
                set.push(format!(
                    "SET supertable.{name} = '{}'",
                    random.choose(values)
                ));
            }
        }
    }
    if random.one_in(6) {
        set.push("SET supertable.isolation = 'serializable'".to_owned());
    }
    set
}

/// Table options for a table of these columns, inside `OPTIONS (…)`.
pub(super) fn of_table(random: &mut Random, columns: &[String]) -> Vec<String> {
    let mut options = Vec::new();
    for (name, values) in WRITING {
        if random.one_in(6) {
            options.push(format!("'supertable.{name}' '{}'", random.choose(values)));
        }
    }
    if random.one_in(3) {
        let column = random.choose(columns);
        options.push(format!(
            "'supertable.write.bloom_filter_columns' '{column}'"
        ));
    }
    options
}
