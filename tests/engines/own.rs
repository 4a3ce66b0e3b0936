//! Containers of `cntr run`.

use anyhow::{Context, Result};

use crate::command::{finish, need};
use crate::container::{CNTR, Container, End, sleep, unique};
use crate::world::{mark, world};

pub fn plain() -> Result<Container> {
    start(&[])
}

pub fn user_namespace() -> Result<Container> {
    start(&["--userns"])
}

fn start(options: &[&str]) -> Result<Container> {
    let name = unique("own");
    let root = world().copy_of_root(&name, 0)?;
    let mut command = need("env")?;
    command.arg(CNTR).args(["run", "--detach", "--name", &name]);
    command.args(["--env", &mark()]).args(options).arg(root);
    let pid = finish(command.args(["--", "/bin/sleep", &sleep()]))?.succeeded()?;
    Ok(Container {
        pid: pid.trim().parse().context(pid)?,
        names: vec![name.clone(), format!("cntr://{name}")],
        variables: Vec::new(),
        exec: None,
        end: End::Kill,
        child: None,
    })
}
