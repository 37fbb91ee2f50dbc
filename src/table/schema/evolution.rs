//! Evolution: how a table's columns change, as a function from metadata to metadata.
//!
//! Owns which changes there are, which are refused and why, and what else in the metadata follows a
//! column (its default, the sort order, what it is clustered by, Bloom filters). Does not own the words that ask for a
//! change (`sql`), the commit, or how old superfiles are read by the new schema (the scan).
//!
//! Superfiles are not touched: a column is known by its field id, so a superfile that was written
//! before a change is read by the ids that its own columns carry. What must hold for that:
//!
//! - neither an id nor a physical name is ever given out twice, so a new column never finds the data of a dropped
//!   one;
//! - a type changes only to one that holds every value of the old type, in the same order, so that
//!   old values are cast without loss and old statistics still bound them;
//! - a field that older superfiles lack can be NULL there, or has its initial default;
//! - a struct keeps one of the fields that it was created with, by which every superfile finds it.
//!
//! Invariant: the result's schema checks, or the change is refused as a whole.

mod paths;
mod values;

use arrow::datatypes::{DataType, Field, FieldRef, Schema};

pub(crate) use self::paths::{ColumnPath, Position, find};
use self::paths::{edit, edit_siblings, insert, last, missing, refused, replace, taken};
pub(crate) use self::values::{initial_text, initial_value, widens};
use crate::config::{BLOOM_FILTER_COLUMNS, CLUSTER_BY, WriteOptions};
use crate::error::{Error, ErrorKind, Result};
use crate::format::manifest::{
    ADDED_KEY, CHECK, TableMetadata, UniqueKey, assign_field_ids, field_id, renamed_field,
    taken_names,
};
use crate::table::compaction::ClusterBy;

/// One change of a table's metadata.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Change {
    /// A new column, or a new field of a struct.
    Add {
        /// Where it is to be.
        path: ColumnPath,
        /// Its type.
        data_type: DataType,
        /// Whether it may be NULL.
        nullable: bool,
        /// Its place; the last, if there is none.
        position: Option<Position>,
        /// What an `INSERT` that leaves it out fills in, as SQL.
        default: Option<String>,
        /// What rows have that are there already, as text; NULL, if there is none.
        initial: Option<String>,
        /// Whether nothing is to be done if there is one of this name.
        if_not_exists: bool,
    },
    /// A column or field goes, and what it held.
    Drop {
        /// Which one.
        path: ColumnPath,
        /// Whether nothing is to be done if it is not there.
        if_exists: bool,
    },
    /// Another name.
    Rename {
        /// Which one.
        path: ColumnPath,
        /// Its new name.
        to: String,
    },
    /// A type that holds more values.
    Widen {
        /// Which one.
        path: ColumnPath,
        /// Its new type.
        to: DataType,
    },
    /// It may be NULL.
    DropNotNull {
        /// Which one.
        path: ColumnPath,
    },
    /// It may not be NULL. Whether it is, only the rows tell.
    SetNotNull {
        /// Which column.
        column: String,
    },
    /// A declared key. Whether rows break it, only they tell.
    AddKey {
        /// Its name.
        name: String,
        /// Whether it is the primary key, whose columns may not be NULL.
        is_primary: bool,
        /// Its columns, in the order of the declaration.
        columns: Vec<String>,
    },
    /// A condition that every row must satisfy. Whether rows break it, only they tell.
    AddCheck {
        /// Its name; `check` with a number, if there is none.
        name: Option<String>,
        /// The condition, as SQL.
        condition: String,
    },
    /// A declared key goes, or a check.
    DropConstraint {
        /// Its name; the primary key, if there is none.
        name: Option<String>,
        /// Whether nothing is to be done if it is not there.
        if_exists: bool,
    },
    /// Another place among its siblings.
    Move {
        /// Which one.
        path: ColumnPath,
        /// Its new place.
        position: Position,
    },
    /// What an `INSERT` that leaves a column out fills in, as SQL; NULL, if there is none.
    SetDefault {
        /// The column.
        column: String,
        /// The expression.
        default: Option<String>,
    },
    /// A property of the table.
    SetProperty {
        /// Its key.
        key: String,
        /// Its value; it goes, if there is none.
        value: Option<String>,
    },
}

/// The metadata after `changes`, in order.
///
/// # Errors
/// `InvalidArgument` where a name is missing or taken, `Unsupported` for a change that old rows or
/// other parts of the metadata stand against; the message says what to do instead.
pub(crate) fn evolve(metadata: &TableMetadata, changes: &[Change]) -> Result<TableMetadata> {
    let mut next = metadata.clone();
    for change in changes {
        apply(&mut next, change)?;
    }
    next.check().map_err(|e| {
        Error::new(
            ErrorKind::InvalidArgument,
            "ALTER TABLE",
            "the new schema is not valid",
        )
        .with_source(e)
    })?;
    Ok(next)
}

