//! `TableProvider::scan`, written out once for all providers.

/// The method `scan` of a `TableProvider`, of which `$body` makes the future. As an async method it would hold the
/// expressions, and the compiler would prove anew that all of them are `Send` (see `dml::opaque`).
macro_rules! scan_method {
    (|$this:ident, $state:ident, $projection:ident, $filters:ident, $limit:ident| $body:expr) => {
        fn scan<'a, 's, 'p, 'e, 'f>(
            &'a self,
            state: &'s dyn datafusion::catalog::Session,
            projection: Option<&'p Vec<usize>>,
            filters: &'e [datafusion::logical_expr::Expr],
            limit: Option<usize>,
        ) -> futures::future::BoxFuture<
            'f,
            datafusion::common::Result<
                std::sync::Arc<dyn datafusion::physical_plan::ExecutionPlan>,
            >,
        >
        where
            'a: 'f,
            's: 'f,
            'p: 'f,
            'e: 'f,
            Self: 'f,
        {
            let ($this, $state, $projection, $filters, $limit) =
                (self, state, projection, filters, limit);
            $body
        }
    };
}

pub(crate) use scan_method;
