//! Tars that are the same wherever they are made: sorted, of nobody, with one date.

use std::{collections::BTreeMap, io, path::Path};

use flate2::{Compression, GzBuilder};
use std::io::Write as _;
use tar::{Builder, EntryType, Header};

use crate::date::SourceDate;

/// Permissions of a folder and of a program.
const EXECUTABLE: u32 = 0o755;
/// Permissions of any other file.
const READABLE: u32 = 0o644;

/// Files of a tar by their paths, which are relative.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tarball {
    files: BTreeMap<String, (u32, Vec<u8>)>,
}

impl Tarball {
    /// With a file that everybody may read.
    #[must_use]
    pub fn with_file(self, path: impl Into<String>, contents: impl Into<Vec<u8>>) -> Self {
        self.with(path, READABLE, contents)
    }

    /// With a program that everybody may run.
    #[must_use]
    pub fn with_program(self, path: impl Into<String>, contents: impl Into<Vec<u8>>) -> Self {
        self.with(path, EXECUTABLE, contents)
    }

    fn with(mut self, path: impl Into<String>, mode: u32, contents: impl Into<Vec<u8>>) -> Self {
        self.files.insert(path.into(), (mode, contents.into()));
        self
    }

    /// The tar: folders before what is in them, everything in the order of its path.
    pub fn tar(&self, date: &SourceDate) -> io::Result<Vec<u8>> {
        let mut entries: BTreeMap<String, (EntryType, u32, &[u8])> = BTreeMap::new();
        for (path, (mode, contents)) in &self.files {
            let folders = Path::new(path).ancestors().skip(1);
            for folder in folders.filter(|folder| !folder.as_os_str().is_empty()) {
                let name = format!("{}/", folder.display());
                entries.insert(name, (EntryType::Directory, EXECUTABLE, &[]));
            }
            entries.insert(path.clone(), (EntryType::Regular, *mode, contents));
        }
        let mut tar = Builder::new(Vec::new());
        for (path, (kind, mode, contents)) in entries {
            let mut header = Header::new_ustar();
            header.set_entry_type(kind);
            header.set_mode(mode);
            header.set_uid(0);
            header.set_gid(0);
            header.set_mtime(date.seconds());
            header.set_size(u64::try_from(contents.len()).map_err(io::Error::other)?);
            tar.append_data(&mut header, path, contents)?;
        }
        tar.into_inner()
    }
}

/// Compressed by gzip, without a date or a name.
pub fn gzip(bytes: &[u8]) -> io::Result<Vec<u8>> {
    let mut gzip = GzBuilder::new()
        .mtime(0)
        .write(Vec::new(), Compression::best());
    gzip.write_all(bytes)?;
    gzip.finish()
}

#[cfg(test)]
mod tests {
    use std::io::Read as _;

    use flate2::read::GzDecoder;
    use proptest::prelude::*;
    use tar::Archive;

    use super::*;

    fn date() -> SourceDate {
        SourceDate::new(1_796_040_000).unwrap()
    }

    #[test]
    fn folders_come_before_their_files_and_belong_to_nobody() {
        let tarball = Tarball::default()
            .with_program("program", "p")
            .with_file("etc/ssl/cert", "c")
            .with_file("etc/passwd", "");
        let tar = tarball.tar(&date()).unwrap();
        let mut found = Vec::new();
        let mut archive = Archive::new(tar.as_slice());
        for entry in archive.entries().unwrap() {
            let entry = entry.unwrap();
            let header = entry.header();
            assert_eq!(header.mtime().unwrap(), 1_796_040_000);
            assert_eq!((header.uid().unwrap(), header.gid().unwrap()), (0, 0));
            assert_eq!(header.username_bytes(), Some(&[][..]));
            let path = entry.path().unwrap().display().to_string();
            found.push((path, header.mode().unwrap()));
        }
        let want = [
            ("etc/", 0o755),
            ("etc/passwd", 0o644),
            ("etc/ssl/", 0o755),
            ("etc/ssl/cert", 0o644),
            ("program", 0o755),
        ];
        assert_eq!(found, want.map(|(path, mode)| (path.to_owned(), mode)));
    }

    proptest! {
        #[test]
        fn the_order_in_which_files_are_added_does_not_show(
            files in prop::collection::btree_map("[a-c]{1,2}x(/[a-c]{1,3}y){0,2}z", any::<Vec<u8>>(), 0..6),
            turn in any::<prop::sample::Index>(),
        ) {
            let add = |tarball: Tarball, (path, contents): (&String, &Vec<u8>)| tarball.with_file(path, contents.clone());
            let sorted = files.iter().fold(Tarball::default(), add);
            let mut turned: Vec<(&String, &Vec<u8>)> = files.iter().collect();
            if !turned.is_empty() {
                let by = turn.index(turned.len());
                turned.rotate_left(by);
            }
            let turned = turned.into_iter().fold(Tarball::default(), add);
            let (one, other) = (sorted.tar(&date()).unwrap(), turned.tar(&date()).unwrap());
            prop_assert_eq!(gzip(&one).unwrap(), gzip(&other).unwrap());
            let mut read = BTreeMap::new();
            for entry in Archive::new(one.as_slice()).entries().unwrap() {
                let mut entry = entry.unwrap();
                let mut contents = Vec::new();
                entry.read_to_end(&mut contents).unwrap();
                if entry.header().entry_type() == EntryType::Regular {
                    read.insert(entry.path().unwrap().display().to_string(), contents);
                }
            }
            prop_assert_eq!(read, files);
        }

        #[test]
        fn gzip_loses_nothing_and_has_no_date(bytes in any::<Vec<u8>>()) {
            let packed = gzip(&bytes).unwrap();
            // RFC 1952: flags, then four bytes of time.
            prop_assert_eq!(&packed[3..8], &[0; 5][..]);
            let mut read = Vec::new();
            GzDecoder::new(packed.as_slice()).read_to_end(&mut read).unwrap();
            prop_assert_eq!(read, bytes);
        }
    }
}
