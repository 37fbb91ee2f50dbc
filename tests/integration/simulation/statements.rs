//! One statement of one process: from the snapshot that it reads to the answer that it hears.
//!
//! Owns: the choice of a statement, and its effect on superfiles and positions, as SQL's sinks would make it. A
//! superfile holds its rows as they are in the model, so what is read back needs no Parquet. Does not own
//! what the effect should come to (`model`).

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use datafusion_supertable::unstable::format::manifest::{RowIds, SuperfileEntry, TableMetadata};
use datafusion_supertable::unstable::format::{
    AbsentKeys, ColumnStats, FooterChecksum, InPlace, MovedRange, OpKind, RowMoves, StatValue,
    SuperfileId, SuperfileStats, WalId,
};
use datafusion_supertable::unstable::table::{CommitOutcome, Effect, Mutation, Snapshot};
use datafusion_supertable::{ErrorKind, Result};
use rand::rngs::SmallRng;
use rand::seq::{IndexedRandom, SliceRandom};
use rand::{Rng, SeedableRng};
use tokio::time::{Instant, sleep, timeout};

use super::model::{Ending, OWNERS, Rows, Statement, UPSERTED, encode, key_of, path_of, upserted};
use super::process::Process;
use super::store::Sabotage;
use super::weather::log_uniform;

/// A live row, and where it is.
#[derive(Clone, Copy, Debug)]
struct Place {
    superfile: SuperfileId,
    position: u32,
    row: u64,
    value: u64,
}

/// What a statement is to do.
#[derive(Default)]
struct Plan {
    op: Option<OpKind>,
    /// Rows that go.
    delete: Vec<Place>,
    /// Rows that get new values.
    change: Vec<Place>,
    insert: usize,
    /// Rows that it inserts because it found none with their keys, as others may at the same time.
    upsert: Vec<u64>,
    /// Superfiles that go as a whole, with the rows that live in them.
    drop: BTreeSet<SuperfileId>,
    /// Whether their rows are copied.
    compact: bool,
    property: Option<u64>,
}

impl Process {
    /// One statement, and again if it conflicts.
    pub(super) async fn statement(&self, seed: u64, old: Option<Arc<Snapshot>>) {
        let mut dice = SmallRng::seed_from_u64(seed);
        let mut base = old;
        for _ in 0..3 {
            let invoked = Instant::now();
            let current = self.world.state().chain.current();
            let base = match base.take() {
                Some(old) => old,
                None => match self.pin(current).await {
                    Some(snapshot) => snapshot,
                    None => return,
                },
            };
            let number = base.version();
            match self.attempt(&mut dice, base, invoked).await {
                Ok(true) => {}
                Ok(false) => return,
                Err(error) => return self.judge("a statement", &error, number),
            }
        }
    }

