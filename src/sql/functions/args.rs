//! What a call of a table function names: the table, and typed arguments.
//!
//! Owns the reading of arguments. The table's name comes first, as a string; every other argument
//! may be given by position, in the order of the signature, or by name (`retain => INTERVAL '7 days'`).
//! Values are constant expressions; some functions take parameters, too. Does not own finding the table (`lookup`).
//!
//! Invariant: an argument is never passed over: one that is unknown, given twice, NULL, or of
//! another type is an error that says which ones there are, or what is wanted.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use arrow::array::{RecordBatch, RecordBatchOptions};
use arrow::datatypes::{DataType, IntervalUnit, Schema, TimeUnit};
use datafusion::catalog::{Session, TableFunctionArgs};
use datafusion::common::config::ConfigOptions;
use datafusion::common::metadata::FieldMetadata;
use datafusion::common::tree_node::TreeNode;
use datafusion::common::{DFSchema, Result, ScalarValue};
use datafusion::logical_expr::simplify::SimplifyContext;
use datafusion::logical_expr::{ColumnarValue, Expr};
use datafusion::optimizer::simplify_expressions::ExprSimplifier;

use crate::dml::plan::parameters::has_parameter;
use crate::sql::functions::lookup::TableLookup;
use crate::table::Moment;

/// The metadata key of a mark; see [`named`].
const NAME_KEY: &str = "supertable.argument";

/// What a function can be given.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Signature {
    /// The function's name.
    pub(crate) function: &'static str,
    /// Whether the first argument is a table's name.
    pub(crate) table: bool,
    /// Arguments that may be given by position, in this order, or by name.
    pub(crate) positional: &'static [&'static str],
    /// Arguments that can be given by name only.
    pub(crate) named: &'static [&'static str],
}

impl Signature {
    fn knows(&self, name: &str) -> bool {
        self.positional.contains(&name) || self.named.contains(&name)
    }

    /// How the function is called.
    fn usage(&self) -> String {
        let table = self.table.then(|| "'table'".to_owned());
        let positional = self.positional.iter().map(|name| (*name).to_owned());
        let named = self.named.iter().map(|name| format!("{name} => …"));
        let all: Vec<String> = table.into_iter().chain(positional).chain(named).collect();
        format!("{}({})", self.function, all.join(", "))
    }
}

/// One call: the values of its arguments, by name.
#[derive(Debug, Clone)]
pub(crate) struct Call {
    signature: Signature,
    table: Option<TableLookup>,
    values: BTreeMap<&'static str, ScalarValue>,
    time_zone: String,
    /// Whether names that are not quoted become lower case.
    normalize: bool,
    /// Whether an argument waits for the value of a parameter; it has the value NULL so far.
    waits: bool,
}

/// An error about the arguments of a function.
macro_rules! argument_err {
    ($function:expr, $($why:tt)*) => {
        Err($crate::error::Error::new(
            $crate::error::ErrorKind::InvalidArgument,
            $function,
            format!($($why)*),
        )
        .into())
    };
}
pub(crate) use argument_err;

impl Call {
    /// Takes a call apart.
    ///
    /// # Errors
    /// Names an argument that is unknown, given twice, missing or not constant, and the known ones.
    pub(crate) fn parse(signature: &Signature, args: &TableFunctionArgs<'_, '_>) -> Result<Self> {
        Self::at_planning(signature, args, false)
    }

    /// The same of a function whose arguments may be parameters, apart from the table's name.
    ///
    /// # Errors
    /// As [`parse`](Self::parse).
    pub(crate) fn parse_with_parameters(
        signature: &Signature,
        args: &TableFunctionArgs<'_, '_>,
    ) -> Result<Self> {
        Self::at_planning(signature, args, true)
    }

    fn at_planning(
        signature: &Signature,
        args: &TableFunctionArgs<'_, '_>,
        may_wait: bool,
    ) -> Result<Self> {
        let session = args.session();
        let (table, exprs) = table_and_rest(signature, args)?;
        let mut waits = false;
        let values = values(signature, exprs, |name, expr| {
            if may_wait && has_parameter(expr)? {
                waits = true;
                return Ok(ScalarValue::Null);
            }
            not_null(
                signature,
                name,
                constant(signature.function, name, expr, session)?,
            )
        })?;
        let call = Self::new(signature, table, values, session.config_options());
        Ok(Self { waits, ..call })
    }

