//! Objects that differ in nothing but their names, and the queries that read all of them.

use std::{sync::Arc, time::Duration};

use pd_signals::queries::{Scope, gateway::GatewayScope};

use crate::grouping::{Grouped, GroupingError, Part, grouped, of_no_object};

/// One of the queries about an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Gauges and counters, and which gateways there are.
    State,
    /// Distributions over the window of rates.
    Histograms,
    /// Distributions over the wide window.
    Wide,
    /// Distributions over the attainment window.
    Attainment,
}

impl Kind {
    /// Every kind.
    pub const ALL: [Self; 4] = [Self::State, Self::Histograms, Self::Wide, Self::Attainment];

    /// As errors name it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::State => "the state of many objects",
            Self::Histograms => "the distributions of many objects",
            Self::Wide => "the distributions of many objects over ten minutes",
            Self::Attainment => "the attainment of many objects",
        }
    }
}

/// Everything in which objects that are read together are alike.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ShapeKey {
    engine: &'static str,
    prefix: Option<String>,
    selectors: Vec<(String, String)>,
    window: Duration,
    attainment_window: Duration,
}

impl ShapeKey {
    /// That of the object of `scope`.
    pub fn of(scope: &Scope) -> Self {
        Self {
            engine: scope.engine.name,
            prefix: scope.prefix.clone(),
            selectors: scope.selectors.clone(),
            window: scope.window,
            attainment_window: scope.attainment_window,
        }
    }
}

/// The queries of all objects with one key.
#[derive(Debug)]
pub struct Shape {
    queries: [(Grouped, Arc<[Part]>); 4],
}

impl Shape {
    /// Those of objects like the one of `scope`.
    pub fn of(scope: &Scope) -> Result<Self, GroupingError> {
        let scope = of_no_object(scope);
        let search = GatewayScope::of(&scope, None, String::new(), &[]).query();
        let with_parts = |grouped: Grouped| {
            let parts = grouped.parts.clone().into();
            (grouped, parts)
        };
        let state = grouped(&scope.state_query(), &scope)?.with_search(&search, &scope)?;
        let queries = [
            state,
            grouped(&scope.histogram_query(), &scope)?,
            grouped(&scope.wide_query(), &scope)?,
            grouped(&scope.attainment_query(), &scope)?,
        ];
        Ok(Self {
            queries: queries.map(with_parts),
        })
    }

    /// The query of `kind`, and the parts of its answer.
    pub fn query(&self, kind: Kind) -> (&Grouped, Arc<[Part]>) {
        let [state, histograms, wide, attainment] = &self.queries;
        let (grouped, parts) = match kind {
            Kind::State => state,
            Kind::Histograms => histograms,
            Kind::Wide => wide,
            Kind::Attainment => attainment,
        };
        (grouped, Arc::clone(parts))
    }
}
