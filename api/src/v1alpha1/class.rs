//! The class of controllers that handles an object, as an Ingress has one.
//!
//! It is a name that operators give, and nothing is looked up by it: an object of a class that no
//! controller has waits for one.

/// Longest name of a class.
pub(crate) const CONTROLLER_CLASS_LENGTH_MAX: usize = 253;
/// Names of classes, as RE2: those of objects, or nothing.
pub(crate) const CONTROLLER_CLASS_REGEX: &str = "^([a-z0-9]([-a-z0-9.]*[a-z0-9])?)?$";
/// Remedy for the name of a class.
pub const CONTROLLER_CLASS_REMEDY: &str = "must be the --controller-class of a controller: lower-case letters, digits, `-` and `.`, or nothing";

/// Whether `class` is the name of a class, or none.
pub fn is_controller_class(class: &str) -> bool {
    class.len() <= CONTROLLER_CLASS_LENGTH_MAX
        && (class.is_empty() || pd_tolerations::format::is_object_name(class))
}
