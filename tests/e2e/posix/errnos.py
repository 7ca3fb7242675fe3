"""Which error for what."""
import errno
import os

from helpers import NOBODY, RENAME_EXCHANGE, SOMEBODY, as_user, case, fails, get, nobody_fails, put, renameat2


@case
def errors(d):
    """EEXIST, ENOTEMPTY, ENOTDIR, EISDIR, ENOENT, ENAMETOOLONG, EINVAL, EBADF"""
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
def names_too_long(d):
    """a name of 255 bytes works everywhere, one of 256 is ENAMETOOLONG everywhere"""
    put(d + "/f", b"x"), os.mkdir(d + "/d")
    good, bad = d + "/" + "n" * 255, d + "/" + "n" * 256
    ways = (lambda p: os.close(os.open(p, os.O_CREAT | os.O_EXCL | os.O_WRONLY)), lambda p: os.mkfifo(p),
            lambda p: os.symlink("f", p), lambda p: os.link(d + "/f", p), lambda p: os.rename(d + "/f", p))
    for way in ways:
        fails(errno.ENAMETOOLONG, way, bad)
        way(good)
        assert os.lstat(good)
        if way is ways[-1]:
            os.rename(good, d + "/f")
        else:
            os.unlink(good)
    os.mkdir(good)
    fails(errno.ENAMETOOLONG, os.mkdir, bad)
    os.rmdir(good)
    for call in os.stat, os.lstat, os.unlink, os.rmdir, os.readlink, os.listdir, os.listxattr:
        fails(errno.ENAMETOOLONG, call, bad)
    for call in os.chmod, os.truncate:
        fails(errno.ENAMETOOLONG, call, bad, 0)
    fails(errno.ENAMETOOLONG, os.open, bad, os.O_RDONLY)
    fails(errno.ENAMETOOLONG, os.rename, bad, d + "/x")
    fails(errno.ENAMETOOLONG, os.stat, bad + "/below")
    fails(errno.ENAMETOOLONG, renameat2, d + "/f", bad, RENAME_EXCHANGE)
    assert get(d + "/f") == b"x"


