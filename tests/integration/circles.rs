//! No circle of source files: a reader who follows the arrows between files comes to an end.
//!
//! An arrow leads from a file to each file whose items it names: in an import, a re-export or a path, re-exports
//! being followed to where the item stands. An `impl` block that stands in another file than its type adds an
//! arrow from the type's file, since the type's methods lead there. A module and its own children may know each
//! other. Unit tests do not count, nor does the crate's root, which only re-exports.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use syn::visit::{self, Visit};
use syn::{Attribute, Ident, ImplItem, Item, ItemImpl, ItemUse, Meta, Type, UseTree, Visibility};

type Names = Vec<String>;
type Arrows = BTreeMap<String, BTreeSet<String>>;

/// A file's module, as the names from the crate's root.
fn module_of(path: &str) -> Names {
    let mut names: Names = path
        .trim_end_matches(".rs")
        .split('/')
        .map(str::to_owned)
        .collect();
    if names
        .last()
        .is_some_and(|last| last == "mod" || last == "lib")
    {
        names.pop();
    }
    names
}

/// What one file names, and what it gives others to name.
#[derive(Default)]
struct FileNames {
    module: Names,
    /// Local names of imports, and what they stand for.
    imports: BTreeMap<String, Names>,
    re_exports: BTreeMap<String, Names>,
    /// Modules of which everything is re-exported.
    globs: Vec<Names>,
    /// Paths in the code, as they are written.
    paths: Vec<Names>,
    types: BTreeSet<String>,
    /// Types with inherent methods here.
    methods_of: BTreeSet<String>,
}

fn is_for_tests(attributes: &[Attribute]) -> bool {
    attributes.iter().any(|attribute| match &attribute.meta {
        Meta::List(list) => list.path.is_ident("cfg") && list.tokens.to_string().contains("test"),
        _ => false,
    })
}

impl FileNames {
    fn of(path: &str, text: &str) -> Self {
        let mut names = Self {
            module: module_of(path),
            ..Self::default()
        };
        let file = syn::parse_file(text).unwrap_or_else(|error| panic!("{path}: {error}"));
        names.visit_file(&file);
        names
    }

    fn add_uses(&mut self, tree: &UseTree, before: &Names, is_public: bool) {
        let with = |ident: &Ident| {
            let mut path = before.clone();
            path.push(ident.to_string());
            path
        };
        match tree {
            UseTree::Path(path) => {
                let before = with(&path.ident);
                self.add_uses(&path.tree, &before, is_public);
            }
            UseTree::Group(group) => {
                for tree in &group.items {
                    self.add_uses(tree, before, is_public);
                }
            }
            UseTree::Glob(_) if is_public => self.globs.push(before.clone()),
            UseTree::Glob(_) => self.paths.push(before.clone()),
            UseTree::Name(name) if name.ident == "self" => {
                let local = before.last().cloned().unwrap_or_default();
                self.add_use(local, before.clone(), is_public);
            }
            UseTree::Name(name) => {
                let path = with(&name.ident);
                self.add_use(name.ident.to_string(), path, is_public);
            }
            UseTree::Rename(rename) => {
                let path = with(&rename.ident);
                self.add_use(rename.rename.to_string(), path, is_public);
            }
        }
    }

    fn add_use(&mut self, local: String, path: Names, is_public: bool) {
        if is_public {
            self.re_exports.insert(local, path);
        } else {
            self.paths.push(path.clone());
            self.imports.insert(local, path);
        }
    }

    /// Paths in what a macro is given, which no parser knows to be paths.
    fn add_tokens(&mut self, tokens: &str) {
        let tokens = tokens.replace(" :: ", "::");
        let is_part = |c: char| c.is_alphanumeric() || c == '_' || c == ':';
        for word in tokens.split(|c| !is_part(c)).filter(|w| w.contains("::")) {
            self.paths
                .push(word.split("::").map(str::to_owned).collect());
        }
    }
}

impl<'ast> Visit<'ast> for FileNames {
    fn visit_item(&mut self, item: &'ast Item) {
        let attributes = match item {
            Item::Fn(item) => &item.attrs,
            Item::Impl(item) => &item.attrs,
            Item::Mod(item) => &item.attrs,
            Item::Struct(item) => &item.attrs,
            Item::Use(item) => &item.attrs,
            _ => &Vec::new(),
        };
        if is_for_tests(attributes) {
            return;
        }
        match item {
            Item::Struct(item) => drop(self.types.insert(item.ident.to_string())),
            Item::Enum(item) => drop(self.types.insert(item.ident.to_string())),
            _ => {}
        }
        visit::visit_item(self, item);
    }

