//! The programs that change the kernel's rules: nft, iptables-restore and ip, each run with a text at its standard input.

use std::{
    env,
    error::Error,
    fmt,
    io::{self, Write},
    path::PathBuf,
    process::{Command, Stdio},
};

use super::lacks;

/// Where Debian keeps them, which not every user's PATH has.
const SYSTEM: &str = "/usr/sbin:/sbin";

/// Why a program did not do its work.
#[derive(Debug)]
pub struct ToolError(Box<Failure>);

#[derive(Debug)]
struct Failure {
    /// What was run.
    command: String,
    cause: Cause,
}

#[derive(Debug)]
enum Cause {
    /// It is not there; the Debian package that brings it.
    Missing(&'static str),
    /// It could not be run.
    Io(io::Error),
    /// It would make a network namespace, which only root may.
    Apart,
    /// It said no: its own words, and those of the lines it was given that it speaks of.
    Failed { said: String, lines: Vec<String> },
}

impl ToolError {
    /// Whether the tool has said which of the lines it was given it means.
    pub(super) fn names_a_line(&self) -> bool {
        !matches!(&self.0.cause, Cause::Failed { lines, .. } if lines.is_empty())
    }

    /// The same, with the line that it must have meant.
    pub(super) fn about(mut self, line: &str) -> ToolError {
        if let Cause::Failed { lines, .. } = &mut self.0.cause {
            lines.push(line.to_owned());
        }
        self
    }
}

/// Runs a program to its end with `input` at its standard input; returns its standard output.
///
/// # Errors
/// It is missing, or fails; then with its own words.
pub(super) fn run(program: &str, args: &[impl AsRef<str>], input: &str) -> Result<String, ToolError> {
    let words: Vec<_> = [program].into_iter().chain(args.iter().map(AsRef::as_ref)).collect();
    let failed = |cause| ToolError(Box::new(Failure { command: words.join(" "), cause }));
    let path = find(program).ok_or_else(|| failed(Cause::Missing(package(program))))?;
    let mut command = Command::new(path);
    command.args(args.iter().map(AsRef::as_ref)).env("PATH", search_path()).env("LC_ALL", "C");
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let output = feed(&mut command, input).map_err(|error| failed(Cause::Io(error)))?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    let said = String::from_utf8_lossy(&output.stderr).trim().to_owned();
    if let (None, Some((number, cause))) = (lacks::missing(&said), lacks::first_of_nft(&said, input)) {
        let line = input.lines().nth(number.saturating_sub(1)).unwrap_or_default().trim();
        let said = match lacks::modules_of(line, &cause) {
            Some(modules) => format!("{cause}; load what this kernel lacks of {modules}"),
            None => cause,
        };
        return Err(failed(Cause::Failed { said, lines: vec![line.to_owned()] }));
    }
    let lines = lines_of(&said, input);
    let said = if said.is_empty() { output.status.to_string() } else { said };
    Err(failed(Cause::Failed { said, lines }))
}

/// The same in a network namespace that is gone afterwards.
///
/// # Errors
/// As for [`run`]; also where this process may make none.
pub(super) fn run_apart(words: &[&str], input: &str) -> Result<String, ToolError> {
    let all: Vec<_> = ["-n"].iter().chain(words).copied().collect();
    run("unshare", &all, input).map_err(|mut error| {
        if error.is_forbidden() {
            error.0.cause = Cause::Apart;
        }
        error
    })
}

/// The input is written beside the output being read: a pipe holds 64 KiB, and a script may be longer.
fn feed(command: &mut Command, input: &str) -> io::Result<std::process::Output> {
    let mut child = command.spawn()?;
    let stdin = child.stdin.take();
    std::thread::scope(|scope| {
        let writing = scope.spawn(move || {
            // Who fails early reads no more; that it failed is told by its status.
            stdin.map(|mut stdin| stdin.write_all(input.as_bytes()))
        });
        let output = child.wait_with_output();
        let _ = writing.join();
        output
    })
}

/// Where a program is, if it is installed.
pub(super) fn find(program: &str) -> Option<PathBuf> {
    if program.contains('/') {
        return Some(PathBuf::from(program)).filter(|file| file.is_file());
    }
    env::split_paths(&search_path()).map(|dir| dir.join(program)).find(|file| file.is_file())
}

fn search_path() -> String {
    match env::var("PATH") {
        Ok(path) if !path.is_empty() => format!("{path}:{SYSTEM}"),
        _ => format!("/usr/bin:/bin:{SYSTEM}"),
    }
}

fn package(program: &str) -> &'static str {
    match program.rsplit('/').next().unwrap_or(program) {
        "nft" => "nftables",
        "ip" => "iproute2",
        "unshare" => "util-linux",
        _ => "iptables",
    }
}

