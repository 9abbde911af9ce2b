//! Holds the files of a crate to a direction: no two of them need each other, directly or through
//! others.
//!
//! A file needs another when its code (tests aside) names something defined there. A `pub use`
//! hands a name on and needs nothing: the name counts for the file that defines it. A file may use
//! the types of the file that it is a part of, as Rust's privacy has it, so those needs do not
//! count. Paths inside macro calls are not seen.

use std::collections::{BTreeMap, BTreeSet};

use syn::{
    Attribute, Item, UseTree, Visibility,
    visit::{self, Visit},
};

use super::{Findings, Tree, source::is_test};

/// A module's path from its crate, such as `["guard", "stuck"]`; empty for the crate's root.
type Module = Vec<String>;

/// Re-exports that follow each other are resolved so far. Longer chains do not exist here.
const REEXPORTS_MAX: usize = 8;

/// Reports files that need each other.
pub(super) fn circles(tree: &Tree, findings: &mut Findings) {
    let roots = tree
        .files
        .keys()
        .filter_map(|path| path.strip_suffix("/src/lib.rs"));
    for root in roots {
        let source = Crate::read(tree, root);
        for circle in found(&source.needs()) {
            report(&circle, findings);
        }
    }
}

fn report(circle: &Needs<'_>, findings: &mut Findings) {
    let first = circle.keys().next().copied().unwrap_or_default();
    let arrows: Vec<String> = circle
        .iter()
        .flat_map(|(from, needs)| {
            needs.iter().map(move |(to, names)| {
                let names: Vec<&str> = names.iter().map(String::as_str).collect();
                format!("{from} needs {} of {to}", names.join(", "))
            })
        })
        .collect();
    let message = format!(
        "{} files need each other ({}): move what they share below them",
        circle.len(),
        arrows.join("; ")
    );
    findings.add(first, 1, &message);
}

/// For each file the files that it needs, and the names it takes from them.
type Needs<'a> = BTreeMap<&'a str, BTreeMap<&'a str, BTreeSet<String>>>;

/// The groups of files in `needs` that reach each other, with the arrows between them.
fn found<'a>(needs: &Needs<'a>) -> Vec<Needs<'a>> {
    let reached: BTreeMap<&str, BTreeSet<&str>> = needs
        .keys()
        .map(|file| (*file, reached_from(file, needs)))
        .collect();
    let mut groups: BTreeSet<BTreeSet<&str>> = BTreeSet::new();
    for (file, others) in &reached {
        let group: BTreeSet<&str> = others
            .iter()
            .copied()
            .filter(|other| reached.get(other).is_some_and(|back| back.contains(file)))
            .collect();
        if !group.is_empty() {
            groups.insert(group);
        }
    }
    let within = |group: &BTreeSet<&'a str>| {
        let arrows = group.iter().filter_map(|file| {
            let mut arrows = needs.get(file)?.clone();
            arrows.retain(|to, _| group.contains(to));
            Some((*file, arrows))
        });
        arrows.collect()
    };
    groups
        .iter()
        .map(|group| {
            let own: BTreeSet<&'a str> = needs
                .keys()
                .copied()
                .filter(|file| group.contains(file))
                .collect();
            within(&own)
        })
        .collect()
}

fn reached_from<'a>(file: &str, needs: &Needs<'a>) -> BTreeSet<&'a str> {
    let mut reached = BTreeSet::new();
    let mut open: Vec<&str> = vec![file];
    while let Some(next) = open.pop() {
        for to in needs.get(next).into_iter().flatten().map(|(to, _)| *to) {
            if reached.insert(to) {
                open.push(to);
            }
        }
    }
    reached
}

/// Whether `file` lies in the folder of the module `whole`.
fn is_part_of(file: &str, whole: &str) -> bool {
    let folder = whole.trim_end_matches("lib.rs").trim_end_matches(".rs");
    file.strip_prefix(folder)
        .is_some_and(|inside| folder.ends_with('/') || inside.starts_with('/'))
}

/// The modules of one crate, their files, and what each takes from where.
struct Crate<'a> {
    files: BTreeMap<Module, (&'a str, Source)>,
}