    fn visit_item_use(&mut self, item: &'ast ItemUse) {
        let is_public = !matches!(item.vis, Visibility::Inherited);
        self.add_uses(&item.tree, &Names::new(), is_public);
    }

    fn visit_item_impl(&mut self, item: &'ast ItemImpl) {
        if let (None, Type::Path(of)) = (&item.trait_, item.self_ty.as_ref())
            && let Some(last) = of.path.segments.last()
            && item.items.iter().any(|i| matches!(i, ImplItem::Fn(_)))
        {
            self.methods_of.insert(last.ident.to_string());
        }
        visit::visit_item_impl(self, item);
    }

    fn visit_impl_item_fn(&mut self, item: &'ast syn::ImplItemFn) {
        if !is_for_tests(&item.attrs) {
            visit::visit_impl_item_fn(self, item);
        }
    }

    fn visit_path(&mut self, path: &'ast syn::Path) {
        let names = path.segments.iter().map(|s| s.ident.to_string());
        self.paths.push(names.collect());
        visit::visit_path(self, path);
    }

    fn visit_macro(&mut self, mac: &'ast syn::Macro) {
        self.add_tokens(&mac.tokens.to_string());
        visit::visit_macro(self, mac);
    }
}

/// All files, and how a path leads from one to another.
struct Tree {
    files: BTreeMap<String, FileNames>,
    modules: BTreeMap<Names, String>,
}

impl Tree {
    fn of(sources: &[(String, String)]) -> Self {
        let files: BTreeMap<_, _> = sources
            .iter()
            .map(|(path, text)| (path.clone(), FileNames::of(path, text)))
            .collect();
        let modules = files
            .keys()
            .map(|path| (module_of(path), path.clone()))
            .collect();
        Self { files, modules }
    }

    /// `path`, written in `file`, from the crate's root; none if it leads out of the crate.
    fn rooted(&self, file: &FileNames, path: &Names) -> Option<Names> {
        let first = path.first()?;
        let mut rest = path.as_slice();
        let mut from = file.module.clone();
        match first.as_str() {
            "crate" => return Some(rest[1..].to_vec()),
            "self" => rest = &rest[1..],
            "super" => {
                while rest.first().is_some_and(|name| name == "super") {
                    from.pop()?;
                    rest = &rest[1..];
                }
            }
            name => {
                let mut child = from.clone();
                child.push(name.to_owned());
                if !self.modules.contains_key(&child) {
                    let import = file.imports.get(name)?;
                    // An import can be called as the crate that it comes from.
                    let mut import = match import.first() {
                        Some(first) if first == name => return None,
                        _ => self.rooted(file, import)?,
                    };
                    import.extend_from_slice(&rest[1..]);
                    return Some(import);
                }
            }
        }
        from.extend_from_slice(rest);
        Some(from)
    }

    /// The file in which the item stands that `path`, from the crate's root, names.
    fn home(&self, path: &[String], depth: usize) -> Option<&str> {
        if depth > 8 {
            return None;
        }
        for length in (0..=path.len()).rev() {
            let Some(module) = self.modules.get(&path[..length]) else {
                continue;
            };
            let file = &self.files[module];
            let Some(name) = path.get(length) else {
                return Some(module);
            };
            if let Some(target) = file.re_exports.get(name) {
                let mut target = self.rooted(file, target)?;
                target.extend_from_slice(&path[length + 1..]);
                return self.home(&target, depth + 1);
            }
            for glob in &file.globs {
                let mut target = self.rooted(file, glob)?;
                let names_it = self
                    .modules
                    .get(&target)
                    .is_some_and(|m| self.files[m].types.contains(name));
                if names_it {
                    target.extend_from_slice(&path[length..]);
                    return self.home(&target, depth + 1);
                }
            }
            return Some(module);
        }
        None
    }

