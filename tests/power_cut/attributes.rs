//! What `stat` says of a file or a folder.
//!
//! The number stays the same over every cut, and is never given out again.
//! There is no time of birth: the kernel asks for it in a way (`FUSE_STATX`)
//! that `fuser` does not answer, and then tells programs that it is not known.

use fuser::{FileAttr, FileType, INodeNo};
use rustix::io::Errno;

use super::content::PAGE;
use super::image::{Image, Kind};

pub fn attributes(image: &Image, number: u64) -> Result<FileAttr, Errno> {
    let node = image.node(number)?;
    let (kind, size, nlink) = match &node.kind {
        Kind::File(content) => (FileType::RegularFile, content.len(), 1),
        Kind::Folder { .. } => (FileType::Directory, PAGE, 2),
    };
    let time = node.modified;
    Ok(FileAttr {
        ino: INodeNo(number),
        size,
        blocks: node.pages() * (PAGE / 512),
        atime: time,
        mtime: time,
        ctime: time,
        crtime: time,
        kind,
        perm: node.permissions,
        nlink,
        uid: rustix::process::geteuid().as_raw(),
        gid: rustix::process::getegid().as_raw(),
        rdev: 0,
        blksize: 4096,
        flags: 0,
    })
}
