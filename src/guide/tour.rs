//! A tour of the code for newcomers.
//!
//! Layers stand from left to right, and a file uses only its own layer and those to its left:
//! `storage` and `format` → `wal` → `table` →
//! `scan` → `dml` → `sql` → `api` → `cli`. Inside a layer no file leads back to
//! itself: following imports, re-exports and methods from file to file comes to an end (but for a module and its own
//! children, which may know each other). Tests hold both rules.
//!
//! # A `DELETE`, from its predicate to the moment at which it is in force
//!
//! 1. `dml::plan::analyzer` takes the statement's plan, once DataFusion has analysed it, before it is optimised.
//! 2. `dml::plan::spine` puts under it a scan of the target that also yields where each row is.
//! 3. `dml::sound::rewrite` takes from the plan what DataFusion's optimiser would get wrong. From here to the sink the
//!    statement is an ordinary query, which `scan::plan` plans over one pinned version.
//!    Its join with other rows, if it has one, is `dml::source_first`.
//! 4. `dml::write::change` is where the query's rows arrive: bitmaps of positions, one for each superfile (gathered by
//!    `dml::write::gather` and `collect`). It begins a mutation and commits it.
//! 5. The `table` does the rest, in ten files, which its documentation lists: the mutation's document,
//!    its sidecars and its change set, the next version as a pure function of this one, and the swing of the pointer.
//!
//! # A dead writer
//!
//! Recovery begins in `table::recovery::recover`; the documentation of `table` lists its files, too.
//! What may stand in a document, and which step may follow which, is in `wal::machine`, without any I/O.
//!
//! # Where decisions are made
//!
//! Decisions are functions over values, without clock, store or randomness: `wal::machine` (the states of a document),
//! `table::apply` (what a change set makes of a version, and what conflicts), `table::compaction` (what is worth
//! writing anew), `table::vacuum::plan` (what no version needs), `scan::plan::prune` and `cover` (which superfiles a predicate
//! can or must hold for). The code around them reads, calls them, and writes.
