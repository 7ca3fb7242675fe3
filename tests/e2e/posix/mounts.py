"""Several mounts of one volume: read-only, of a directory, two of the whole; and one again."""
import errno
import mmap
import os
import stat
import time

from helpers import case, expect, fails, get, mode_of, put
from special import handle_of, open_handle
from times import access_time, reading


def elsewhere(d, variable):
    """The same directory on another mount."""
    return os.environ[variable] + d[len(os.environ["POSIX_MOUNT"]):]


@case(needs="mounts")
def read_only(d):
    """on a read-only mount whatever changes something is EROFS, and reading works"""
    put(d + "/f", b"x"), os.mkdir(d + "/d"), os.symlink("f", d + "/l")
    r = elsewhere(d, "POSIX_READONLY")
    assert get(r + "/f") == b"x" and sorted(os.listdir(r)) == ["d", "f", "l"]
    for function, *args in (
            (os.open, r + "/f", os.O_WRONLY), (os.open, r + "/f", os.O_RDWR), (os.open, r + "/n", os.O_CREAT),
            (os.open, r + "/f", os.O_RDONLY | os.O_TRUNC), (os.mkdir, r + "/n"), (os.rmdir, r + "/d"),
            (os.unlink, r + "/f"), (os.rename, r + "/f", r + "/n"), (os.link, r + "/f", r + "/n"),
            (os.symlink, "x", r + "/n"), (os.mkfifo, r + "/n"), (os.chmod, r + "/f", 0o600),
            (os.chown, r + "/f", -1, -1), (os.utime, r + "/f"), (os.truncate, r + "/f", 0),
            (os.setxattr, r + "/f", "user.a", b""), (os.removexattr, r + "/f", "user.a"),
            (os.open, r, os.O_TMPFILE | os.O_RDWR)):
        fails(errno.EROFS, function, *args)
    assert not os.access(r + "/f", os.W_OK) and os.access(r + "/f", os.R_OK)
    assert os.statvfs(r).f_flag & os.ST_RDONLY
    put(d + "/f", b"changed")
    assert get(r + "/f") == b"changed"


@case(needs="mounts")
def access_time_options(d):
    """noatime: never; strictatime: with each open; nodiratime: not of directories; others see it soon"""
    put(d + "/f", b"x")
    never, strict = elsewhere(d, "POSIX_NOATIME"), elsewhere(d, "POSIX_STRICTATIME")
    read_only = elsewhere(d, "POSIX_READONLY")
    assert not reading(never + "/f") and not reading(never) and not reading(read_only + "/f")
    assert reading(strict + "/f") and reading(strict + "/f") and not reading(strict)
    want = access_time(strict + "/f")
    end = time.monotonic() + 20
    while access_time(d + "/f") != want:
        assert time.monotonic() < end, "another mount does not see it"
        time.sleep(0.1)


@case(needs="mounts")
def between_mounts(d):
    """rename and link from one mount to another are EXDEV; copy_file_range copies or is EXDEV"""
    put(d + "/f", b"x" * 100000)
    other = elsewhere(d, "POSIX_OTHER")
    fails(errno.EXDEV, os.rename, d + "/f", other + "/g")
    fails(errno.EXDEV, os.link, d + "/f", other + "/g")
    assert sorted(os.listdir(d)) == ["f"]
    a, b = os.open(d + "/f", os.O_RDONLY), os.open(other + "/copy", os.O_RDWR | os.O_CREAT)
    try:
        copied = os.copy_file_range(a, b, 100000)
    except OSError as e:
        assert e.errno == errno.EXDEV, errno.errorcode[e.errno]
    else:
        os.close(b)
        assert copied > 0 and get(d + "/copy") == b"x" * copied


@case(needs="mounts")
def seen_on_the_other(d):
    """names, attributes, modes, ACLs, extended attributes and closed contents are the same on two mounts"""
    other = elsewhere(d, "POSIX_OTHER")
    for i in range(5):
        put(d + "/f", b"%d" % i * 10000)
        assert get(other + "/f") == b"%d" % i * 10000
        os.chmod(other + "/f", 0o600 + i)
        os.setxattr(other + "/f", "user.i", b"%d" % i)
        assert mode_of(d + "/f") == 0o600 + i and os.getxattr(d + "/f", "user.i") == b"%d" % i
        os.rename(other + "/f", other + "/g")
        assert os.listdir(d) == ["g"]
        fails(errno.ENOENT, os.stat, d + "/f")
        os.link(d + "/g", d + "/f")
        assert os.stat(other + "/f").st_nlink == 2
        os.unlink(other + "/g")
        assert os.stat(d + "/f").st_nlink == 1
    assert os.stat(d + "/f").st_ino == os.stat(other + "/f").st_ino
    fd = os.open(d + "/f", os.O_RDONLY)
    os.unlink(other + "/f")
    assert os.read(fd, 3) == b"444" and os.fstat(fd).st_nlink == 0
    os.close(fd)