/// The lines of the input whose numbers a tool names: `/dev/stdin:12:3-9: Error` and `line 12 failed`, `Error occurred at
/// line: 12`.
fn lines_of(said: &str, input: &str) -> Vec<String> {
    let after =
        |mark: &str| said.match_indices(mark).map(move |(at, mark)| &said[at + mark.len()..]).collect::<Vec<_>>();
    let marks = ["/dev/stdin:", "line ", "line: "];
    let texts = marks.into_iter().flat_map(after);
    let digits = |text: &str| text.split(|c: char| !c.is_ascii_digit()).next().map(str::to_owned).unwrap_or_default();
    let mut numbers: Vec<usize> = texts.filter_map(|text| digits(text).parse().ok()).collect();
    numbers.sort_unstable();
    numbers.dedup();
    let line = |number: usize| input.lines().nth(number.checked_sub(1)?).map(|line| line.trim().to_owned());
    numbers.into_iter().filter_map(line).filter(|line| line != "COMMIT" && !line.is_empty()).collect()
}

impl ToolError {
    /// Whether the kernel has nothing of what the tool is for: what the C library calls EPROTONOSUPPORT, EOPNOTSUPP, and
    /// EINVAL of a netlink family that has no such part.
    pub(super) fn is_of_kernel(&self) -> bool {
        self.ends_with(&["Protocol not supported", "Operation not supported", "Invalid argument"])
    }

    /// Whether this process may not use the tool.
    pub(super) fn is_forbidden(&self) -> bool {
        self.ends_with(&["Permission denied", "Operation not permitted"])
    }

    fn ends_with(&self, causes: &[&str]) -> bool {
        match &self.0.cause {
            Cause::Failed { said, .. } => causes.iter().any(|cause| said.ends_with(cause)),
            Cause::Missing(_) | Cause::Io(_) | Cause::Apart => false,
        }
    }
}

impl fmt::Display for ToolError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Failure { command, cause } = &*self.0;
        match cause {
            Cause::Missing(package) => {
                write!(f, "`{command}`: it is not installed; install Debian's package {package}")
            }
            Cause::Apart => f.write_str(
                "what is installed is held against what the tool makes of the file in a network namespace of its own, \
                 which takes root (CAP_SYS_ADMIN); run this as root",
            ),
            Cause::Io(error) => write!(f, "running `{command}`: {error}"),
            Cause::Failed { said, lines } => {
                match lacks::missing(said) {
                    Some(missing) => return write!(f, "`{command}`: {missing}"),
                    None => write!(f, "`{command}` says: {said}")?,
                }
                lines.iter().try_for_each(|line| write!(f, "\n  of the rule: {line}"))
            }
        }
    }
}

impl Error for ToolError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match &self.0.cause {
            Cause::Io(error) => Some(error),
            Cause::Missing(_) | Cause::Apart | Cause::Failed { .. } => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_lines_that_a_tool_complains_of_are_shown() {
        let input = "*nat\n-A one\n-A two\nCOMMIT\n";
        assert_eq!(lines_of("iptables-restore: line 3 failed", input), ["-A two"]);
        assert_eq!(lines_of("/dev/stdin:2:1-9: Error: no\n-A one\n^^^", input), ["-A one"]);
        assert_eq!(lines_of("Error occurred at line: 4", input), Vec::<String>::new());
    }

    #[test]
    fn a_missing_program_is_named_with_its_package() {
        let error = run("nft-of-nobody", &["-f"], "").unwrap_err().to_string();
        assert!(error.contains("`nft-of-nobody -f`: it is not installed"), "{error}");
    }

    #[test]
    fn a_long_script_is_fed_to_a_program_that_answers_at_once() {
        let long = "0123456789abcdef\n".repeat(20_000);
        assert_eq!(run("cat", &[] as &[&str], &long).unwrap(), long);
    }
}
