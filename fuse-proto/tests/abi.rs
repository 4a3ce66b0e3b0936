//! The layout compared with the system's `linux/fuse.h`.
//!
//! A C program, generated from the tables of this crate, is compiled against the installed header and prints what the
//! compiler thinks; in the other direction, everything the header declares has to be known here. Items newer than the
//! header are left to `golden.rs`.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::process::{Command, Stdio};

use bitflags::Flags;
use fuse_proto::ioctl::{self, fuse_backing_map};
use fuse_proto::notify::NotifyCode;
use fuse_proto::uring::{self, UringCmd, fuse_uring_cmd_req};
use fuse_proto::uring::{fuse_uring_ent_in_out, fuse_uring_req_header};
use fuse_proto::*;

struct Layout {
    name: &'static str,
    size: usize,
    fields: &'static [(&'static str, usize)],
}

macro_rules! layouts {
    ($($name:ident),* $(,)?) => {
        vec![$(Layout {
            name: <$name as Wire>::NAME,
            size: size_of::<$name>(),
            fields: <$name as Wire>::FIELDS,
        }),*]
    };
}

fn layouts() -> Vec<Layout> {
    layouts![
        cuse_init_in,
        cuse_init_out,
        fuse_access_in,
        fuse_attr,
        fuse_attr_out,
        fuse_backing_map,
        fuse_batch_forget_in,
        fuse_bmap_in,
        fuse_bmap_out,
        fuse_copy_file_range_in,
        fuse_copy_file_range_out,
        fuse_create_in,
        fuse_dirent,
        fuse_direntplus,
        fuse_entry_out,
        fuse_ext_header,
        fuse_fallocate_in,
        fuse_file_lock,
        fuse_flush_in,
        fuse_forget_in,
        fuse_forget_one,
        fuse_fsync_in,
        fuse_getattr_in,
        fuse_getxattr_in,
        fuse_getxattr_out,
        fuse_in_header,
        fuse_init_in,
        fuse_init_out,
        fuse_interrupt_in,
        fuse_ioctl_in,
        fuse_ioctl_iovec,
        fuse_ioctl_out,
        fuse_kstatfs,
        fuse_link_in,
        fuse_lk_in,
        fuse_lk_out,
        fuse_lseek_in,
        fuse_lseek_out,
        fuse_mkdir_in,
        fuse_mknod_in,
        fuse_notify_delete_out,
        fuse_notify_inval_entry_out,
        fuse_notify_inval_inode_out,
        fuse_notify_poll_wakeup_out,
        fuse_notify_prune_out,
        fuse_notify_retrieve_in,
        fuse_notify_retrieve_out,
        fuse_notify_store_out,
        fuse_open_in,
        fuse_open_out,
        fuse_out_header,
        fuse_poll_in,
        fuse_poll_out,
        fuse_read_in,
        fuse_release_in,
        fuse_removemapping_in,
        fuse_removemapping_one,
        fuse_rename2_in,
        fuse_rename_in,
        fuse_secctx,
        fuse_secctx_header,
        fuse_setattr_in,
        fuse_setupmapping_in,
        fuse_setxattr_in,
        fuse_statfs_out,
        fuse_statx,
        fuse_statx_in,
        fuse_statx_out,
        fuse_supp_groups,
        fuse_sx_time,
        fuse_syncfs_in,
        fuse_uring_cmd_req,
        fuse_uring_ent_in_out,
        fuse_uring_req_header,
        fuse_write_in,
        fuse_write_out,
    ]
}

/// Structures and fields that came after the oldest header worth checking, with the version that brought them.
const NEWER: &[(&str, u64)] = &[
    ("fuse_supp_groups", 38), // Distributions have shipped headers of 7.38 without it.
    ("fuse_sx_time", 39),
    ("fuse_statx", 39),
    ("fuse_statx_in", 39),
    ("fuse_statx_out", 39),
    ("fuse_backing_map", 40),
    ("fuse_open_out.backing_id", 40),
    ("fuse_init_out.max_stack_depth", 40),
    ("fuse_uring_ent_in_out", 42),
    ("fuse_uring_req_header", 42),
    ("fuse_uring_cmd_req", 42),
    ("fuse_init_out.request_timeout", 43),
    ("fuse_copy_file_range_out", 45),
    ("fuse_notify_prune_out", 45),
    ("fuse_uring_ent_in_out.offset", 46),
];

