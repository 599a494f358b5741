//! Certificates renewed on disk while streams are opened all the time: by `adit ca renew`, by the script for other tools'
//! hooks, and as one file of both. No stream fails, and no reload does.

use std::{
    fs,
    os::unix::fs::{MetadataExt, PermissionsExt, chown, symlink},
    path::{Path, PathBuf},
    process::Command,
};

use adit_tests::{
    address::Wire,
    agent::{adit, adit_with_input, replace},
    authority::{Credential, Leaf},
    churn::{self, Calls},
    load::Service,
    mesh::{A, B, Mesh, Plan},
    need, need_that,
    process::{Finished, run},
    skip::is_root,
    wait::{LIMIT, until},
};

const ECHO: &str = "/svc/echo";

/// How often each scenario renews.
const RENEWALS: usize = 5;

#[test]
fn renewing_under_load_fails_no_stream_and_no_reload() {
    // given a CA of adit's own, and A's certificate by it
    let ca = tempfile::tempdir().unwrap();
    let dir = ca.path().display().to_string();
    let _made = adit(&["ca", "init", "--dir", &dir]).expect_success();
    let prefix = ca.path().join("a").display().to_string();
    let _made = adit(&["ca", "issue", "--dir", &dir, "--dns", A, "--out", &prefix]).expect_success();
    let bundle = fs::read_to_string(ca.path().join("ca.pem")).unwrap();
    let world = World::start(|plan| {
        let both = plan.path("both.pem");
        replace(&both, &format!("{bundle}{}", plan.authority().pem()));
        let key = plan.path("b.key");
        let shown = plan.authority().issue(&Leaf::dns(&[B]));
        let cert = plan.path("b.pem");
        replace(&key, &shown.key);
        replace(&cert, &shown.cert);
        let (ca, cert, key) = (both.display(), cert.display(), key.display());
        let plan = plan.a_tls(&format!("ca = \"{ca}\"\ncert = \"{prefix}.pem\"\nkey = \"{prefix}.key\""));
        plan.b_tls(&format!("ca = \"{ca}\"\ncert = \"{cert}\"\nkey = \"{key}\""))
    });
    // when it is renewed again and again
    let folder = dir.clone();
    let renew = || adit(&["ca", "renew", "--dir", &dir, "--within", "3650d", &folder]).expect_success();
    world.renews(|| assert!(renew().contains("renewed, valid until")));
}

#[test]
fn the_script_for_hooks_puts_pairs_in_place_under_load_and_fails_no_stream_and_no_reload() {
    need!("openssl");
    let tls = tempfile::tempdir().unwrap();
    let (pem, key) = (tls.path().join("host.pem"), tls.path().join("host.key"));
    let world = World::start(|plan| {
        let given = plan.authority().issue(&Leaf::dns(&[A]));
        let ca = plan.path("site.pem");
        replace(&ca, plan.authority().pem());
        // given that there was nothing before
        let _done = install(tls.path(), &given).expect_success();
        assert_eq!([mode(&pem), mode(&key)], [0o644, 0o640]);
        plan.a_tls(&format!("ca = \"{}\"\ncert = \"{}\"\nkey = \"{}\"", ca.display(), pem.display(), key.display()))
    });
    // when the mode is another than the script's, then it stays
    fs::set_permissions(&key, fs::Permissions::from_mode(0o600)).unwrap();
    world.renews(|| {
        let _done = install(tls.path(), &world.mesh.authority.issue(&Leaf::dns(&[A]))).expect_success();
    });
    assert_eq!([mode(&pem), mode(&key)], [0o644, 0o600]);
    // and what is no pair is refused, and leaves what was there, and nothing else
    let before = fs::read(&key).unwrap();
    let mut wrong = world.mesh.authority.issue(&Leaf::dns(&[A]));
    wrong.key = world.mesh.authority.issue(&Leaf::dns(&[A])).key;
    let refused = install(tls.path(), &wrong);
    assert!(!refused.status.success() && refused.all().contains("is not the key of"), "{}", refused.all());
    assert_eq!(fs::read(&key).unwrap(), before);
    assert_eq!(fs::read_dir(tls.path()).unwrap().count(), 2);
}

