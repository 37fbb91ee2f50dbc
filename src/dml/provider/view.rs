//! How a registered table follows its columns when they change.
//!
//! Owns the states of the columns. Does not own which of them a statement is planned by.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use datafusion::common::{DFSchema, Result};

use super::access::TableAccess;
use crate::dml::keys::declared::DeclaredKeys;
use crate::dml::opaque::Opaque;
use crate::dml::write::check::Conditions;
use crate::format::manifest::TableMetadata;
use crate::scan::schema::session_schema;

/// One state of a table's columns, and the ones that came after it.
///
/// States are only ever added, so what DataFusion borrows from one stays. There is one for each
/// change of the columns that this process has seen.
#[derive(Debug)]
pub(super) struct View {
    pub(super) access: Arc<TableAccess>,
    /// The defaults as SQL, by column.
    defaults: BTreeMap<String, String>,
    /// Metadata that is known to have these columns.
    seen: Mutex<Option<Arc<TableMetadata>>>,
    next: OnceLock<Box<View>>,
}

impl View {
    pub(super) fn new(access: Arc<TableAccess>, metadata: &TableMetadata) -> Self {
        Self {
            access,
            defaults: metadata.defaults.clone(),
            seen: Mutex::default(),
            next: OnceLock::new(),
        }
    }

    /// The state that the newest known version has.
    pub(super) fn newest(&self) -> &Self {
        let mut view = self;
        while let Some(next) = view.next.get() {
            view = next;
        }
        let metadata = view.access.table.metadata();
        let mut seen = view.seen.lock().unwrap_or_else(PoisonError::into_inner);
        if seen.as_ref().is_some_and(|m| Arc::ptr_eq(m, &metadata)) {
            return view;
        }
        *seen = Some(Arc::clone(&metadata));
        drop(seen);
        let same = session_schema(&metadata.schema).fields() == view.access.schema.fields()
            && metadata.defaults == view.defaults
            && view.access.keys.are_those_of(&metadata)
            && view.access.conditions.are_those_of(&metadata.properties);
        if same {
            return view;
        }
        match view.followed_by(&metadata) {
            Ok(next) => view.next.get_or_init(|| Box::new(next)),
            Err(error) => {
                // A scan by the old columns says that they have changed.
                tracing::warn!(%error, "the table's new columns cannot be followed");
                view
            }
        }
    }

    /// The same state, which nothing follows.
    pub(super) fn alone(&self) -> Self {
        Self {
            access: Arc::clone(&self.access),
            defaults: self.defaults.clone(),
            seen: Mutex::default(),
            next: OnceLock::new(),
        }
    }

    /// Whether the table's columns are known to be others now.
    pub(super) fn is_followed(&self) -> bool {
        self.next.get().is_some()
    }

    /// The state that `metadata` describes.
    fn followed_by(&self, metadata: &TableMetadata) -> Result<Self> {
        let defaults = metadata.defaults.clone();
        let known = self.access.column_defaults.get();
        let mut parsed = HashMap::new();
        let session = self.access.conditions.later();
        for (column, sql) in &defaults {
            // What the session parsed already may name functions that only the session has.
            let before = self
                .defaults
                .iter()
                .find(|(_, known)| *known == sql)
                .and_then(|(column, _)| known.get(column));
            let default = match before {
                Some(default) => default.clone(),
                None => session.create_logical_expr(sql, &DFSchema::empty())?,
            };
            parsed.insert(column.clone(), default);
        }
        let schema = session_schema(&metadata.schema);
        let conditions = Conditions::of(&session, &schema, &metadata.properties)?;
        Ok(Self {
            access: Arc::new(TableAccess {
                table: self.access.table.clone(),
                location: self.access.location.clone(),
                schema,
                column_defaults: Opaque::new(parsed),
                conditions,
                keys: DeclaredKeys::of(metadata),
            }),
            defaults,
            seen: Mutex::default(),
            next: OnceLock::new(),
        })
    }
}
