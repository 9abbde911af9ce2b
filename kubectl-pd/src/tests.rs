//! Objects that tests share, and the page of the documentation that is made of their answers.

mod page;
pub(crate) mod samples;
