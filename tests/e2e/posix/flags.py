"""Inode flags: chattr(1), lsattr(1), ioctl_iflags(2)."""
import contextlib
import errno
import fcntl
import mmap
import os
import struct
import time

from helpers import KEEP_SIZE, PUNCH_HOLE, SOMEBODY, allocate, as_user, case, expect, fails, get, put

GETFLAGS, SETFLAGS, FSGETXATTR, FSSETXATTR = 0x80086601, 0x40086602, 0x801c581f, 0x401c5820
SYNC, IMMUTABLE, APPEND, NODUMP, NOATIME, COMPRESS, DIRSYNC = 8, 16, 32, 64, 128, 4, 65536
X_IMMUTABLE, X_NODUMP, X_PROJINHERIT = 8, 128, 512
FSXATTR = "<IIIII8x"  # flags, extsize, nextents, projid, cowextsize


def ioctl_of(path, number, argument):
    fd = os.open(path, os.O_RDONLY)
    try:
        return fcntl.ioctl(fd, number, argument)
    finally:
        os.close(fd)


def flags_of(path):
    return struct.unpack("<I4x", ioctl_of(path, GETFLAGS, bytes(8)))[0]


def set_flags(path, flags):
    ioctl_of(path, SETFLAGS, struct.pack("<I4x", flags))
    assert flags_of(path) == flags, (flags_of(path), flags)


@contextlib.contextmanager
def flagged(path, flags):
    """With flags, which would keep the directory from being removed afterwards."""
    set_flags(path, flags)
    try:
        yield
    finally:
        set_flags(path, 0)


def eventually(is_true):
    deadline = time.monotonic() + 10
    while not is_true() and time.monotonic() < deadline:
        time.sleep(0.01)
    return is_true()


def set_xattr(path, xflags, extsize=0, projid=0):
    ioctl_of(path, FSSETXATTR, struct.pack(FSXATTR, xflags, extsize, 0, projid, 0))


@case
def flags_kept(d):
    """the owner sets d, A, S (D of a directory) and reads them again, by both kinds of ioctl; what is unknown is EOPNOTSUPP"""
    f, sub = d + "/f", d + "/sub"
    put(f, b"")
    os.mkdir(sub)
    assert flags_of(f) == 0 and flags_of(sub) == 0
    before = os.stat(f).st_ctime_ns
    set_flags(f, NODUMP | NOATIME | SYNC)
    assert os.stat(f).st_ctime_ns > before
    set_flags(sub, DIRSYNC | NODUMP)
    assert struct.unpack(FSXATTR, ioctl_of(sub, FSGETXATTR, bytes(28))) == (X_NODUMP, 0, 0, 0, 0)
    set_xattr(sub, 0)
    assert flags_of(sub) == DIRSYNC
    fails(errno.EOPNOTSUPP, set_flags, f, DIRSYNC)
    fails(errno.EOPNOTSUPP, set_flags, f, COMPRESS)
    fails(errno.EOPNOTSUPP, set_xattr, sub, X_PROJINHERIT)
    fails(errno.EOPNOTSUPP, set_xattr, f, 0, projid=7)
    assert flags_of(f) == NODUMP | NOATIME | SYNC
    set_flags(f, 0)


@case(root=True)
def flags_owner(d):
    """only the owner sets flags, only root i and a; flags other than i do not change while it is set"""
    f = d + "/f"
    put(f, b"")
    fails(errno.EPERM, as_user, set_flags, f, NODUMP)
    os.chown(f, SOMEBODY, SOMEBODY)
    as_user(set_flags, f, NODUMP, uid=SOMEBODY, gid=SOMEBODY)
    fails(errno.EPERM, as_user, set_flags, f, NODUMP | APPEND, uid=SOMEBODY, gid=SOMEBODY)
    fails(errno.EPERM, as_user, set_flags, f, NODUMP | IMMUTABLE, uid=SOMEBODY, gid=SOMEBODY)
    set_flags(f, NODUMP | IMMUTABLE)
    try:
        fails(errno.EPERM, as_user, set_flags, f, NODUMP, uid=SOMEBODY, gid=SOMEBODY)
        fails(errno.EPERM, set_flags, f, IMMUTABLE)
        fails(errno.EPERM, set_xattr, f, X_IMMUTABLE)
        assert flags_of(f) == NODUMP | IMMUTABLE
    finally:
        set_flags(f, 0)


