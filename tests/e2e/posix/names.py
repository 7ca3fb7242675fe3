"""Links, renames, symbolic links, directories as names."""
import errno
import os
import random
import stat
import time

from helpers import RENAME_EXCHANGE, RENAME_NOREPLACE, case, expect, fails, get, name_it, put, renameat2


@case
def hard_links(d):
    """link: one file, two names"""
    put(d + "/a", b"one")
    os.link(d + "/a", d + "/b")
    assert os.stat(d + "/a").st_nlink == 2 and os.path.samefile(d + "/a", d + "/b")
    put(d + "/b", b"two", os.O_WRONLY)
    expect(d + "/a", b"two")
    os.unlink(d + "/a")
    assert os.stat(d + "/b").st_nlink == 1
    expect(d + "/b", b"two")
    os.link(d + "/b", d + "/c")
    fd = os.open(d + "/b", os.O_RDWR)
    os.write(fd, b"three")  # dirty, and one name is replaced
    put(d + "/x", b"")
    os.rename(d + "/x", d + "/c")
    assert os.fstat(fd).st_nlink == 1, os.fstat(fd).st_nlink
    os.close(fd)
    os.mkdir(d + "/dir")
    fails(errno.EPERM, os.link, d + "/dir", d + "/dir2")
    fails(errno.EEXIST, os.link, d + "/b", d + "/c")
    # Names of one file: rename does nothing.
    os.link(d + "/b", d + "/b2")
    os.rename(d + "/b", d + "/b2")
    assert os.path.exists(d + "/b") and os.path.exists(d + "/b2")


@case
def symlinks(d):
    """symbolic links are followed, read, refused by O_NOFOLLOW"""
    os.symlink("target", d + "/l")
    assert os.readlink(d + "/l") == "target" and os.lstat(d + "/l").st_size == 6
    fails(errno.ENOENT, os.stat, d + "/l")
    put(d + "/target", b"t")
    expect(d + "/l", b"t")
    fails(errno.ELOOP, os.open, d + "/l", os.O_RDONLY | os.O_NOFOLLOW)
    os.symlink("loop2", d + "/loop1")
    os.symlink("loop1", d + "/loop2")
    fails(errno.ELOOP, os.stat, d + "/loop1")
    long = "x/" * 2047
    os.symlink(long, d + "/long")
    assert os.readlink(d + "/long") == long
    fails(errno.EEXIST, os.symlink, "a", d + "/l")
    os.unlink(d + "/l")
    expect(d + "/target", b"t")


@case
def renames(d):
    """rename: NOREPLACE, EXCHANGE, and what may not replace what"""
    put(d + "/a", b"a")
    put(d + "/b", b"b")
    fails(errno.EEXIST, renameat2, d + "/a", d + "/b", 1)
    renameat2(d + "/a", d + "/c", 1)
    renameat2(d + "/b", d + "/c", 2)
    expect(d + "/b", b"a"), expect(d + "/c", b"b")
    fails(errno.ENOENT, renameat2, d + "/b", d + "/nothing", 2)
    os.mkdir(d + "/dir"), os.mkdir(d + "/full"), put(d + "/full/f", b"")
    fails(errno.ENOTEMPTY, os.rename, d + "/dir", d + "/full")
    fails(errno.ENOTDIR, os.rename, d + "/dir", d + "/b")
    fails(errno.EISDIR, os.rename, d + "/b", d + "/dir")
    fails(errno.EINVAL, os.rename, d + "/dir", d + "/dir/below")
    os.rename(d + "/full", d + "/dir")
    assert os.listdir(d + "/dir") == ["f"]
    renameat2(d + "/dir", d + "/b", 2)
    assert os.path.isfile(d + "/dir") and os.path.isdir(d + "/b")


