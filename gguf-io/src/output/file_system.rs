//! What outputs ask of a file system, and what to do where one lacks it.
//!
//! Mounted drives (of WSL and VirtualBox, NFS, FUSE) often know neither a rename that refuses to
//! replace nor hard links, cannot flush a folder, reserve space or lock a file. None of that is a
//! reason to lose an output that is complete.

use std::{
    fmt,
    fs::{File, TryLockError},
    io,
    path::Path,
};

/// The operations on names, space and locks that an output needs. The methods do what the operating
/// system does; a test overrides some to fail as they do on a mount.
pub trait FileSystem: Send + Sync + fmt::Debug {
    /// Renames a file or folder; nothing may have the new name.
    ///
    /// # Errors
    /// [`io::ErrorKind::AlreadyExists`] if something has; else whatever the file system says where
    /// it has no such operation.
    fn rename_new(&self, from: &Path, to: &Path) -> io::Result<()> {
        #[cfg(any(target_os = "linux", target_os = "android", target_vendor = "apple"))]
        {
            use rustix::fs::{CWD, RenameFlags, renameat_with};
            Ok(renameat_with(CWD, from, CWD, to, RenameFlags::NOREPLACE)?)
        }
        #[cfg(not(any(target_os = "linux", target_os = "android", target_vendor = "apple")))]
        {
            let _ = (from, to);
            Err(io::ErrorKind::Unsupported.into())
        }
    }

    /// Gives a file a second name; nothing may have it.
    ///
    /// # Errors
    /// As [`rename_new`](Self::rename_new).
    fn hard_link(&self, from: &Path, to: &Path) -> io::Result<()> {
        std::fs::hard_link(from, to)
    }

    /// Renames a file or folder, in place of a file that has the new name.
    ///
    /// # Errors
    /// When the operating system fails to.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        std::fs::rename(from, to)
    }

    /// Makes each of two folders have the other's name.
    ///
    /// # Errors
    /// Whatever the file system says where it has no such operation.
    fn exchange(&self, a: &Path, b: &Path) -> io::Result<()> {
        #[cfg(any(target_os = "linux", target_os = "android", target_vendor = "apple"))]
        {
            use rustix::fs::{CWD, RenameFlags, renameat_with};
            Ok(renameat_with(CWD, a, CWD, b, RenameFlags::EXCHANGE)?)
        }
        #[cfg(not(any(target_os = "linux", target_os = "android", target_vendor = "apple")))]
        {
            let _ = (a, b);
            Err(io::ErrorKind::Unsupported.into())
        }
    }

    /// Flushes the names in a folder to the device.
    ///
    /// # Errors
    /// When the operating system fails to.
    fn sync_folder(&self, folder: &Path) -> io::Result<()> {
        if cfg!(not(unix)) {
            return Ok(());
        }
        File::open(folder)?.sync_all()
    }

    /// Claims space for a file, and gives it that length where the system does both at once.
    ///
    /// # Errors
    /// Whatever the file system says where it cannot promise space.
    fn reserve(&self, file: &File, len: u64) -> io::Result<()> {
        #[cfg(any(
            target_os = "linux",
            target_os = "android",
            target_os = "freebsd",
            target_vendor = "apple"
        ))]
        {
            #[cfg(any(target_os = "linux", target_os = "android"))]
            if is_in_memory(file) {
                return Err(io::ErrorKind::Unsupported.into());
            }
            Ok(rustix::fs::fallocate(file, rustix::fs::FallocateFlags::empty(), 0, len)?)
        }
        #[cfg(not(any(
            target_os = "linux",
            target_os = "android",
            target_os = "freebsd",
            target_vendor = "apple"
        )))]
        {
            let _ = (file, len);
            Err(io::ErrorKind::Unsupported.into())
        }
    }

    /// Sets the length of a file.
    ///
    /// # Errors
    /// When the operating system fails to.
    fn set_len(&self, file: &File, len: u64) -> io::Result<()> {
        file.set_len(len)
    }

    /// Locks a file or folder, without waiting.
    ///
    /// # Errors
    /// [`TryLockError::WouldBlock`] if another process has it locked; else whatever the file system
    /// says where it has no locks.
    fn try_lock(&self, file: &File) -> Result<(), TryLockError> {
        file.try_lock()
    }
}

/// Whether a file system keeps files in memory. There, claiming space means to take every page of it: one
/// thread would do that before the others begin to write, which takes pages as well.
#[cfg(any(target_os = "linux", target_os = "android"))]
fn is_in_memory(file: &File) -> bool {
    const TMPFS: u64 = 0x0102_1994;
    const RAMFS: u64 = 0x8584_58f6;
    let kind = rustix::fs::fstatfs(file).ok().and_then(|stat| u64::try_from(stat.f_type).ok());
    kind.is_some_and(|kind| [TMPFS, RAMFS].contains(&kind))
}

/// The file system as it is.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Native;

impl FileSystem for Native {}

/// Gives a complete file its name, which nothing may have: [`io::ErrorKind::AlreadyExists`] if
/// something has. The old name may remain.
///
/// Where the file system can neither refuse to replace nor link, it looks first and renames then:
/// a file that another program creates between the two, some microseconds, is replaced.
pub(super) fn name_file(fs: &dyn FileSystem, from: &Path, to: &Path) -> io::Result<()> {
    // Which errors mean "not here" differs between mounts (EINVAL, EPERM, ENOSYS, EOPNOTSUPP,
    // EMLINK, ENOTTY, …): a failure of any kind is reason to try the next way. What is truly wrong
    // makes the last one fail as well.
    match fs.rename_new(from, to) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
            tracing::debug!(%error, "no rename without replacing");
        }
        result => return result,
    }
    match fs.hard_link(from, to) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
            tracing::debug!(%error, "no hard link");
        }
        result => return result,
    }
    rename_if_free(fs, from, to)
}

/// [`name_file`] for a folder, which has no hard links.
pub(crate) fn name_folder(fs: &dyn FileSystem, from: &Path, to: &Path) -> io::Result<()> {
    match fs.rename_new(from, to) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
            tracing::debug!(%error, "no rename without replacing");
        }
        result => return result,
    }
    rename_if_free(fs, from, to)
}

fn rename_if_free(fs: &dyn FileSystem, from: &Path, to: &Path) -> io::Result<()> {
    match std::fs::symlink_metadata(to) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => fs.rename(from, to),
        Err(error) => Err(error),
        Ok(_) => Err(io::ErrorKind::AlreadyExists.into()),
    }
}

/// Flushes the names in a folder, where the file system can and lets this user.
pub(crate) fn sync_folder(fs: &dyn FileSystem, folder: &Path) -> io::Result<()> {
    match fs.sync_folder(folder) {
        Err(error) if no_flush(&error) || error.kind() == io::ErrorKind::PermissionDenied => {
            tracing::debug!(%error, "the folder is not flushed");
            Ok(())
        }
        result => result,
    }
}

/// Whether an error of a flush says that there is no such operation, and not that data is lost.
pub(super) fn no_flush(error: &io::Error) -> bool {
    #[cfg(unix)]
    if let Some(code) = error.raw_os_error() {
        use rustix::io::Errno;
        // Not all of these have a kind, and some have two numbers.
        return [Errno::INVAL, Errno::NOSYS, Errno::NOTSUP, Errno::OPNOTSUPP, Errno::BADF]
            .iter()
            .any(|errno| errno.raw_os_error() == code);
    }
    matches!(error.kind(), io::ErrorKind::InvalidInput | io::ErrorKind::Unsupported)
}
