//! The volatile file system as the kernel asks for it. Nothing is cached on
//! the kernel's side: every call comes here.

use std::ffi::OsStr;
use std::sync::MutexGuard;
use std::time::{Duration, SystemTime};

use fuser::{
    BsdFileFlags, Errno as FuseErrno, FileAttr, FileHandle, FileType, Filesystem, FopenFlags,
    Generation, INodeNo, LockOwner, OpenFlags, RenameFlags, ReplyAttr, ReplyCreate, ReplyData,
    ReplyDirectory, ReplyEmpty, ReplyEntry, ReplyOpen, ReplyStatfs, ReplyWrite, Request, TimeOrNow,
    WriteFlags,
};
use rustix::io::Errno;

use super::attributes::attributes;
use super::content::Content;
use super::image::{Image, Kind, folder};
use super::machine::{Machine, State};
use super::place::Step;

const UNCACHED: Duration = Duration::ZERO;
const FIRST: Generation = Generation(0);
/// Of `fallocate`, as in `linux/falloc.h`.
const KEEP_SIZE: i32 = 1;
const PUNCH_HOLE: i32 = 2;
const ZERO_RANGE: i32 = 16;

pub struct Volatile(pub Machine);

fn fuse(errno: Errno) -> FuseErrno {
    FuseErrno::from_i32(errno.raw_os_error())
}

fn outcome<T>(of: impl FnOnce() -> Result<T, Errno>) -> Result<T, Errno> {
    of()
}

/// Answers with what came out, or with the error.
macro_rules! answer {
    ($reply:ident, $result:expr, $value:pat => $answer:expr) => {
        match outcome(|| $result) {
            Ok($value) => $answer,
            Err(errno) => $reply.error(fuse(errno)),
        }
    };
}

impl Volatile {
    /// A change of what a number names.
    fn change(
        &self,
        step: Step,
        number: u64,
    ) -> Result<(MutexGuard<'_, State>, Option<Errno>), Errno> {
        self.0.step(step, |image| image.path(number))
    }

    /// A change of an entry, which has nothing to lose where it fails.
    fn change_entry(
        &self,
        step: Step,
        parent: INodeNo,
        name: &OsStr,
    ) -> Result<MutexGuard<'_, State>, Errno> {
        let path = |image: &Image| format!("{}/{}", image.path(parent.0), name.to_string_lossy());
        match self.0.step(step, path)? {
            (state, None) => Ok(state),
            (_, Some(errno)) => Err(errno),
        }
    }

    fn make(
        &self,
        parent: INodeNo,
        name: &OsStr,
        kind: Kind,
        mode: u32,
    ) -> Result<(FileAttr, FileHandle), Errno> {
        let is_file = matches!(kind, Kind::File(_));
        let mut state = self.change_entry(Step::Make, parent, name)?;
        let permissions = u16::try_from(mode & 0o7777).unwrap();
        let number = state.image.make(parent.0, name, kind, permissions)?;
        let handle = if is_file { state.image.open(number)? } else { 0 };
        Ok((attributes(&state.image, number)?, FileHandle(handle)))
    }

    fn sync(&self, number: INodeNo, handle: Option<FileHandle>) -> Result<(), Errno> {
        let (mut state, fails) = self.change(Step::Sync, number.0)?;
        state.image.sync(number.0, handle.map(|handle| handle.0), fails)
    }
}

impl Filesystem for Volatile {
    fn lookup(&self, _: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEntry) {
        answer!(reply, {
            let state = self.0.look()?;
            attributes(&state.image, state.image.find(parent.0, name)?)
        }, attr => reply.entry(&UNCACHED, &attr, FIRST));
    }

    fn getattr(&self, _: &Request, ino: INodeNo, _: Option<FileHandle>, reply: ReplyAttr) {
        answer!(reply, attributes(&self.0.look()?.image, ino.0),
            attr => reply.attr(&UNCACHED, &attr));
    }

    fn setattr(
        &self,
        _: &Request,
        ino: INodeNo,
        mode: Option<u32>,
        _: Option<u32>,
        _: Option<u32>,
        size: Option<u64>,
        _: Option<TimeOrNow>,
        mtime: Option<TimeOrNow>,
        _: Option<SystemTime>,
        _: Option<FileHandle>,
        _: Option<SystemTime>,
        _: Option<SystemTime>,
        _: Option<SystemTime>,
        _: Option<BsdFileFlags>,
        reply: ReplyAttr,
    ) {
        answer!(reply, {
            let (mut state, fails) = self.change(Step::Write, ino.0)?;
            fails.map_or(Ok(()), Err)?;
            if let Some(size) = size {
                state.image.content(ino.0)?.set_len(size);
            }
            let node = state.image.node_mut(ino.0)?;
            if let Some(mode) = mode {
                node.permissions = u16::try_from(mode & 0o7777).unwrap();
            }
            match mtime {
                Some(TimeOrNow::SpecificTime(time)) => node.modified = time,
                Some(TimeOrNow::Now) => node.modified = SystemTime::now(),
                None => {}
            }
            attributes(&state.image, ino.0)
        }, attr => reply.attr(&UNCACHED, &attr));
    }

    fn mkdir(
        &self,
        _: &Request,
        parent: INodeNo,
        name: &OsStr,
        mode: u32,
        umask: u32,
        reply: ReplyEntry,
    ) {
        answer!(reply, self.make(parent, name, folder(), mode & !umask),
            (attr, _) => reply.entry(&UNCACHED, &attr, FIRST));
    }