    /// Whether it conflicted.
    async fn attempt(
        &self,
        dice: &mut SmallRng,
        base: Arc<Snapshot>,
        invoked: Instant,
    ) -> Result<bool> {
        let places = self.places(&base).await?;
        let plan = self.choose(dice, &places);
        let op = plan.op.unwrap_or(OpKind::Delete);
        let number = base.version();
        let mutation = self
            .table
            .begin(op, Arc::clone(&base), op.as_str().to_owned());
        let id = mutation.wal_id()?;
        let mut statement = Statement {
            op,
            base: number,
            removes: Rows::new(),
            adds: Rows::new(),
            serializable: dice.random_ratio(1, 10),
            property: plan.property,
            invoked,
            ended: None,
        };
        self.world.note(|| {
            format!(
                "p{} BEGIN {} {id} on {number}",
                self.life.process,
                op.as_str()
            )
        });
        let effect = self.effect(dice, plan, &places, &mutation, &base, &mut statement);
        let effect = match effect.await {
            Ok(effect) => effect,
            Err(error) => {
                // It ends with the mutation that is dropped here.
                self.world.state().statements.insert(id, statement);
                self.told(id, Ending::Failed(error.kind()));
                return Err(error);
            }
        };
        self.world.state().statements.insert(id, statement);
        if dice.random_ratio(1, 8) {
            // It takes long; its lease is renewed meanwhile, if all goes well.
            let longest = self.world.weather.lease * 2;
            sleep(log_uniform(dice, Duration::from_millis(5), longest)).await;
        }
        match dice.random_range(0..30) {
            0 => {
                let _ = mutation.abort().await;
                self.told(id, Ending::Aborted);
                return Ok(false);
            }
            1 => {
                drop(mutation);
                self.told(id, Ending::Aborted);
                return Ok(false);
            }
            _ => {}
        }
        let patience = match dice.random_ratio(1, 20) {
            true => log_uniform(dice, Duration::from_millis(5), Duration::from_secs(2)),
            false => Duration::from_secs(1_000_000),
        };
        let Ok(outcome) = timeout(patience, mutation.commit(effect)).await else {
            // Cancelled: nobody is told anything.
            self.world.count("statement cancelled");
            return Ok(false);
        };
        let ending = match outcome {
            Ok(CommitOutcome::Committed {
                version,
                rows_affected,
                ..
            }) => Ending::Committed {
                version,
                rows_affected,
            },
            Ok(CommitOutcome::NothingToCommit) => Ending::Nothing,
            Ok(CommitOutcome::Conflict(_)) => Ending::Conflict,
            Err(error) => {
                self.world.note(|| format!("{id}: {error}"));
                Ending::Failed(error.kind())
            }
        };
        let again = matches!(
            ending,
            Ending::Conflict | Ending::Failed(ErrorKind::Conflict)
        );
        self.told(id, ending);
        Ok(again)
    }

    fn told(&self, id: WalId, ending: Ending) {
        self.world
            .note(|| format!("p{} TOLD {id} {ending:?}", self.life.process));
        self.world.state().acknowledge(id, ending);
    }

    /// The live rows of a version.
    async fn places(&self, base: &Snapshot) -> Result<Vec<Place>> {
        let mut places = Vec::new();
        for entry in base.manifest().entries() {
            let deleted = match &entry.tombstones {
                Some(tombstones) => base.sidecars().positions(tombstones).await?,
                None => Arc::default(),
            };
            let rows = Arc::clone(&self.world.state().superfiles[&entry.id]);
            let live = (0..)
                .zip(rows.iter())
                .filter(|(at, _)| !deleted.contains(*at));
            places.extend(live.map(|(position, (row, value))| Place {
                superfile: entry.id,
                position,
                row: *row,
                value: *value,
            }));
        }
        Ok(places)
    }

