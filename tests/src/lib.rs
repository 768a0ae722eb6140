//! What the workspace's tests share: a second decoder, logs made to order, and a count of allocations.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::missing_panics_doc,
    reason = "support of tests: a panic is how a test fails"
)]

pub mod allocations;
pub mod faulty;
pub mod golden;
pub mod life;
pub mod logs;
pub mod naive;
