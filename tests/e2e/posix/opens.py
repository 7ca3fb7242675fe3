"""open: its flags, races, and files whose names go away."""
import errno
import mmap
import os
import shutil
import stat
import subprocess
import threading

from helpers import as_user, case, check, expect, fails, get, in_child, mode_of, name_it, nobody_fails, put


@case
def unlinked_while_open(d):
    """an unlinked file stays until it is closed"""
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
    """a file that was replaced by rename stays until it is closed"""
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
    """an open that succeeded reads the file, whatever happens to its name meanwhile"""
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
def tmpfile(d):
    """O_TMPFILE: no name; linkat gives one, unless O_EXCL"""
    fd = os.open(d, os.O_TMPFILE | os.O_RDWR, 0o640)
    os.write(fd, b"t" * 100000)
    assert os.fstat(fd).st_nlink == 0 and os.listdir(d) == []
    name_it(fd, d + "/named")
    assert os.fstat(fd).st_nlink == 1
    assert get(d + "/named") == b"t" * 100000
    os.close(fd)
    assert get(d + "/named") == b"t" * 100000
    fd = os.open(d, os.O_TMPFILE | os.O_RDWR | os.O_EXCL, 0o600)
    fails(errno.ENOENT, name_it, fd, d + "/other")
    os.close(fd)
    many = [os.open(d, os.O_TMPFILE | os.O_RDWR) for _ in range(300)]
    for fd in many:
        os.close(fd)
    assert os.listdir(d) == ["named"]


@case(root=True)
def executed_without_reading(d):
    """a program that may be executed need not be readable"""
    shutil.copy("/bin/true", d + "/program")
    os.chmod(d + "/program", 0o711)
    nobody_fails(errno.EACCES, get, d + "/program")
    assert len(get(d + "/program")) > 0
    as_user(run_program, d + "/program")
    os.chmod(d + "/program", 0o744)
    nobody_fails(errno.EACCES, run_program, d + "/program")


def run_program(path):
    subprocess.run([path], check=True)


@case
def busy_program(d):
    """a program that runs is not opened for writing (ETXTBSY), and one that is written does not run"""
    shutil.copy("/bin/sleep", d + "/program")
    running = subprocess.Popen([d + "/program", "100"])
    try:
        fails(errno.ETXTBSY, os.open, d + "/program", os.O_WRONLY)
        fails(errno.ETXTBSY, os.truncate, d + "/program", 0)
        os.rename(d + "/program", d + "/renamed")
        fails(errno.ETXTBSY, os.open, d + "/renamed", os.O_RDWR)
    finally:
        running.kill()
        running.wait()
    fd = os.open(d + "/renamed", os.O_RDWR)
    fails(errno.ETXTBSY, subprocess.run, [d + "/renamed", "0"])
    os.close(fd)
    subprocess.run([d + "/renamed", "0"], check=True)


@case
def append_from_processes(d):
    """O_APPEND from several processes: each record whole, none over another"""
    count, writers = 100, 4

    def writer(number):
        fd = os.open(d + "/log", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
        for i in range(count):
            record = b"%d:%04d:" % (number, i)
            assert os.write(fd, record + b"%d" % number * (200 * (number + 1)) + b"\n") > 0
        os.close(fd)

    pids = []
    for number in range(writers):
        pids.append(os.fork())
        if pids[-1] == 0:
            writer(number)
            os._exit(0)
    for pid in pids:
        assert os.waitpid(pid, 0)[1] == 0
    seen = {number: [] for number in range(writers)}
    for line in get(d + "/log").splitlines():
        number, i, rest = line.split(b":")
        assert rest == number * (200 * (int(number) + 1)), line[:50]
        seen[int(number)].append(int(i))
    assert all(got == list(range(count)) for got in seen.values()), {k: len(v) for k, v in seen.items()}


@case
def append_ignores_the_offset(d):
    """pwrite to an O_APPEND descriptor appends (Linux), and the offset is behind what was written"""
    fd = os.open(d + "/f", os.O_RDWR | os.O_CREAT | os.O_APPEND)
    os.write(fd, b"12345")
    os.lseek(fd, 0, os.SEEK_SET)
    os.write(fd, b"67")
    assert os.lseek(fd, 0, os.SEEK_CUR) == 7
    os.pwrite(fd, b"89", 0)
    assert os.pread(fd, 100, 0) == b"123456789"
    os.close(fd)


@case
def exclusive_races(d):
    """O_CREAT|O_EXCL, mkdir, link, symlink and rename NOREPLACE of one name: exactly one wins"""
    def attempt(ways, i, ready):
        os.read(ready, 1)
        won = 0
        for n in range(25):
            try:
                ways[i % len(ways)](d + "/n%d" % n)
                won |= 1 << n
            except FileExistsError:
                pass
        return won

    put(d + "/file", b"")
    for i in range(8):
        for n in range(25):
            put(d + "/m%d-%d" % (i, n), b"")
    ways = (lambda path: os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY)), os.mkdir,
            lambda path: os.link(d + "/file", path), lambda path: os.symlink("x", path))
    ready, go = os.pipe()
    results = []
    threads = [threading.Thread(target=lambda i=i: results.append(in_child(attempt, ways, i, ready)))
               for i in range(8)]
    for t in threads:
        t.start()
    os.write(go, b"." * 8)
    for t in threads:
        t.join()
    assert len(results) == 8
    for n in range(25):
        assert sum(won >> n & 1 for won in results) == 1, (n, results)


