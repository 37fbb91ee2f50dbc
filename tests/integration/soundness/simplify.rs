//! Shorter forms of an expression, for the reduction of a failure.

use std::ops::ControlFlow;

use datafusion::sql::sqlparser::ast::{
    BinaryOperator, Expr, FunctionArg, FunctionArgExpr, FunctionArguments, Query, SetExpr,
    UnaryOperator, VisitMut, VisitorMut,
};
use datafusion::sql::sqlparser::dialect::GenericDialect;
use datafusion::sql::sqlparser::parser::Parser;

/// Expressions that have one part less, the shortest first.
pub(super) fn simpler(sql: &str) -> Vec<String> {
    // Parameters are no SQL.
    let marked = sql.replace("{P", "p_mark_").replace('}', "");
    let Ok(expr) = Parser::new(&GenericDialect {})
        .try_with_sql(&marked)
        .and_then(|mut parser| parser.parse_expr())
    else {
        return Vec::new();
    };
    let mut found = Vec::new();
    let mut at = 0;
    // The n-th change of the tree, for each n.
    loop {
        let mut changed = expr.clone();
        let mut change = NthChange {
            left: at,
            done: false,
        };
        let _ = VisitMut::visit(&mut changed, &mut change);
        if !change.done {
            break;
        }
        let mut text = changed.to_string();
        for n in 1..10 {
            text = text.replace(&format!("p_mark_{n}"), &format!("{{P{n}}}"));
        }
        if text.len() < sql.len() {
            found.push(text);
        }
        at += 1;
    }
    found.sort_by_key(String::len);
    found
}

struct NthChange {
    left: usize,
    done: bool,
}

impl NthChange {
    fn take(&mut self) -> bool {
        if self.done {
            return false;
        }
        if self.left == 0 {
            self.done = true;
            return true;
        }
        self.left -= 1;
        false
    }
}

impl VisitorMut for NthChange {
    type Break = ();

    fn pre_visit_query(&mut self, query: &mut Query) -> ControlFlow<()> {
        if let SetExpr::SetOperation { left, right, .. } = query.body.as_ref() {
            let (left, right) = (left.clone(), right.clone());
            if self.take() {
                query.body = left;
                return ControlFlow::Break(());
            }
            if self.take() {
                query.body = right;
                return ControlFlow::Break(());
            }
        }
        if let SetExpr::Select(select) = query.body.as_mut() {
            if select.selection.is_some() && self.take() {
                select.selection = None;
                return ControlFlow::Break(());
            }
            if select.having.is_some() && self.take() {
                select.having = None;
                return ControlFlow::Break(());
            }
            if select.distinct.is_some() && self.take() {
                select.distinct = None;
                return ControlFlow::Break(());
            }
        }
        if query.limit_clause.is_some() && self.take() {
            query.limit_clause = None;
            query.order_by = None;
            return ControlFlow::Break(());
        }
        ControlFlow::Continue(())
    }

    fn pre_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<()> {
        for part in parts(expr) {
            if self.take() {
                *expr = part;
                return ControlFlow::Break(());
            }
        }
        ControlFlow::Continue(())
    }
}

/// What may stand in an expression's place.
fn parts(expr: &Expr) -> Vec<Expr> {
    let boxed = |list: &[&Expr]| list.iter().map(|e| (*e).clone()).collect::<Vec<_>>();
    match expr {
        Expr::BinaryOp { left, op, right } if keeps_type(op) => boxed(&[left, right]),
        Expr::Nested(inner) => match inner.as_ref() {
            Expr::Identifier(_)
            | Expr::CompoundIdentifier(_)
            | Expr::Value(_)
            | Expr::Nested(_) => boxed(&[inner]),
            _ => Vec::new(),
        },
        Expr::UnaryOp {
            op: UnaryOperator::Not | UnaryOperator::Minus,
            expr,
        }
        | Expr::IsTrue(expr)
        | Expr::IsNotTrue(expr)
        | Expr::IsFalse(expr)
        | Expr::IsNotFalse(expr)
        | Expr::IsUnknown(expr)
        | Expr::IsNotUnknown(expr) => boxed(&[expr]),
        Expr::Cast {
            expr: inner,
            data_type,
            ..
        } => match inner.as_ref() {
            Expr::Cast {
                data_type: same, ..
            } if same == data_type => boxed(&[inner]),
            _ => Vec::new(),
        },
        Expr::Case {
            conditions,
            else_result,
            ..
        } => {
            let mut parts: Vec<_> = conditions.iter().map(|when| when.result.clone()).collect();
            parts.extend(else_result.as_deref().cloned());
            parts
        }
        Expr::InList {
            expr,
            list,
            negated,
        } if list.len() > 1 => (0..list.len())
            .map(|at| {
                let mut list = list.clone();
                list.remove(at);
                Expr::InList {
                    expr: expr.clone(),
                    list,
                    negated: *negated,
                }
            })
            .collect(),
        Expr::Function(function)
            if matches!(
                function.name.to_string().as_str(),
                "coalesce" | "nullif" | "greatest" | "least" | "abs" | "concat"
            ) =>
        {
            match &function.args {
                FunctionArguments::List(list) => list
                    .args
                    .iter()
                    .filter_map(|arg| match arg {
                        FunctionArg::Unnamed(FunctionArgExpr::Expr(e)) => Some(e.clone()),
                        _ => None,
                    })
                    .collect(),
                _ => Vec::new(),
            }
        }
        _ => Vec::new(),
    }
}

/// Whether an operator's value has the type of its operands.
fn keeps_type(op: &BinaryOperator) -> bool {
    matches!(
        op,
        BinaryOperator::And
            | BinaryOperator::Or
            | BinaryOperator::Plus
            | BinaryOperator::Minus
            | BinaryOperator::Multiply
            | BinaryOperator::Divide
            | BinaryOperator::Modulo
            | BinaryOperator::StringConcat
            | BinaryOperator::BitwiseAnd
            | BinaryOperator::BitwiseOr
            | BinaryOperator::BitwiseXor
    )
}
