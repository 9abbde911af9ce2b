//! The end of a command, and its exit code for programs that call it.

use std::process::ExitCode;

/// The end of a command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// It is done, and nothing was found that should not be.
    Done,
    /// It is done, and something was found: an object is kept from scaling, a check failed.
    Found,
    /// The cluster cannot be reached, or refuses.
    Cluster,
    /// There is no such object or file.
    NotFound,
    /// An input cannot be used.
    Input,
}

impl Exit {
    /// Every end, in the order of the codes. Code 2 is clap's, for a wrong command line.
    pub const ALL: [Self; 5] = [
        Self::Done,
        Self::Found,
        Self::Cluster,
        Self::NotFound,
        Self::Input,
    ];

    /// The exit code.
    pub const fn code(self) -> u8 {
        match self {
            Self::Done => 0,
            Self::Found => 1,
            Self::Cluster => 3,
            Self::NotFound => 4,
            Self::Input => 5,
        }
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit.code())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_differ_and_leave_2_to_a_wrong_command_line() {
        let codes = Exit::ALL.map(Exit::code);
        assert!(codes.is_sorted_by(|one, other| one < other), "{codes:?}");
        assert!(!codes.contains(&2));
    }
}
