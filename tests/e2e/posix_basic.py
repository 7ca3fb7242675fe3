"""posix_basic.py [CASE DIRECTORY]: one case in an empty directory; without arguments: their names."""
import ctypes
import errno
import mmap
import os
import stat
import subprocess
import sys
import time

CASES = {}
NOBODY = 65534
libc = ctypes.CDLL(None, use_errno=True)


def case(function):
    CASES[function.__name__] = function
    return function


def fails(code, function, *args, **kwargs):
    try:
        function(*args, **kwargs)
    except OSError as e:
        assert e.errno == code, (errno.errorcode[e.errno], "want", errno.errorcode[code])
        return
    raise AssertionError("no error, want " + errno.errorcode[code])


def put(path, data, flags=os.O_WRONLY | os.O_CREAT | os.O_TRUNC, at=None):
    fd = os.open(path, flags, 0o644)
    try:
        if at is None:
            assert os.write(fd, data) == len(data)
        else:
            assert os.pwrite(fd, data, at) == len(data)
    finally:
        os.close(fd)


def get(path):
    with open(path, "rb") as f:
        return f.read()


def expect(path, want):
    got = get(path)
    if got != want:
        at = next((i for i, (x, y) in enumerate(zip(got, want)) if x != y), min(len(got), len(want)))
        raise AssertionError("%s: %d bytes, want %d, first difference at %d" % (path, len(got), len(want), at))
    assert os.stat(path).st_size == len(want), (path, os.stat(path).st_size, len(want))