#[test]
fn one_file_of_a_certificate_and_its_key_changes_in_one_step_under_load() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("host.pem");
    let write = |credential: &Credential| replace(&file, &format!("{}{}", credential.cert, credential.key));
    let world = World::start(|plan| {
        let ca = plan.path("site.pem");
        replace(&ca, plan.authority().pem());
        write(&plan.authority().issue(&Leaf::dns(&[A])));
        let file = file.display();
        plan.a_tls(&format!("ca = \"{}\"\ncert = \"{file}\"\nkey = \"{file}\"", ca.display()))
    });
    world.renews(|| write(&world.mesh.authority.issue(&Leaf::dns(&[A]))));
}

#[test]
fn a_renewed_pair_has_the_owner_it_had() {
    need_that!(is_root(), "only root gives files away");
    let ca = tempfile::tempdir().unwrap();
    let dir = ca.path().display().to_string();
    let _made = adit(&["ca", "init", "--dir", &dir]).expect_success();
    let _made = adit(&["ca", "issue", "--dir", &dir, "--dns", A, "--out", &format!("{dir}/a")]).expect_success();
    // given a pair that is another user's, the certificate behind a link
    let (pem, key, link) = (ca.path().join("a.pem"), ca.path().join("a.key"), ca.path().join("live"));
    for file in [&pem, &key] {
        chown(file, Some(1234), Some(4321)).unwrap();
    }
    fs::create_dir(&link).unwrap();
    symlink(&pem, link.join("host.pem")).unwrap();
    let before = [fs::read(&pem).unwrap(), fs::read(&key).unwrap()];
    // when it is renewed through the link
    let link = link.join("host.pem");
    let renew = ["ca", "renew", "--dir", &dir, "--within", "365d", link.to_str().unwrap()];
    let _done = adit(&renew).expect_success();
    // then the files behind it are new, theirs as before, and the link is one still
    assert!(link.is_symlink());
    for (file, before) in [(&pem, &before[0]), (&key, &before[1])] {
        assert_ne!(&fs::read(file).unwrap(), before);
        let meta = fs::metadata(file).unwrap();
        assert_eq!((meta.uid(), meta.gid()), (1234, 4321), "{}", file.display());
    }
}

#[test]
fn a_certificate_is_renewed_for_nobody_who_does_not_have_its_key() {
    let ca = tempfile::tempdir().unwrap();
    let dir = ca.path().display().to_string();
    let _made = adit(&["ca", "init", "--dir", &dir]).expect_success();
    for (name, out) in [(A, "victim"), (B, "mine")] {
        let out = ca.path().join(out).display().to_string();
        let _made = adit(&["ca", "issue", "--dir", &dir, "--dns", name, "--out", &out]).expect_success();
    }
    // given somebody's certificate, which is no secret, beside another key
    let folder = tempfile::tempdir().unwrap();
    let (pem, key) = (folder.path().join("host.pem"), folder.path().join("host.key"));
    fs::copy(ca.path().join("victim.pem"), &pem).unwrap();
    fs::copy(ca.path().join("mine.key"), &key).unwrap();
    for keep in [&[][..], &["--keep-key"]] {
        // when it is to be renewed, then it is not, and nothing is written
        let before = [&pem, &key].map(|file| fs::read(file).unwrap());
        let at = folder.path().display().to_string();
        let said = adit(&[&["ca", "renew", "--dir", &dir, "--within", "3650d", &at], keep].concat());
        assert!(!said.status.success());
        assert!(said.all().contains("has another key than"), "{}", said.all());
        assert_eq!([&pem, &key].map(|file| fs::read(file).unwrap()), before);
    }
}