    /// A call whose parameters have values by now; of its arguments, the table's name is left aside.
    ///
    /// # Errors
    /// As [`parse`](Self::parse).
    pub(crate) fn with_values(
        signature: &Signature,
        args: &[Expr],
        config: &ConfigOptions,
    ) -> Result<Self> {
        let exprs = args.get(usize::from(signature.table)..).unwrap_or_default();
        let at_this_moment = SimplifyContext::builder()
            .with_config_options(Arc::new(config.clone()))
            .with_current_time()
            .build();
        let simplifier = ExprSimplifier::new(at_this_moment);
        let values = values(signature, exprs, |name, expr| {
            // Under the parameter's name, as DataFusion puts it there.
            let expr = expr.clone().unalias_nested().data;
            let coerced = simplifier.coerce(expr, &DFSchema::empty())?;
            match simplifier.simplify(coerced)? {
                Expr::Literal(value, _) => not_null(signature, name, value),
                other => not_constant(signature.function, name, &other),
            }
        })?;
        Ok(Self::new(signature, None, values, config))
    }

    fn new(
        signature: &Signature,
        table: Option<TableLookup>,
        values: BTreeMap<&'static str, ScalarValue>,
        options: &ConfigOptions,
    ) -> Self {
        let time_zone = options.execution.time_zone.clone();
        Self {
            normalize: options.sql_parser.enable_ident_normalization,
            signature: *signature,
            table,
            values,
            time_zone: time_zone.unwrap_or_else(|| "+00:00".to_owned()),
            waits: false,
        }
    }

    /// The table that the call names.
    ///
    /// # Errors
    /// The function's signature has no table.
    pub(crate) fn table(&self) -> Result<TableLookup> {
        match &self.table {
            Some(table) => Ok(table.clone()),
            None => argument_err!(self.signature.function, "takes no table"),
        }
    }

    /// Whether an argument waits for the value of a parameter.
    pub(crate) fn waits(&self) -> bool {
        self.waits
    }

    /// How many arguments are given, apart from the table's name.
    pub(crate) fn given(&self) -> usize {
        self.values.len()
    }

    /// Whether names that are not quoted become lower case in the caller's session.
    pub(crate) fn normalizes_names(&self) -> bool {
        self.normalize
    }

    /// An argument's value as it was given; none while it waits.
    pub(crate) fn value(&self, name: &str) -> Option<&ScalarValue> {
        debug_assert!(self.signature.knows(name), "{name} is not in the signature");
        self.values.get(name).filter(|value| !value.is_null())
    }

    /// An argument that is text.
    ///
    /// # Errors
    /// It is something else.
    pub(crate) fn text(&self, name: &str) -> Result<Option<String>> {
        self.typed(name, "text in quotes", |value| {
            value.try_as_str().flatten().map(str::to_owned)
        })
    }

    /// An argument that is a whole number, not negative.
    ///
    /// # Errors
    /// It is something else.
    pub(crate) fn u64(&self, name: &str) -> Result<Option<u64>> {
        self.typed(name, "a whole number that is not negative", |value| {
            if !value.data_type().is_integer() {
                return None;
            }
            match value.cast_to(&DataType::UInt64) {
                Ok(ScalarValue::UInt64(number)) => number,
                _ => None,
            }
        })
    }

    /// An argument that is true or false.
    ///
    /// # Errors
    /// It is something else.
    pub(crate) fn bool(&self, name: &str) -> Result<Option<bool>> {
        self.typed(name, "true or false", |value| match value {
            ScalarValue::Boolean(value) => *value,
            _ => None,
        })
    }

    /// An argument that is a length of time: an `INTERVAL` without months, whose length varies, or
    /// text such as `'7 days'`.
    ///
    /// # Errors
    /// It is something else, or negative.
    pub(crate) fn interval(&self, name: &str) -> Result<Option<Duration>> {
        let wanted = "an interval of days or less that is not negative, such as INTERVAL '7 days'";
        self.typed(name, wanted, interval)
    }

    /// An argument that is a moment, in milliseconds since the Unix epoch, rounded down: a
    /// timestamp, a date, or text that can be read as one. Without a time zone it is in the
    /// session's.
    ///
    /// # Errors
    /// It is something else.
    pub(crate) fn timestamp_ms(&self, name: &str) -> Result<Option<i64>> {
        let zone = self.time_zone.as_str();
        self.typed(name, "a timestamp", |value| timestamp_ms(value, zone))
    }