fn apply(metadata: &mut TableMetadata, change: &Change) -> Result<()> {
    match change {
        Change::Add {
            path,
            data_type,
            nullable,
            position,
            default,
            initial,
            if_not_exists,
        } => {
            if *if_not_exists && find(metadata, path).is_some() {
                return Ok(());
            }
            let field = Field::new(last(path)?, data_type.clone(), *nullable);
            let id = add(metadata, path, field, position.as_ref())?;
            if let Some(default) = default {
                set_default(metadata, last(path)?, Some(default));
            }
            if let Some(initial) = initial {
                metadata.initial_defaults.insert(id, initial.clone());
            }
            Ok(())
        }
        Change::Drop { path, if_exists } => {
            if *if_exists && find(metadata, path).is_none() {
                return Ok(());
            }
            let before = metadata.clone();
            drop_field(metadata, path)?;
            metadata.retire_names_of(&before);
            Ok(())
        }
        Change::Rename { path, to } => rename(metadata, path, to),
        Change::Widen { path, to } => {
            let field = find(metadata, path).ok_or_else(|| missing(path))?;
            widens(field.data_type(), to).map_err(|why| refused(path, why))?;
            if field.data_type() != to {
                refuse_if_checked(metadata, path, "has its type changed")?;
                widen_initial_default(metadata, path, to)?;
            }
            edit(metadata, path, |siblings, at| {
                replace(siblings, at, |field| {
                    Ok(field.clone().with_data_type(to.clone()))
                })
            })
        }
        Change::DropNotNull { path } => {
            if let Some(key) = key_of(metadata, path).filter(|key| key.is_primary) {
                let why = format!(
                    "is part of the primary key; DROP CONSTRAINT {} first",
                    key.name
                );
                return Err(refused(path, why));
            }
            edit(metadata, path, |siblings, at| {
                replace(siblings, at, |field| Ok(field.clone().with_nullable(true)))
            })
        }
        Change::SetNotNull { column } => set_not_null(metadata, column),
        Change::AddKey {
            name,
            is_primary,
            columns,
        } => add_key(metadata, name, *is_primary, columns),
        Change::AddCheck { name, condition } => add_check(metadata, name.as_deref(), condition),
        Change::DropConstraint { name, if_exists } => {
            drop_constraint(metadata, name.as_deref(), *if_exists)
        }
        Change::Move { path, position } => edit(metadata, path, |siblings, at| {
            let field = siblings.remove(at);
            insert(siblings, field, Some(position), path)
        }),
        Change::SetDefault { column, default } => {
            if metadata.schema.index_of(column).is_err() {
                return Err(missing(&ColumnPath(vec![column.clone()])));
            }
            set_default(metadata, column, default.as_ref());
            Ok(())
        }
        Change::SetProperty { key, value } => {
            match value {
                Some(value) => metadata.properties.insert(key.clone(), value.clone()),
                None => metadata.properties.remove(key),
            };
            Ok(())
        }
    }
}

fn add(
    metadata: &mut TableMetadata,
    path: &ColumnPath,
    mut field: Field,
    position: Option<&Position>,
) -> Result<i32> {
    let nested = path.0.len() > 1;
    if nested && !field.is_nullable() {
        return Err(refused(
            path,
            "rows that are there have no value for it, so a field of a struct cannot be added as \
             NOT NULL"
                .to_owned(),
        ));
    }
    if nested {
        // Members of the new field are no additions: a file that has the field has them.
        let mut marks = field.metadata().clone();
        marks.insert(ADDED_KEY.to_owned(), "1".to_owned());
        field = field.with_metadata(marks);
    }
    let parent = match path.0.split_last() {
        Some((_, parents)) if nested => find(metadata, &ColumnPath(parents.to_vec())),
        _ => None,
    };
    let parent = parent.and_then(|parent| field_id(&parent));
    let others = taken_names(
        &metadata.schema,
        &metadata.retired_names,
        parent.unwrap_or_default(),
    );
    let alone = Schema::new(vec![field]);
    let (alone, next_id) = assign_field_ids(&alone, metadata.next_field_id, others)
        .map_err(|e| refused(path, "it cannot be given a field id".to_owned()).with_source(e))?;
    let id = metadata.next_field_id;
    let Some(field) = alone.fields().first().cloned() else {
        return Err(missing(path));
    };
    let name = field.name().clone();
    edit_siblings(metadata, path, |siblings| {
        if siblings.iter().any(|f| *f.name() == name) {
            return Err(taken(path));
        }
        insert(siblings, field, position, path)
    })?;
    metadata.next_field_id = next_id;
    Ok(id)
}