/// The kernel's name and value of every flag of a type.
fn flags<F: Flags>(prefix: &str, constants: &mut BTreeMap<String, u64>)
where
    F::Bits: Into<u64>,
{
    for flag in F::FLAGS {
        constants.insert(
            format!("{prefix}{}", flag.name()),
            flag.value().bits().into(),
        );
    }
}

fn constants() -> BTreeMap<String, u64> {
    let mut all = BTreeMap::new();
    flags::<InitFlags>("FUSE_", &mut all);
    flags::<OpenFlags>("FOPEN_", &mut all);
    flags::<SetattrValid>("FATTR_", &mut all);
    flags::<WriteFlags>("FUSE_WRITE_", &mut all);
    flags::<ReadFlags>("FUSE_READ_", &mut all);
    flags::<ReleaseFlags>("FUSE_RELEASE_", &mut all);
    flags::<GetattrFlags>("FUSE_GETATTR_", &mut all);
    flags::<FsyncFlags>("FUSE_FSYNC_", &mut all);
    flags::<LkFlags>("FUSE_LK_", &mut all);
    flags::<OpenInFlags>("FUSE_OPEN_", &mut all);
    flags::<SetxattrFlags>("FUSE_SETXATTR_", &mut all);
    flags::<IoctlFlags>("FUSE_IOCTL_", &mut all);
    flags::<PollFlags>("FUSE_POLL_", &mut all);
    flags::<AttrFlags>("FUSE_ATTR_", &mut all);
    flags::<ExpireFlags>("FUSE_", &mut all);
    flags::<CuseFlags>("CUSE_", &mut all);
    let bits_32 = all
        .remove("FUSE_IOCTL_IOCTL_32BIT")
        .expect("a name that starts with a digit");
    all.insert("FUSE_IOCTL_32BIT".into(), bits_32);
    for opcode in Opcode::ALL {
        let prefix = if *opcode == Opcode::CuseInit {
            ""
        } else {
            "FUSE_"
        };
        all.insert(format!("{prefix}{}", opcode.name()), opcode.raw().into());
    }
    let code = |code: NotifyCode| u64::try_from(code.raw()).unwrap();
    let size = |size: usize| size as u64;
    all.extend(
        [
            ("FUSE_NOTIFY_POLL", code(NotifyCode::Poll)),
            ("FUSE_NOTIFY_INVAL_INODE", code(NotifyCode::InvalInode)),
            ("FUSE_NOTIFY_INVAL_ENTRY", code(NotifyCode::InvalEntry)),
            ("FUSE_NOTIFY_STORE", code(NotifyCode::Store)),
            ("FUSE_NOTIFY_RETRIEVE", code(NotifyCode::Retrieve)),
            ("FUSE_NOTIFY_DELETE", code(NotifyCode::Delete)),
            ("FUSE_NOTIFY_RESEND", code(NotifyCode::Resend)),
            ("FUSE_NOTIFY_INC_EPOCH", code(NotifyCode::IncEpoch)),
            ("FUSE_NOTIFY_PRUNE", code(NotifyCode::Prune)),
            ("FUSE_KERNEL_VERSION", FUSE_KERNEL_VERSION.into()),
            ("FUSE_ROOT_ID", FUSE_ROOT_ID),
            ("FUSE_MIN_READ_BUFFER", size(FUSE_MIN_READ_BUFFER)),
            ("FUSE_UNIQUE_RESEND", FUSE_UNIQUE_RESEND),
            ("FUSE_INVALID_UIDGID", FUSE_INVALID_UIDGID.into()),
            (
                "FUSE_COMPAT_ENTRY_OUT_SIZE",
                size(FUSE_COMPAT_ENTRY_OUT_SIZE),
            ),
            ("FUSE_COMPAT_ATTR_OUT_SIZE", size(FUSE_COMPAT_ATTR_OUT_SIZE)),
            ("FUSE_COMPAT_STATFS_SIZE", size(FUSE_COMPAT_STATFS_SIZE)),
            ("FUSE_COMPAT_MKNOD_IN_SIZE", size(FUSE_COMPAT_MKNOD_IN_SIZE)),
            ("FUSE_COMPAT_WRITE_IN_SIZE", size(FUSE_COMPAT_WRITE_IN_SIZE)),
            (
                "FUSE_COMPAT_SETXATTR_IN_SIZE",
                size(FUSE_COMPAT_SETXATTR_IN_SIZE),
            ),
            ("FUSE_COMPAT_INIT_OUT_SIZE", size(FUSE_COMPAT_INIT_OUT_SIZE)),
            (
                "FUSE_COMPAT_22_INIT_OUT_SIZE",
                size(FUSE_COMPAT_22_INIT_OUT_SIZE),
            ),
            ("FUSE_NAME_OFFSET", size(FUSE_NAME_OFFSET)),
            (
                "FUSE_NAME_OFFSET_DIRENTPLUS",
                size(FUSE_NAME_OFFSET_DIRENTPLUS),
            ),
            ("FUSE_IOCTL_MAX_IOV", size(FUSE_IOCTL_MAX_IOV)),
            ("CUSE_INIT_INFO_MAX", size(CUSE_INIT_INFO_MAX)),
            ("FUSE_MAX_NR_SECCTX", FUSE_MAX_NR_SECCTX.into()),
            ("FUSE_EXT_GROUPS", FUSE_EXT_GROUPS.into()),
            ("FUSE_SETUPMAPPING_FLAG_WRITE", FUSE_SETUPMAPPING_FLAG_WRITE),
            ("FUSE_SETUPMAPPING_FLAG_READ", FUSE_SETUPMAPPING_FLAG_READ),
            (
                "FUSE_INIT_BSWAP_RESERVED",
                opcode::FUSE_INIT_BSWAP_RESERVED.into(),
            ),
            (
                "CUSE_INIT_BSWAP_RESERVED",
                opcode::CUSE_INIT_BSWAP_RESERVED.into(),
            ),
            ("FUSE_DEV_IOC_MAGIC", ioctl::FUSE_DEV_IOC_MAGIC.into()),
            ("FUSE_DEV_IOC_CLONE", ioctl::FUSE_DEV_IOC_CLONE.into()),
            (
                "FUSE_DEV_IOC_BACKING_OPEN",
                ioctl::FUSE_DEV_IOC_BACKING_OPEN.into(),
            ),
            (
                "FUSE_DEV_IOC_BACKING_CLOSE",
                ioctl::FUSE_DEV_IOC_BACKING_CLOSE.into(),
            ),
            (
                "FUSE_DEV_IOC_SYNC_INIT",
                ioctl::FUSE_DEV_IOC_SYNC_INIT.into(),
            ),
            (
                "FUSE_URING_IN_OUT_HEADER_SZ",
                size(uring::FUSE_URING_IN_OUT_HEADER_SZ),
            ),
            (
                "FUSE_URING_OP_IN_OUT_SZ",
                size(uring::FUSE_URING_OP_IN_OUT_SZ),
            ),
            ("FUSE_URING_ENT_ZERO_COPY", uring::FUSE_URING_ENT_ZERO_COPY),
            ("FUSE_URING_ZERO_COPY", uring::FUSE_URING_ZERO_COPY),
            ("FUSE_IO_URING_CMD_INVALID", UringCmd::Invalid.raw().into()),
            (
                "FUSE_IO_URING_CMD_REGISTER",
                UringCmd::Register.raw().into(),
            ),
            (
                "FUSE_IO_URING_CMD_COMMIT_AND_FETCH",
                UringCmd::CommitAndFetch.raw().into(),
            ),
            (
                "FUSE_IO_URING_CMD_ADD_QUEUE",
                UringCmd::AddQueue.raw().into(),
            ),
            (
                "FUSE_IO_URING_CMD_ADD_BUFPOOL",
                UringCmd::AddBufpool.raw().into(),
            ),
        ]
        .map(|(name, value)| (name.to_owned(), value)),
    );
    all
}

