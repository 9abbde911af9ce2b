//! A release from built programs: images, archives, bills of materials, checksums.
//!
//! An image here is files: an OCI layout holds JSON and compressed tars, each named after its own
//! digest, so that none of it takes a container engine. The one idea is that the same input gives
//! the same bytes on every machine: entries are sorted, times are the date of the source, maps are
//! written in the order of their keys. The programs themselves are built by `release/build.sh`; one
//! that is not static, or of another processor, is refused here, because its image would not start.
//!
//! Everything is a function of bytes except [`assemble`], which reads and writes files and asks
//! cargo what a program was built from.

pub mod assemble;
pub mod certificates;
pub mod date;
pub mod document;
pub mod executable;
pub mod layout;
pub mod materials;
pub mod platform;
pub mod programs;
pub mod tarball;
