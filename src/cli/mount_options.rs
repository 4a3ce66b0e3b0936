//! The options of `-o`, as mount(8) and /etc/fstab write them.

use std::os::fd::OwnedFd;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, bail};

use crate::engine::mount::MountOptions;
use crate::engine::{Splicing, Transport};
use crate::fs::{Access, AccessTimes, CachePolicy, DataPath, Export, Extent, IdMap, Options};
use crate::sys::mount::MountAttr;

/// Options mount(8) or fstab(5) handle themselves; they may stand there and mean nothing to a file system.
const OF_MOUNT: &[&str] = &[
    "defaults",
    "auto",
    "noauto",
    "user",
    "nouser",
    "users",
    "owner",
    "group",
    "nofail",
    "_netdev",
    "rw",
    "suid",
    "dev",
    "exec",
    "async",
    "default_permissions",
    "relatime",
    "nostrictatime",
    "nolazytime",
];

/// What `-o` said.
#[derive(Debug, Default, PartialEq)]
pub struct MountTable {
    read_only: bool,
    allow_other: bool,
    attr: Vec<&'static str>,
    source_name: Option<String>,
    subtype: Option<String>,
    cache: Option<CachePolicy>,
    data: DataPath,
    export: Option<usize>,
    uids: Vec<Extent>,
    gids: Vec<Extent>,
    /// Largest WRITE in bytes.
    pub max_write: Option<u32>,
    /// Threads that can take a request at a time.
    pub workers: Option<usize>,
    /// Whether data is spliced.
    pub splicing: Splicing,
    /// How requests travel.
    pub transport: Transport,
}

impl MountTable {
    /// Reads options that were separated by commas.
    ///
    /// # Errors
    /// Names the option that is unknown or has a bad value.
    pub fn parse(options: &[String]) -> anyhow::Result<MountTable> {
        let mut table = MountTable::default();
        for option in options.iter().filter(|option| !option.is_empty()) {
            table
                .add(option)
                .with_context(|| format!("mount option '{option}'"))?;
        }
        Ok(table)
    }

    fn add(&mut self, option: &str) -> anyhow::Result<()> {
        let (key, value) = match option.split_once('=') {
            Some((key, value)) => (key, Some(value)),
            None => (option, None),
        };
        let required = || {
            value
                .filter(|value| !value.is_empty())
                .context("needs a value")
        };
        match key {
            "ro" => self.read_only = true,
            "allow_other" => self.allow_other = true,
            "nosuid" => self.attr.push("nosuid"),
            "nodev" => self.attr.push("nodev"),
            "noexec" => self.attr.push("noexec"),
            "noatime" => self.attr.push("noatime"),
            "nodiratime" => self.attr.push("nodiratime"),
            "strictatime" => self.attr.push("strictatime"),
            "fsname" => self.source_name = Some(required()?.to_owned()),
            "subtype" => self.subtype = Some(required()?.to_owned()),
            "cache" => self.cache = Some(cache(required()?)?),
            "export" => {
                let inodes = value
                    .unwrap_or("65536")
                    .parse()
                    .ok()
                    .context("is not a number of inodes")?;
                self.export = Some(inodes);
            }
            "uidmap" => self.uids.push(extent(required()?)?),
            "gidmap" => self.gids.push(extent(required()?)?),
            "max_write" => {
                let bytes: u32 = required()?.parse().context("is not a number of bytes")?;
                if !(4096..=1 << 20).contains(&bytes) {
                    bail!("must be 4096 to 1048576");
                }
                self.max_write = Some(bytes);
            }
            "data" => {
                (self.data, self.splicing) = match required()? {
                    "auto" => (DataPath::Auto, Splicing::Large),
                    "relay" => (DataPath::Relay, Splicing::Large),
                    "copy" => (DataPath::Relay, Splicing::Never),
                    _ => bail!("must be auto, relay or copy"),
                }
            }
            "transport" => {
                self.transport = match required()? {
                    "auto" => Transport::Auto,
                    "uring" => Transport::IoUring,
                    "classic" => Transport::Classic,
                    _ => bail!("must be auto, uring or classic"),
                }
            }
            "workers" => {
                let workers: usize = required()?.parse().context("is not a number")?;
                if !(1..=1024).contains(&workers) {
                    bail!("must be 1 to 1024");
                }
                self.workers = Some(workers);
            }
            _ if OF_MOUNT.contains(&option) || key.starts_with("x-") => {}
            _ => bail!("is unknown: `cntr mount --help` lists the options"),
        }
        Ok(())
    }