@case
def open_flags(d):
    """O_NOFOLLOW, O_DIRECTORY, O_PATH, O_CREAT on what is there"""
    put(d + "/f", b"file")
    os.mkdir(d + "/d")
    os.symlink("f", d + "/l")
    os.symlink("nothing", d + "/dangling")
    fails(errno.ELOOP, os.open, d + "/l", os.O_RDONLY | os.O_NOFOLLOW)
    fails(errno.ELOOP, os.open, d + "/l", os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW)
    fails(errno.ENOTDIR, os.open, d + "/f", os.O_RDONLY | os.O_DIRECTORY)
    fails(errno.EISDIR, os.open, d + "/d", os.O_RDWR)
    fails(errno.EISDIR, os.open, d + "/d", os.O_RDONLY | os.O_CREAT)
    fails(errno.EEXIST, os.open, d + "/dangling", os.O_WRONLY | os.O_CREAT | os.O_EXCL)
    fails(errno.EEXIST, os.open, d + "/d", os.O_WRONLY | os.O_CREAT | os.O_EXCL)
    put(d + "/dangling", b"made")
    assert get(d + "/nothing") == b"made"
    path = os.open(d + "/f", os.O_PATH)
    assert os.fstat(path).st_size == 4
    fails(errno.EBADF, os.read, path, 1)
    fails(errno.EBADF, os.fchmod, path, 0o600)
    assert get("/proc/self/fd/%d" % path) == b"file"
    link = os.open(d + "/l", os.O_PATH | os.O_NOFOLLOW)
    assert stat.S_ISLNK(os.fstat(link).st_mode) and os.readlink("", dir_fd=link) == "f"
    here = os.open(d + "/d", os.O_PATH | os.O_DIRECTORY)
    os.close(os.open("inside", os.O_CREAT | os.O_WRONLY, dir_fd=here))
    assert os.listdir(d + "/d") == ["inside"]
    assert os.stat("inside", dir_fd=here).st_size == 0
    for fd in path, link, here:
        os.close(fd)


@case
def truncating_open(d):
    """O_TRUNC needs the right to write, and leaves a file that cannot be opened as it was"""
    put(d + "/f", b"contents")
    if os.getuid() != 0:
        os.chmod(d + "/f", 0o444)
        fails(errno.EACCES, os.open, d + "/f", os.O_WRONLY | os.O_TRUNC)
        os.chmod(d + "/f", 0o644)
    assert get(d + "/f") == b"contents"
    fails(errno.EEXIST, os.open, d + "/f", os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_TRUNC)
    assert get(d + "/f") == b"contents"
    inode = os.stat(d + "/f").st_ino
    put(d + "/f", b"")
    assert os.stat(d + "/f").st_ino == inode and get(d + "/f") == b""


@case
def direct_io(d):
    """O_DIRECT reads and writes what the page cache has, at any offset that the kernel takes"""
    fd = os.open(d + "/f", os.O_RDWR | os.O_CREAT | os.O_DIRECT)
    buffered = os.open(d + "/f", os.O_RDWR)
    page = mmap.mmap(-1, 65536)
    page[:] = os.urandom(65536)
    assert os.pwrite(fd, page, 0) == 65536
    assert os.pread(buffered, 70000, 0) == page[:]
    os.pwrite(buffered, b"buffered", 10000)
    into = mmap.mmap(-1, 65536)
    assert os.preadv(fd, [into], 0) == 65536
    want = bytearray(page[:])
    want[10000:10008] = b"buffered"
    assert into[:] == want
    assert os.pwrite(fd, memoryview(page)[:4096], 65536) == 4096
    assert os.fstat(buffered).st_size == 69632
    assert os.pread(buffered, 4096, 65536) == page[:4096]
    assert os.preadv(fd, [into], 69632) == 0
    os.ftruncate(fd, 66000)
    assert os.preadv(fd, [into], 65536) == 464
    os.fsync(fd)
    os.close(fd)
    os.close(buffered)


@case
def linked_tmpfile(d):
    """a file made with O_TMPFILE has all of its contents, mode and times when linkat names it; EEXIST"""
    fd = os.open(d, os.O_TMPFILE | os.O_WRONLY, 0o604)
    os.write(fd, b"small")
    os.utime(fd, ns=(5, 7))
    put(d + "/taken", b"")
    fails(errno.EEXIST, name_it, fd, d + "/taken")
    name_it(fd, d + "/named")
    os.link(d + "/named", d + "/twice")
    assert os.stat(d + "/named").st_nlink == 2 and mode_of(d + "/named") == 0o604
    assert os.stat(d + "/named").st_mtime_ns == 7
    os.close(fd)
    assert get(d + "/twice") == b"small"
    fails(errno.EINVAL, os.open, d, os.O_TMPFILE | os.O_RDONLY)
    fails(errno.ENOTDIR, os.open, d + "/named", os.O_TMPFILE | os.O_RDWR)