/// Names in the header that stand for no value of their own.
const NOT_DECLARED: &[&str] = &[
    "FUSE_KERNEL_MINOR_VERSION",    // The header's own.
    "FUSE_WRITE_KILL_PRIV",         // Old name of FUSE_WRITE_KILL_SUIDGID.
    "FUSE_DIRECT_IO_RELAX",         // Old name of FUSE_DIRECT_IO_ALLOW_MMAP.
    "FUSE_REMOVEMAPPING_MAX_ENTRY", // Depends on the page size, for kernel use.
    "FUSE_NOTIFY_CODE_MAX",         // Changes with every version.
];

/// The installed header after preprocessing, with its definitions; or why there is none.
fn header() -> Result<String, String> {
    let program = "#include <stddef.h>\n#include <stdint.h>\n#include <linux/fuse.h>\n";
    let dir = std::env::temp_dir().join(format!("fuse-proto-header-{}", std::process::id()));
    std::fs::create_dir_all(&dir).expect("temporary directory");
    let source = dir.join("header.c");
    std::fs::write(&source, program).expect("C file");
    let output = Command::new("cc")
        .args(["-E", "-dD", "-P"])
        .arg(&source)
        .output();
    let result = match output {
        Err(error) => Err(format!("no C compiler: {error}")),
        Ok(output) if !output.status.success() => Err("no linux/fuse.h".to_owned()),
        Ok(output) => Ok(String::from_utf8_lossy(&output.stdout).into_owned()),
    };
    std::fs::remove_dir_all(&dir).expect("temporary directory");
    result
}

