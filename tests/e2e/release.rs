//! The release: built twice, with equal digests; signed, and verified as docs/releases.md says.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::Duration;

use serde_json::Value;
use test_support::process::{Process, WorkDir};
use test_support::tools::{self, printed};

use crate::Timeline;

/// Where a registry is expected to start.
const BOOT: Duration = Duration::from_secs(20);

/// A registry on loopback. The network is the test's own, so its port is free.
pub struct Registry {
    _process: Process,
}

impl Registry {
    /// `host:port`, which is also a part of the names of images.
    pub const NAME: &str = "127.0.0.1:5000";

    /// Starts it, empty.
    pub fn start() -> Self {
        let mut command = Command::new(tools::install("crane").join("crane"));
        command.args(["registry", "serve", "--address", Self::NAME]);
        let process = Process::start("registry", WorkDir::new("registry"), command);
        process.wait_until("it listens", BOOT, || std::net::TcpStream::connect(Self::NAME).is_ok());
        Self { _process: process }
    }
}

/// A script of the project.
fn script(name: &str) -> Command {
    let mut command = Command::new(tools::root().join("hack").join(name));
    tools::remove_cargo_variables(command.current_dir(tools::root()));
    command
}

fn succeed(command: &mut Command) -> String {
    let output = command.output().unwrap_or_else(|error| panic!("{command:?} cannot be run: {error}"));
    assert!(output.status.success(), "{command:?}: {}", printed(&output));
    printed(&output)
}

/// Compiles for both CPUs while there is a network; the release then only packages.
pub fn build_binaries() {
    let directory = tempfile::TempDir::new().expect("a directory");
    succeed(script("build").arg(directory.path()).args(["amd64", "arm64"]));
}

/// Compiled here, or before: by another job of the workflow.
fn release(directory: &Path, key: Option<&Path>, binaries: Option<&Path>) -> String {
    let mut command = Command::new("make");
    tools::remove_cargo_variables(command.current_dir(tools::root()));
    command
        .args(["--no-print-directory", "release"])
        .args([&format!("VERSION={}", env!("CARGO_PKG_VERSION")), &format!("REGISTRY={}", Registry::NAME)])
        .envs([("PLAIN_HTTP", "1"), ("ALLOW_DIRTY", "1"), ("CARGO_NET_OFFLINE", "true")])
        .env("OUTPUT", directory);
    if let Some(key) = key {
        command.env("SIGN", "key").env("COSIGN_KEY", key).env("COSIGN_PASSWORD", "");
    }
    if let Some(binaries) = binaries {
        command.env("BINARIES", binaries);
    }
    succeed(&mut command);
    std::fs::read_to_string(directory.join("digests.txt")).expect("digests.txt")
}

/// Releases twice and checks every artifact. Returns the binary for the CPU of the nodes, as a user downloads it.
pub fn publish_and_verify(timeline: &Timeline) -> Vec<u8> {
    let work = tempfile::TempDir::new().expect("a directory");
    let cosign = tools::install("cosign").join("cosign");
    succeed(Command::new(&cosign).args(["generate-key-pair"]).env("COSIGN_PASSWORD", "").current_dir(work.path()));
    let (first, second) = (work.path().join("first"), work.path().join("second"));
    let digests = release(&first, Some(&work.path().join("cosign.key")), None);
    timeline.add("make release: image for amd64 and arm64, chart, SBOMs, provenance, signatures");
    let binaries = work.path().join("binaries");
    succeed(script("build").arg(&binaries).args(["amd64", "arm64"]).env("CARGO_NET_OFFLINE", "true"));
    let again = release(&second, None, Some(&binaries));
    assert_eq!(digests, again, "two releases of the same commit differ");
    for name in ["checksums.txt", "provenance.intoto.json"] {
        let read = |directory: &PathBuf| std::fs::read_to_string(directory.join(name)).expect("an artifact");
        assert_eq!(read(&first), read(&second), "{name} differs");
    }
    timeline.add("make release again: the same digests");
    for line in digests.lines() {
        println!("          {line}");
    }
    succeed(Command::new("sha256sum").args(["--check", "--strict", "checksums.txt"]).current_dir(&first));
    contains_the_documented_files(&first);
    runs_on_arm64(&first, timeline);
    has_provenance(&first, &digests);
    can_be_pulled_by_digest(&first, &digests);
    let image = digests.lines().next().expect("the image");
    is_signed(&cosign, work.path(), &digests, image);
    a_changed_file_is_detected(&cosign, work.path());
    timeline.add("signatures, attestations, checksums and provenance verified");
    std::fs::read(first.join("oauth-operator-linux-amd64")).expect("the binary")
}

fn contains_the_documented_files(directory: &Path) {
    let documentation = std::fs::read_to_string(tools::root().join("docs/releases.md")).expect("docs/releases.md");
    for entry in std::fs::read_dir(directory).expect("the artifacts") {
        let name = entry.expect("an artifact").file_name().to_string_lossy().into_owned();
        let documented = name.replace(env!("CARGO_PKG_VERSION"), "VERSION").replace("arm64", "amd64");
        assert!(documentation.contains(&format!("`{documented}`")), "docs/releases.md does not explain {documented}");
    }
}