@case
def paths_too_long(d):
    """a path of 4,095 bytes works, one of 4,096 is ENAMETOOLONG; deeper files are reached step by step"""
    os.chdir(d)
    path = ("x" * 200 + "/") * 20
    os.makedirs(path)
    longest = path + "./" * ((4095 - len(path) - 1) // 2)
    longest += "f" * (4095 - len(longest))
    put(longest, b"deep")
    assert get(longest) == b"deep" and len(longest) == 4095
    fails(errno.ENAMETOOLONG, os.stat, "./" + longest)
    fails(errno.ENAMETOOLONG, put, "./" + longest, b"")
    for step in range(30):
        os.mkdir("y" * 250)
        os.chdir("y" * 250)
    put("bottom", b"very deep")
    assert get("bottom") == b"very deep"
    for step in range(30):
        os.chdir("..")
    assert os.path.samefile(".", d)


@case
def not_directories(d):
    """ENOTDIR for a path through a file, ENOENT through nothing, for every call"""
    put(d + "/f", b"x")
    for below, code in ("/f/x", errno.ENOTDIR), ("/nothing/x", errno.ENOENT):
        p = d + below
        for call in os.stat, os.lstat, os.unlink, os.rmdir, os.mkdir, os.readlink, os.listdir, os.mkfifo, os.listxattr:
            fails(code, call, p)
        fails(code, os.open, p, os.O_RDONLY)
        fails(code, os.open, p, os.O_WRONLY | os.O_CREAT)
        fails(code, os.chmod, p, 0o600)
        fails(code, os.truncate, p, 0)
        fails(code, os.utime, p)
        fails(code, os.symlink, "x", p)
        fails(code, os.link, d + "/f", p)
        fails(code, os.link, p, d + "/x")
        fails(code, os.rename, d + "/f", p)
        fails(code, os.rename, p, d + "/x")
        fails(code, os.chown, p, -1, -1)
    fails(errno.ENOTDIR, os.listdir, d + "/f")
    fails(errno.ENOTDIR, os.rmdir, d + "/f")
    fails(errno.ENOTDIR, os.stat, d + "/f/")
    fails(errno.ENOENT, os.stat, d + "/nothing/")
    fails(errno.ENOENT, os.stat, "")


@case
def kinds_refused(d):
    """EISDIR, ENOTEMPTY, EINVAL: calls that are not for what is there"""
    os.makedirs(d + "/dir/sub"), put(d + "/f", b"x"), os.mkfifo(d + "/p"), os.symlink("dir", d + "/l")
    fails(errno.EISDIR, os.unlink, d + "/dir")
    fails(errno.EISDIR, os.truncate, d + "/dir", 0)
    fails(errno.EISDIR, os.open, d + "/dir", os.O_WRONLY)
    fails(errno.EISDIR, os.open, d + "/dir", os.O_RDONLY | os.O_TRUNC)
    fails(errno.ENOTEMPTY, os.rmdir, d + "/dir")
    fails(errno.ENOTDIR, os.rmdir, d + "/l")
    fails(errno.EINVAL, os.readlink, d + "/f")
    fails(errno.EINVAL, os.truncate, d + "/p", 0)
    fails(errno.EINVAL, os.truncate, d + "/f", -1)
    fails(errno.ENXIO, os.open, d + "/p", os.O_WRONLY | os.O_NONBLOCK)
    fails(errno.EEXIST, os.mkdir, d + "/l")
    fails(errno.EEXIST, os.mkfifo, d + "/f")
    fails(errno.EEXIST, os.symlink, "x", d + "/f")


@case
def too_many_links_followed(d):
    """40 symbolic links after each other are followed, more are ELOOP, a loop is ELOOP for every call"""
    put(d + "/f", b"x")
    os.symlink("f", d + "/l0")
    for i in range(1, 41):
        os.symlink("l%d" % (i - 1), d + "/l%d" % i)
    assert get(d + "/l39") == b"x"
    fails(errno.ELOOP, get, d + "/l40")
    os.symlink("self", d + "/self")
    for call in os.stat, os.listdir, os.listxattr:
        fails(errno.ELOOP, call, d + "/self")
    for call in os.unlink, os.mkdir, os.stat, os.readlink:
        fails(errno.ELOOP, call, d + "/self/x")
    fails(errno.ELOOP, os.open, d + "/self", os.O_WRONLY | os.O_CREAT)
    fails(errno.EEXIST, os.open, d + "/self", os.O_WRONLY | os.O_CREAT | os.O_EXCL)
    fails(errno.ELOOP, os.rename, d + "/f", d + "/self/x")
    fails(errno.ELOOP, os.chmod, d + "/self", 0)
    os.unlink(d + "/self")


@case(root=True)
def bad_owners(d):
    """chown to -1 leaves it; an ordinary user gives nothing away (EPERM); other file systems are EXDEV"""
    as_user(put, d + "/f", b"x")
    os.chown(d + "/f", -1, -1)
    assert (os.stat(d + "/f").st_uid, os.stat(d + "/f").st_gid) == (NOBODY, NOBODY)
    nobody_fails(errno.EPERM, os.chown, d + "/f", SOMEBODY, -1)
    nobody_fails(errno.EPERM, os.chown, d + "/f", 0, 0)
    nobody_fails(errno.EPERM, os.chown, d + "/f", -1, 0)
    as_user(os.chown, d + "/f", NOBODY, NOBODY)
    as_user(os.chown, d + "/f", -1, -1)
    os.chown(d + "/f", 2**32 - 2, 2**31)
    assert (os.stat(d + "/f").st_uid, os.stat(d + "/f").st_gid) == (2**32 - 2, 2**31)
    fails(errno.EXDEV, os.rename, d + "/f", "/dev/shm/keelfs-test-no-such")
    fails(errno.EXDEV, os.link, d + "/f", "/dev/shm/keelfs-test-no-such")