/// Start of the C program. Constants that are an `int` are not to be sign-extended.
const PROLOGUE: &str = r#"
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <sys/ioctl.h>
#include <linux/fuse.h>
#define NUMBER(v) (sizeof(v) == 4 ? (unsigned long long)(unsigned)(v) : (unsigned long long)(v))
#define P(name, v) printf("%s %llu\n", name, NUMBER(v));
int main(void) {
"#;

/// Compiles and runs a C program, and returns the pairs of name and number that it prints.
fn run_c(program: &str) -> BTreeMap<String, u64> {
    let dir = std::env::temp_dir().join(format!("fuse-proto-abi-{}", std::process::id()));
    std::fs::create_dir_all(&dir).expect("temporary directory");
    let (source, binary) = (dir.join("abi.c"), dir.join("abi"));
    std::fs::write(&source, program).expect("C file");
    let status = Command::new("cc")
        .args(["-w", "-o"])
        .args([&binary, &source])
        .stdin(Stdio::null())
        .status()
        .expect("C compiler");
    assert!(
        status.success(),
        "the generated C program does not compile:\n{program}"
    );
    let output = Command::new(&binary).output().expect("generated program");
    std::fs::remove_dir_all(&dir).expect("temporary directory");
    String::from_utf8(output.stdout)
        .expect("ASCII")
        .lines()
        .map(|line| line.split_once(' ').expect("name and number"))
        .map(|(name, value)| (name.to_owned(), value.parse().expect("number")))
        .collect()
}

/// The words of a text that could be identifiers.
fn words(text: &str) -> impl Iterator<Item = &str> {
    text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_')
        .filter(|word| !word.is_empty())
}

/// Body of a structure in the header.
fn body<'h>(header: &'h str, name: &str) -> Option<&'h str> {
    let start = header.find(&format!("struct {name} {{"))?;
    let text = &header[start..];
    Some(&text[..text.find("\n};").expect("end of structure")])
}