fn runs_on_arm64(directory: &Path, timeline: &Timeline) {
    let qemu = tools::install("qemu").join("qemu-aarch64-static");
    let printed = succeed(Command::new(qemu).arg(directory.join("oauth-operator-linux-arm64")).arg("--version"));
    assert_eq!(printed.trim(), format!("oauth-operator {}", env!("CARGO_PKG_VERSION")));
    timeline.add(&format!("the arm64 binary under qemu: {}", printed.trim()));
}

fn has_provenance(directory: &Path, digests: &str) {
    let provenance = std::fs::read_to_string(directory.join("provenance.intoto.json")).expect("the provenance");
    let provenance: Value = serde_json::from_str(&provenance).expect("JSON");
    assert_eq!(provenance["predicateType"], "https://slsa.dev/provenance/v1");
    let subjects = provenance["subject"].to_string();
    for line in digests.lines() {
        let digest = line.split_once("@sha256:").expect("a digest").1;
        assert!(subjects.contains(digest), "{line} is not a subject of the provenance");
    }
    assert!(subjects.contains("oauth-operator-linux-arm64") && subjects.contains("oauthintegrations.yaml"));
    for cpu in ["amd64", "arm64"] {
        let toolchain = &provenance["predicate"]["runDetails"]["builder"]["version"][cpu];
        let toolchain = toolchain.as_str().unwrap_or_default();
        assert!(["rustc 1.", "cc (", "glibc 2."].iter().all(|tool| toolchain.contains(tool)), "{cpu}: {toolchain}");
    }
    let commit = succeed(Command::new("git").args(["rev-parse", "HEAD"]).current_dir(tools::root()));
    let source = &provenance["predicate"]["buildDefinition"]["resolvedDependencies"][0]["digest"]["gitCommit"];
    assert_eq!(source.as_str(), Some(commit.trim()));
}

fn can_be_pulled_by_digest(directory: &Path, digests: &str) {
    let crane = tools::install("crane").join("crane");
    let image = digests.lines().next().expect("the image");
    let index: Value =
        serde_json::from_str(&succeed(Command::new(&crane).args(["manifest", image]))).expect("an index");
    let mut cpus: Vec<&str> = index["manifests"]
        .as_array()
        .expect("manifests")
        .iter()
        .filter_map(|manifest| manifest["platform"]["architecture"].as_str())
        .collect();
    cpus.sort_unstable();
    assert_eq!(cpus, ["amd64", "arm64"]);
    for cpu in cpus {
        let config = succeed(Command::new(&crane).args(["config", "--platform", &format!("linux/{cpu}"), image]));
        let config: Value = serde_json::from_str(&config).expect("JSON");
        assert_eq!((&config["architecture"], &config["config"]["User"]), (&cpu.into(), &"65532:65532".into()));
        let labels = &config["config"]["Labels"];
        assert_eq!(labels["org.opencontainers.image.version"], env!("CARGO_PKG_VERSION"));
        // The content, by the digest of the index.
        let layers = tempfile::NamedTempFile::new().expect("a file");
        let platform = format!("linux/{cpu}");
        succeed(Command::new(&crane).args(["export", "--platform", &platform, image]).arg(layers.path()));
        let unpacked = tempfile::TempDir::new().expect("a directory");
        succeed(Command::new("tar").arg("-xf").arg(layers.path()).arg("-C").arg(unpacked.path()));
        let read = |path: PathBuf| std::fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        let released = read(directory.join(format!("oauth-operator-linux-{cpu}")));
        assert!(read(unpacked.path().join("oauth-operator")) == released, "the image for {cpu} has another binary");
    }
}

/// The options for a key without a public transparency log, and for a registry without TLS.
const VERIFY: [&str; 5] = ["--key", "cosign.pub", "--insecure-ignore-tlog", "--allow-http-registry", "--output=json"];

fn is_signed(cosign: &Path, work: &Path, digests: &str, image: &str) {
    for reference in digests.lines() {
        succeed(Command::new(cosign).arg("verify").args(VERIFY).arg(reference).current_dir(work));
    }
    let attestation = |kind: &str, reference: &str| {
        let mut verify = Command::new(cosign);
        verify.args(["verify-attestation", "--type", kind]).args(VERIFY).arg(reference).current_dir(work);
        succeed(&mut verify);
    };
    attestation("slsaprovenance1", image);
    let crane = tools::install("crane").join("crane");
    let (name, _) = image.split_once('@').expect("a digest");
    for cpu in ["amd64", "arm64"] {
        let platform = format!("linux/{cpu}");
        let child = succeed(Command::new(&crane).args(["digest", "--platform", &platform, image]));
        attestation("cyclonedx", &format!("{name}@{}", child.trim()));
    }
    let verified = verify_blob(cosign, work, "first/checksums.txt");
    assert!(verified.status.success(), "{}", printed(&verified));
}

fn verify_blob(cosign: &Path, work: &Path, file: &str) -> Output {
    let mut verify = Command::new(cosign);
    verify.args(["verify-blob", "--key", "cosign.pub", "--insecure-ignore-tlog"]);
    verify.args(["--bundle", "first/checksums.txt.sigstore.json", file]).current_dir(work);
    verify.output().expect("cosign")
}

fn a_changed_file_is_detected(cosign: &Path, work: &Path) {
    let checksums = std::fs::read_to_string(work.join("first/checksums.txt")).expect("the checksums");
    std::fs::write(work.join("changed.txt"), checksums.replacen('a', "b", 1)).expect("a file");
    assert!(!verify_blob(cosign, work, "changed.txt").status.success(), "a changed file has a valid signature");
}