    fn arrows(&self) -> Arrows {
        let mut arrows = Arrows::new();
        for (path, file) in &self.files {
            for named in file.paths.iter().chain(file.re_exports.values()) {
                let home = self
                    .rooted(file, named)
                    .and_then(|named| self.home(&named, 0));
                if let Some(home) = home
                    && home != path
                    && home != "lib.rs"
                    // A root of re-exports names everything below it; what matters is who names what through it.
                    && !(path.ends_with("mod.rs") && file.types.is_empty())
                {
                    arrows
                        .entry(path.clone())
                        .or_default()
                        .insert(home.to_owned());
                }
            }
            for of in &file.methods_of {
                if file.types.contains(of) {
                    continue;
                }
                let home = self
                    .rooted(file, &vec![of.clone()])
                    .and_then(|of| self.home(&of, 0));
                if let Some(home) = home {
                    arrows
                        .entry(home.to_owned())
                        .or_default()
                        .insert(path.clone());
                }
            }
        }
        arrows
    }
}

/// The sets of files from each of which each other can be reached.
fn circles(arrows: &Arrows) -> Vec<BTreeSet<String>> {
    let reached = |from: &str| {
        let mut reached = BTreeSet::new();
        let mut open = vec![from.to_owned()];
        while let Some(file) = open.pop() {
            for next in arrows.get(&file).into_iter().flatten() {
                if reached.insert(next.clone()) {
                    open.push(next.clone());
                }
            }
        }
        reached
    };
    let all: BTreeMap<&String, _> = arrows.keys().map(|file| (file, reached(file))).collect();
    let mut circles = BTreeSet::new();
    for (file, reachable) in &all {
        if reachable.contains(*file) {
            let circle: BTreeSet<String> = reachable
                .iter()
                .filter(|other| all.get(other).is_some_and(|back| back.contains(*file)))
                .cloned()
                .collect();
            circles.insert(circle);
        }
    }
    circles.into_iter().collect()
}

/// Whether all of them are one module and its own children.
fn is_family(circle: &BTreeSet<String>) -> bool {
    let mut modules: Vec<Names> = circle.iter().map(|path| module_of(path)).collect();
    modules.sort_by_key(Vec::len);
    modules
        .first()
        .is_some_and(|top| modules.iter().all(|module| module.starts_with(top)))
}

fn found(sources: &[(&str, &str)]) -> Vec<BTreeSet<String>> {
    let owned: Vec<_> = sources
        .iter()
        .map(|(path, text)| ((*path).to_owned(), (*text).to_owned()))
        .collect();
    let mut circles = circles(&Tree::of(&owned).arrows());
    circles.retain(|circle| !is_family(circle));
    circles
}

#[test]
fn files_know_each_other_in_one_direction() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let sources = crate::architecture::source_texts(&root);
    let texts: Vec<_> = sources
        .iter()
        .map(|(path, text)| (path.as_str(), text.as_str()))
        .collect();
    let circles = found(&texts);
    assert!(
        circles.is_empty(),
        "{} circles: {circles:#?}",
        circles.len()
    );
}

#[test]
fn a_circle_is_found_by_imports_re_exports_paths_and_methods() {
    let ring = |sources: &[(&str, &str)]| found(sources).len();
    let re_exports = (
        "x/mod.rs",
        "pub mod a; pub mod b; pub use a::A; pub use b::B;",
    );
    let by_import = [
        re_exports,
        ("x/a.rs", "use crate::x::B; pub struct A(B);"),
        ("x/b.rs", "use super::a; pub enum B { One(Box<a::A>) }"),
    ];
    assert_eq!(ring(&by_import), 1);
    let by_method = [
        re_exports,
        ("x/a.rs", "pub struct A;"),
        (
            "x/b.rs",
            "use super::A; pub struct B; impl A { fn f(&self) {} }",
        ),
    ];
    assert_eq!(ring(&by_method), 1);
    let by_macro = [
        re_exports,
        (
            "x/a.rs",
            "pub struct A; fn f() { println!(\"{}\", crate::x::b::g()); }",
        ),
        (
            "x/b.rs",
            "use super::A; pub struct B; pub fn g() -> A { A }",
        ),
    ];
    assert_eq!(ring(&by_macro), 1);
    let one_way = [
        re_exports,
        (
            "x/a.rs",
            "pub struct A; #[cfg(test)] mod tests { use crate::x::B; }",
        ),
        ("x/b.rs", "use crate::x::A; pub struct B(A);"),
    ];
    assert_eq!(ring(&one_way), 0);
    let family = [
        ("y.rs", "mod child; use child::C; pub struct Y(C);"),
        ("y/child.rs", "use super::Y; pub struct C(Box<Y>);"),
    ];
    assert_eq!(ring(&family), 0);
}