#[test]
fn renewing_reads_and_writes_files_of_the_certificates_folder_alone() {
    let ca = tempfile::tempdir().unwrap();
    let dir = ca.path().display().to_string();
    let _made = adit(&["ca", "init", "--dir", &dir]).expect_success();
    let _made = adit(&["ca", "issue", "--dir", &dir, "--dns", A, "--out", &format!("{dir}/victim")]).expect_success();
    let victims = [ca.path().join("victim.pem"), ca.path().join("victim.key")];
    let before = victims.clone().map(|file| fs::read(file).unwrap());
    let folder = tempfile::tempdir().unwrap();
    let (pem, key) = (folder.path().join("host.pem"), folder.path().join("host.key"));
    let renew = |path: &Path, keep: &[&str]| {
        let path = path.display().to_string();
        adit(&[&["ca", "renew", "--dir", &dir, "--within", "3650d", &path], keep].concat())
    };
    let large = folder.path().join("large");
    fs::File::create(&large).unwrap().set_len(1 << 40).unwrap();
    let pipe = folder.path().join("pipe");
    let _made = run(Command::new("mkfifo").arg(&pipe), LIMIT).expect_success();
    // given a victim's certificate, which is no secret, and a key that is no file of this folder, or none to be read
    fs::copy(&victims[0], &pem).unwrap();
    let told = [
        (victims[1].as_path(), "leads out of its folder, to "),
        (Path::new("/dev/zero"), "leads out of its folder, to "),
        (&large, "is longer than 64 MiB"),
        (&pipe, "is no regular file"),
        (&folder.path().join("none"), "No such file"),
    ];
    for (target, why) in told {
        for keep in [&[][..], &["--keep-key"]] {
            symlink(target, &key).unwrap();
            // when it is to be renewed, then it is told and nothing is written
            let refused = renew(&pem, keep);
            assert_eq!(refused.status.code(), Some(1), "{}: {}", target.display(), refused.all());
            assert!(refused.stderr.contains(why), "{}", refused.all());
            assert_eq!(victims.clone().map(|file| fs::read(file).unwrap()), before);
            assert_eq!(fs::read(&pem).unwrap(), before[0]);
            fs::remove_file(&key).unwrap();
        }
    }
    // and likewise for the certificate
    fs::remove_file(&pem).unwrap();
    fs::copy(&victims[1], &key).unwrap();
    for (target, why) in [(&large, "is longer than 64 MiB"), (&pipe, "is no regular file")] {
        symlink(target, &pem).unwrap();
        let refused = renew(&pem, &[]);
        assert!(refused.stderr.contains(why), "{}", refused.all());
        fs::remove_file(&pem).unwrap();
    }
    // nor is somebody else's pair renewed because a folder has a link to it; who names the link means the pair
    symlink(&victims[0], &pem).unwrap();
    let refused = renew(folder.path(), &["--days", "1"]);
    assert!(refused.stderr.contains("host.pem: it leads out of its folder, to "), "{}", refused.all());
    assert_eq!(victims.clone().map(|file| fs::read(file).unwrap()), before);
    fs::remove_file(&pem).unwrap();
    // and a name tells nothing to a terminal
    let evil = folder.path().join("x\n\u{1b}[2J.pem");
    symlink("none", &evil).unwrap();
    fs::write(evil.with_extension("key"), "").unwrap();
    let refused = renew(folder.path(), &[]);
    assert!(refused.stderr.contains("x\\n\\u{1b}[2J.pem"), "{}", refused.all());
    assert!(!refused.all().contains('\u{1b}'));
    for file in [&evil, &evil.with_extension("key")] {
        fs::remove_file(file).unwrap();
    }
    // but links within a folder are followed, and stay
    fs::remove_file(&key).unwrap();
    for (link, target) in [(&pem, "host-1.pem"), (&key, "host-1.key")] {
        symlink(target, link).unwrap();
    }
    fs::copy(&victims[0], folder.path().join("host-1.pem")).unwrap();
    fs::copy(&victims[1], folder.path().join("host-1.key")).unwrap();
    let _renewed = renew(folder.path(), &[]).expect_success();
    for (file, before) in [(&pem, &before[0]), (&key, &before[1])] {
        assert_ne!(&fs::read(file).unwrap(), before, "{}", file.display());
        assert!(file.is_symlink());
    }
    assert_eq!(victims.clone().map(|file| fs::read(file).unwrap()), before);
}

