//! Runs the tools of engines beside each other and collects what they print.
//!
//! No threads: a session is forked from this process later, which must have one then.

use std::ffi::OsString;
use std::fmt;
use std::io::Read;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::process::{Child, ChildStderr, ChildStdout, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;

use super::{Answer, Engine};
use crate::sys::process::pidfd_open;

/// What is read of an answer at most: an inspection of a container is some kilobytes.
const LONGEST: usize = 4 << 20;

/// How long others may still take once one has found something: it could be that the name is not unique.
const SECOND_OPINION: Duration = Duration::from_millis(250);

/// How often they are looked at where nothing tells that one has ended.
const LOOK: Duration = Duration::from_millis(100);

/// What an answer means: of whom it is, about which name.
type Reader = Box<dyn Fn(Engine, &str, &Output) -> Answer>;

/// What to answer where nothing can be found.
type Excuse = Box<dyn Fn() -> Answer>;

/// Something to ask a tool.
pub struct Question {
    /// The tool, looked for on `PATH`.
    pub program: &'static str,
    /// Its arguments.
    pub arguments: Vec<OsString>,
    /// What its answer about a name means.
    read: Reader,
    /// What is answered instead of that there is nothing, or nobody to ask.
    instead: Option<Excuse>,
}

impl Question {
    /// Asks `program` with `arguments`.
    pub fn new<'a>(
        program: &'static str,
        arguments: impl IntoIterator<Item = &'a str>,
        read: impl Fn(Engine, &str, &Output) -> Answer + 'static,
    ) -> Question {
        Question {
            program,
            arguments: arguments.into_iter().map(OsString::from).collect(),
            read: Box::new(read),
            instead: None,
        }
    }

    /// The same, but `instead` is answered where nothing has been found, or there is no such tool.
    pub fn or(self, instead: impl Fn() -> Answer + 'static) -> Question {
        Question {
            instead: Some(Box::new(instead)),
            ..self
        }
    }
}

impl fmt::Debug for Question {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{} {:?}", self.program, self.arguments)
    }
}

impl PartialEq for Question {
    fn eq(&self, other: &Question) -> bool {
        (self.program, &self.arguments) == (other.program, &other.arguments)
    }
}

/// What a tool has said.
#[derive(Debug)]
pub struct Output {
    /// Whether it ended well.
    pub success: bool,
    /// What it printed, as far as it is text.
    pub stdout: String,
    /// What it complained about, its last line that is not empty.
    pub complaint: String,
}

impl Output {
    /// The complaint as a reason why it cannot say anything.
    pub fn failed(&self) -> Answer {
        Answer::Failed(if self.complaint.is_empty() {
            "its tool fails without a word".to_owned()
        } else {
            self.complaint.clone()
        })
    }
}

#[cfg(test)]
impl Output {
    /// What a tool could have said.
    pub fn of(success: bool, stdout: &str, complaint: &str) -> Output {
        Output {
            success,
            stdout: stdout.to_owned(),
            complaint: complaint.to_owned(),
        }
    }
}

/// Whether anybody is waited for once something has been found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Patience {
    /// For a moment: it could be that a name is not unique.
    SecondOpinion,
    /// Until all have answered: all there is is wanted.
    Everybody,
}

/// A tool that runs.
struct Asked {
    engine: Engine,
    read: Reader,
    instead: Option<Excuse>,
    child: Child,
    /// Readable when it has ended.
    process: Option<OwnedFd>,
    stdout: Option<ChildStdout>,
    stderr: Option<ChildStderr>,
    printed: Vec<u8>,
    complained: Vec<u8>,
}

/// Asks all `questions` about `name` and what follows from the answers, for `deadline` at most.
pub fn ask_all(
    name: &str,
    questions: Vec<(Engine, Question)>,
    deadline: Duration,
    patience: Patience,
) -> Vec<(Engine, Answer)> {
    let mut end = Instant::now() + deadline;
    let mut answers = Vec::new();
    let mut running: Vec<Asked> = Vec::new();
    for (engine, question) in questions {
        start(engine, question, &mut running, &mut answers);
    }
    while !running.is_empty() {
        wait(&running, end.saturating_duration_since(Instant::now()));
        let late = Instant::now() >= end;
        let mut going_on = Vec::new();
        for mut asked in std::mem::take(&mut running) {
            match asked.proceed() {
                Some(status) => {
                    let engine = asked.engine;
                    match asked.answer(name, status) {
                        Answer::Further(questions) => {
                            for question in questions {
                                start(engine, question, &mut going_on, &mut answers);
                            }
                        }
                        answer => {
                            if patience == Patience::SecondOpinion
                                && matches!(answer, Answer::Found(_))
                            {
                                end = end.min(Instant::now() + SECOND_OPINION);
                            }
                            answers.push((engine, answer));
                        }
                    }
                }
                None if late => {
                    asked.kill();
                    let reason = format!("no answer within {} seconds", deadline.as_secs());
                    answers.push((asked.engine, Answer::Late(reason)));
                }
                None => going_on.push(asked),
            }
        }
        running = going_on;
    }
    answers
}

