//! The platforms of a release, in the words of cargo and of container registries.

use std::{fmt, str::FromStr};

use oci_spec::image::Arch;

/// A platform that programs are built for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Platform {
    /// 64 bit x86.
    Amd64,
    /// 64 bit ARM.
    Arm64,
}

/// A text that names no platform of a release.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is no platform of a release: give linux/amd64 or linux/arm64")]
pub struct PlatformError(pub String);

impl Platform {
    /// All, in the order of an image index.
    pub const ALL: [Self; 2] = [Self::Amd64, Self::Arm64];

    /// As registries write it, without the operating system.
    pub const fn architecture(self) -> &'static str {
        match self {
            Self::Amd64 => "amd64",
            Self::Arm64 => "arm64",
        }
    }

    /// The target of rustc.
    pub const fn target(self) -> &'static str {
        match self {
            Self::Amd64 => "x86_64-unknown-linux-musl",
            Self::Arm64 => "aarch64-unknown-linux-musl",
        }
    }

    /// As image configurations have it.
    pub const fn arch(self) -> Arch {
        match self {
            Self::Amd64 => Arch::Amd64,
            Self::Arm64 => Arch::ARM64,
        }
    }
}

impl fmt::Display for Platform {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "linux/{}", self.architecture())
    }
}

impl FromStr for Platform {
    type Err = PlatformError;

    fn from_str(text: &str) -> Result<Self, PlatformError> {
        let found = Self::ALL.into_iter().find(|one| one.to_string() == text);
        found.ok_or_else(|| PlatformError(text.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn platforms_are_read_as_they_are_written() {
        for platform in Platform::ALL {
            assert_eq!(platform.to_string().parse(), Ok(platform));
        }
        let error = "amd64".parse::<Platform>().unwrap_err();
        assert!(error.to_string().contains("linux/amd64"));
    }
}
