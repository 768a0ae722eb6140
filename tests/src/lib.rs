//! What the workspace's tests share: a second decoder, logs made to order, a count of allocations, and real processes with their system calls.

pub mod allocations;
pub mod faulty;
pub mod golden;
pub mod life;
pub mod logs;
pub mod naive;
pub mod real;
pub mod real_calls;