fn drop_field(metadata: &mut TableMetadata, path: &ColumnPath) -> Result<()> {
    refuse_if_sorted(metadata, path)?;
    refuse_if_clustered(metadata, path)?;
    refuse_if_checked(metadata, path, "is dropped")?;
    if let Some(key) = key_of(metadata, path) {
        let why = format!(
            "is part of the key {0}; DROP CONSTRAINT {0} first",
            key.name
        );
        return Err(refused(path, why));
    }
    let id = find(metadata, path).and_then(|f| field_id(&f));
    let nested = path.0.len() > 1;
    edit(metadata, path, |siblings, at| {
        siblings.remove(at);
        let survivor = |f: &FieldRef| !nested || !f.metadata().contains_key(ADDED_KEY);
        if siblings.iter().any(survivor) {
            return Ok(());
        }
        Err(refused(
            path,
            match nested {
                true => {
                    "its struct would keep none of the fields that it was created with; drop the \
                     whole struct instead"
                }
                false => "a table keeps at least one column",
            }
            .to_owned(),
        ))
    })?;
    if let [column] = path.0.as_slice() {
        set_default(metadata, column, None);
        if let Some(id) = id {
            metadata.initial_defaults.remove(&id);
        }
        rename_bloom_filter(metadata, column, None);
    }
    Ok(())
}

fn rename(metadata: &mut TableMetadata, path: &ColumnPath, to: &str) -> Result<()> {
    let from = last(path)?.to_owned();
    if from == to {
        return match find(metadata, path) {
            Some(_) => Ok(()),
            None => Err(missing(path)),
        };
    }
    refuse_if_checked(metadata, path, "is renamed")?;
    edit(metadata, path, |siblings, at| {
        if siblings.iter().any(|f| f.name() == to) {
            let mut other = path.0.clone();
            other.pop();
            other.push(to.to_owned());
            return Err(taken(&ColumnPath(other)));
        }
        replace(siblings, at, |field| Ok(renamed_field(field, to)))
    })?;
    if path.0.len() == 1 {
        if let Some(default) = metadata.defaults.remove(&from) {
            set_default(metadata, to, Some(&default));
        }
        for column in &mut metadata.sort_order {
            if column.name == from {
                column.name = to.to_owned();
            }
        }
        rename_bloom_filter(metadata, &from, Some(to));
        ClusterBy::rename(metadata, &from, to);
    }
    Ok(())
}

fn set_not_null(metadata: &mut TableMetadata, column: &str) -> Result<()> {
    let path = ColumnPath(vec![column.to_owned()]);
    edit(metadata, &path, |siblings, at| {
        replace(siblings, at, |field| Ok(field.clone().with_nullable(false)))
    })
}

fn add_key(
    metadata: &mut TableMetadata,
    name: &str,
    is_primary: bool,
    columns: &[String],
) -> Result<()> {
    let refuse = |why: String| Err(Error::new(ErrorKind::InvalidArgument, name, why));
    refuse_if_constraint(metadata, name)?;
    if is_primary && let Some(primary) = metadata.keys.iter().find(|key| key.is_primary) {
        let primary = &primary.name;
        return refuse(format!(
            "the table has the primary key {primary}; DROP CONSTRAINT {primary} first, or add one that is UNIQUE"
        ));
    }
    let mut ids = Vec::with_capacity(columns.len());
    for column in columns {
        let path = ColumnPath(vec![column.clone()]);
        let field = find(metadata, &path).ok_or_else(|| missing(&path))?;
        let Some(id) = field_id(&field).filter(|id| !ids.contains(id)) else {
            return refuse(format!("names {column} twice"));
        };
        ids.push(id);
        if is_primary {
            set_not_null(metadata, column)?;
        }
    }
    metadata.keys.push(UniqueKey {
        name: name.to_owned(),
        is_primary,
        columns: ids,
    });
    Ok(())
}

fn add_check(metadata: &mut TableMetadata, name: Option<&str>, condition: &str) -> Result<()> {
    let mut numbers = (1_u64..).map(|n| format!("check{n}"));
    let name = match name {
        Some(name) => name.to_owned(),
        None => (numbers.find(|name| !has_constraint(metadata, name))).unwrap_or_default(),
    };
    refuse_if_constraint(metadata, &name)?;
    let key = format!("{CHECK}{name}");
    metadata.properties.insert(key, condition.to_owned());
    Ok(())
}

fn has_constraint(metadata: &TableMetadata, name: &str) -> bool {
    metadata.keys.iter().any(|key| key.name == name)
        || (metadata.properties).contains_key(&format!("{CHECK}{name}"))
}

