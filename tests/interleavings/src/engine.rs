//! e
/// w
pub fn writers() {}
/// f
pub fn failure() {}