    /// An argument that says which version is meant: its number, or a moment at which it was current.
    ///
    /// # Errors
    /// It is something else.
    pub(crate) fn moment(&self, name: &str) -> Result<Option<Moment>> {
        match self.value(name) {
            None => Ok(None),
            Some(value) if value.data_type().is_integer() => {
                Ok(self.u64(name)?.map(Moment::Version))
            }
            Some(_) => Ok(self.timestamp_ms(name)?.map(Moment::Time)),
        }
    }

    fn typed<T>(
        &self,
        name: &str,
        wanted: &str,
        read: impl FnOnce(&ScalarValue) -> Option<T>,
    ) -> Result<Option<T>> {
        let Some(value) = self.value(name) else {
            return Ok(None);
        };
        match read(value) {
            Some(value) => Ok(Some(value)),
            None => argument_err!(
                self.signature.function,
                "the argument {name} of {} must be {wanted}, not {value}",
                self.signature.function
            ),
        }
    }
}

/// The table that a call names, if its function takes one, and the arguments behind it.
fn table_and_rest<'a>(
    signature: &Signature,
    args: &'a TableFunctionArgs<'_, '_>,
) -> Result<(Option<TableLookup>, &'a [Expr])> {
    if !signature.table {
        return Ok((None, args.exprs()));
    }
    match args.exprs().split_first() {
        Some((name, rest)) => Ok((Some(table_name(signature, name, args.session())?), rest)),
        None => argument_err!(
            signature.function,
            "takes a table's name as its first argument: {}",
            signature.usage()
        ),
    }
}

/// The values of the arguments behind the table's name, by name.
fn values(
    signature: &Signature,
    exprs: &[Expr],
    mut evaluate: impl FnMut(&'static str, &Expr) -> Result<ScalarValue>,
) -> Result<BTreeMap<&'static str, ScalarValue>> {
    let function = signature.function;
    let mut exprs = exprs.iter();
    let mut values = BTreeMap::new();
    let mut places = signature.positional.iter();
    while let Some(expr) = exprs.next() {
        let (name, expr) = match (name_in(expr), exprs.as_slice()) {
            (Some(given), [value, ..]) => {
                exprs.next();
                match known(signature, given) {
                    Some(name) => (name, value),
                    None => {
                        return argument_err!(
                            function,
                            "has no argument {given}: {}",
                            signature.usage()
                        );
                    }
                }
            }
            _ => match places.next() {
                Some(name) => (*name, expr),
                None => {
                    return argument_err!(
                        function,
                        "takes fewer arguments by position: {}",
                        signature.usage()
                    );
                }
            },
        };
        let value = evaluate(name, expr)?;
        if values.insert(name, value).is_some() {
            return argument_err!(function, "the argument {name} of {function} is given twice");
        }
    }
    Ok(values)
}

fn not_null(signature: &Signature, name: &str, value: ScalarValue) -> Result<ScalarValue> {
    let function = signature.function;
    match value.is_null() {
        true => argument_err!(
            function,
            "the argument {name} of {function} must not be NULL"
        ),
        false => Ok(value),
    }
}

/// The mark that the expression after it is the argument `name`. (An alias of the value would be
/// more natural, but constants lose theirs when DataFusion simplifies the arguments.)
pub(crate) fn named(name: &str) -> Expr {
    let mark = BTreeMap::from([(NAME_KEY.to_owned(), name.to_owned())]);
    Expr::Literal(ScalarValue::from(name), Some(FieldMetadata::new(mark)))
}

fn name_in(expr: &Expr) -> Option<&str> {
    match expr {
        Expr::Literal(_, Some(metadata)) => metadata.inner().get(NAME_KEY).map(String::as_str),
        _ => None,
    }
}

/// A value that must be given.
///
/// # Errors
/// It is not.
pub(crate) fn required<T>(function: &str, name: &str, value: Option<T>) -> Result<T> {
    match value {
        Some(value) => Ok(value),
        None => argument_err!(function, "needs the argument {name}"),
    }
}

fn known(signature: &Signature, name: &str) -> Option<&'static str> {
    signature
        .positional
        .iter()
        .chain(signature.named)
        .find(|known| known.eq_ignore_ascii_case(name))
        .copied()
}

