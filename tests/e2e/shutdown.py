"""shutdown.py CASE DIR: the steps of tests/e2e/shutdown."""
import errno
import fcntl
import os
import struct
import sys

SETFLAGS, SYNC = 0x40086602, 8
IOC_SHUTDOWN = 2 << 30 | 4 << 16 | ord("X") << 8 | 125
FLUSH, FLUSH_LOG, DROP = 0, 1, 2


def shut_down(path, how):
    fd = os.open(path, os.O_RDONLY)
    try:
        fcntl.ioctl(fd, IOC_SHUTDOWN, struct.pack("I", how))
    finally:
        os.close(fd)


def fails(code, function, *args):
    try:
        function(*args)
    except OSError as error:
        assert error.errno == code, f"{error}; {errno.errorcode[code]} was expected"
        return
    raise AssertionError(f"{function.__name__}{args} works; {errno.errorcode[code]} was expected")


def write(path, data):
    with open(path, "wb") as f:
        f.write(data)


def read(path):
    with open(path, "rb") as f:
        return f.read()


def everything_fails(d, fd):
    fails(errno.EIO, os.stat, d + "/never-looked-up")
    fails(errno.EIO, os.listdir, d)
    fails(errno.EIO, os.mkdir, d + "/new")
    fails(errno.EIO, os.open, d + "/new", os.O_CREAT | os.O_RDWR)
    fails(errno.EIO, os.rename, d + "/a", d + "/b")
    fails(errno.EIO, os.pwrite, fd, b"late", 0)
    fails(errno.EIO, os.ftruncate, fd, 0)
    fails(errno.EIO, os.fsync, fd)
    fails(errno.EIO, fcntl.lockf, fd, fcntl.LOCK_EX)


def refused(d):
    fails(errno.EINVAL, shut_down, d, 3)
    fails(errno.ENOTTY, fcntl.ioctl, os.open(d, os.O_RDONLY), IOC_SHUTDOWN + 1)
    child = os.fork()
    if child == 0:
        os.setgroups([])
        os.setresuid(65534, 65534, 65534)
        fails(errno.EPERM, shut_down, d, DROP)
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0
    os.listdir(d)  # and nothing has happened


def flush(d):
    os.mkdir(d + "/dir")
    fd = os.open(d + "/file", os.O_CREAT | os.O_RDWR)
    os.write(fd, b"x" * 3000000)
    write(d + "/dir/small", b"small")
    os.rename(d + "/dir/small", d + "/dir/renamed")
    shut_down(d, FLUSH)
    everything_fails(d, fd)
    shut_down_again(d, fd)
    os.close(fd)


def shut_down_again(d, fd):
    """It is down: no other way to ask than a descriptor from before."""
    fails(errno.EIO, os.open, d, os.O_RDONLY)
    fcntl.ioctl(fd, IOC_SHUTDOWN, struct.pack("I", FLUSH_LOG))


def flushed(d):
    assert read(d + "/file") == b"x" * 3000000
    assert os.listdir(d + "/dir") == ["renamed"]
    assert read(d + "/dir/renamed") == b"small"
    os.unlink(d + "/file")
    os.unlink(d + "/dir/renamed")
    os.rmdir(d + "/dir")


def drop(d):
    fd = os.open(d + "/file", os.O_CREAT | os.O_RDWR)
    os.write(fd, b"acknowledged")
    os.fsync(fd)
    os.pwrite(fd, b"LOST", 0)
    os.pwrite(fd, b"lost", 1000000)
    synchronous = os.open(d + "/synchronous", os.O_CREAT | os.O_RDWR)
    fcntl.ioctl(synchronous, SETFLAGS, struct.pack("I4x", SYNC))
    os.write(synchronous, b"committed")
    shut_down(d, DROP)
    fails(errno.EIO, os.fsync, fd)
    everything_fails(d, fd)


def dropped(d):
    assert read(d + "/file") == b"acknowledged", read(d + "/file")[:20]
    assert read(d + "/synchronous") == b"committed"
    os.unlink(d + "/file")
    os.unlink(d + "/synchronous")


globals()[sys.argv[1]](sys.argv[2])