    fn choose(&self, dice: &mut SmallRng, places: &[Place]) -> Plan {
        let few = |dice: &mut SmallRng| -> Vec<Place> {
            let many = dice.random_range(1..=5);
            places.choose_multiple(dice, many).copied().collect()
        };
        let files: BTreeSet<SuperfileId> = places.iter().map(|place| place.superfile).collect();
        let files: Vec<SuperfileId> = files.into_iter().collect();
        let some_files = |dice: &mut SmallRng, at_most: usize| -> BTreeSet<SuperfileId> {
            let many = dice.random_range(1..=at_most);
            files.choose_multiple(dice, many).copied().collect()
        };
        let mut plan = Plan::default();
        let kind = if places.is_empty() {
            *[0, 67].choose(dice).unwrap_or(&0)
        } else {
            dice.random_range(0..100)
        };
        plan.op = Some(match kind {
            0..20 => {
                plan.insert = dice.random_range(1..=8);
                OpKind::Insert
            }
            20..40 => {
                plan.delete = few(dice);
                OpKind::Delete
            }
            40..44 => {
                // All rows of some superfiles, by row.
                let some = some_files(dice, 2);
                let of = |place: &&Place| some.contains(&place.superfile);
                plan.delete = places.iter().filter(of).copied().collect();
                OpKind::Delete
            }
            44..60 => {
                plan.change = few(dice);
                OpKind::Update
            }
            60..67 => {
                plan.change = few(dice);
                let changed: BTreeSet<u64> = plan.change.iter().map(|place| place.row).collect();
                plan.delete = few(dice);
                plan.delete.retain(|place| !changed.contains(&place.row));
                plan.insert = dice.random_range(0..3);
                OpKind::Merge
            }
            67..81 => {
                let there: BTreeSet<u64> = places.iter().map(|place| key_of(place.row)).collect();
                let fresh = self.world.fresh();
                let absent = (0..UPSERTED).map(|key| upserted(key, fresh));
                // Few, so that those who choose at the same time meet.
                let absent = absent.filter(|row| !there.contains(&key_of(*row))).take(4);
                let absent: Vec<u64> = absent.collect();
                let many = dice.random_range(1..=3);
                plan.upsert = absent.choose_multiple(dice, many).copied().collect();
                // A MERGE that changes other rows too, or an INSERT into a table with a declared key.
                match dice.random_bool(0.5) {
                    true => {
                        plan.change = few(dice);
                        OpKind::Merge
                    }
                    false => OpKind::Insert,
                }
            }
            81..83 => {
                plan.drop = files.iter().copied().collect();
                OpKind::Truncate
            }
            83..86 => {
                plan.drop = files.iter().copied().collect();
                plan.insert = dice.random_range(1..=5);
                OpKind::Overwrite
            }
            86..96 => {
                plan.drop = some_files(dice, 4);
                plan.compact = true;
                OpKind::Compact
            }
            96..98 => {
                plan.property = Some(self.world.fresh());
                OpKind::Alter
            }
            // No effect at all.
            _ => OpKind::Delete,
        });
        plan
    }

    /// Stages what the plan writes, and notes what it does to the rows.
    async fn effect(
        &self,
        dice: &mut SmallRng,
        plan: Plan,
        places: &[Place],
        mutation: &Mutation,
        base: &Snapshot,
        statement: &mut Statement,
    ) -> Result<Effect> {
        let fresh = || self.world.fresh();
        let mut effect = Effect {
            drop: plan.drop.iter().copied().collect(),
            serializable: statement.serializable,
            ..Effect::default()
        };
        let dropped = |place: &&Place| plan.drop.contains(&place.superfile);
        let dropped: Vec<Place> = places.iter().filter(dropped).copied().collect();
        if plan.compact {
            let mut rows: Vec<Place> = dropped;
            if dice.random_ratio(1, 3) {
                rows.shuffle(dice);
            }
            if !dice.random_ratio(1, 8) {
                effect.moves = moves(&rows);
            }
            let rows: Vec<(u64, u64)> = rows.iter().map(|row| (row.row, row.value)).collect();
            effect.add = self.stage(dice, mutation, &rows, false).await?;
            return Ok(effect);
        }
        for place in plan.delete.iter().chain(&plan.change) {
            let positions = effect.delete.entry(place.superfile).or_default();
            positions.insert(place.position);
        }
        let gone = plan.delete.iter().chain(&dropped);
        statement.removes = gone.map(|place| (place.row, place.value)).collect();
        effect.rows_deleted = statement.removes.len() as u64;
        let changed: Vec<(u64, u64)> = plan.change.iter().map(|p| (p.row, fresh())).collect();
        effect.rows_updated = changed.len() as u64;
        let old = plan.change.iter().map(|place| (place.row, place.value));
        statement.removes.extend(old);
        let new = (0..plan.insert).map(|_| (fresh(), fresh()));
        let upserted = plan.upsert.iter().map(|row| (*row, fresh()));
        let inserted: Vec<(u64, u64)> = new.chain(upserted).collect();
        if !plan.upsert.is_empty() {
            self.world.count("upserts begun");
            if self.world.sabotage != Some(Sabotage::HidesAbsentKeys) {
                let keys = inserted.iter().map(|row| key_value(row.0));
                effect.absent_keys = AbsentKeys::of_column(KEY, keys).into_iter().collect();
            }
        }
        effect.rows_inserted = inserted.len() as u64;
        statement.adds = changed.iter().chain(&inserted).copied().collect();
        effect.add = self.stage(dice, mutation, &changed, false).await?;
        effect
            .add
            .extend(self.stage(dice, mutation, &inserted, true).await?);
        effect.metadata = plan.property.map(|value| {
            let mut metadata: TableMetadata = base.metadata().as_ref().clone();
            metadata
                .properties
                .insert("p".to_owned(), value.to_string());
            metadata
        });
        Ok(effect)
    }