fn table_name(signature: &Signature, expr: &Expr, session: &dyn Session) -> Result<TableLookup> {
    let refuse = || {
        argument_err!(
            signature.function,
            "takes a table's name in quotes as its first argument: {}",
            signature.usage()
        )
    };
    if name_in(expr).is_some() || matches!(expr, Expr::Column(_)) {
        return refuse();
    }
    let value = constant(signature.function, "table", expr, session)?;
    match value.try_as_str().flatten() {
        Some(name) => Ok(TableLookup::new(name, session)),
        None => refuse(),
    }
}

/// The value of an expression that depends on nothing.
fn constant(function: &str, name: &str, expr: &Expr, session: &dyn Session) -> Result<ScalarValue> {
    if let Expr::Literal(value, _) = expr {
        return Ok(value.clone());
    }
    let depends = expr.exists(|e| {
        Ok(matches!(
            e,
            Expr::Column(_)
                | Expr::Placeholder(_)
                | Expr::OuterReferenceColumn(..)
                | Expr::ScalarSubquery(_)
                | Expr::InSubquery(_)
                | Expr::Exists(_)
                | Expr::AggregateFunction(_)
                | Expr::WindowFunction(_)
        ))
    })?;
    if depends {
        return not_constant(function, name, expr);
    }
    let physical = session.create_physical_expr(expr.clone(), &DFSchema::empty())?;
    let one_row = RecordBatch::try_new_with_options(
        Arc::new(Schema::empty()),
        vec![],
        &RecordBatchOptions::new().with_row_count(Some(1)),
    )?;
    match physical.evaluate(&one_row)? {
        ColumnarValue::Scalar(value) => Ok(value),
        ColumnarValue::Array(array) => ScalarValue::try_from_array(&array, 0),
    }
}

fn not_constant<T>(function: &str, name: &str, expr: &Expr) -> Result<T> {
    argument_err!(
        function,
        "the argument {name} of {function} must be a constant (text in quotes, a number, …), \
         not {expr}: a function's arguments are read when the statement is planned"
    )
}

fn interval(value: &ScalarValue) -> Option<Duration> {
    let parts = match value {
        ScalarValue::Utf8(_) | ScalarValue::LargeUtf8(_) | ScalarValue::Utf8View(_) => value
            .cast_to(&DataType::Interval(IntervalUnit::MonthDayNano))
            .ok()?,
        other => other.clone(),
    };
    let nanos = match parts {
        ScalarValue::IntervalMonthDayNano(Some(parts)) if parts.months == 0 => {
            i128::from(parts.days) * 86_400_000_000_000 + i128::from(parts.nanoseconds)
        }
        ScalarValue::IntervalDayTime(Some(parts)) => {
            i128::from(parts.days) * 86_400_000_000_000 + i128::from(parts.milliseconds) * 1_000_000
        }
        ScalarValue::DurationSecond(Some(n)) => i128::from(n) * 1_000_000_000,
        ScalarValue::DurationMillisecond(Some(n)) => i128::from(n) * 1_000_000,
        ScalarValue::DurationMicrosecond(Some(n)) => i128::from(n) * 1_000,
        ScalarValue::DurationNanosecond(Some(n)) => i128::from(n),
        _ => return None,
    };
    let seconds = u64::try_from(nanos.div_euclid(1_000_000_000)).ok()?;
    let rest = u32::try_from(nanos.rem_euclid(1_000_000_000)).ok()?;
    Some(Duration::new(seconds, rest))
}

