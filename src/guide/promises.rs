//! What holds whatever fails: each promise, the fault, and the test that proves it.
//!
//! Tests in `integration::…` are in `tests/integration/`, the others beside the code. All of them run with
//! `cargo test --features cli,distributed`; none asserts a time on the wall. "At any operation" means that the test counts the
//! operations of a healthy run on the store and repeats the run with the fault at each of them.
//!
//! # A statement happens entirely or not at all
//!
//! | promise | fault | test |
//! | --- | --- | --- |
//! | after a crash the table is as before or as after; what was acknowledged is there; recovery leaves nothing behind | the process dies before any operation of `INSERT`, `DELETE`, `UPDATE`, `TRUNCATE`, restore | `integration::pipeline::crashes::a_crash_before_any_operation_leaves_all_or_nothing` |
//! | the same | it dies after an operation took effect | `integration::pipeline::crashes::a_crash_after_any_operation_leaves_all_or_nothing` |
//! | the same | the recovering process dies too, at any operation | `integration::pipeline::crashes::a_crash_of_the_recovering_process_too_leaves_all_or_nothing` |
//! | the same, on the local disk; no temporary file stays | a real process gets SIGKILL before, during or after its operations, for `UPDATE`, `DELETE`, `INSERT`, `INSERT OVERWRITE`, `MERGE` | `integration::kills::a_process_killed_at_any_storage_operation_leaves_all_or_nothing` |
//! | the same | SIGKILL, for restore, `ALTER TABLE`, `supertable_add_files`, `TRUNCATE` | `integration::kills_ddl::a_process_killed_while_it_changes_a_table_as_a_whole_leaves_all_or_nothing` |
//! | a table of a catalog is there or not, is as before or as after, with all the rows of its `CREATE TABLE … AS`; its name can be used again, and of a dropped table only the marker stays | SIGKILL, for `CREATE TABLE`, `CREATE TABLE … AS`, `CREATE OR REPLACE TABLE`, `DROP TABLE` | `integration::kills_ddl::a_create_table_killed_at_any_storage_operation_leaves_the_table_or_none`, `…::a_create_table_after_a_drop_killed_at_any_storage_operation_leaves_the_table_or_none`, `…::a_create_table_as_killed_at_any_storage_operation_leaves_all_rows_or_none`, `…::a_replacement_killed_at_any_storage_operation_leaves_the_old_rows_or_the_new`, `…::a_drop_table_killed_at_any_storage_operation_leaves_the_table_or_none` |
//! | a table that is renamed is under its old name or the new one with all its rows, never under none or both; both names can be used again | SIGKILL, for `ALTER TABLE … RENAME TO`, before, during and after its operations, with a name that was used before and a table that was renamed before | `integration::kills_ddl::a_rename_killed_at_any_storage_operation_leaves_the_table_under_one_name`, `…::a_second_rename_and_one_to_a_used_name_killed_leave_the_table_under_one_name` |
//! | the same | recoveries are killed, several in a row and two at once | `integration::kills::a_recovery_killed_again_and_again_leaves_all_or_nothing` |
//! | a compaction changes no row | SIGKILL at its operations; also of one that a write starts in the background, and of one in several commits, which a second call finishes | `integration::kills_upkeep::a_compaction_killed_at_any_storage_operation_changes_no_row`, `…::a_compaction_in_the_background_killed_at_any_storage_operation_changes_no_row`, `…::a_compaction_in_several_commits_killed_at_any_storage_operation_changes_no_row` |
//! | a vacuum changes no row, and what the current version needs is there | SIGKILL at its operations | `integration::kills_upkeep::a_vacuum_killed_at_any_storage_operation_changes_no_row` |
//! | a commit that is cancelled happens wholly or not at all | its future is dropped at any of 60 moments | `integration::pipeline::conflicts::a_commit_that_is_dropped_at_any_moment_happens_wholly_or_not_at_all` |
//! | nothing of a statement stays | Ctrl-C in the command line | `integration::cli::ctrl_c_ends_a_statement_and_leaves_nothing_of_it` |
//! | Ctrl-C ends a script, a pipe or a command within seconds, a second one at once | a query that computes without a pause | `integration::cli::ctrl_c_ends_a_statement_that_computes_in_commands_scripts_and_pipes`, `…::a_second_ctrl_c_ends_the_process_at_once` |
//! | a statement that is cancelled at any moment happens wholly or not at all; no task goes on, recovery leaves nothing behind | its future is dropped every half round trip, for 13 kinds of statement | `integration::overload::a_statement_cancelled_at_any_moment_leaves_nothing_visible_and_nothing_running` |
//! | a call of the [API](super::api) that is dropped leaves everything of the change or nothing | its future is dropped at any of 40 moments, or never polled | `integration::rust_api::a_dropped_future_changes_nothing_or_everything` |
//! | a call of the API changes the rows that the SQL statement changes, and ends as it does | predicates that DataFusion's hooks lose; another handle that is faster | `integration::rust_api::a_predicate_deletes_exactly_the_rows_for_which_it_is_true`, `…::a_statement_that_another_handle_was_faster_than_runs_again` |
//! | a statement that runs out of memory changes nothing | a small memory pool | `integration::memory::a_statement_without_enough_memory_fails_and_changes_nothing` |
//! | a table larger than memory is brought in order by spilling; where it cannot spill, nothing is changed | a small memory pool, with and without a disk | `integration::clustering::a_table_larger_than_memory_is_brought_in_order_by_spilling` |
//! | a statement that fails takes back every superfile that it has written | `CHECK`, `NOT NULL` and the query itself fail after many superfiles, and full disks under `UPDATE` and compaction | `integration::overload::a_statement_that_fails_after_many_superfiles_takes_all_of_them_back` |
//! | the same, when several partitions are written at the same time | a `CHECK` fails in one of them | `integration::ingest::what_other_partitions_wrote_is_gone_when_one_fails` |
//! | a full disk leaves the table as it was, the error says so, the process goes on when there is room, recovery and vacuum leave nothing behind | `ENOSPC` from the n-th write on, for every n and 12 kinds of statement; an outcome that is unknown is reported as such | `integration::overload::a_disk_that_gets_full_in_the_middle_of_any_statement_leaves_the_table_as_it_was` |
//! | the same | a real file system of 2 MB (Linux, where mounting is allowed) | `integration::overload::a_real_disk_that_is_full_fails_the_statement_and_serves_the_next_one_when_there_is_room` |
//! | thousands of superfiles do not need thousands of file descriptors | 3,000 superfiles with tombstones, at most 128 descriptors | `integration::overload::thousands_of_superfiles_and_tombstones_need_few_file_descriptors` |
//!
//! # An acknowledged statement is there, once
//!
//! | promise | fault | test |
//! | --- | --- | --- |
//! | one lost answer changes nothing | the store did it, and its answer is lost, at any operation | `integration::pipeline::crashes::any_one_lost_answer_changes_nothing` |
//! | one refusal changes nothing | a request is refused, at any operation | `integration::pipeline::crashes::any_one_refused_request_changes_nothing` |
//! | all or nothing, and no wrong answer | answers are lost over and over | `integration::pipeline::crashes::answers_that_are_lost_over_and_over_leave_all_or_nothing` |
//! | a conditional write has the outcome that is reported | false 409, 412, 429, 500 and 503, broken and silent connections of real S3 and Azure servers and of a GCS server, with 0, 3 and 10 (the default) retries of the client's own | `integration::servers::lost_and_false_answers_of_an_s3_server_change_no_outcome`, `…_an_azure_server_…`, `…_a_gcs_server_…` |
//! | every acknowledged statement happened once, every failed one wholly or not at all, and no query answers what is not there | one request in nine, or in four, is lost, refused, late, answered falsely, cut off or garbled, between a session and an S3, an Azure, a GCS server; two seeds each, against a model | `integration::faults::statements_on_an_s3_server_that_lies_happen_once_or_not_at_all`, `…_an_azure_server_…`, `…_a_gcs_server_…` |
//! | an answer that is cut off, or ends early as if it were complete, is read again or is an error | the same servers; a store in memory | `integration::servers::cut_answers_of_an_s3_server_are_read_again_or_are_errors`, `…_an_azure_server_…`, `…_a_gcs_server_…`, `storage::tests::lengths::an_answer_of_the_wrong_length_is_read_again`, `…::ranges_of_the_wrong_length_are_an_error_and_no_panic` |
//! | attempts are bounded, and what is final is not tried again (the table is in `src/storage/retry.rs`) | a store that always answers 500, 503, 429, 408, 401, 403, or not at all; clients of S3, Azure and GCS as they are by default; requests are counted | `integration::retries::a_store_that_never_works_is_given_up_after_bounded_attempts_and_a_bounded_time`, `…::a_refusal_for_lack_of_rights_is_not_tried_again` |
//! | each of many writers' changes is made once | random faults, 200 seeds | `storage::tests::faults::every_line_of_many_writers_is_added_once_whatever_the_answers` |
//! | a mutation is not applied twice | its document lands late, after it ended | `integration::pipeline::fencing::an_appended_document_that_lands_after_its_mutation_ended_is_not_applied_again` |
//! | a mutation that ended unheard by its owner is not committed again, and what it committed stays | an early try of its `INTENT` lands late, and may be taken by a recovery | `integration::pipeline::fencing::an_owner_that_becomes_appended_again_from_a_late_intent_is_not_committed_twice`, `…::an_owner_that_finds_a_late_intent_taken_deletes_nothing_that_was_committed` |
//! | what was undone does not come back | an early try of its `INTENT` lands late | `integration::pipeline::fencing::an_intent_that_lands_again_after_it_was_undone_does_not_revive_its_mutation` |
//! | an owner that was given up cannot commit | it is paused beyond its lease and goes on | `integration::pipeline::fencing::an_owner_whose_lease_expired_is_undone_and_cannot_commit_any_more` |
//! | a statement that another process took for dead runs again, after pauses, at most ten times in all | its document is taken right before it becomes `APPENDED`, for 9 kinds of statement | `integration::undone::every_kind_of_statement_that_another_process_undid_runs_again`, `…::a_statement_that_is_always_undone_gives_up_after_ten_runs_with_pauses_between_them` |
//! | an owner that lives is not given up | other machines whose clocks are minutes to hours ahead or behind recover, also in 150 seeded histories; and in every history, a document is taken from its owner only after it stood still for one lease of true time | `integration::pipeline::fencing::no_machine_whose_clock_is_wrong_undoes_a_live_statement`, `integration::simulation::no_live_owner_is_undone_by_a_machine_whose_clock_is_wrong`, `wal::tests::watch` |
//! | what a dead writer left is undone within a lease (60 s) of the next opening or vacuum, and nothing waits for that but a vacuum and `supertable_recover` | the writer is gone | `integration::pipeline::fencing::opening_undoes_what_a_dead_writer_left_within_a_lease_and_no_one_waits_for_it` |
//! | a dead writer's ready mutation is committed once | others write meanwhile | `integration::pipeline::together::a_dead_writers_appended_mutation_is_committed_once_while_others_write` |
//! | the same | two processes recover at once | `integration::pipeline::together::two_processes_that_recover_at_once_commit_once` |
//! | what is acknowledged is on the disk, and its directory entry | none; syncs are counted | `storage::tests::local::a_put_syncs_one_file_and_one_directory`, `storage::tests::local::new_directories_are_synced_in_their_parents` |
//! | the same; all that is acknowledged is there after a loss of power, and of the statement under way all or nothing | the power goes off after each acknowledgement and at 36 moments between, as system calls show what was synced by then; the rest is lost, or only names are written, or any part of it | `integration::power_cut::a_power_cut_at_any_moment_leaves_all_that_was_acknowledged` (skipped without strace) |
//! | what a read returned does not vanish | it is read before the writer's sync is done | `storage::tests::local::a_read_waits_for_the_durability_of_what_it_returns` |
//! | nothing acknowledged is lost, nothing partial is seen | twelve SIGKILLs of a process that writes | `integration::storage::a_killed_process_loses_nothing_acknowledged_and_leaves_nothing_partial` |
//!
//! # All of it at once
//!
//! | promise | fault | test |
//! | --- | --- | --- |
//! | every version is its predecessor with exactly the statements that it commits, in an order that agrees with real time; what was acknowledged is there once, what was refused is not; snapshots stay as they are; a vacuum cuts only what it may; in the end nothing is left over | seeded histories of several processes: crashes at any request, lost and false answers, requests that land late or twice, pauses beyond the lease, clocks that jump, with recovery, compaction, restores and vacuum | `integration::simulation::every_history_keeps_every_promise` |
//! | a seed replays exactly | none | `integration::simulation::a_seed_replays_exactly` |
//! | the checker finds what is wrong | the store replaces blindly, forgets objects; upserts do not say which keys they found absent | `integration::simulation::a_store_that_breaks_its_word_is_found_out`, `…::upserts_that_do_not_say_which_keys_they_found_absent_are_found_out` |
//!
//! **Last long run:** 25 November 2026, 100,000 histories (seeds from 1,000,000 on) in 301 s on two cores, in release:
//!
//! ```text
//! SUPERTABLE_SIMULATION_SEED=1000000 SUPERTABLE_SIMULATION_HISTORIES=100000 \
//!     cargo test --release --features cli,distributed --test integration simulation::every
//! ```
//!
//! 51,146,776 requests, 1,160,456 commits in 1,217,388 versions, 125,062 conflicts, 279,296 snapshots read, 266,427
//! vacuums, 115,826 compactions. Injected: 71,750 crashes, 470,647 pauses, 119,097 jumps of clocks, 171,194 requests that
//! landed late, 985,171 that landed twice, 21,028 that landed after their process had died, 147,892 lost answers, 46,920
//! refusals of what had taken effect, 236,534 false refusals, 81,946 times 500 and 63,606 times 429 without effect,
//! 541,442 failed reads.
//!
//! It found four violations of one kind (seeds 1059220, 1068002, 1076793, 1078665), which is fixed: a writer that was
//! paused until vacuum had taken the version against which it judged its own mutation was told `Corrupt`, even if
//! another had committed it. Histories before, with earlier forms of the code, found what the rows about an early
//! `INTENT` say (seeds 1494, 62534 and 63401). `integration::simulation::histories_that_once_broke_a_promise_keep_it` lives
//! through all seven again.
//!
//! # Statements that meet
//!
//! | promise | fault | test |
//! | --- | --- | --- |
//! | compare-and-swap has one winner, and losers know | tasks and processes race, in memory, on disk, on real S3 and Azure servers and on a GCS server | `storage::tests::backends::races_on_disk_have_one_winner`, `integration::storage::processes_that_race_on_a_directory_each_count_once`, `integration::servers::an_s3_server_keeps_the_contract_and_its_races_have_one_winner`, `…::processes_that_race_on_an_s3_server_each_count_once`, and the same of Azure and GCS |
//! | no row is lost, doubled or brought back by the decision about a conflict | random histories against a model, 200 cases, and 150 with restores | `table::apply::tests::history::random_histories_match_a_model_of_rows`, `table::apply::tests::restores::random_histories_with_restores_match_a_model_of_rows` |
//! | money is conserved in every version that a reader sees, a counter ends at its acknowledged increments, an inserted row is there once | concurrent tasks, sessions, processes; one is killed among others | `integration::concurrent::tasks_of_one_session_keep_every_invariant`, `…::sessions_that_meet_only_at_the_store_keep_every_invariant`, `…::processes_keep_every_invariant`, `…::a_process_that_is_killed_among_others_takes_no_money_along` |
//! | serializable statements take effect as if one after the other | write skew | `integration::isolation::serializable_statements_take_effect_as_if_one_after_the_other` |
//! | upserts that meet leave a key once, at every level of isolation; those of different keys commit together | 64 upserts of one key, and of 64, in two sessions | `integration::upserts::many_upserts_of_one_key_leave_one_row_and_of_different_keys_commit_together` |
//! | the same | another statement adds the key: `INSERT`, `UPDATE`, `INSERT OVERWRITE`, `MERGE`, added files, a restore | `integration::upserts::a_key_conflicts_whoever_added_it_and_another_one_does_not`, `…::a_key_that_a_restore_brings_back_conflicts`; in random histories, `table::apply::tests::history::random_histories_match_a_model_of_rows` and `integration::simulation` |
//! | the same | SIGKILL at its operations, and another process runs it | `integration::kills::an_upsert_killed_at_any_storage_operation_and_run_by_another_process_leaves_its_key_once` |
//! | a declared key is there once, whoever adds it and however; statements that add different keys commit together | 64 `INSERT`s of one key, and of 64; two statements of all kinds; files of others; a key that is declared between plan and commit | `integration::keys`, `sql/keys.slt`; SIGKILL: `integration::kills::an_insert_of_a_declared_key_killed_at_any_storage_operation_leaves_it_once`; `integration::simulation` |
//! | a query that was planned with a key reads no version without it | the key is dropped in between | `integration::keys::a_query_that_was_planned_with_a_key_does_not_read_a_version_without` |
//! | snapshot isolation is no more than that | write skew | `integration::isolation::snapshot_isolation_lets_two_statements_skew_what_each_found_true` |
//! | a statement that gives up has changed nothing | it always comes second | `integration::isolation::a_statement_that_always_comes_second_ends_in_a_conflict_and_changes_nothing` |
//! | changes are carried over into a compaction's copy, never undone | statements commit while it runs | `integration::upkeep::statements_that_commit_while_rows_are_compacted_are_carried_over`, `…::compactions_and_statements_at_once_change_no_other_row`, `integration::clustering::statements_between_and_during_the_groups_are_carried_over`, `…::two_compactions_at_once_leave_a_clustered_table_and_change_no_row` |
//! | every version comes back exactly; a statement from before a restore that removes rows conflicts, and what conflicted is never committed later | statements and restores at once | `integration::pipeline::restores::every_version_comes_back_exactly`, `…::a_statement_that_removes_rows_and_is_from_before_a_restore_conflicts`, `…::what_conflicted_before_a_restore_is_never_committed_after_it` |
//! | a dropped table stays dropped | statements at the same time | `integration::pipeline::drops::a_drop_and_a_statement_at_once_are_ordered`, `…::a_dropped_table_is_gone_for_everyone` |
//! | names of tables are as if one statement came after the other: no two tables have one name, none is without a name, an acknowledged rename is seen by all later statements, a refused one changed nothing, and no drop takes a table that got another name | 200 histories of sessions that create, rename, drop, look up and commit at once, that are slow, die at any request, or hear no answer; each is checked for an order that explains all answers | `integration::renames::whatever_sessions_do_with_names_at_once_is_as_if_one_came_after_the_other` |
//! | of those who want one name, one gets it | processes rename different tables to it at once, on the local disk | `integration::renames::of_processes_that_rename_tables_to_one_name_one_succeeds_and_the_others_change_nothing` |
//! | a commit, a vacuum and a late read of the pointer keep a table's name | they come after a rename that they do not know of | `sql::catalog::claim::tests::of_two_claims_with_one_number_one_is_made_and_commits_keep_it`, `table::version::tip::tests::a_pointer_that_was_read_before_a_rename_is_not_adopted_after_it` |
//! | many writers finish sooner together than in turn: 4 times for 8 processes, 10 times for 64 tasks | none; in the time of a clock that only round trips move | `integration::pipeline::throughput::eight_processes_finish_four_times_sooner_together_than_in_turn`, `…::sixty_four_tasks_of_one_process_finish_ten_times_sooner_together_than_in_turn` |
//!
//! # Vacuum takes nothing that is needed
//!
//! | promise | fault | test |
//! | --- | --- | --- |
//! | no reachable version lacks an object | the vacuum dies at any operation | `integration::pipeline::vacuum::a_vacuum_that_dies_anywhere_leaves_no_reachable_version_that_lacks_an_object` |
//! | the same | two vacuums that retain nothing meet two writers, 150 seeds | `integration::pipeline::vacuum::wherever_vacuums_and_writers_meet_no_version_loses_an_object` |
//! | a reader that opened a version within the retention finds all of it | none | `integration::pipeline::vacuum::a_version_stays_as_long_as_someone_may_have_opened_it_within_the_retention` |
//! | what a live statement staged or reads stays | it runs at the same time | `integration::pipeline::vacuum::what_a_live_statement_has_staged_and_what_it_reads_stay` |
//! | what may be needed is kept | a document cannot be read | `integration::pipeline::vacuum::a_document_that_cannot_be_read_keeps_what_it_may_be_about` |
//! | an older version, found by number or by time, takes few reads, and one that was cut stays out of reach | 6,000 versions, reads are counted; of a million, by arithmetic | `integration::pipeline::travel::any_version_or_moment_of_thousands_takes_few_reads`, `…::what_a_vacuum_cut_is_out_of_reach_also_by_skip_pointers`, `table::version::descent::tests::any_version_of_a_million_takes_few_reads` |
//! | the tables of a process share one budget of memory; one that is dropped or no longer referred to gives its part back | none | `table::version::cache::tests::a_table_that_is_closed_gives_back_what_was_kept_for_it_and_nothing_else`, `integration::sessions::a_table_that_is_dropped_is_not_kept_in_memory_by_its_session` |
//!
//! # Other engines can open superfiles
//!
//! | promise | fault | test |
//! | --- | --- | --- |
//! | a superfile has physical names that stay, field ids, and types that every reader of Parquet knows | columns and members renamed, dropped, added again under the same names, restored; a column `_id` | `integration::superfile_columns::a_superfile_has_physical_names_field_ids_and_plain_types`, `…::a_column_keeps_its_physical_name_and_a_new_one_gets_another` |
//! | no physical name is given twice, also by a defect of ours | a version that forgets one | `format::manifest::tests::invariants::a_table_keeps_its_id_and_never_reuses_field_ids` |
//!
//! # Files of others stay as they are, and are never a wrong answer
//!
//! | promise | fault | test |
//! | --- | --- | --- |
//! | adding files reads a footer of each, and writes less than 20 KB for ten of them | their pages are nothing but zeros | `integration::external_files::adding_files_reads_a_footer_of_each_and_writes_no_data` |
//! | all are added or none; recovery and a vacuum that retains nothing leave them as they are | the process dies at any operation of `supertable_add_files`, before or after it took effect; SIGKILL | `integration::external_files::a_process_that_dies_at_any_operation_of_an_adoption_leaves_all_or_nothing_and_the_files`, `integration::kills_ddl::a_process_killed_while_it_changes_a_table_as_a_whole_leaves_all_or_nothing` |
//! | a file of a table whose own records say what counts is refused | Delta, Iceberg, Hudi, infino and supertables at, above and below the location, by pattern, by name and behind a link | `integration::external_files::files_of_a_table_whose_own_records_say_what_counts_are_refused`, `…::a_link_does_not_hide_that_a_file_is_one_of_a_table`, and `sql/add_files.slt` on all stores |
//! | nothing of the table writes or deletes one | `DELETE`, `UPDATE`, compaction, vacuum (dry, and retaining nothing), `INSERT OVERWRITE`, `TRUNCATE`, recovery, `CREATE OR REPLACE`, `DROP TABLE` | `integration::external_files::whatever_a_table_on_the_disk_does_the_files_stay_as_they_are` |
//! | the same | a quarter of the histories of the simulation, all its faults | `integration::simulation::every_history_keeps_every_promise` |
//! | no row is there twice | two processes add one file at once, 40 seeds; one adds it while another restores a version that has it, 60 seeds; two names of one file | `integration::external_files::of_two_processes_that_add_a_file_at_once_one_does_and_the_other_is_told`, `…::an_adoption_beside_a_restore_of_the_same_files_never_has_their_rows_twice`, `…::a_file_on_the_disk_has_one_path_whatever_links_lead_to_it`, `table::apply::tests::restores::files_of_others_do_not_come_in_beside_a_restore_that_may_bring_them_back` |
//! | one that was changed, cut or removed is an error that names it and says what to do, whether its footer is known or not | a bit flipped anywhere, cuts, another file of the same length and footer, no file | `integration::external_files::a_file_that_was_replaced_cut_or_removed_is_an_error_that_names_it_and_never_rows`, `…::a_file_on_the_disk_that_is_written_over_in_place_is_an_error`, `scan::in_place::tests::a_file_that_changed_in_memory_is_an_error`, `…::a_file_that_changed_on_the_disk_is_an_error`, and `sql/add_files.slt` on all stores |
//! | answers are those of copies and of inserted rows | deletes, updates, merges, compactions | `integration::external_files::a_table_of_files_in_place_answers_as_one_of_copies_and_one_of_inserted_rows` |
//! | a recorded path has one spelling, no `..`, and leads to none of the table's own folders; without the hash of its footer no file is read | paths that must not be, an entry without a seal | `format::in_place::tests::a_place_has_one_spelling_and_stays_out_of_the_tables_own_folders`, `format::manifest::tests::damage::a_file_that_is_read_in_place_has_a_path_that_can_be_and_a_seal` |
//!
//! # Damage to the table's own objects is an error, never a wrong answer or a panic
//!
//! | promise | fault | test |
//! | --- | --- | --- |
//! | a damaged pointer or change set is an error | every bit flipped, every cut | `format::tests::damage::a_damaged_pointer_is_always_an_error`, `…::a_damaged_change_set_is_always_an_error` |
//! | a damaged marker or reservation is an error | the same | `format::pointer::tests::neither_a_drop_marker_nor_a_reservation_is_a_pointer_and_no_bit_of_them_may_flip`, `…::what_is_no_directory_can_neither_be_written_nor_read` |
//! | a damaged manifest node is an error, by its name and by its frame | the same | `format::manifest::tests::damage::a_flipped_bit_or_a_cut_is_found_by_the_name`, `…::a_flipped_bit_or_a_cut_is_found_by_the_frame_too` |
//! | a damaged WAL document is an error or reads as before | the same | `format::tests::damage::a_damaged_wal_document_is_an_error_or_reads_as_before` |
//! | a damaged sidecar never panics, and is checked against the manifest's hash | the same | `format::tests::damage::a_damaged_sidecar_never_panics`, `wal::tests::store::a_sidecar_is_checked_against_the_hash_in_the_manifest` |
//! | the error names the object | a damaged object in a table | `integration::pipeline::damage::a_damaged_pointer_manifest_or_sidecar_is_an_error_that_names_it` |
//! | a damaged footer or page index of a superfile is an error that names it | every bit flipped, every cut, before any decoder sees it | `scan::read::reader::tests::every_flipped_bit_of_footer_and_page_indexes_is_an_error_that_names_the_file`, `…::every_truncation_is_an_error_and_what_is_appended_does_no_harm` |
//! | the same, for `SELECT` and statements that change rows, with and without tombstones | a bit of every byte flipped, cuts, a missing file | `integration::damaged_files::a_flipped_bit_in_any_byte_of_a_footer_is_an_error_that_names_the_superfile`, `…::a_flipped_bit_in_any_byte_of_the_page_indexes_is_no_wrong_answer`, `…::a_cut_superfile_is_an_error` |
//! | a damaged page or dictionary of a superfile is an error that names the file and the bytes, for every reader: `SELECT`, statements that change rows, compaction; a damaged Bloom filter is not believed | a bit of every byte flipped; bits in every block, page and filter of a superfile of many blocks on the disk | `integration::damaged_files::a_flipped_bit_in_a_page_is_an_error_that_names_the_superfile`, `…::a_flipped_bit_anywhere_in_a_large_superfile_on_disk_is_an_error_or_nobody_reads_it`, `scan::read::verified::tests::a_flipped_bit_in_any_block_is_an_error_that_names_the_file_and_the_block` |
//! | the checksums are those of the bytes that were written, in whatever parts they are uploaded, and others read the file | parts of many lengths; every bit of the table flipped, every cut | `table::superfile::capture::tests::a_file_gets_the_same_checksums_in_whatever_parts_it_is_uploaded`, `…::others_read_a_file_with_checksums_as_the_one_without`, `format::checksums::tests::a_table_with_a_flipped_bit_or_cut_is_another_an_error_or_none` |
//! | a damaged page of a file of others never panics, and an error names the file; see below for what it can do | a bit of every byte flipped | `integration::damaged_files::a_flipped_bit_in_a_page_of_a_file_of_others_never_panics` |
//! | a damaged file of others is refused, or read without a panic | a bit of every byte of its footer flipped, cuts | `integration::damaged_files::a_damaged_file_of_others_is_refused_or_read_without_a_panic` |
//! | no decoder or parser panics, none takes more memory than a multiple of its input | the committed corpus of 12 targets and 3,000 mutations of each; the long form ran 33,461,862 times on 25 November 2026 (seed 20261125, 420 s) without a finding; `cargo fuzz` has the same targets (`tests/fuzz`) | `integration::fuzz::no_decoder_panics_or_takes_more_memory_than_its_input_explains` |
//! | what is sound goes on | a damaged document, a damaged sidecar | `integration::pipeline::damage::a_damaged_document_is_reported_kept_and_in_nobodys_way`, `…::a_statement_on_a_damaged_sidecar_fails_and_others_go_on` |
//! | an object of a newer format is refused as such | a newer version number | `format::tests::damage::newer_pointers_and_documents_are_refused_by_version`, `format::manifest::tests::damage::a_newer_version_is_refused_as_such` |
//! | what earlier builds wrote is read | frozen files | `format::tests::fixtures::the_manifest_of_version_1_is_read`, and one each for pointers, documents, sidecars, change sets |
//!
//! # Nobody gets out
//!
//! | promise | fault | test |
//! | --- | --- | --- |
//! | a key cannot leave the table's directory | `..`, absolute paths, symbolic links | `storage::tests::local::a_key_cannot_leave_the_directory`, `storage::tests::local::symbolic_links_inside_the_directory_are_refused_and_not_listed` |
//! | no text out of a stored object is part of a key that is written or deleted: keys are made of ids, and ids have one spelling | foreign names, other spellings | `format::tests::names::foreign_names_are_no_objects`, `…::other_spellings_of_ids_are_refused` |
//! | the same for superfiles, which the session's own store reads, and for every other object of a table | links to the very same bytes outside | `integration::trust::a_symbolic_link_in_a_table_leads_nowhere_whatever_it_stands_for` |
//! | no error, plan, log, answer of a function or stored object holds a credential | passwords and tokens in locations (refused), secrets in `OPTIONS`; `tracing` at every level | `integration::trust::credentials_are_in_no_error_plan_log_answer_or_object` |
//! | a session that only reads sends no request that writes, not even to recover; each statement that would is refused as such | 14 kinds of statement, a dead writer's leftovers | `integration::trust::a_session_that_only_reads_sends_no_request_that_writes_and_says_so`, `…::a_reader_does_not_end_what_dead_writers_left`, `…::a_catalog_in_a_session_that_only_reads_creates_and_drops_nothing`, `integration::derived_sessions::a_derived_session_that_only_reads_changes_nothing_and_its_base_still_does`, `integration::trust::reading_only_cannot_be_turned_off_again` |
//! | the same, and no write is tried again and again | a store that answers 403 to every write | `integration::trust::a_store_that_forbids_writing_is_read_and_each_write_fails_soon_and_says_why` |
//! | a store that may only be read is read; a write says why it cannot be | a file system mounted read-only (Linux, where mounting is allowed) | `integration::overload::a_file_system_that_is_read_only_can_be_read_and_a_write_says_why_it_cannot_be` |
//! | an error tells no secret | a bucket that refuses | `integration::servers::a_bucket_that_refuses_says_so_without_telling_secrets` |
//! | without the registration nothing is changed by mistake | `DELETE` and `UPDATE` in a session without it | `integration::sessions::without_the_registration_reading_and_inserting_work_and_changing_rows_is_refused` |
//!
//! # Trouble can be seen
//!
//! | promise | against | test |
//! | --- | --- | --- |
//! | each mutation's phases, each conditional write's outcome and each retry is an event; see [`events`](super::events) | healthy statements, lost answers, refusals | `integration::events::a_statement_is_followed_from_its_intent_to_its_end`, `…::lost_answers_retries_and_lost_races_are_told`, `…::recovery_compaction_and_vacuum_tell_what_they_did` |
//! | the counters of `EXPLAIN ANALYZE` are there | none | `integration::events::explain_analyze_counts_sidecars_reruns_and_superfiles` |
//! | the command logs where `RUST_LOG` asks for it, and not otherwise | none | `integration::cli::what_happens_is_logged_to_the_error_output_where_it_is_asked_for` |
//!
//! # SQL means what it means elsewhere
//!
//! | promise | against | test |
//! | --- | --- | --- |
//! | statements have the effect that the language says | random programs on SQLite and on DataFusion's tables in memory, 150 programs, compared after every statement | `integration::differential::random_programs_agree_with_the_oracle` |
//! | the same | files whose results DuckDB confirms (`sql/oracle.py`), on the local disk, S3, Azure and GCS | `integration::sqllogic::every_sql_file_holds`, `…::every_sql_file_holds_on_s3`, `…::every_sql_file_holds_on_azure`, `…::every_sql_file_holds_on_gcs` |
//! | a scan that drops deleted rows after decoding keeps exactly the others | random bitmaps of every kind of container, batches with holes, out of order | `scan::alive::tests::what_is_left_is_what_is_not_deleted`, `scan::mask::tests::exactly_the_rows_that_are_not_deleted_stay_in_order` |
//! | what was read ahead is what would have been read, and each row group is read once | two readers of a file, wrong guesses, failed requests, a plan executed again | `scan::read_ahead::tests::two_that_read_a_file_in_pieces_take_what_either_has_read_ahead`, `…::what_fails_ahead_is_read_when_it_is_asked_for` |
//! | what a source's keys leave out has no row that matches | keys of 18 kinds, with NULL, NaN, two zeros, casts and long text, against a join of copies in memory; clauses that need every row | `integration::source_first::keys_of_all_types_find_what_a_join_in_memory_finds`, `…::what_needs_every_row_of_the_target_sees_every_row` |
//! | a source is evaluated once, in memory or to disk | `random()`; pools that it does not fit into | `integration::source_first::a_source_is_evaluated_once`, `…::a_source_that_does_not_fit_goes_to_disk_and_still_prunes_by_its_bounds` |
//! | a superfile that a `DELETE` drops unread has no other row | random predicates and statistics, 2,000 cases | `scan::cover::tests::what_is_proved_holds_for_every_row`, in `src/scan/cover_tests.rs` |
//! | the specification says enough to read a table: a reader in Python that knows nothing else reads every version as this crate does, by number and by time | tombstones, changed columns, files of others, compaction, restore | `integration::readers::a_reader_written_from_the_specification_reads_every_version_as_we_do` |
//! | that reader refuses what is damaged, changed, newer or gone | a flipped bit or a missing byte in each kind of object, another format version, an external file written anew | `integration::readers::the_independent_reader_refuses_what_is_damaged_changed_newer_or_gone` |
//! | pyarrow, DuckDB, Polars and Daft open superfiles, and find columns by their physical names | renamed columns, and new ones of the old name | `integration::readers::other_engines_read_superfiles_by_the_physical_names_of_columns` |
//! | a table whose columns change holds what was put into it | random changes against a model, 12 cases | `integration::evolution::a_table_whose_columns_change_holds_what_was_put_into_it` |
//! | compaction keeps values, ids and order | none | `integration::upkeep::a_compaction_keeps_values_and_row_ids_and_the_order_of_rows` |
//! | a table clustered group by group is worth it: a filter on any of its columns reads at most a quarter of what it read | 256 superfiles in random order, of which every filter reads all | `integration::clustering::a_filter_on_any_column_reads_at_most_a_quarter_of_a_table_that_was_clustered_group_by_group` |
//! | keeping a table clustered writes each row a few times: once more for each fourfold growth of its run | random additions, in random groups, simulated | `table::compaction::plan::clustered::tests::a_row_is_written_at_most_once_more_than_its_run_grew_fourfold` |
//! | what is clustered is left alone: after a plan, whole or in part, the next has only the rest to do, and then nothing | random superfiles, groups and crashes between them, simulated; a compaction dropped after three commits | `table::compaction::plan::clustered::tests::after_a_plan_was_carried_out_the_next_one_has_nothing_to_do`, `integration::clustering::what_was_committed_before_a_compaction_was_given_up_stays_and_the_next_one_does_the_rest` |
//! | many small updates do not wear a table out: few superfiles and deleted rows at any time | ten thousand updates all over a million rows, simulated | `table::compaction::plan::tests::ten_thousand_updates_all_over_leave_few_superfiles_few_tombstones_and_write_little_more` |
//! | an `INSERT OVERWRITE` replaces the rows that are there, wherever they are by then | a compaction in the middle of it | `integration::upkeep::an_overwrite_that_a_compaction_comes_before_runs_again_and_replaces_the_rows_where_they_are` |
//!
//! # Workers (with the feature `distributed`)
//!
//! | promise | fault | test |
//! | --- | --- | --- |
//! | statements answer and change the same with three worker processes as alone | all files of `sql/`; statements of each kind, compared with a session without workers | `integration::distributed::every_sql_file_holds_on_three_workers`, `…::statements_that_change_rows_run_on_workers_and_do_the_same` |
//! | a worker that dies in the middle of a `DELETE`, `UPDATE` or `MERGE` leaves everything as it was, and the next statement runs, with the others or when it is back | SIGKILL | `integration::distributed::a_worker_killed_in_the_middle_of_a_statement_leaves_everything_as_it_was` |
//! | a worker reads superfiles and sidecars of the pinned version, and no other object | pointer, manifest and WAL are taken away between planning and execution | `integration::distributed::workers_read_neither_pointer_nor_manifest_nor_wal` |
//! | what a worker finds damaged is `Corrupt`, under its name | a flipped bit in a superfile | `integration::distributed::a_damaged_superfile_that_a_worker_reads_is_corrupt_by_its_name` |
//! | settings of a session hold on its workers | another time zone | `integration::distributed::settings_of_the_session_hold_on_workers` |
//! | a scan arrives as it left; damaged bytes are an error, never a panic | random scans; every truncation, every flipped bit | `distributed::tests::codec::a_scan_arrives_as_it_left`, `…::every_truncation_and_every_flipped_bit_is_an_error` |
//! | each byte of a superfile is read by one worker, and an order is kept | random groups of files, 1 to 8 workers | `distributed::tests::dealt::every_byte_is_read_once`, `…::an_order_keeps_groups_as_they_are` |
//! | a scan that is written down without this crate's codec is refused | another codec | `distributed::tests::codec::without_the_codec_a_scan_does_not_leave_and_the_error_names_the_feature` |
//!
//! # Longer
//!
//! ```text
//! SUPERTABLE_TEST_THOROUGH=1 cargo test --features cli,distributed --test integration kills      # every operation, three ways each
//! SUPERTABLE_DIFFERENTIAL_SEED=1 SUPERTABLE_DIFFERENTIAL_PROGRAMS=5000 \
//!     cargo test --features cli,distributed --test integration differential
//! SUPERTABLE_FUZZ_SECONDS=600 SUPERTABLE_FUZZ_SEED=1 cargo test --features cli,distributed --test integration fuzz
//! cargo +nightly fuzz run --fuzz-dir tests/fuzz manifest_payload -- -max_total_time=600   # or another target
//! SUPERTABLE_SIMULATION_HISTORIES=100000 cargo test --release --features cli,distributed --test integration simulation::every
//! SUPERTABLE_TEST_ROUNDS=20 cargo test --features cli,distributed --test integration concurrent  # as many times the statements
//! SUPERTABLE_TEST_SEEDS=50 cargo test --features cli,distributed --test integration faults       # statements on servers that lie
//! SUPERTABLE_TEST_THOROUGH=1 cargo test --features cli,distributed --test integration power_cut  # after every system call, three ways
//! # random statements on workers that run already:
//! SUPERTABLE_TEST_WORKERS=http://127.0.0.1:50051,http://127.0.0.1:50052 \
//!     cargo test --features cli,distributed --test integration soundness::statements
//! ```
//!
//! A failing program of `differential` prints its seed and its statements.
//!
//! # Not tested yet
//!
//! - A worker that is frozen, not dead; a network between workers that loses packets; workers on several machines.
//! - The wire format of writes to GCS. The server knows only the JSON API, and a shim turns `object_store`'s requests into
//!   it (`tests/integration/support/gcs.rs`): that the generation of an object decides is tested, on a server's own
//!   atomicity, but not the requests that real GCS gets.
//! - Damage to the pages or Bloom filters of a file that others wrote (`supertable_add_files`, whether it is read in place
//!   or was copied). The table has a hash of its footer and page indexes only: a flipped bit in a page is a decoder's error
//!   or another value (about every second one, in the test above), and in a Bloom filter a row that is not found. A
//!   superfile that is written from its rows, by `UPDATE` or `supertable_optimize('t', full => true)`, has checksums.
//! - That a disk obeys when it is asked to sync. What is asked of it is tested.
//! - Memory with hundreds of thousands of superfiles.