@case
def directory_links(d):
    """st_nlink of a directory is two and its subdirectories"""
    base = os.stat(d).st_nlink
    os.mkdir(d + "/a"), os.mkdir(d + "/a/x"), os.mkdir(d + "/b")
    assert os.stat(d).st_nlink == base + 2
    assert (os.stat(d + "/a").st_nlink, os.stat(d + "/b").st_nlink) == (3, 2)
    os.rename(d + "/a/x", d + "/b/x")
    assert (os.stat(d + "/a").st_nlink, os.stat(d + "/b").st_nlink) == (2, 3)
    assert os.path.samefile(d + "/b/x/..", d + "/b")
    os.rmdir(d + "/b/x")
    assert os.stat(d + "/b").st_nlink == 2
    os.rmdir(d + "/a"), os.rmdir(d + "/b")
    assert os.stat(d).st_nlink == base


@case
def removed_directory_in_use(d):
    """a removed directory has no links and takes no new entries"""
    here = os.open(d, os.O_RDONLY | os.O_DIRECTORY)
    os.mkdir(d + "/gone")
    os.mkdir(d + "/replaced")
    os.mkdir(d + "/other")
    gone, replaced = (os.open(d + "/" + n, os.O_RDONLY | os.O_DIRECTORY) for n in ("gone", "replaced"))
    os.fchdir(gone)
    os.rmdir(d + "/gone")
    os.rename(d + "/other", d + "/replaced")
    for fd in gone, replaced:
        assert os.fstat(fd).st_nlink == 0, os.fstat(fd)
        assert stat.S_ISDIR(os.fstat(fd).st_mode)
    assert os.stat(".").st_nlink == 0
    fails(errno.ENOENT, os.mkdir, "below")
    assert os.listdir(gone) == []
    assert os.stat(d + "/replaced").st_nlink == 2
    for fd in gone, replaced, here:
        os.close(fd)


@case(root=True)
def whiteouts(d):
    """RENAME_WHITEOUT leaves a device 0:0"""
    put(d + "/f", b"moved")
    renameat2(d + "/f", d + "/g", 4)
    info = os.lstat(d + "/f")
    assert stat.S_ISCHR(info.st_mode) and info.st_rdev == 0 and get(d + "/g") == b"moved"


@case
def renames_onto_itself(d):
    """rename of a name to itself or to another name of the file does nothing; into itself is EINVAL"""
    put(d + "/f", b"f")
    os.rename(d + "/f", d + "/f")
    os.link(d + "/f", d + "/g")
    before = os.stat(d + "/f")
    os.rename(d + "/f", d + "/g")
    assert sorted(os.listdir(d)) == ["f", "g"] and os.stat(d + "/f").st_ctime_ns == before.st_ctime_ns
    renameat2(d + "/f", d + "/g", RENAME_EXCHANGE)
    fails(errno.EEXIST, renameat2, d + "/f", d + "/f", RENAME_NOREPLACE)
    fails(errno.EEXIST, renameat2, d + "/f", d + "/g", RENAME_NOREPLACE)
    os.makedirs(d + "/a/b/c")
    os.rename(d + "/a", d + "/a")
    for below in "/a/x", "/a/b/x", "/a/b/c/x", "/a/b/c":
        fails(errno.EINVAL, os.rename, d + "/a", d + below)
    fails(errno.ENOTEMPTY, os.rename, d + "/a/b/c", d + "/a")
    fails(errno.EINVAL, renameat2, d + "/a", d + "/a/b", RENAME_EXCHANGE)
    fails(errno.EINVAL, renameat2, d + "/a/b", d + "/a", RENAME_EXCHANGE)
    fails(errno.EINVAL, renameat2, d + "/f", d + "/x", RENAME_NOREPLACE | RENAME_EXCHANGE)
    fails(errno.EINVAL, renameat2, d + "/f", d + "/x", 8)
    for dots in ".", "..":
        assert_busy_or_invalid(os.rename, d + "/a/" + dots, d + "/x")
        assert_busy_or_invalid(os.rename, d + "/a", d + "/a/b/" + dots)
    fails(errno.EINVAL, os.rmdir, d + "/a/.")
    fails(errno.ENOTEMPTY, os.rmdir, d + "/a/b/..")