fn timestamp_ms(value: &ScalarValue, zone: &str) -> Option<i64> {
    let is_moment = matches!(
        value.data_type(),
        DataType::Timestamp(..)
            | DataType::Date32
            | DataType::Date64
            | DataType::Utf8
            | DataType::LargeUtf8
            | DataType::Utf8View
    );
    if !is_moment {
        return None;
    }
    // A date has no direct cast into a zone.
    let local = match value.data_type() {
        DataType::Date32 | DataType::Date64 => value
            .cast_to(&DataType::Timestamp(TimeUnit::Microsecond, None))
            .ok()?,
        _ => value.clone(),
    };
    let moment = DataType::Timestamp(TimeUnit::Microsecond, Some(zone.into()));
    match local.cast_to(&moment).ok()? {
        ScalarValue::TimestampMicrosecond(Some(micros), _) => Some(micros.div_euclid(1_000)),
        _ => None,
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use datafusion::logical_expr::lit;
    use datafusion::prelude::SessionContext;

    use super::*;

    const SIGNATURE: Signature = Signature {
        function: "supertable_test",
        table: true,
        positional: &["version", "until"],
        named: &["dry_run", "retain"],
    };

    fn call(args: &[Expr]) -> Result<Call> {
        let state = SessionContext::new().state();
        Call::parse(&SIGNATURE, &TableFunctionArgs::new(args, &state))
    }

    #[test]
    fn arguments_come_by_position_or_by_name() {
        let by_position = call(&[lit("t"), lit(7_i64)]).unwrap();
        let by_name = call(&[lit("t"), named("Version"), lit(7_i64)]).unwrap();
        assert_eq!(by_position.u64("version").unwrap(), Some(7));
        assert_eq!(by_name.u64("version").unwrap(), Some(7));
        assert_eq!(by_name.u64("until").unwrap(), None);
    }

    #[test]
    fn unknown_repeated_missing_and_null_arguments_are_refused() {
        let null = Expr::Literal(ScalarValue::Null, None);
        for bad in [
            vec![],
            vec![lit(7)],
            vec![datafusion::prelude::col("t")],
            vec![lit("t"), named("versoin"), lit(1)],
            vec![lit("t"), lit(1), named("version"), lit(1)],
            vec![lit("t"), lit(1), lit(2), lit(3)],
            vec![lit("t"), null],
            vec![lit("t"), datafusion::prelude::col("x")],
        ] {
            assert!(call(&bad).is_err(), "{bad:?}");
        }
        let message = call(&[lit("t"), named("nope"), lit(1)])
            .unwrap_err()
            .to_string();
        assert!(
            message.contains("dry_run") && message.contains("version"),
            "{message}"
        );
    }

    #[test]
    fn constant_expressions_are_evaluated() {
        let call = call(&[lit("t"), lit(3_i64) + lit(4_i64)]).unwrap();
        assert_eq!(call.u64("version").unwrap(), Some(7));
    }

    #[test]
    fn a_value_of_another_type_is_refused() {
        let call = call(&[
            lit("t"),
            lit(-1_i64),
            lit(1.5),
            named("dry_run"),
            lit("yes"),
        ])
        .unwrap();
        assert!(call.u64("version").is_err());
        assert!(call.u64("until").is_err());
        assert!(call.bool("dry_run").is_err());
        assert!(call.timestamp_ms("until").is_err());
        assert_eq!(call.text("dry_run").unwrap().as_deref(), Some("yes"));
    }

    #[test]
    fn intervals_have_a_fixed_length() {
        let read = |text: &str| {
            call(&[lit("t"), named("retain"), lit(text)])
                .unwrap()
                .interval("retain")
        };
        assert_eq!(
            read("7 days").unwrap(),
            Some(Duration::from_secs(7 * 86_400))
        );
        assert_eq!(
            read("90 minutes").unwrap(),
            Some(Duration::from_secs(5_400))
        );
        assert!(read("1 month").is_err());
        assert!(read("-1 days").is_err());
        assert!(read("soon").is_err());
    }

    #[test]
    fn moments_are_in_the_sessions_time_zone_unless_they_say_otherwise() {
        let config = datafusion::prelude::SessionConfig::new()
            .set_str("datafusion.execution.time_zone", "+02:00");
        let state = SessionContext::new_with_config(config).state();
        let read = |value: Expr| {
            Call::parse(
                &SIGNATURE,
                &TableFunctionArgs::new(&[lit("t"), value], &state),
            )
            .unwrap()
            .timestamp_ms("version")
            .unwrap()
        };
        assert_eq!(read(lit("1970-01-01T02:00:01")), Some(1_000));
        assert_eq!(read(lit("1970-01-01T00:00:01Z")), Some(1_000));
        let naive = ScalarValue::TimestampMillisecond(Some(7_201_000), None);
        assert_eq!(read(Expr::Literal(naive, None)), Some(1_000));
        let zoned = ScalarValue::TimestampNanosecond(Some(1_999_999), Some("+00:00".into()));
        assert_eq!(read(Expr::Literal(zoned, None)), Some(1));
        let date = ScalarValue::Date32(Some(1));
        assert_eq!(read(Expr::Literal(date, None)), Some(79_200_000));
    }
}