fn refuse_if_constraint(metadata: &TableMetadata, name: &str) -> Result<()> {
    match has_constraint(metadata, name) || name.is_empty() {
        true => Err(Error::new(
            ErrorKind::InvalidArgument,
            name,
            "is a constraint of the table already; choose another name",
        )),
        false => Ok(()),
    }
}

fn drop_constraint(
    metadata: &mut TableMetadata,
    name: Option<&str>,
    if_exists: bool,
) -> Result<()> {
    let before = metadata.keys.len();
    metadata.keys.retain(|key| match name {
        Some(name) => key.name != name,
        None => !key.is_primary,
    });
    let check = name.map(|name| format!("{CHECK}{name}"));
    let had_check = check.is_some_and(|check| metadata.properties.remove(&check).is_some());
    match before > metadata.keys.len() || had_check || if_exists {
        true => Ok(()),
        false => Err(Error::new(
            ErrorKind::InvalidArgument,
            name.unwrap_or("PRIMARY KEY"),
            "is no constraint of the table",
        )),
    }
}

/// A key that a column is part of.
fn key_of<'m>(metadata: &'m TableMetadata, path: &ColumnPath) -> Option<&'m UniqueKey> {
    let id = find(metadata, path).filter(|_| path.0.len() == 1);
    let id = id.and_then(|field| field_id(&field))?;
    metadata.keys.iter().find(|key| key.columns.contains(&id))
}

fn set_default(metadata: &mut TableMetadata, column: &str, default: Option<&String>) {
    match default {
        Some(default) => metadata.defaults.insert(column.to_owned(), default.clone()),
        None => metadata.defaults.remove(column),
    };
}

/// The initial default of a wider type: the same value, not the same text, which a float's may not
/// be.
fn widen_initial_default(
    metadata: &mut TableMetadata,
    path: &ColumnPath,
    to: &DataType,
) -> Result<()> {
    let ([column], Some(field)) = (path.0.as_slice(), find(metadata, path)) else {
        return Ok(());
    };
    let Some(id) = field_id(&field) else {
        return Ok(());
    };
    let Some(text) = metadata.initial_default(id) else {
        return Ok(());
    };
    let value = initial_value(column, text, field.data_type())?;
    let wide = value
        .cast_to(to)
        .map_err(|e| refused(path, format!("its initial default cannot become {to}: {e}")))?;
    let text = initial_text(column, &wide)?;
    metadata.initial_defaults.insert(id, text);
    Ok(())
}

/// Renames a column in the list of those with Bloom filters, or takes it out.
fn rename_bloom_filter(metadata: &mut TableMetadata, from: &str, to: Option<&str>) {
    let listed = WriteOptions::of_properties(&metadata.properties).bloom_filter_columns;
    let Some(listed) = listed.filter(|listed| listed.iter().any(|name| name == from)) else {
        return;
    };
    let kept: Vec<&str> = listed
        .iter()
        .filter_map(|name| if name == from { to } else { Some(name) })
        .collect();
    let value = kept.join(",");
    metadata
        .properties
        .insert(BLOOM_FILTER_COLUMNS.to_owned(), value);
}

fn refuse_if_sorted(metadata: &TableMetadata, path: &ColumnPath) -> Result<()> {
    let sorted = metadata
        .sort_order
        .iter()
        .any(|column| path.0.as_slice() == [column.name.as_str()]);
    match sorted {
        true => Err(refused(
            path,
            "the table's rows are ordered by it (WITH ORDER), so it cannot be dropped".to_owned(),
        )),
        false => Ok(()),
    }
}

fn refuse_if_clustered(metadata: &TableMetadata, path: &ColumnPath) -> Result<()> {
    match path.0.as_slice() {
        [column] if ClusterBy::mentions(&metadata.properties, column) => Err(refused(
            path,
            format!(
                "the table's rows are clustered by it, so it cannot be dropped; SET another {CLUSTER_BY} before, or \
                 UNSET it"
            ),
        )),
        _ => Ok(()),
    }
}

fn refuse_if_checked(metadata: &TableMetadata, path: &ColumnPath, what: &str) -> Result<()> {
    let Some(name) = path.0.last() else {
        return Ok(());
    };
    let mentions = metadata.properties.iter().find_map(|(key, condition)| {
        let check = key.strip_prefix(CHECK)?;
        words(condition)
            .any(|word| word.eq_ignore_ascii_case(name))
            .then_some(check)
    });
    match mentions {
        Some(check) => Err(refused(
            path,
            format!("the check {check} mentions it; drop the check before the column {what}"),
        )),
        None => Ok(()),
    }
}

/// The words of a condition: all that may be a column's name, and more.
fn words(condition: &str) -> impl Iterator<Item = &str> {
    let plain = condition.split(|c: char| !c.is_alphanumeric() && c != '_');
    // Quoted names may hold anything.
    plain.chain(condition.split('"'))
}