    /// Writes rows into one to three superfiles.
    async fn stage(
        &self,
        dice: &mut SmallRng,
        mutation: &Mutation,
        rows: &[(u64, u64)],
        inserted: bool,
    ) -> Result<Vec<SuperfileEntry>> {
        let mut entries = Vec::new();
        if rows.is_empty() {
            return Ok(entries);
        }
        mutation.durable().await?;
        let most = rows.len().div_ceil(dice.random_range(1..=3));
        for rows in rows.chunks(most) {
            let id = mutation.ids().superfile()?;
            let body = encode(rows);
            let size = body.len() as u64;
            let known = Arc::new(rows.to_vec());
            self.world.state().superfiles.insert(id, known);
            let env = self.table.env();
            let row_ids = match inserted {
                true => RowIds::Span(env.ids.row_span()),
                false => RowIds::Stored,
            };
            let stats = statistics(rows);
            let rows = rows.len() as u64;
            let mut entry = SuperfileEntry::new(id, rows, size, env.now_ms(), row_ids);
            if !dice.random_ratio(1, 10) {
                entry.stats = stats;
            }
            if inserted && self.world.adds_external(&id) {
                self.world.count("files read in place");
                read_in_place(&mut entry);
            }
            let storage = self.table.storage();
            storage.put_immutable(&path_of(&entry), body).await?;
            entries.push(entry);
        }
        Ok(entries)
    }
}

/// Which column the key is, by its field id, and how a key is a value of it.
const KEY: i32 = 1;

/// The key of a row.
fn key_value(row: u64) -> StatValue {
    StatValue::Int(key_of(row) as i64)
}

/// What is known of the keys of a superfile with these rows.
fn statistics(rows: &[(u64, u64)]) -> SuperfileStats {
    let keys = || rows.iter().map(|row| key_of(row.0));
    let bound = |row: Option<u64>| row.map(key_value);
    let column = ColumnStats::new(bound(keys().min()), bound(keys().max()), Some(0), 64);
    SuperfileStats {
        columns: [(KEY, column)].into(),
    }
}

/// Makes a file of others of it, which the table reads where it is.
fn read_in_place(entry: &mut SuperfileEntry) {
    entry.in_place = InPlace::parse(&format!("{OWNERS}{}.parquet", entry.id), "as it was");
    entry.footer_checksum = FooterChecksum::of(b"", b"footer");
    assert!(entry.in_place.is_some() && entry.footer_checksum.is_some());
}

/// Where a compaction puts rows that it writes in this order.
fn moves(rows: &[Place]) -> BTreeMap<SuperfileId, RowMoves> {
    let mut runs: BTreeMap<SuperfileId, Vec<MovedRange>> = BTreeMap::new();
    for (to, row) in (0..).zip(rows) {
        runs.entry(row.superfile).or_default().push(MovedRange {
            from: row.position,
            rows: 1,
            to,
        });
    }
    let map = |(id, runs)| (id, RowMoves::new(runs).unwrap());
    runs.into_iter().map(map).collect()
}