    /// For the kernel.
    #[must_use]
    pub fn mount_options(&self, source: &Path) -> MountOptions {
        let mut attr = MountAttr::empty();
        for name in &self.attr {
            attr |= match *name {
                "nosuid" => MountAttr::NOSUID,
                "nodev" => MountAttr::NODEV,
                "noexec" => MountAttr::NOEXEC,
                "noatime" => MountAttr::NOATIME,
                "nodiratime" => MountAttr::NODIRATIME,
                "strictatime" => MountAttr::STRICTATIME,
                _ => MountAttr::empty(),
            };
        }
        attr.set(MountAttr::RDONLY, self.read_only);
        MountOptions {
            source: self
                .source_name
                .clone()
                .unwrap_or_else(|| source.display().to_string()),
            subtype: self
                .subtype
                .clone()
                .or_else(|| Some("cntr".to_owned()))
                .filter(|subtype| subtype != "none"),
            allow_other: self.allow_other,
            default_permissions: true,
            attr,
        }
    }

    /// For the file system that shows the tree `root`.
    ///
    /// # Errors
    /// Ranges of ids that overlap.
    pub fn file_system(&self, root: OwnedFd) -> anyhow::Result<Options> {
        Ok(Options {
            access: if self.read_only {
                Access::ReadOnly
            } else {
                Access::ReadWrite
            },
            id_map: IdMap::new(self.uids.clone(), self.gids.clone())?,
            access_times: if self.attr.contains(&"noatime") {
                AccessTimes::Keep
            } else {
                AccessTimes::Host
            },
            export: self.export.map_or(Export::No, Export::Remember),
            cache: self.cache.unwrap_or_default(),
            data: self.data,
            ..Options::new(root)
        })
    }
}

/// A cache policy: `strict`, `coherent` or `ttl=SECONDS`, where `ttl=` may be left out.
///
/// # Errors
/// Says what it must be.
pub fn cache(value: &str) -> anyhow::Result<CachePolicy> {
    match value {
        "strict" => return Ok(CachePolicy::Strict),
        "coherent" => return Ok(CachePolicy::Coherent),
        _ => (),
    }
    let seconds = value.strip_prefix("ttl=").unwrap_or(value);
    let seconds: f64 = seconds
        .parse()
        .ok()
        .context("must be 'strict', 'coherent' or a number of seconds")?;
    let ttl = Duration::try_from_secs_f64(seconds)
        .ok()
        .context("must be 'strict', 'coherent' or a number of seconds")?;
    Ok(CachePolicy::Ttl(ttl))
}

fn extent(value: &str) -> anyhow::Result<Extent> {
    let parts: Vec<u32> = value
        .split(':')
        .map(str::parse)
        .collect::<Result<_, _>>()
        .unwrap_or_default();
    let [inside, outside, count] = parts[..] else {
        bail!("must be INSIDE:OUTSIDE:COUNT, three numbers")
    };
    if count == 0 || inside.checked_add(count).is_none() || outside.checked_add(count).is_none() {
        bail!("covers no ids, or ids above 4294967294");
    }
    Ok(Extent {
        inside,
        outside,
        count,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(options: &str) -> anyhow::Result<MountTable> {
        MountTable::parse(&options.split(',').map(str::to_owned).collect::<Vec<_>>())
    }

    #[test]
    fn reads_what_fstab_says() {
        let table = parse(
            "rw,defaults,ro,allow_other,nosuid,cache=0.5,uidmap=0:100000:65536,x-systemd.automount",
        )
        .unwrap();
        assert!(table.read_only && table.allow_other);
        assert_eq!(
            table.cache,
            Some(CachePolicy::Ttl(Duration::from_millis(500)))
        );
        for (option, policy) in [
            ("cache=strict", CachePolicy::Strict),
            ("cache=coherent", CachePolicy::Coherent),
            ("cache=ttl=2", CachePolicy::Ttl(Duration::from_secs(2))),
        ] {
            assert_eq!(parse(option).unwrap().cache, Some(policy));
        }
        assert_eq!(table.uids.len(), 1);
        let options = table.mount_options(Path::new("/srv"));
        assert_eq!(
            (options.source.as_str(), options.subtype.as_deref()),
            ("/srv", Some("cntr"))
        );
        assert_eq!(options.attr, MountAttr::NOSUID | MountAttr::RDONLY);
        assert_eq!(parse("").unwrap(), MountTable::default());
        assert_eq!(
            parse("subtype=none")
                .unwrap()
                .mount_options(Path::new("/"))
                .subtype,
            None
        );
    }

    #[test]
    fn errors_name_the_option() {
        for (option, reason) in [
            ("bogus", "unknown"),
            ("cache", "needs a value"),
            ("cache=fast", "'strict'"),
            ("cache=-1", "'strict'"),
            ("uidmap=1:2", "three numbers"),
            ("uidmap=0:0:0", "covers no ids"),
            ("gidmap=4294967295:0:1", "covers no ids"),
            ("max_write=1", "4096"),
            ("workers=0", "1 to 1024"),
            ("data=fast", "auto, relay or copy"),
            ("transport=fast", "auto, uring or classic"),
            ("export=all", "number of inodes"),
        ] {
            let error = format!("{:#}", parse(option).unwrap_err());
            assert!(error.contains(option) && error.contains(reason), "{error}");
        }
    }
}