def changes_nothing(f, d):
    """What neither an immutable nor an append-only file lets root do, by name."""
    fails(errno.EPERM, os.open, f, os.O_WRONLY)
    fails(errno.EPERM, os.open, f, os.O_RDWR)
    fails(errno.EPERM, os.open, f, os.O_WRONLY | os.O_APPEND | os.O_TRUNC)
    fails(errno.EPERM, os.truncate, f, 1)
    fails(errno.EPERM, os.chmod, f, 0o600)
    fails(errno.EPERM, os.chown, f, SOMEBODY, SOMEBODY)
    fails(errno.EPERM, os.utime, f, (1, 1))
    fails(errno.EPERM, os.setxattr, f, "user.b", b"v")
    fails(errno.EPERM, os.removexattr, f, "user.a")
    fails(errno.EPERM, os.setxattr, f, "system.posix_acl_access", acl())
    fails(errno.EPERM, os.link, f, d + "/g")
    fails(errno.EPERM, os.unlink, f)
    fails(errno.EPERM, os.rename, f, d + "/g")
    put(d + "/other", b"")
    fails(errno.EPERM, os.rename, d + "/other", f)


def acl():
    """rw for the owner and user 5, r for others."""
    return struct.pack("<I" + "HHI" * 5, 2, 1, 6, 0xffffffff, 2, 6, 5, 4, 4, 0xffffffff, 16, 6, 0xffffffff, 32, 4,
                       0xffffffff)


@case(root=True)
def immutable_file(d):
    """an immutable file changes in no way, not even for root, and not by who has it open for writing (EPERM)"""
    f = d + "/f"
    put(f, b"abc")
    os.setxattr(f, "user.a", b"v")
    fd = os.open(f, os.O_RDWR)
    other = os.open(d, os.O_RDONLY)
    os.write(fd, b"ABC")
    before = os.stat(f)
    with flagged(f, IMMUTABLE):
        changes_nothing(f, d)
        fails(errno.EPERM, os.open, f, os.O_WRONLY | os.O_APPEND)
        fails(errno.EPERM, os.utime, f)
        fails(errno.EPERM, os.pwrite, fd, b"x", 0)
        fails(errno.EPERM, os.ftruncate, fd, 1)
        fails(errno.EPERM, os.fchmod, fd, 0o600)
        fails(errno.EPERM, allocate, fd, 0, 0, 10)
        expect(f, b"ABC")
        now = os.stat(f)
        assert (now.st_mode, now.st_mtime_ns, now.st_nlink) == (before.st_mode, before.st_mtime_ns, before.st_nlink)
    assert os.pwrite(fd, b"x", 0) == 1
    os.close(fd)
    os.close(other)
    expect(f, b"xBC")
    os.unlink(f)


@case(root=True)
def append_only_file(d):
    """an append-only file only grows: written with O_APPEND, which F_SETFL does not take back, allocated, touched"""
    f = d + "/f"
    put(f, b"abc")
    os.setxattr(f, "user.a", b"v")
    with flagged(f, APPEND):
        changes_nothing(f, d)
        fd = os.open(f, os.O_WRONLY | os.O_APPEND)
        assert os.write(fd, b"def") == 3
        os.utime(f)
        allocate(fd, KEEP_SIZE, 0, 10)
        fails(errno.EPERM, allocate, fd, PUNCH_HOLE | KEEP_SIZE, 0, 10)
        fails(errno.EPERM, os.ftruncate, fd, 0)
        with contextlib.suppress(OSError):
            fcntl.fcntl(fd, fcntl.F_SETFL, 0)
            fails(errno.EPERM, os.pwrite, fd, b"x", 0)
        os.close(fd)
        expect(f, b"abcdef")
    os.truncate(f, 1)
    os.unlink(f)


