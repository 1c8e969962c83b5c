//! The disk as a file system that is really mounted (FUSE; needs root and `/dev/fuse`), so that the
//! code under test makes its own system calls.

use super::{Disk, Inode, Step};
use fuser::{
    BackgroundSession, BsdFileFlags, Config, Errno, FileAttr, FileHandle, FileType, Filesystem,
    FopenFlags, Generation, INodeNo, LockOwner, OpenFlags, RenameFlags, ReplyAttr, ReplyCreate,
    ReplyData, ReplyEmpty, ReplyEntry, ReplyWrite, Request, TimeOrNow, WriteFlags,
};
use std::ffi::OsStr;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use tempfile::TempDir;

/// How long a sync takes: whoever says "stable" before its end is caught.
const SYNC_TIME: Duration = Duration::from_millis(3);

/// `FALLOC_FL_PUNCH_HOLE`
const PUNCH_HOLE: i32 = 2;

/// A mounted disk; unmounted when this is dropped.
pub(crate) struct Mounted {
    // The order matters: unmount first, then remove the folder.
    _session: BackgroundSession,
    folder: TempDir,
}

impl Mounted {
    pub(crate) fn new(disk: Arc<Disk>) -> Mounted {
        let folder = tempfile::tempdir().unwrap();
        let mut config = Config::default();
        config.n_threads = Some(4);
        let session = fuser::spawn_mount(Served(disk), folder.path(), &config);
        let _session =
            session.unwrap_or_else(|error| panic!("mounting needs root and /dev/fuse: {error}"));
        Mounted { _session, folder }
    }

    pub(crate) fn path(&self) -> &Path {
        self.folder.path()
    }
}

struct Served(Arc<Disk>);

const NO_TIME: Duration = Duration::ZERO;

impl Served {
    fn attributes(&self, inode: Inode) -> Option<FileAttr> {
        let state = self.0.lock();
        let folder = inode == 1;
        let size = match folder {
            true => 0,
            false => state.now.files.get(&inode)?.len() as u64,
        };
        let names = state.now.names.values().filter(|named| **named == inode);
        let nlink = if folder { 2 } else { names.count() as u32 };
        Some(FileAttr {
            ino: INodeNo(inode),
            size,
            blocks: size.div_ceil(512),
            atime: UNIX_EPOCH,
            mtime: UNIX_EPOCH,
            ctime: UNIX_EPOCH,
            crtime: UNIX_EPOCH,
            kind: if folder {
                FileType::Directory
            } else {
                FileType::RegularFile
            },
            perm: 0o700,
            nlink,
            uid: 0,
            gid: 0,
            rdev: 0,
            flags: 0,
            blksize: 4096,
        })
    }

    fn inode(&self, name: &OsStr) -> Option<Inode> {
        self.0.lock().now.names.get(name.to_str()?).copied()
    }
}

fn text(name: &OsStr) -> String {
    name.to_str().unwrap().to_owned()
}

impl Filesystem for Served {
    fn lookup(&self, _: &Request, _: INodeNo, name: &OsStr, reply: ReplyEntry) {
        match self.inode(name).and_then(|inode| self.attributes(inode)) {
            Some(attributes) => reply.entry(&NO_TIME, &attributes, Generation(0)),
            None => reply.error(Errno::ENOENT),
        }
    }

    fn getattr(&self, _: &Request, ino: INodeNo, _: Option<FileHandle>, reply: ReplyAttr) {
        match self.attributes(ino.0) {
            Some(attributes) => reply.attr(&NO_TIME, &attributes),
            None => reply.error(Errno::ENOENT),
        }
    }

    fn setattr(
        &self,
        request: &Request,
        ino: INodeNo,
        _: Option<u32>,
        _: Option<u32>,
        _: Option<u32>,
        size: Option<u64>,
        _: Option<TimeOrNow>,
        _: Option<TimeOrNow>,
        _: Option<SystemTime>,
        handle: Option<FileHandle>,
        _: Option<SystemTime>,
        _: Option<SystemTime>,
        _: Option<SystemTime>,
        _: Option<BsdFileFlags>,
        reply: ReplyAttr,
    ) {
        if let Some(size) = size {
            let (inode, length) = (ino.0, size as usize);
            self.0.act(Step::Length { inode, length });
        }
        self.getattr(request, ino, handle, reply);
    }

    fn unlink(&self, _: &Request, _: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        match self.inode(name) {
            Some(_) => {
                self.0.act(Step::Unlink { name: text(name) });
                reply.ok();
            }
            None => reply.error(Errno::ENOENT),
        }
    }

    fn rename(
        &self,
        _: &Request,
        _: INodeNo,
        name: &OsStr,
        _: INodeNo,
        new: &OsStr,
        _: RenameFlags,
        reply: ReplyEmpty,
    ) {
        let (from, to) = (text(name), text(new));
        self.0.act(Step::Rename { from, to });
        reply.ok();
    }

    fn create(
        &self,
        _: &Request,
        _: INodeNo,
        name: &OsStr,
        _: u32,
        _: u32,
        _: i32,
        reply: ReplyCreate,
    ) {
        let inode = {
            let state = self.0.lock();
            state.now.files.keys().max().map_or(2, |last| last + 1)
        };
        let name = text(name);
        self.0.act(Step::Create { name, inode });
        let attributes = self.attributes(inode).unwrap();
        let flags = FopenFlags::empty();
        reply.created(&NO_TIME, &attributes, Generation(0), FileHandle(0), flags);
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
        let state = self.0.lock();
        let file = &state.now.files[&ino.0];
        let begin = file.len().min(offset as usize);
        reply.data(&file[begin..file.len().min(begin + size as usize)]);
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
        self.0.act(Step::Data {
            inode: ino.0,
            offset: offset as usize,
            bytes: data.to_vec(),
        });
        reply.written(data.len() as u32);
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
        if mode & PUNCH_HOLE == 0 {
            return reply.error(Errno::EOPNOTSUPP);
        }
        self.0.act(Step::Data {
            inode: ino.0,
            offset: offset as usize,
            bytes: vec![0; length as usize],
        });
        reply.ok();
    }

    fn fsync(&self, _: &Request, ino: INodeNo, _: FileHandle, _: bool, reply: ReplyEmpty) {
        let before = self.0.steps();
        std::thread::sleep(SYNC_TIME);
        let inode = ino.0;
        self.0.act(Step::Sync { inode, before });
        reply.ok();
    }

    fn fsyncdir(&self, _: &Request, _: INodeNo, _: FileHandle, _: bool, reply: ReplyEmpty) {
        let before = self.0.steps();
        std::thread::sleep(SYNC_TIME);
        self.0.act(Step::SyncNames { before });
        reply.ok();
    }
}