impl<'a> Crate<'a> {
    fn read(tree: &'a Tree, root: &str) -> Self {
        let folder = format!("{root}/src/");
        let mut files = BTreeMap::new();
        for (path, text) in tree.with_extension("rs") {
            let Some(inside) = path.strip_prefix(&folder) else {
                continue;
            };
            let is_binary = inside == "main.rs" || inside.starts_with("bin/");
            if is_binary || is_test(path) {
                continue;
            }
            let stem = inside.trim_end_matches(".rs");
            let module: Module = match stem {
                "lib" => Vec::new(),
                stem => stem.split('/').map(str::to_owned).collect(),
            };
            // A file that does not parse is the compiler's to report.
            if let Ok(parsed) = syn::parse_file(text) {
                files.insert(module, (path, Source::of(&parsed)));
            }
        }
        Self { files }
    }

    fn needs(&self) -> Needs<'a> {
        let mut needs: Needs<'a> = BTreeMap::new();
        for (module, (file, source)) in &self.files {
            let arrows = needs.entry(file).or_default();
            for path in source.paths() {
                let Some((to, name)) = self.resolved(module, &path, 0) else {
                    continue;
                };
                if to != *file && !is_part_of(file, to) {
                    arrows.entry(to).or_default().insert(name);
                }
            }
        }
        needs
    }

    /// The file that defines what `path` names, as written in `module`, and the name.
    fn resolved(
        &self,
        module: &Module,
        path: &[String],
        depth: usize,
    ) -> Option<(&'a str, String)> {
        let (mut at, mut rest) = self.start(module, path)?;
        while let Some((next, behind)) = rest.split_first() {
            let mut inner = at.clone();
            inner.push(next.clone());
            if !self.files.contains_key(&inner) {
                break;
            }
            (at, rest) = (inner, behind);
        }
        let (file, source) = self.files.get(&at)?;
        // A module by itself: what is taken from it stands at the paths that begin with its name.
        let name = rest.first()?;
        match source.exported.get(name) {
            Some(origin) if depth < REEXPORTS_MAX => {
                let mut whole = origin.clone();
                whole.extend(rest[1..].iter().cloned());
                self.resolved(&at, &whole, depth + 1)
                    .or_else(|| Some((file, name.clone())))
            }
            _ => Some((file, name.clone())),
        }
    }

    /// Where a path begins, and what of it is left; nothing for a path into another crate.
    fn start<'p>(&self, module: &Module, path: &'p [String]) -> Option<(Module, &'p [String])> {
        let (first, rest) = path.split_first()?;
        match first.as_str() {
            "crate" => Some((Vec::new(), rest)),
            "self" => Some((module.clone(), rest)),
            "super" => {
                let mut parent = module.clone();
                parent.pop()?;
                let mut rest = rest;
                while let Some((next, behind)) = rest.split_first()
                    && next == "super"
                {
                    parent.pop()?;
                    rest = behind;
                }
                Some((parent, rest))
            }
            child => {
                let mut inner = module.clone();
                inner.push(child.to_owned());
                self.files.contains_key(&inner).then_some((inner, rest))
            }
        }
    }
}

/// The imports of one file, the names it hands on, and the paths in its code.
#[derive(Default)]
struct Source {
    /// Private imports, by the name they have here.
    imported: BTreeMap<String, Vec<String>>,
    /// Names handed on, by the name they have here.
    exported: BTreeMap<String, Vec<String>>,
    /// Paths of two segments and more in the code.
    named: BTreeSet<Vec<String>>,
}

impl Source {
    fn of(file: &syn::File) -> Self {
        let mut source = Self::default();
        source.visit_file(file);
        source
    }

    /// All paths that need something, relative to the file's module.
    fn paths(&self) -> Vec<Vec<String>> {
        let mut paths: Vec<Vec<String>> = self.imported.values().cloned().collect();
        for named in &self.named {
            let imported = self
                .imported
                .get(&named[0])
                .or_else(|| self.exported.get(&named[0]));
            paths.push(match imported {
                Some(origin) => origin.iter().chain(&named[1..]).cloned().collect(),
                None => named.clone(),
            });
        }
        paths
    }