#[test]
fn layout_and_constants_are_those_of_the_header() {
    let header = match header() {
        Ok(header) => header,
        Err(reason) => {
            println!("skipped: {reason}");
            return;
        }
    };
    let known: BTreeSet<&str> = words(&header).collect();
    let minor: u64 = header
        .lines()
        .find_map(|line| line.strip_prefix("#define FUSE_KERNEL_MINOR_VERSION "))
        .expect("version of the header")
        .trim()
        .parse()
        .expect("number");
    if minor < 38 {
        println!("skipped: the header is of 7.{minor}, structures have grown since");
        return;
    }

    let newer: BTreeMap<&str, u64> = NEWER.iter().copied().collect();
    let mut expected = BTreeMap::new();
    let mut program = String::from(PROLOGUE);
    let mut print = |name: String, c: String, value: u64| {
        writeln!(program, "P(\"{name}\", {c})").unwrap();
        expected.insert(name, value);
    };
    let may_lack = |item: &str| {
        assert!(
            newer.get(item).is_some_and(|&since| since >= minor),
            "the header of 7.{minor} has no {item}"
        );
    };
    for layout in layouts() {
        let name = layout.name;
        let Some(body) = body(&header, name) else {
            may_lack(name);
            continue;
        };
        // The bufpool of 7.46 is a structure of its own here.
        if !(name == "fuse_uring_cmd_req" && minor >= 46) {
            print(
                name.to_owned(),
                format!("sizeof(struct {name})"),
                layout.size as u64,
            );
        }
        let has = |field: &str| words(body).any(|word| word == field);
        let complete = layout
            .fields
            .iter()
            .all(|(field, _)| has(field.trim_start_matches("r#")));
        for (field, offset) in layout.fields {
            let field = field.trim_start_matches("r#");
            if !has(field) {
                may_lack(&format!("{name}.{field}"));
            } else if complete || !field.starts_with("unused") {
                let item = format!("{name}.{field}");
                print(
                    item,
                    format!("offsetof(struct {name}, {field})"),
                    *offset as u64,
                );
            }
        }
    }
    let constants = constants();
    let mut absent = Vec::new();
    for (name, &value) in &constants {
        if known.contains(name.as_str()) {
            print(name.clone(), name.clone(), value);
        } else {
            absent.push(name.as_str());
        }
    }
    program.push_str("return 0; }\n");

    let actual = run_c(&program);
    for (name, value) in &expected {
        assert_eq!(
            actual.get(name),
            Some(value),
            "{name} in the header of 7.{minor}"
        );
    }

    // The other direction: nothing in the header that is not declared here.
    if minor <= 46 {
        let structures: BTreeSet<&str> = layouts().iter().map(|layout| layout.name).collect();
        for line in header.lines() {
            if let Some(name) = line
                .strip_prefix("struct ")
                .and_then(|rest| rest.strip_suffix(" {"))
                && (name.starts_with("fuse_") || name.starts_with("cuse_"))
            {
                assert!(
                    structures.contains(name),
                    "structure {name} is not declared"
                );
            }
        }
        for name in &known {
            let prefixed = ["FUSE_", "CUSE_", "FOPEN_", "FATTR_"]
                .iter()
                .any(|p| name.starts_with(p));
            let macro_with_arguments = header.contains(&format!("#define {name}("));
            if prefixed && !macro_with_arguments && !NOT_DECLARED.contains(name) {
                assert!(
                    constants.contains_key(*name),
                    "constant {name} is not declared"
                );
            }
        }
    }
    println!(
        "compared {} items with the header of 7.{minor}; {} constants are newer: {}",
        expected.len(),
        absent.len(),
        absent.join(" ")
    );
    if minor >= 38 {
        assert!(
            expected.len() > 400,
            "only {} items compared",
            expected.len()
        );
    }
}
