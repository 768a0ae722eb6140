//! One thing that a doctor says.

use serde::Serialize;

use crate::paint::Hue;

/// One thing to know.
#[derive(Debug, Serialize)]
pub(super) struct Finding {
    pub(super) severity: Severity,
    /// What it is about: scripts rely on it.
    pub(super) id: &'static str,
    pub(super) what: String,
    /// What to run, or to do, next.
    pub(super) next: Option<String>,
}

/// How bad it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Severity {
    /// Good to know.
    Info,
    /// Can become trouble.
    Warning,
    /// Needs a person now.
    Damage,
}

impl Finding {
    pub(super) fn info(id: &'static str, what: impl Into<String>) -> Self {
        Self { severity: Severity::Info, id, what: what.into(), next: None }
    }

    pub(super) fn warning(id: &'static str, what: impl Into<String>) -> Self {
        Self { severity: Severity::Warning, ..Self::info(id, what) }
    }

    pub(super) fn damage(id: &'static str, what: impl Into<String>) -> Self {
        Self { severity: Severity::Damage, ..Self::info(id, what) }
    }

    pub(super) fn next(self, next: impl Into<String>) -> Self {
        Self { next: Some(next.into()), ..self }
    }
}

impl Severity {
    pub(super) const fn word(self) -> &'static str {
        match self {
            Self::Info => "info",
            Self::Warning => "warning",
            Self::Damage => "damage",
        }
    }

    pub(super) const fn hue(self) -> Hue {
        match self {
            Self::Info => Hue::Well,
            Self::Warning => Hue::Notable,
            Self::Damage => Hue::Wrong,
        }
    }
}