def as_nobody(code, *args):
    script = "import os, sys, errno\n" + code
    done = subprocess.run(["setpriv", "--reuid=%d" % NOBODY, "--regid=%d" % NOBODY, "--clear-groups",
                           sys.executable, "-c", script, *args], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def nobody_fails(code, call, *args):
    got = as_nobody("try:\n    %s\n    print('none')\nexcept OSError as e:\n    print(errno.errorcode[e.errno])"
                    % call, *args)
    assert got == errno.errorcode[code], (call, got, "want", errno.errorcode[code])


@case
def truncate_and_extend(d):
    for size in (100, 5000, 8192, 8193, 100000, 5000000):
        for sync in (False, True):
            path = d + "/f"
            data = bytearray(os.urandom(size))
            put(path, data)
            fd = os.open(path, os.O_RDWR)
            if sync:
                os.fsync(fd)
            os.ftruncate(fd, size // 2)
            expect(path, bytes(data[:size // 2]))
            os.ftruncate(fd, size)
            expect(path, bytes(data[:size // 2]) + bytes(size - size // 2))
            os.pwrite(fd, b"tail", size + 10)
            want = bytes(data[:size // 2]) + bytes(size - size // 2 + 10) + b"tail"
            expect(path, want)
            if sync:
                os.fsync(fd)
            expect(path, want)
            os.ftruncate(fd, 0)
            expect(path, b"")
            os.pwrite(fd, b"x", 3)
            expect(path, b"\0\0\0x")
            os.close(fd)
            os.unlink(path)


@case
def sparse(d):
    path = d + "/f"
    fd = os.open(path, os.O_RDWR | os.O_CREAT)
    os.ftruncate(fd, 1 << 40)
    os.pwrite(fd, b"a", 0)
    os.pwrite(fd, b"b", (1 << 39) + 5)
    os.fsync(fd)
    assert os.fstat(fd).st_size == 1 << 40
    assert os.pread(fd, 3, 0) == b"a\0\0"
    assert os.pread(fd, 3, (1 << 39) + 4) == b"\0b\0"
    assert os.pread(fd, 10, (1 << 40) - 2) == b"\0\0"
    assert os.fstat(fd).st_blocks * 512 < 1 << 20
    fails(errno.EINVAL, os.ftruncate, fd, -1)
    os.close(fd)


@case
def inline_grows(d):
    path = d + "/f"
    want = b""
    for step in (10, 4000, 4182, 1, 8000, 100000, 70000):
        data = os.urandom(step)
        put(path, data, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        want += data
        expect(path, want)
        fd = os.open(path, os.O_RDWR)
        os.fsync(fd)
        os.pwrite(fd, b"!", 5)
        os.close(fd)
        want = want[:5] + b"!" + want[6:]
        expect(path, want)


@case
def append(d):
    path = d + "/f"
    first = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    second = os.open(path, os.O_WRONLY | os.O_APPEND)
    want = b""
    for i in range(300):
        os.write((first, second)[i % 2], b"%05d\n" % i)
        want += b"%05d\n" % i
        if i % 50 == 7:
            os.fsync(first)
        if i == 150:
            os.ftruncate(second, 0)
            want = b""
    os.close(first), os.close(second)
    expect(path, want)


@case
def open_truncates(d):
    path = d + "/f"
    for size in (100, 20000):
        put(path, b"x" * size)
        put(path, b"y")
        expect(path, b"y")
        reader = os.open(path, os.O_RDONLY)
        put(path, b"")
        assert os.read(reader, 10) == b""
        os.close(reader)
    fd = os.open(path, os.O_RDWR | os.O_TRUNC)
    for i in range(50):
        os.pwrite(fd, b"z" * 30000, 0)
        os.ftruncate(fd, i)
        assert os.fstat(fd).st_size == i
    os.fsync(fd)
    os.close(fd)
    expect(path, b"z" * 49)


@case
def unlinked_while_open(d):
    for size in (50, 100000):
        fd = os.open(d + "/f", os.O_RDWR | os.O_CREAT)
        os.write(fd, b"a" * size)
        os.unlink(d + "/f")
        assert not os.path.exists(d + "/f") and os.fstat(fd).st_nlink == 0
        assert os.pread(fd, size, 0) == b"a" * size
        os.pwrite(fd, b"b" * 20000, size)
        os.fsync(fd)
        assert os.pread(fd, 20000, size) == b"b" * 20000
        os.ftruncate(fd, 10)
        assert os.pread(fd, 100, 0) == b"a" * 10
        os.close(fd)


@case
def renamed_over_while_open(d):
    put(d + "/old", b"old" * 10000)
    old = os.open(d + "/old", os.O_RDWR)
    os.pwrite(old, b"OLD", 0)
    put(d + "/new", b"new")
    os.rename(d + "/new", d + "/old")
    expect(d + "/old", b"new")
    assert os.pread(old, 6, 0) == b"OLDold" and os.fstat(old).st_nlink == 0
    os.fsync(old)
    os.close(old)
    assert os.listdir(d) == ["old"]


@case
def opened_while_removed(d):
    """An open that succeeded reads the file, whatever happens to its name at the same time."""
    import threading
    errors = []

    def reader(path):
        try:
            fd = os.open(path, os.O_RDONLY)
        except FileNotFoundError:
            return
        try:
            if os.read(fd, 100) != b"contents":
                errors.append("read other data")
        except OSError as e:
            errors.append(errno.errorcode[e.errno])
        os.close(fd)

    for i in range(200):
        path = d + "/f%d" % i
        put(path, b"contents")
        os.stat(path)
        t = threading.Thread(target=reader, args=(path,))
        t.start()
        os.unlink(path)
        t.join()
    assert not errors, errors[:5]


@case
def mmap_shared(d):
    path = d + "/f"
    put(path, b"." * 20000)
    fd = os.open(path, os.O_RDWR)
    with mmap.mmap(fd, 20000) as m:
        os.close(fd)  # released by the kernel only after the mapping has gone
        m[5000:5003] = b"abc"
        m.flush()
        want = bytearray(b"." * 20000)
        want[5000:5003] = b"abc"
        expect(path, bytes(want))
        m[9000:9003] = b"def"
    want[9000:9003] = b"def"
    expect(path, bytes(want))


@case
def times_kept(d):
    path = d + "/f"
    when = 1000000000 * 10**9 + 123456789
    for size in (100, 50000):
        fd = os.open(path, os.O_RDWR | os.O_CREAT)
        os.write(fd, b"x" * size)
        os.utime(path, ns=(when, when))
        assert os.stat(path).st_mtime_ns == when
        os.fsync(fd)
        os.close(fd)
        time.sleep(0.01)
        assert os.stat(path).st_mtime_ns == when and os.stat(path).st_atime_ns == when
        put(path, b"y", os.O_WRONLY)
        assert abs(os.stat(path).st_mtime - time.time()) < 5
        os.unlink(path)
    before = os.stat(d).st_mtime_ns
    time.sleep(0.02)
    put(d + "/g", b"")
    assert os.stat(d).st_mtime_ns > before
    os.truncate(d + "/g", 10)
    assert os.stat(d + "/g").st_ctime_ns > before


@case
def modes_and_owners(d):
    path = d + "/f"
    put(path, b"x")
    os.chmod(path, 0o4755)
    assert stat.S_IMODE(os.stat(path).st_mode) == 0o4755
    os.chown(path, NOBODY, NOBODY)
    s = os.stat(path)
    assert (s.st_uid, s.st_gid, stat.S_IMODE(s.st_mode)) == (NOBODY, NOBODY, 0o755)
    # A write by one who is not root clears suid and sgid, at once and for good.
    os.chmod(path, 0o6755)
    as_nobody("fd = os.open(sys.argv[1], os.O_WRONLY)\n"
              "os.write(fd, b'y')\n"
              "m = os.fstat(fd).st_mode & 0o7777\n"
              "assert m == 0o755, oct(m)\n"
              "os.fsync(fd)\n"
              "assert os.fstat(fd).st_mode & 0o7777 == 0o755", path)
    assert stat.S_IMODE(os.stat(path).st_mode) == 0o755
    os.chmod(path, 0o6755)
    as_nobody("os.truncate(sys.argv[1], 0)", path)
    assert stat.S_IMODE(os.stat(path).st_mode) == 0o755
    os.chmod(path, 0o6755)
    as_nobody("os.close(os.open(sys.argv[1], os.O_WRONLY | os.O_TRUNC))", path)
    assert stat.S_IMODE(os.stat(path).st_mode) == 0o755
    os.chmod(path, 0o6755)
    put(path, b"root", os.O_WRONLY)
    assert stat.S_IMODE(os.stat(path).st_mode) == 0o6755
    # chmod after a write by another holds.
    as_nobody("fd = os.open(sys.argv[1], os.O_WRONLY)\nos.write(fd, b'y')\n"
              "os.chmod(sys.argv[1], 0o4711)\nos.fsync(fd)", path)
    assert stat.S_IMODE(os.stat(path).st_mode) == 0o4711


@case
def permissions(d):
    put(d + "/secret", b"x")
    os.chmod(d + "/secret", 0o600)
    nobody_fails(errno.EACCES, "os.open(sys.argv[1], os.O_RDONLY)", d + "/secret")
    nobody_fails(errno.EACCES, "os.open(sys.argv[1], os.O_WRONLY)", d + "/secret")
    nobody_fails(errno.EACCES, "os.truncate(sys.argv[1], 0)", d + "/secret")
    nobody_fails(errno.EPERM, "os.chmod(sys.argv[1], 0o777)", d + "/secret")
    nobody_fails(errno.EPERM, "os.chown(sys.argv[1], 65534, 65534)", d + "/secret")
    nobody_fails(errno.EPERM, "os.utime(sys.argv[1], (1, 1))", d + "/secret")
    nobody_fails(errno.EPERM, "os.unlink(sys.argv[1])", d + "/secret")  # sticky
    nobody_fails(errno.EPERM, "os.rename(sys.argv[1], sys.argv[1] + '2')", d + "/secret")
    os.mkdir(d + "/closed", 0o700)
    put(d + "/closed/f", b"")
    nobody_fails(errno.EACCES, "os.listdir(sys.argv[1])", d + "/closed")
    nobody_fails(errno.EACCES, "os.stat(sys.argv[1])", d + "/closed/f")
    nobody_fails(errno.EACCES, "os.mkdir(sys.argv[1])", d + "/closed/x")
    os.mkdir(d + "/look", 0o755)
    put(d + "/look/f", b"")
    nobody_fails(errno.EACCES, "os.unlink(sys.argv[1])", d + "/look/f")
    nobody_fails(errno.EACCES, "open(sys.argv[1], 'w')", d + "/look/g")
    nobody_fails(errno.EPERM, "os.mknod(sys.argv[1], 0o020666, os.makedev(1, 3))", d + "/null")
    as_nobody("open(sys.argv[1], 'w').write('mine')\nos.chmod(sys.argv[1], 0o000)", d + "/mine")
    assert os.stat(d + "/mine").st_uid == NOBODY
    expect(d + "/mine", b"mine")


@case
def hard_links(d):
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
def xattrs(d):
    put(d + "/f", b"")
    fails(errno.ENODATA, os.getxattr, d + "/f", "user.a")
    os.setxattr(d + "/f", "user.a", b"1")
    os.setxattr(d + "/f", "user.big", b"v" * 60000)
    os.setxattr(d + "/f", "user.empty", b"")
    assert sorted(os.listxattr(d + "/f")) == ["user.a", "user.big", "user.empty"]
    assert os.getxattr(d + "/f", "user.big") == b"v" * 60000 and os.getxattr(d + "/f", "user.empty") == b""
    fails(errno.EEXIST, os.setxattr, d + "/f", "user.a", b"2", os.XATTR_CREATE)
    fails(errno.ENODATA, os.setxattr, d + "/f", "user.b", b"2", os.XATTR_REPLACE)
    os.setxattr(d + "/f", "user.a", b"22", os.XATTR_REPLACE)
    assert os.getxattr(d + "/f", "user.a") == b"22"
    os.removexattr(d + "/f", "user.big")
    fails(errno.ENODATA, os.removexattr, d + "/f", "user.big")


@case
def big_directory(d):
    names = {"file-%04d" % i for i in range(3000)}
    for name in names:
        os.close(os.open(d + "/" + name, os.O_CREAT | os.O_WRONLY))
    assert set(os.listdir(d)) == names
    seen, gone = [], set()
    with os.scandir(d) as entries:  # every second one goes while it is read
        for i, entry in enumerate(entries):
            seen.append(entry.name)
            if i % 2 == 0:
                os.unlink(entry.path)
                gone.add(entry.name)
    assert len(seen) == len(set(seen)) == 3000 and set(seen) == names
    assert set(os.listdir(d)) == names - gone
    for name in names - gone:
        os.unlink(d + "/" + name)
    assert os.listdir(d) == []


@case
def attributes_in_listings(d):
    """What changes while a directory is read is seen as it is afterwards."""
    for i in range(600):
        os.mkdir(d + "/%03d" % i)
    with os.scandir(d) as entries:
        next(entries)
        for i in range(600):  # behind what has been read
            os.mkdir(d + "/%03d/sub" % i)
        for entry in entries:
            assert os.stat(entry.path).st_nlink == 3, entry.name
    for i in range(600):
        assert os.stat(d + "/%03d" % i).st_nlink == 3, i


def renameat2(old, new, flags):
    if libc.renameat2(-100, old.encode(), -100, new.encode(), flags) != 0:
        raise OSError(ctypes.get_errno(), "renameat2")


@case
def renames(d):
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
def errors(d):
    os.mkdir(d + "/dir"), put(d + "/f", b"")
    fails(errno.EEXIST, os.mkdir, d + "/dir")
    fails(errno.EEXIST, os.open, d + "/f", os.O_CREAT | os.O_EXCL)
    put(d + "/dir/f", b"")
    fails(errno.ENOTEMPTY, os.rmdir, d + "/dir")
    fails(errno.ENOTDIR, os.rmdir, d + "/f")
    fails(errno.EISDIR, os.unlink, d + "/dir")
    fails(errno.EISDIR, os.open, d + "/dir", os.O_WRONLY)
    fails(errno.ENOTDIR, os.stat, d + "/f/x")
    fails(errno.ENOENT, os.unlink, d + "/nothing")
    fails(errno.ENAMETOOLONG, os.mkdir, d + "/" + "n" * 256)
    fails(errno.ENAMETOOLONG, os.stat, d + "/" + "n" * 256)
    os.mkdir(d + "/" + "n" * 255), os.rmdir(d + "/" + "n" * 255)
    fails(errno.EINVAL, os.rename, d + "/dir", d + "/dir/dir")
    fd = os.open(d + "/f", os.O_RDONLY)
    fails(errno.EBADF, os.write, fd, b"x")
    fails(errno.EINVAL, os.ftruncate, fd, 1)
    os.close(fd)


@case
def statfs(d):
    s = os.statvfs(d)
    assert s.f_namemax == 255 and s.f_blocks > 0 and 0 < s.f_bavail <= s.f_blocks and s.f_files > 0


@case
def special_files(d):
    os.mkfifo(d + "/fifo")
    os.mknod(d + "/null", 0o020666, os.makedev(1, 3))
    assert stat.S_ISFIFO(os.stat(d + "/fifo").st_mode)
    assert os.stat(d + "/null").st_rdev == os.makedev(1, 3)
    put(d + "/null", b"gone", os.O_WRONLY)
    writer = os.open(d + "/fifo", os.O_RDWR)
    os.write(writer, b"hello")
    assert os.read(writer, 5) == b"hello"
    os.close(writer)


@case
def truncated_while_synced(d):
    """Syncs that wait while the data that they wait for is cut off: they end."""
    import threading
    path = d + "/f"
    fd = os.open(path, os.O_RDWR | os.O_CREAT)
    others = [os.open(d + "/o%d" % i, os.O_RDWR | os.O_CREAT) for i in range(8)]
    for i in range(30):
        for other in others:  # as many flush rounds as may be
            os.pwrite(other, b"o" * 300000, 0)
        threads = [threading.Thread(target=os.fsync, args=(x,)) for x in others + [fd]]
        os.pwrite(fd, b"x" * 100000, 0)
        [t.start() for t in threads]
        os.ftruncate(fd, 0)
        [t.join(20) for t in threads]
        assert not any(t.is_alive() for t in threads), "hangs"
    os.close(fd), [os.close(x) for x in others]


def mmap_write(d):
    put(d + "/m", b"-" * 300000)
    fd = os.open(d + "/m", os.O_RDWR)
    with mmap.mmap(fd, 300000) as m:
        m[100:103] = b"abc"
        m[200000:200003] = b"def"
        m.flush()
    os.close(fd)


def mmap_read(d):
    want = bytearray(b"-" * 300000)
    want[100:103], want[200000:200003] = b"abc", b"def"
    expect(d + "/m", bytes(want))


def times_write(d):
    put(d + "/t", b"x" * 20000)
    os.utime(d + "/t", (1e9, 1e9))


def times_read(d):
    assert os.stat(d + "/t").st_mtime == 1e9


def sync_error(d):
    fd = os.open(d + "/big", os.O_RDWR | os.O_CREAT)
    os.write(fd, b"x" * 100000)
    try:
        os.fsync(fd)
    except OSError:
        os.fsync(fd)  # told once
        os.close(fd)
        assert os.stat(d + "/big").st_size == 0
        return
    raise AssertionError("fsync says that it is stored")


def main():
    if len(sys.argv) < 2:
        print(" ".join(CASES))
    elif sys.argv[1].startswith("--"):
        globals()[sys.argv[1][2:].replace("-", "_")](sys.argv[2])
    else:
        os.umask(0o022)
        CASES[sys.argv[1]](sys.argv[2])


if __name__ == "__main__":
    main()