fn start(
    engine: Engine,
    question: Question,
    running: &mut Vec<Asked>,
    answers: &mut Vec<(Engine, Answer)>,
) {
    let spawned = Command::new(question.program)
        .args(&question.arguments)
        .env("LC_ALL", "C")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        // So that helpers it starts end with it.
        .process_group(0)
        .spawn();
    match spawned {
        Ok(mut child) => {
            let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
            let pipes = [
                stdout.as_ref().map(AsFd::as_fd),
                stderr.as_ref().map(AsFd::as_fd),
            ];
            for pipe in pipes.into_iter().flatten() {
                // A pipe that was just made takes it.
                let _ = fcntl(pipe, FcntlArg::F_SETFL(OFlag::O_NONBLOCK));
            }
            running.push(Asked {
                engine,
                read: question.read,
                instead: question.instead,
                process: pidfd_open(pid_of(&child)).ok(),
                child,
                stdout,
                stderr,
                printed: Vec::new(),
                complained: Vec::new(),
            });
        }
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            let reason = format!("{} is not installed, or not on PATH", question.program);
            let absent = || Answer::Absent(reason);
            answers.push((
                engine,
                question.instead.map_or_else(absent, |instead| instead()),
            ));
        }
        Err(error) => {
            let reason = format!("{} cannot be run: {error}", question.program);
            answers.push((engine, Answer::Failed(reason)));
        }
    }
}

/// Waits until one of them has printed something or ended.
fn wait(running: &[Asked], time: Duration) {
    let mut fds = Vec::new();
    for asked in running {
        let sources = [
            asked.stdout.as_ref().map(AsFd::as_fd),
            asked.stderr.as_ref().map(AsFd::as_fd),
            // A helper that it has left behind may hold the pipes.
            asked.process.as_ref().map(AsFd::as_fd),
        ];
        let sources = sources.into_iter().flatten();
        fds.extend(sources.map(|source| PollFd::new(source, PollFlags::POLLIN)));
    }
    let time = time.min(LOOK) + Duration::from_millis(1);
    let _ = poll(
        &mut fds,
        PollTimeout::try_from(time).unwrap_or(PollTimeout::MAX),
    );
}

impl Asked {
    /// Takes up what it has printed; how it has ended, if it has.
    fn proceed(&mut self) -> Option<ExitStatus> {
        if self
            .stdout
            .as_mut()
            .is_some_and(|pipe| !take(pipe, &mut self.printed))
        {
            self.stdout = None;
        }
        if self
            .stderr
            .as_mut()
            .is_some_and(|pipe| !take(pipe, &mut self.complained))
        {
            self.stderr = None;
        }
        let status = self.child.try_wait().ok().flatten()?;
        // What it left in the pipes; a helper that still holds them is not waited for.
        if let Some(pipe) = &mut self.stdout {
            take(pipe, &mut self.printed);
        }
        if let Some(pipe) = &mut self.stderr {
            take(pipe, &mut self.complained);
        }
        Some(status)
    }

    /// What it has said about `name`.
    fn answer(&self, name: &str, status: ExitStatus) -> Answer {
        let answer = (self.read)(self.engine, name, &self.output(status));
        match (&self.instead, &answer) {
            (Some(instead), Answer::Unknown | Answer::Failed(_) | Answer::NotRunning(_)) => {
                instead()
            }
            _ => answer,
        }
    }

    fn output(&self, status: ExitStatus) -> Output {
        let complained = String::from_utf8_lossy(&self.complained);
        let mut lines = complained.lines().map(str::trim);
        let last = lines.rfind(|line| !line.is_empty()).unwrap_or_default();
        Output {
            success: status.success(),
            stdout: String::from_utf8_lossy(&self.printed).into_owned(),
            complaint: message(last).to_owned(),
        }
    }