#[test]
fn the_script_for_hooks_puts_no_key_where_a_certificate_belongs() {
    need!("openssl");
    let (tls, from) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let shown = adit_tests::authority::Authority::new("the CA").issue(&Leaf::dns(&[A]));
    let both = from.path().join("both.pem");
    fs::write(&both, format!("{}{}", shown.key, shown.cert)).unwrap();
    let script = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../scripts/hooks/install-pair");
    let install = |files: &[&Path]| run(Command::new(&script).args(files).env("ADIT_TLS", tls.path()), LIMIT);
    let written = |name: &str| fs::read_to_string(tls.path().join(name)).unwrap();
    let _ = install(&[&both, &both, &both]).expect_success();
    for name in ["host.pem", "ca.pem"] {
        assert_eq!(written(name).trim(), shown.cert.trim(), "{name}");
    }
    // and where a certificate breaks off before a key, nothing is written at all
    let broken = from.path().join("broken.pem");
    let half = &shown.cert[..shown.cert.len() / 2];
    for (part, what) in [(format!("{half}\n"), "on a line of its own"), (half.to_owned(), "in the middle of a line")] {
        fs::write(&broken, format!("{}{part}{}", shown.cert, shown.key)).unwrap();
        for files in [[&*broken, &*both, &*both], [&*both, &*both, &*broken]] {
            let refused = install(&files);
            assert!(refused.stderr.contains("holds a certificate that has no end"), "{what}: {}", refused.all());
            assert!(!refused.status.success());
        }
    }
    for name in ["host.pem", "ca.pem"] {
        assert_eq!(written(name).trim(), shown.cert.trim(), "{name}");
    }
}

#[test]
fn a_list_of_hosts_may_come_by_standard_input() {
    let ca = tempfile::tempdir().unwrap();
    let dir = ca.path().display().to_string();
    let _made = adit(&["ca", "init", "--dir", &dir]).expect_success();
    let (hosts, out) = ("a.b spiffe://b/a\nc.b\n", format!("{dir}/out"));
    let issue = ["ca", "issue", "--dir", &dir, "--hosts", "-", "--out", &out];
    let said = adit_with_input(&issue, hosts).expect_success();
    assert!(said.contains("a.b.tar") && said.contains("c.b.tar"), "{said}");
    assert_eq!(mode(Path::new(&out)), 0o700);
    let bad = adit_with_input(&issue, "a.b\n*.b\n??\n");
    assert_eq!(bad.status.code(), Some(1));
    assert!(bad.stderr.contains("stdin:2: ") && bad.stderr.contains("stdin:3: "), "{}", bad.stderr);
}

struct World {
    mesh: Mesh,
    _echo: Service,
}

impl World {
    fn start(of_a: impl FnOnce(Plan) -> Plan) -> Self {
        let echo = Service::start(Wire::Tcp, "echo");
        let plan = Mesh::plan().service(ECHO, echo.address());
        Self { mesh: of_a(plan).start(), _echo: echo }
    }

    fn serial(&self) -> String {
        self.mesh.a.status()["certificates"][0]["serial"].as_str().expect("a serial is text").to_owned()
    }

    /// While streams are opened all the time, `renews` some times, each of which the agent takes up; none fails.
    fn renews(&self, renews: impl Fn()) {
        let Calls { good, bad } = churn::under_load(&self.mesh.front(ECHO), || {
            for _ in 0..RENEWALS {
                let before = self.serial();
                renews();
                until("the renewed certificate to be in force", LIMIT, || (self.serial() != before).then_some(()));
            }
        });
        println!("{good} streams over {RENEWALS} renewals, {bad} failed");
        assert_eq!(bad, 0, "of {good} streams some failed");
        assert!(good > 100, "only {good} streams");
        assert!(!self.mesh.a.log().contains("not reloaded"), "{}", self.mesh.a.log());
    }
}

/// The script, with this pair from elsewhere.
fn install(tls: &Path, credential: &Credential) -> Finished {
    let from = tempfile::tempdir().unwrap();
    let (cert, key) = (from.path().join("fullchain.pem"), from.path().join("privkey.pem"));
    replace(&cert, &credential.cert);
    replace(&key, &credential.key);
    let script = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../scripts/hooks/install-pair");
    run(Command::new(script).arg(cert).arg(key).env("ADIT_TLS", tls), LIMIT)
}

fn mode(file: &Path) -> u32 {
    fs::metadata(file).unwrap().permissions().mode() & 0o777
}