    fn take(&mut self, tree: &UseTree, prefix: &mut Vec<String>, is_handed_on: bool) {
        let leaf = match tree {
            UseTree::Path(path) => {
                prefix.push(path.ident.to_string());
                self.take(&path.tree, prefix, is_handed_on);
                prefix.pop();
                return;
            }
            UseTree::Group(group) => {
                for inner in &group.items {
                    self.take(inner, prefix, is_handed_on);
                }
                return;
            }
            UseTree::Name(name) if name.ident == "self" => (prefix.last().cloned(), None),
            UseTree::Name(name) => (Some(name.ident.to_string()), Some(name.ident.to_string())),
            UseTree::Rename(rename) => (
                Some(rename.rename.to_string()),
                Some(rename.ident.to_string()).filter(|ident| ident != "self"),
            ),
            UseTree::Glob(_) => (
                Some(format!("{}::*", prefix.join("::"))),
                Some("*".to_owned()),
            ),
        };
        let (Some(name), last) = leaf else { return };
        let whole = prefix.iter().cloned().chain(last).collect();
        let names = if is_handed_on {
            &mut self.exported
        } else {
            &mut self.imported
        };
        names.insert(name, whole);
    }
}

impl<'ast> Visit<'ast> for Source {
    fn visit_item(&mut self, item: &'ast Item) {
        if !attributes(item).iter().any(is_for_tests) {
            visit::visit_item(self, item);
        }
    }

    fn visit_item_use(&mut self, item: &'ast syn::ItemUse) {
        let is_handed_on = !matches!(item.vis, Visibility::Inherited);
        self.take(&item.tree, &mut Vec::new(), is_handed_on);
    }

    fn visit_path(&mut self, path: &'ast syn::Path) {
        if path.segments.len() > 1 {
            let segments = path.segments.iter();
            self.named
                .insert(segments.map(|segment| segment.ident.to_string()).collect());
        }
        visit::visit_path(self, path);
    }
}

fn attributes(item: &Item) -> &[Attribute] {
    match item {
        Item::Const(item) => &item.attrs,
        Item::Enum(item) => &item.attrs,
        Item::Fn(item) => &item.attrs,
        Item::Impl(item) => &item.attrs,
        Item::Mod(item) => &item.attrs,
        Item::Static(item) => &item.attrs,
        Item::Struct(item) => &item.attrs,
        Item::Trait(item) => &item.attrs,
        Item::Type(item) => &item.attrs,
        Item::Use(item) => &item.attrs,
        _ => &[],
    }
}

fn is_for_tests(attribute: &Attribute) -> bool {
    attribute.path().is_ident("cfg")
        && attribute
            .meta
            .require_list()
            .is_ok_and(|list| list.tokens.to_string() == "test")
}

#[test]
fn files_that_need_each_other_are_found_through_others_and_through_names_handed_on() {
    let file = |path: &str, text: &str| (format!("a/src/{path}"), format!("//! A file.\n{text}"));
    let tree = Tree {
        root: std::path::PathBuf::new(),
        files: BTreeMap::from([
            file("lib.rs", "pub mod x; pub mod y; pub mod z; pub use x::X;"),
            file("x.rs", "use crate::y; pub struct X(y::Y);"),
            file("y.rs", "mod inner; pub use inner::Y;"),
            file("y/inner.rs", "use crate::z::Z; pub struct Y(Z);"),
            file(
                "z.rs",
                "pub struct Z; #[cfg(test)] mod tests { use crate::y::Y; }",
            ),
        ]),
    };
    let mut findings = Findings::default();
    circles(&tree, &mut findings);
    assert_eq!(findings.0, Vec::<String>::new(), "tests may need anything");

    let mut tree = tree;
    tree.files
        .extend([file("z.rs", "pub struct Z(Box<crate::x::X>);")]);
    circles(&tree, &mut findings);
    assert_eq!(findings.0.len(), 1);
    assert!(
        findings.0[0].contains("3 files need each other (a/src/x.rs needs Y of a/src/y/inner.rs"),
        "{}",
        findings.0[0]
    );
}