    fn create(
        &self,
        _: &Request,
        parent: INodeNo,
        name: &OsStr,
        mode: u32,
        umask: u32,
        _: i32,
        reply: ReplyCreate,
    ) {
        let kind = Kind::File(Content::default());
        answer!(reply, self.make(parent, name, kind, mode & !umask),
        (attr, handle) => {
            reply.created(&UNCACHED, &attr, FIRST, handle, FopenFlags::FOPEN_DIRECT_IO);
        });
    }

    fn unlink(&self, _: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        answer!(reply, {
            self.change_entry(Step::Remove, parent, name)?.image.remove(parent.0, name, false)
        }, () => reply.ok());
    }

    fn rmdir(&self, _: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        answer!(reply, {
            self.change_entry(Step::Remove, parent, name)?.image.remove(parent.0, name, true)
        }, () => reply.ok());
    }

    fn rename(
        &self,
        _: &Request,
        parent: INodeNo,
        name: &OsStr,
        to: INodeNo,
        to_name: &OsStr,
        flags: RenameFlags,
        reply: ReplyEmpty,
    ) {
        answer!(reply, {
            let mut state = self.change_entry(Step::Rename, to, to_name)?;
            if flags.is_empty() {
                state.image.rename((parent.0, name), (to.0, to_name))
            } else {
                Err(Errno::INVAL)
            }
        }, () => reply.ok());
    }

    fn open(&self, _: &Request, ino: INodeNo, _: OpenFlags, reply: ReplyOpen) {
        answer!(reply, self.0.look()?.image.open(ino.0),
            handle => reply.opened(FileHandle(handle), FopenFlags::FOPEN_DIRECT_IO));
    }

    fn release(
        &self,
        _: &Request,
        ino: INodeNo,
        handle: FileHandle,
        _: OpenFlags,
        _: Option<LockOwner>,
        _: bool,
        reply: ReplyEmpty,
    ) {
        // Also without power: a process that ends lets go of its files.
        self.0.lock().image.close(ino.0, handle.0);
        reply.ok();
    }

    fn flush(&self, _: &Request, _: INodeNo, _: FileHandle, _: LockOwner, reply: ReplyEmpty) {
        reply.ok();
    }

    fn read(
        &self,
        _: &Request,
        ino: INodeNo,
        _: FileHandle,
        offset: u64,
        size: u32,
        _: OpenFlags,
        _: Option<LockOwner>,
        reply: ReplyData,
    ) {
        answer!(reply, {
            Ok(self.0.look()?.image.content(ino.0)?.read(offset, size as usize))
        }, bytes => reply.data(&bytes));
    }

    fn write(
        &self,
        _: &Request,
        ino: INodeNo,
        _: FileHandle,
        offset: u64,
        data: &[u8],
        _: WriteFlags,
        _: OpenFlags,
        _: Option<LockOwner>,
        reply: ReplyWrite,
    ) {
        answer!(reply, {
            let (mut state, fails) = self.change(Step::Write, ino.0)?;
            fails.map_or(Ok(()), Err)?;
            state.image.write(ino.0, offset, data)?;
            Ok(u32::try_from(data.len()).unwrap())
        }, written => reply.written(written));
    }

    fn fallocate(
        &self,
        _: &Request,
        ino: INodeNo,
        _: FileHandle,
        offset: u64,
        length: u64,
        mode: i32,
        reply: ReplyEmpty,
    ) {
        answer!(reply, {
            let (mut state, fails) = self.change(Step::Write, ino.0)?;
            fails.map_or(Ok(()), Err)?;
            let range = offset..offset + length;
            let free = state.image.free_pages();
            let content = state.image.content(ino.0)?;
            if mode & (PUNCH_HOLE | ZERO_RANGE) == 0 && content.new_pages(range.clone()) > free {
                return Err(Errno::NOSPC);
            }
            match mode & !KEEP_SIZE {
                0 => content.allocate(range, mode & KEEP_SIZE != 0),
                PUNCH_HOLE => content.zero(range, true),
                ZERO_RANGE => content.zero(range, false),
                _ => return Err(Errno::OPNOTSUPP),
            }
            Ok(())
        }, () => reply.ok());
    }

    fn fsync(&self, _: &Request, ino: INodeNo, fh: FileHandle, _: bool, reply: ReplyEmpty) {
        answer!(reply, self.sync(ino, Some(fh)), () => reply.ok());
    }

    fn fsyncdir(&self, _: &Request, ino: INodeNo, _: FileHandle, _: bool, reply: ReplyEmpty) {
        answer!(reply, self.sync(ino, None), () => reply.ok());
    }

    fn readdir(
        &self,
        _: &Request,
        ino: INodeNo,
        _: FileHandle,
        offset: u64,
        mut reply: ReplyDirectory,
    ) {
        let listed = self.0.look().and_then(|state| {
            let entries = state.image.entries(ino.0)?.iter();
            entries
                .map(|(name, number)| {
                    let attr = attributes(&state.image, *number)?;
                    Ok((name.clone(), *number, attr.kind))
                })
                .collect::<Result<Vec<_>, Errno>>()
        });
        let dots = [".", ".."].map(|dot| (dot.into(), ino.0, FileType::Directory));
        match listed {
            Err(errno) => reply.error(fuse(errno)),
            Ok(listed) => {
                let all = dots.into_iter().chain(listed);
                for (at, (name, number, kind)) in
                    (1..).zip(all).skip(usize::try_from(offset).unwrap())
                {
                    if reply.add(INodeNo(number), at, kind, name) {
                        break;
                    }
                }
                reply.ok();
            }
        }
    }

    fn statfs(&self, _: &Request, _: INodeNo, reply: ReplyStatfs) {
        answer!(reply, {
            let state = self.0.look()?;
            Ok((state.image.capacity, state.image.free_pages()))
        }, (all, free) => reply.statfs(all, free, free, 1 << 20, 1 << 20, 4096, 255, 4096));
    }
}