def assert_busy_or_invalid(function, *args):
    try:
        function(*args)
    except OSError as e:
        assert e.errno in (errno.EBUSY, errno.EINVAL), errno.errorcode[e.errno]
        return
    raise AssertionError("no error")


@case
def renames_replace(d):
    """rename replaces a file, a symbolic link and an empty directory, and what was there loses its name"""
    put(d + "/f", b"f"), put(d + "/victim", b"victim")
    os.link(d + "/victim", d + "/other")
    os.rename(d + "/f", d + "/victim")
    assert get(d + "/victim") == b"f" and os.stat(d + "/other").st_nlink == 1
    os.symlink("nowhere", d + "/l")
    os.rename(d + "/victim", d + "/l")
    assert not os.path.islink(d + "/l") and get(d + "/l") == b"f"
    os.symlink("l", d + "/link")
    os.rename(d + "/link", d + "/link2")
    assert os.readlink(d + "/link2") == "l" and get(d + "/l") == b"f"
    os.makedirs(d + "/from/sub"), os.mkdir(d + "/to")
    links = os.stat(d).st_nlink
    inode = os.stat(d + "/from").st_ino
    os.rename(d + "/from", d + "/to")
    assert os.stat(d + "/to").st_ino == inode and os.listdir(d + "/to") == ["sub"]
    assert os.stat(d).st_nlink == links - 1 and os.stat(d + "/to").st_nlink == 3
    fails(errno.ENOTDIR, os.rename, d + "/to", d + "/l")
    fails(errno.EISDIR, os.rename, d + "/l", d + "/to")
    fails(errno.ENOENT, os.rename, d + "/nothing", d + "/x")
    fails(errno.ENOENT, os.rename, d + "/l", d + "/nothing/x")
    fails(errno.ENOTDIR, os.rename, d + "/l", d + "/other/x")


@case
def exchanges_between_directories(d):
    """RENAME_EXCHANGE of a directory and a file moves st_nlink and .. along"""
    os.makedirs(d + "/a/dir/in"), os.mkdir(d + "/b"), put(d + "/b/file", b"x")
    renameat2(d + "/a/dir", d + "/b/file", RENAME_EXCHANGE)
    assert os.path.isfile(d + "/a/dir") and os.path.isdir(d + "/b/file/in")
    assert (os.stat(d + "/a").st_nlink, os.stat(d + "/b").st_nlink) == (2, 3)
    assert os.path.samefile(d + "/b/file/..", d + "/b")
    fails(errno.ENOENT, renameat2, d + "/a/dir", d + "/a/nothing", RENAME_EXCHANGE)
    os.mkdir(d + "/a/other")
    renameat2(d + "/a/other", d + "/b/file", RENAME_EXCHANGE)
    assert (os.stat(d + "/a").st_nlink, os.stat(d + "/b").st_nlink) == (3, 3)
    assert os.listdir(d + "/a/other") == ["in"]


@case
def rename_is_atomic(d):
    """who opens a name that is replaced by rename all the time finds it, and finds it whole"""
    put(d + "/f", b"0" * 5000)
    readers = []
    for _ in range(3):
        readers.append(os.fork())
        if readers[-1] == 0:
            try:
                done = False
                while not done:
                    done = os.path.exists(d + "/done")
                    data = get(d + "/f")
                    assert data == data[:1] * 5000, (len(data), data[:1])
                os._exit(0)
            finally:
                os._exit(1)  # of what, the test says below
    try:
        # Longer than from one keepalive to the next: that is when a mount is asked what it has open.
        end = time.monotonic() + 3
        while time.monotonic() < end:
            put(d + "/new", b"%d" % random.randrange(10) * 5000)
            os.rename(d + "/new", d + "/f")
    finally:
        put(d + "/done", b"")
        results = [os.waitpid(pid, 0)[1] for pid in readers]
    assert results == [0] * 3, "a reader was refused, or read a mixture"


