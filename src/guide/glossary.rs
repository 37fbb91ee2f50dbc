//! The words of this crate, each with one meaning. Look a word up here before you introduce another one for the same thing.
//!
//! # What a table consists of
//!
//! | word | meaning |
//! | --- | --- |
//! | table | a directory with a pointer in it, and everything that the pointer leads to |
//! | superfile | one immutable Parquet file with rows of the table |
//! | external file | a Parquet file that its owner wrote and the table reads: *in place*, or as a copy |
//! | position | the number of a row in its superfile, from 0, over all row groups |
//! | row address | a superfile and a position |
//! | row id | 128 bits that a row keeps when it is updated or moved |
//! | tombstones | the positions of a superfile's deleted rows |
//! | live row | a row that no tombstone deletes |
//! | sidecar | the immutable object that holds the tombstones of one superfile |
//! | seal | a mark in a sidecar of infino's tables: who closed it to replacement, and when |
//! | footer checksum | lengths and hashes of a superfile's footer and page indexes |
//! | in force | the sidecar that a version names for a superfile is in force in that version |
//! | field id | the number by which a column, or a field in it, is known, whatever its name |
//! | physical name | what superfiles call a column; it never changes |
//! | initial default | the value of a column in rows that are older than the column |
//! | property | a key and a value of the table's metadata |
//!
//! # Versions
//!
//! | word | meaning |
//! | --- | --- |
//! | version | one immutable state of a table, with a number from 1 |
//! | manifest | the objects that list what a version consists of: a tree of nodes |
//! | node | one object of a manifest: the *root*, a *group* (of leaves) or a *leaf* (of entries) |
//! | entry | what a leaf says of one superfile: rows, size, statistics, sidecar in force |
//! | pointer | the one object that names the root of the current version |
//! | to swing the pointer | to replace the pointer by a compare-and-swap; the only commit |
//! | tip | the newest version that a process knows |
//! | snapshot | a version that a statement reads, pinned |
//! | base | the version that a statement read |
//! | history | the versions before the current one, as far as vacuum left them |
//! | skip pointer | a root's reference to a version far before its parent |
//! | retention | the time for which vacuum keeps versions that are no longer current |
//!
//! # Statements
//!
//! | word | meaning |
//! | --- | --- |
//! | statement | what a user asks for |
//! | mutation | a statement that changes a table, on its way to a commit |
//! | coordinator | the process that plans a statement whose parts workers execute, and commits it |
//! | worker | a process that executes parts of the plans of coordinators; it only reads |
//! | owner | the process that runs a mutation's statement |
//! | WAL document | the object that says how far a mutation is: `INTENT`, `APPENDED`, `COMPLETE` |
//! | lease | for how long others expect no news of an owner; it decides who acts, never who is right |
//! | abandoned | unchanged for one lease of the observer's own time |
//! | to stage | to write objects that no version names yet |
//! | id block | the range of ids that one mutation uses for what it stages |
//! | effect | what a statement does, in memory: superfiles to add, positions to delete, superfiles to drop |
//! | change set | the effect as a stored object; with its base any process can commit it |
//! | key | a row's values of the columns that a `MERGE` compares by `=`, or of a declared key; not the cluster key |
//! | declared key | columns in which no two rows have the same values: `PRIMARY KEY` or `UNIQUE` |
//! | absent key | a key that a statement adds because it found no row with it |
//! | draft | a version that a process has made and to which the pointer has not been swung |
//! | to judge | to decide what a change set does to a version: the function `apply` |
//! | conflict | a judgement that a change set can never be committed |
//! | moved | a row moved if a change set removed it and added a copy in another superfile |
//! | turn | one attempt of a process to commit all that is ready |
//! | member | a mutation that takes part in a turn |
//! | leader, follower | the process that drafts for all, and one that waits to be in the draft |
//! | to fence | to replace a WAL document so that its owner cannot go on |
//! | to undo | to delete what a fenced mutation staged, its change set and its document |
//! | to retire | to end the document of a mutation that is committed |
//! | attempt | one execution of a statement; after a conflict there is another one |
//! | recovery | ending what dead or slow owners left |
//!
//! # Upkeep
//!
//! | word | meaning |
//! | --- | --- |
//! | compaction | writing superfiles anew without changing a row: `supertable_optimize` |
//! | source | a superfile that a compaction replaces |
//! | place | the number of a row in all that a compaction wrote; where a row moved to |
//! | cluster key | what compactions order rows along: a curve over columns, or the declared order |
//! | moved range | neighbouring rows that a compaction moved together |
//! | run | superfiles that one compaction wrote along one cluster key (a sorted run) |
//! | vacuum | deleting what no retained version needs |
//! | garbage | what no retained version names and no live mutation may come to name |
//!
//! # Reading
//!
//! | word | meaning |
//! | --- | --- |
//! | pin | the choice of one version of a table for one statement |
//! | to prune | to leave out superfiles, row groups or pages because statistics prove that no row of them matches |
//! | to cover | a predicate covers a superfile if statistics prove that every row of it matches |
//! | barrier | a function around an expression that the optimiser cannot see into |
//! | selection | the rows of a file that a scan decodes |
//!
//! # Catalogs
//!
//! | word | meaning |
//! | --- | --- |
//! | catalog | a location whose directories are schemas, and theirs tables |
//! | slot | a directory that a name can stand for: `t`, `t.2`, `t.3` … |
//! | claim | a pointer's statement that its table stands in another slot than its own directory |
//! | reservation | what stands in a slot that is kept for a table of another directory |
//! | drop marker | what stands in the pointer's place once a table was dropped |
//!
//! # Stores
//!
//! | word | meaning |
//! | --- | --- |
//! | compare-and-swap | replacing an object on the condition that it still is in the state that was read |
//! | object version | what a store calls one state of an object: an ETag, a generation, or (on disk) inode, time and size |
//! | nonce | bytes that make two writes of one object differ |
//! | salt | bytes that make the nodes of two drafts differ |
//! | outcome unknown | the store did not say whether it did a write, and reading back does not tell |
