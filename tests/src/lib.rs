//! What the workspace's tests share: a second decoder, logs made to order, a model of what a log has promised, the exploration, a count of
//! allocations, and real processes with their system calls.

/// The programs of the guide for engine authors, compiled and run with the doc-tests.
#[cfg(doctest)]
#[doc = include_str!("../../docs/guide.md")]
struct Guide;

pub mod allocations;
pub mod clock;
pub mod explore;
#[cfg(feature = "operator")]
pub mod exporter;
pub mod faulty;
pub mod forever;
pub mod fuzz;
pub mod golden;
pub mod history;
pub mod life;
pub mod logs;
pub mod model;
pub mod naive;
pub mod real;
pub mod real_calls;
pub mod rng;

/// The quickstart of the repository's README, compiled and run with the doc-tests.
#[cfg(doctest)]
#[doc = include_str!("../../README.md")]
struct Readme;
