//! Whether a file is a program that starts in an empty image: static, and of the right processor.

use object::{
    Endianness,
    elf::{EM_AARCH64, EM_X86_64, PT_INTERP},
    read::elf::{ElfFile64, FileHeader as _, ProgramHeader as _},
};

use crate::platform::Platform;

/// Why a file is not shipped.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ExecutableError {
    /// It is no program of Linux.
    #[error("is no 64 bit ELF file ({0}): build it for {1}")]
    Format(String, &'static str),
    /// It is of another processor.
    #[error("is of machine `{found}` and must be of `{wanted}`: build it for {target}")]
    Machine {
        /// The number of its processor in ELF.
        found: u16,
        /// The number that is wanted.
        wanted: u16,
        /// The target to build for.
        target: &'static str,
    },
    /// It needs a loader, which an empty image has not.
    #[error("needs the loader `{loader}`, which an empty image has not: build it for {target}")]
    Dynamic {
        /// The loader.
        loader: String,
        /// The target to build for.
        target: &'static str,
    },
}

/// Refuses a file that does not start in an empty image of `platform`.
pub fn check(bytes: &[u8], platform: Platform) -> Result<(), ExecutableError> {
    let target = platform.target();
    let format = |error: object::Error| ExecutableError::Format(error.to_string(), target);
    let file = ElfFile64::<Endianness>::parse(bytes).map_err(format)?;
    let endian = file.endian();
    let wanted = match platform {
        Platform::Amd64 => EM_X86_64,
        Platform::Arm64 => EM_AARCH64,
    };
    let found = file.elf_header().e_machine(endian);
    if found != wanted {
        return Err(ExecutableError::Machine {
            found,
            wanted,
            target,
        });
    }
    for header in file.elf_program_headers() {
        if header.p_type(endian) == PT_INTERP {
            let loader = header.data(endian, bytes).unwrap_or_default();
            let loader = String::from_utf8_lossy(loader);
            return Err(ExecutableError::Dynamic {
                loader: loader.trim_end_matches('\0').to_owned(),
                target,
            });
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::{env, fs};

    use super::*;

    /// The smallest file that is an ELF program of `machine`, with one program header of `kind`.
    fn elf(machine: u16, kind: u32) -> Vec<u8> {
        let mut file = vec![0x7f, b'E', b'L', b'F', 2, 1, 1, 0];
        file.resize(16, 0);
        let mut put = |bytes: &[u8]| file.extend_from_slice(bytes);
        put(&2_u16.to_le_bytes());
        put(&machine.to_le_bytes());
        put(&1_u32.to_le_bytes());
        put(&[0; 8]);
        put(&64_u64.to_le_bytes());
        put(&[0; 12]);
        put(&64_u16.to_le_bytes());
        put(&56_u16.to_le_bytes());
        put(&1_u16.to_le_bytes());
        put(&[0; 6]);
        // The program header: its kind, flags, and the loader behind it as its contents.
        put(&kind.to_le_bytes());
        put(&[0; 4]);
        put(&120_u64.to_le_bytes());
        put(&[0; 16]);
        put(&9_u64.to_le_bytes());
        put(&[0; 16]);
        put(b"/lib/ld.s");
        file
    }

    #[test]
    fn static_programs_of_the_platform_are_taken() {
        assert_eq!(check(&elf(EM_X86_64, 1), Platform::Amd64), Ok(()));
        assert_eq!(check(&elf(EM_AARCH64, 1), Platform::Arm64), Ok(()));
    }

    #[test]
    fn programs_of_another_processor_are_refused_with_the_target() {
        let error = check(&elf(EM_AARCH64, 1), Platform::Amd64).unwrap_err();
        assert!(matches!(error, ExecutableError::Machine { .. }));
        assert!(error.to_string().contains("x86_64-unknown-linux-musl"));
    }

    #[test]
    fn a_program_that_needs_a_loader_is_refused_with_its_name() {
        let error = check(&elf(EM_AARCH64, PT_INTERP), Platform::Arm64).unwrap_err();
        assert_eq!(
            error,
            ExecutableError::Dynamic {
                loader: "/lib/ld.s".to_owned(),
                target: "aarch64-unknown-linux-musl"
            }
        );
    }

    #[test]
    fn other_files_are_refused() {
        for bytes in [&b""[..], b"#!/bin/sh\n", b"\x7fELF"] {
            let error = check(bytes, Platform::Amd64).unwrap_err();
            assert!(matches!(error, ExecutableError::Format(..)), "{error}");
        }
    }

    #[test]
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    fn this_test_program_needs_a_loader() {
        let bytes = fs::read(env::current_exe().unwrap()).unwrap();
        let platform = match env::consts::ARCH {
            "aarch64" => Platform::Arm64,
            _ => Platform::Amd64,
        };
        let error = check(&bytes, platform).unwrap_err();
        assert!(matches!(error, ExecutableError::Dynamic { .. }), "{error}");
    }
}