    fn kill(&mut self) {
        // It has not been waited for, so the number is its own.
        let _ = killpg(pid_of(&self.child), Signal::SIGKILL);
        let _ = self.child.wait();
    }
}

fn pid_of(child: &Child) -> Pid {
    Pid::from_raw(child.id().cast_signed())
}

/// What a line says: many tools write `time="..." level=error msg="..."`.
fn message(line: &str) -> &str {
    let Some((_, rest)) = line.split_once(" msg=\"") else {
        return line;
    };
    rest.strip_suffix('"').unwrap_or(rest)
}

/// Reads what there is; false at the end.
fn take(pipe: &mut impl Read, into: &mut Vec<u8>) -> bool {
    let mut buffer = [0; 16 << 10];
    loop {
        match pipe.read(&mut buffer) {
            Ok(0) => return false,
            Ok(len) => {
                let room = LONGEST.saturating_sub(into.len());
                into.extend_from_slice(&buffer[..len.min(room)]);
            }
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            Err(error) => return error.kind() == std::io::ErrorKind::WouldBlock,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(_engine: Engine, name: &str, output: &Output) -> Answer {
        if output.stdout.trim() == "more" {
            let script = "echo told $0";
            return Answer::Further(vec![Question::new("sh", ["-c", script, name], read)]);
        }
        Answer::NotRunning(format!(
            "{}|{}|{}",
            output.success,
            output.stdout.trim(),
            output.complaint
        ))
    }

    fn shell(script: &str) -> (Engine, Question) {
        (Engine::Lxc, Question::new("sh", ["-c", script], read))
    }

    fn answers(questions: Vec<(Engine, Question)>, deadline: Duration) -> Vec<Answer> {
        let answers = ask_all("name", questions, deadline, Patience::SecondOpinion);
        answers.into_iter().map(|(_, answer)| answer).collect()
    }

    const LONG: Duration = Duration::from_secs(60);

    fn said(text: &str) -> Vec<Answer> {
        vec![Answer::NotRunning(text.to_owned())]
    }

    #[test]
    fn answers_and_complaints_are_read() {
        assert_eq!(answers(vec![shell("echo yes")], LONG), said("true|yes|"));
        assert_eq!(
            answers(vec![shell("echo more")], LONG),
            said("true|told name|")
        );
        let complains = shell("echo one >&2; echo 'level=error msg=\"two\"' >&2; echo >&2; exit 3");
        assert_eq!(answers(vec![complains], LONG), said("false||two"));
        // More than a pipe has room for.
        let long = answers(vec![shell("head -c 300000 /dev/zero | tr '\\0' x")], LONG);
        let Some(Answer::NotRunning(text)) = long.first() else {
            panic!("{long:?}");
        };
        assert_eq!(text.len(), 300_000 + "true||".len());
        let missing = (
            Engine::Lxc,
            Question::new("no-such-tool-of-an-engine", [], read),
        );
        let absent = "no-such-tool-of-an-engine is not installed, or not on PATH";
        assert_eq!(
            answers(vec![missing], LONG),
            [Answer::Absent(absent.to_owned())]
        );
    }

    #[test]
    fn excuses_take_the_place_of_nothing() {
        let excuse = || Answer::Refused("elsewhere".to_owned());
        let of = |question: Question| answers(vec![(Engine::Lxc, question.or(excuse))], LONG);
        let nothing = Question::new("sh", ["-c", ":"], |_, _, _| Answer::Unknown);
        let missing = Question::new("no-such-tool-of-an-engine", [], read);
        let fine = Question::new("sh", ["-c", ":"], |_, _, _| Answer::Found(Vec::new()));
        assert_eq!(of(nothing), [excuse()]);
        assert_eq!(of(missing), [excuse()]);
        assert_eq!(of(fine), [Answer::Found(Vec::new())]);
    }

    #[test]
    fn nobody_is_waited_for_beyond_the_deadline() {
        let start = Instant::now();
        // Its child holds the pipes.
        let late = answers(
            vec![shell("sleep 100 & sleep 100")],
            Duration::from_millis(100),
        );
        assert!(matches!(late.as_slice(), [Answer::Late(_)]), "{late:?}");
        let left_behind = answers(vec![shell("sleep 100 & echo done")], LONG);
        assert_eq!(left_behind, said("true|done|"));
        assert!(start.elapsed() < Duration::from_secs(30));
    }
}