@case(needs="mounts")
def subdirectory(d):
    """a subdir= mount is confined: its root's .. is outside, absolute links too, nothing moves across"""
    inside, sub = os.environ["POSIX_MOUNT"] + "/sub/inner", os.environ["POSIX_SUBDIR"]
    name = os.path.basename(d)
    put(inside + "/" + name, b"inside")
    assert get(sub + "/inner/" + name) == b"inside"
    assert os.path.samefile(sub + "/inner/..", sub) and not os.path.samefile(sub + "/..", os.environ["POSIX_MOUNT"])
    assert os.path.samefile(sub + "/..", os.path.dirname(sub))
    put(d + "/outside", b"outside")
    os.symlink("../../../../" + name + "/outside", sub + "/inner/relative-" + name)
    fails(errno.ENOENT, os.stat, sub + "/inner/relative-" + name)
    os.symlink("/" + name + "/outside", sub + "/inner/absolute-" + name)
    fails(errno.ENOENT, os.stat, sub + "/inner/absolute-" + name)
    fails(errno.EXDEV, os.rename, sub + "/inner/" + name, d + "/moved")
    fails(errno.EXDEV, os.link, d + "/outside", sub + "/inner/linked-" + name)
    os.rename(inside + "/" + name, d + "/moved")
    fails(errno.ENOENT, os.stat, sub + "/inner/" + name)
    put(sub + "/inner/new-" + name, b"new")
    assert get(inside + "/new-" + name) == b"new"
    assert os.stat(sub + "/inner").st_ino == os.stat(inside).st_ino
    assert os.statvfs(sub).f_blocks > 0


@case(needs="mounts")
def subdirectory_handles(d):
    """file handles are of the volume, not of the subdirectory: only who passes CAP_DAC_READ_SEARCH may open them"""
    put(d + "/outside", b"outside")
    sub = os.environ["POSIX_SUBDIR"]
    put(sub + "/inner/h-" + os.path.basename(d), b"inside")
    for path, want in (d + "/outside", b"outside"), (sub + "/inner/h-" + os.path.basename(d), b"inside"):
        if os.getuid() == 0:
            fd = open_handle(handle_of(path), sub)
            assert os.read(fd, 10) == want
            os.close(fd)
        else:
            fails(errno.EPERM, open_handle, handle_of(path), sub)


def kept(d, name):
    """Where the cases before a remount leave something for those after it."""
    return os.path.dirname(d) + "/kept-" + name


@case(needs="remount-before")
def mapped_before(d):
    """a file is written through a mapping and msync"""
    put(kept(d, "mapped"), b"-" * 300000)
    fd = os.open(kept(d, "mapped"), os.O_RDWR)
    m = mmap.mmap(fd, 300000)
    m[100:103] = b"abc"
    m[200000:200003] = b"def"
    m.flush()
    m.close()
    os.close(fd)


@case(needs="remount-after")
def mapped_after(d):
    """what was written through a mapping is there"""
    want = bytearray(b"-" * 300000)
    want[100:103], want[200000:200003] = b"abc", b"def"
    expect(kept(d, "mapped"), bytes(want))


@case(needs="remount-before")
def read_before(d):
    """a file is read just before"""
    f = kept(d, "read")
    put(f, b"x")
    assert reading(f)
    put(kept(d, "read at"), b"%d" % access_time(f))


@case(needs="remount-after")
def read_after(d):
    """its access time is what it was"""
    assert access_time(kept(d, "read")) == int(get(kept(d, "read at")))


@case(needs="remount-before")
def attributes_before(d):
    """times, mode, owner, an ACL and extended attributes are set, on a file just written and not synced"""
    f = kept(d, "attributes")
    put(f, b"x" * 20000)
    os.setxattr(f, "user.empty", b"")
    os.setxattr(f, "trusted.t", b"t" * 5000)
    os.chown(f, 4242, 2**31)
    os.chmod(f, 0o6751)
    os.utime(f, ns=(-5, 2**33 * 10**9 + 7))
    os.mkfifo(kept(d, "fifo"), 0o640)


@case(needs="remount-after")
def attributes_after(d):
    """times, mode, owner and extended attributes are as they were set"""
    f = kept(d, "attributes")
    s = os.stat(f)
    assert (s.st_atime_ns, s.st_mtime_ns) == (-5, 2**33 * 10**9 + 7), s
    assert (s.st_uid, s.st_gid, mode_of(f), s.st_size) == (4242, 2**31, 0o6751, 20000), s
    assert os.getxattr(f, "user.empty") == b"" and os.getxattr(f, "trusted.t") == b"t" * 5000
    assert os.stat(kept(d, "fifo")).st_mode == stat.S_IFIFO | 0o640


@case(needs="no-quorum")
def sync_error(d):
    """fsync says that the data could not be stored, once, and the file has nothing of it"""
    fd = os.open(d + "/big", os.O_RDWR | os.O_CREAT)
    os.write(fd, b"x" * 100000)
    fails(errno.EIO, os.fsync, fd)
    os.fsync(fd)  # told once
    os.close(fd)
    assert os.stat(d + "/big").st_size == 0
