//! The container file, as far as it can be held without a builder that may pull images: what it says, and that the binary
//! runs where nothing is but what its last image has.

use std::{
    fs,
    os::unix::fs::{PermissionsExt, chown},
    path::{Path, PathBuf},
    process::Command,
};

use adit_tests::{agent::binary, need, need_that, process::run, prometheus::scripts, skip::is_root, wait::LIMIT};

/// Packages of Debian whose libraries the last image has, of those it has.
const PACKAGES: [&str; 2] = ["libc6", "libgcc-s1"];

/// The instructions of the last image.
fn last_image() -> Vec<String> {
    let text = fs::read_to_string(scripts("container").join("Containerfile")).unwrap();
    let lines = text.lines().filter(|line| !line.is_empty() && !line.starts_with('#')).map(str::to_owned);
    let lines: Vec<String> = lines.collect();
    let last = lines.iter().rposition(|line| line.starts_with("FROM ")).expect("it begins with an image");
    lines[last..].to_vec()
}

#[test]
fn the_image_runs_the_agent_as_nobody_special_without_a_shell() {
    let said = last_image();
    assert_eq!(said[0], "FROM gcr.io/distroless/cc-debian12:nonroot");
    for line in ["USER 65532:65532", "ENTRYPOINT [\"/usr/bin/adit\"]", "CMD [\"run\"]"] {
        assert!(said.iter().any(|said| said == line), "{line}");
    }
    assert!(!said.iter().any(|line| line.starts_with("RUN ")), "there is nothing to run it with");
    // the user and the words are those of the manifests
    let manifest = fs::read_to_string(scripts("kubernetes").join("agent.yaml")).unwrap();
    assert!(manifest.contains("runAsUser: 65532\n") && manifest.contains("args: [\"run\"]\n"));
}

#[test]
fn every_folder_that_the_build_copies_is_there() {
    let text = fs::read_to_string(scripts("container").join("Containerfile")).unwrap();
    let copied = text.lines().filter_map(|line| line.strip_prefix("COPY ")).filter(|line| !line.starts_with("--from"));
    let copied: Vec<_> = copied.flat_map(|line| line.split(' ').rev().skip(1)).collect();
    let manifest = fs::read_to_string(scripts("..").join("Cargo.toml")).unwrap();
    let members = manifest.lines().find_map(|line| line.strip_prefix("members = ")).unwrap();
    for member in members.trim_matches(['[', ']']).split(", ").map(|member| member.trim_matches('"')) {
        assert!(copied.contains(&member), "cargo wants {member} of the workspace");
    }
    assert!(copied.iter().all(|name| scripts("..").join(name).exists()), "{copied:?}");
}

#[test]
fn the_binary_runs_where_only_the_images_libraries_are() {
    need!("dpkg", "unshare", "chroot", "ldd");
    need_that!(is_root(), "chroot needs root");
    // given a root with the binary and the libraries it asks for, each from a package that the image has
    let root = tempfile::tempdir().unwrap();
    let known: String = PACKAGES.iter().map(|name| said(Command::new("dpkg").args(["-L", name]))).collect();
    let libraries = libraries();
    assert!(libraries.len() >= 3, "{libraries:?}");
    for library in &libraries {
        let name = library.file_name().unwrap().to_str().unwrap();
        let of_image = known.lines().any(|line| line.ends_with(&format!("/{name}")));
        assert!(of_image, "{name} is in none of {PACKAGES:?}");
        place(library, &root.path().join(library.strip_prefix("/").unwrap()));
    }
    place(&binary(), &root.path().join("usr/bin/adit"));
    let tmp = root.path().join("tmp");
    fs::create_dir(&tmp).unwrap();
    chown(&tmp, Some(65532), Some(65532)).unwrap();
    open_to_all(root.path());
    // when the image's user shows the product there
    let proc = root.path().join("proc");
    fs::create_dir(&proc).unwrap();
    let null = root.path().join("dev/null");
    fs::create_dir(null.parent().unwrap()).unwrap();
    said(Command::new("mknod").args(["-m", "666"]).arg(&null).args(["c", "1", "3"]));
    let mut command = Command::new("unshare");
    command.args(["--mount", "--pid", "--fork"]).arg(format!("--mount-proc={}", proc.display()));
    command.args(["chroot", "--userspec=65532:65532", "--groups="]).arg(root.path()).args(["/usr/bin/adit", "demo"]);
    // then streams pass
    let shown = run(&mut command, 3 * LIMIT).expect_success();
    assert!(shown.contains("claims held"), "{shown}");
}

/// The libraries that the loader finds for the binary, and the loader itself.
fn libraries() -> Vec<PathBuf> {
    let text = said(Command::new("ldd").arg(binary()));
    let path = |line: &str| line.split_whitespace().find(|word| word.starts_with('/')).map(PathBuf::from);
    text.lines().filter_map(path).collect()
}

fn said(command: &mut Command) -> String {
    run(command, LIMIT).expect_success()
}

fn place(from: &Path, to: &Path) {
    fs::create_dir_all(to.parent().unwrap()).unwrap();
    fs::copy(from, to).unwrap();
}

/// A temporary folder is its maker's alone.
fn open_to_all(folder: &Path) {
    fs::set_permissions(folder, fs::Permissions::from_mode(0o755)).unwrap();
}