@case(root=True)
def flagged_directories(d):
    """in an immutable directory no name changes, in an append-only one they are made only; files in it do change"""
    sub = d + "/sub"
    os.mkdir(sub)
    put(sub + "/f", b"1")
    put(d + "/out", b"")
    with flagged(sub, IMMUTABLE):
        fails(errno.EPERM, put, sub + "/g", b"")
        fails(errno.EPERM, os.mkdir, sub + "/h")
        fails(errno.EPERM, os.symlink, "f", sub + "/s")
        fails(errno.EPERM, os.link, sub + "/f", sub + "/l")
        fails(errno.EPERM, os.rename, sub + "/f", sub + "/g")
        fails(errno.EPERM, os.rename, sub + "/f", d + "/g")
        fails(errno.EPERM, os.rename, d + "/out", sub + "/g")
        fails(errno.EPERM, os.unlink, sub + "/f")
        fails(errno.EPERM, os.chmod, sub, 0o700)
        fails(errno.EPERM, os.rename, sub, d + "/sub2")
        put(sub + "/f", b"22")
    with flagged(sub, APPEND):
        put(sub + "/g", b"")
        os.mkdir(sub + "/h")
        os.rename(d + "/out", sub + "/out")
        fails(errno.EPERM, os.unlink, sub + "/g")
        fails(errno.EPERM, os.rmdir, sub + "/h")
        fails(errno.EPERM, os.rename, sub + "/g", sub + "/i")
        fails(errno.EPERM, os.rename, sub + "/f", sub + "/g")
    assert sorted(os.listdir(sub)) == ["f", "g", "h", "out"]
    os.unlink(sub + "/g")
    expect(sub + "/f", b"22")


@case(root=True)
def flags_inherited(d):
    """A, d and S pass from a directory to what is made in it, D to directories, i and a to nothing"""
    os.mkdir(d + "/sub")
    with flagged(d + "/sub", NODUMP | NOATIME | APPEND):
        put(d + "/sub/f", b"")
        os.mkdir(d + "/sub/dir")
        assert flags_of(d + "/sub/f") == NODUMP | NOATIME and flags_of(d + "/sub/dir") == NODUMP | NOATIME
    with flagged(d + "/sub", SYNC | DIRSYNC):
        put(d + "/sub/g", b"synchronous")
        os.mkdir(d + "/sub/dir2")
        os.unlink(d + "/sub/f")
        assert flags_of(d + "/sub/g") == SYNC and flags_of(d + "/sub/dir2") == SYNC | DIRSYNC


@case(root=True)
def immutable_mapping(d):
    """what was written through a mapping before +i is in the file; what is written afterwards is not, msync says so, and soon the mapping too"""
    f = d + "/f"
    put(f, b"a" * 8192)
    fd = os.open(f, os.O_RDWR)
    with mmap.mmap(fd, 8192) as pages:
        pages[0:3] = b"xyz"
        with flagged(f, IMMUTABLE):
            pages[4096:4099] = b"XYZ"
            fails(errno.EPERM, pages.flush)
            changed = b"xyz" + b"a" * 8189
            assert eventually(lambda: get(f) == changed and pages[:] == changed)
    os.close(fd)


@case(needs="mounts", root=True)
def flags_on_two_mounts(d):
    """a flag set on one mount holds on the other, also for who has the file open there, and is gone when it is cleared"""
    other = d.replace(os.environ["POSIX_MOUNT"], os.environ["POSIX_OTHER"], 1)
    put(d + "/f", b"abc")
    fd = os.open(other + "/f", os.O_WRONLY)
    os.write(fd, b"ABC")
    with flagged(d + "/f", IMMUTABLE):
        assert flags_of(other + "/f") == IMMUTABLE
        fails(errno.EPERM, os.open, other + "/f", os.O_WRONLY)
        fails(errno.EPERM, os.write, fd, b"x")
        fails(errno.EPERM, os.unlink, other + "/f")
        os.fsync(fd)
        expect(d + "/f", b"ABC")
    assert os.write(fd, b"again") == 5
    os.close(fd)
    put(other + "/f", b"new")
    expect(d + "/f", b"new")


@case(needs="mounts", root=True)
def flags_asked_and_pages(d):
    """who asks for the flags of a file that changed on another mount still reads its new contents"""
    other = d.replace(os.environ["POSIX_MOUNT"], os.environ["POSIX_OTHER"], 1)
    for i in range(20):
        old, new = b"old %d" % i, b"new %d" % i
        put(d + "/f", old)
        fd = os.open(d + "/f", os.O_RDONLY)
        assert os.read(fd, 100) == old
        put(other + "/f", new)
        fcntl.ioctl(fd, GETFLAGS, bytes(8))  # the kernel opens the file once more
        os.close(fd)
        expect(d + "/f", new)