@case(needs="mounts", root=True)
def created_meanwhile(d):
    """O_CREAT of a name that another mount has just made opens the file only with the right to"""
    other = d.replace(os.environ["POSIX_MOUNT"], os.environ["POSIX_OTHER"], 1)
    os.chmod(d, 0o777)
    pid = os.fork()
    if pid == 0:
        try:
            os.setgroups([]), os.setgid(1234), os.setuid(1234)
            while not os.path.exists(d + "/done"):
                try:
                    fd = os.open(d + "/f", os.O_CREAT | os.O_RDWR, 0o600)
                except PermissionError:
                    continue
                assert os.fstat(fd).st_uid == 1234
                os.close(fd)
                os.unlink(d + "/f")
            os._exit(0)
        finally:
            os._exit(1)
    end = time.monotonic() + 3
    while time.monotonic() < end:
        try:
            os.close(os.open(other + "/f", os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600))
            os.unlink(other + "/f")
        except (FileExistsError, FileNotFoundError):
            pass
    put(d + "/done", b"")
    assert os.waitpid(pid, 0)[1] == 0, "somebody else's file was opened"


@case(slow=True)
def many_links(d):
    """a file has at least a thousand names, all of them counted"""
    put(d + "/f", b"x")
    for i in range(1000):
        os.link(d + "/f", d + "/l%d" % i)
    assert os.stat(d + "/l999").st_nlink == 1001
    for i in range(1000):
        os.unlink(d + "/l%d" % i)
    assert os.stat(d + "/f").st_nlink == 1


@case
def links_refused(d):
    """link: EPERM for directories, EEXIST, ENOENT; of a symbolic link the link itself; of special files"""
    os.mkdir(d + "/dir"), put(d + "/f", b"x"), os.symlink("f", d + "/l"), os.mkfifo(d + "/p")
    fails(errno.EPERM, os.link, d + "/dir", d + "/x")
    fails(errno.EEXIST, os.link, d + "/f", d + "/dir")
    fails(errno.ENOENT, os.link, d + "/nothing", d + "/x")
    fails(errno.ENOENT, os.link, d + "/f", d + "/nothing/x")
    os.link(d + "/l", d + "/l2", follow_symlinks=False)
    assert os.readlink(d + "/l2") == "f" and os.lstat(d + "/l").st_nlink == 2
    os.link(d + "/p", d + "/p2")
    assert os.stat(d + "/p2").st_nlink == 2
    fd = os.open(d + "/f", os.O_RDONLY)
    os.unlink(d + "/f")
    fails(errno.ENOENT, name_it, fd, d + "/again")
    os.close(fd)


@case
def symlink_targets(d):
    """a target of 1 to 4,095 bytes; none is ENOENT, 4,096 ENAMETOOLONG; absolute, with any byte"""
    for size in 1, 59, 60, 255, 256, 4094, 4095:
        os.symlink("t" * size, d + "/l%d" % size)
        assert os.readlink(d + "/l%d" % size) == "t" * size and os.lstat(d + "/l%d" % size).st_size == size
    fails(errno.ENAMETOOLONG, os.symlink, "t" * 4096, d + "/x")
    fails(errno.ENOENT, os.symlink, "", d + "/x")
    fails(errno.EINVAL, os.readlink, d)
    odd = bytes(range(1, 256))
    os.symlink(odd, os.fsencode(d) + b"/odd")
    assert os.readlink(os.fsencode(d) + b"/odd") == odd
    os.symlink(d, d + "/absolute")
    assert sorted(os.listdir(d + "/absolute")) == sorted(os.listdir(d))
    assert stat.S_IMODE(os.lstat(d + "/odd").st_mode) == 0o777


@case
def odd_names(d):
    """a name is any bytes but / and NUL, compared byte by byte"""
    names = [bytes([c]) for c in range(1, 256) if c not in b"/."]
    names += [b"...", b" ", b"-rf", b"\n", "ö".encode(), "o\u0308".encode(), b"UPPER", b"upper", b"\xff\xfe"]
    names = sorted(set(names))
    for name in names:
        put(os.fsencode(d) + b"/" + name, name)
    assert sorted(os.listdir(os.fsencode(d))) == names
    for name in names:
        assert get(os.fsencode(d) + b"/" + name) == name
