"""Extended attributes (xattr(7))."""
import ctypes
import errno
import os
import time

from helpers import SOMEBODY, as_user, case, check, fails, libc, nobody_fails, put


@case
def xattrs(d):
    """set, get, list, remove; XATTR_CREATE, XATTR_REPLACE; empty and large values"""
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


NAME_MAX, VALUE_MAX, LIST_MAX = 255, 65536, 65536


def call(function, *args):
    return check(getattr(libc, function)(*args))


@case
def xattr_sizes(d):
    """the size is told when asked with 0, ERANGE when the buffer is too small, values and names to the limit"""
    f = d + "/f"
    put(f, b"")
    path = os.fsencode(f)
    longest = "user." + "n" * (NAME_MAX - 5)
    os.setxattr(f, longest, b"long name")
    assert os.getxattr(f, longest) == b"long name" and os.listxattr(f) == [longest]
    fails(errno.ERANGE, os.setxattr, f, longest + "n", b"")
    fails(errno.ERANGE, os.getxattr, f, longest + "n")
    fails(errno.ERANGE, os.removexattr, f, longest + "n")
    fails(errno.ERANGE, os.setxattr, f, "", b"")
    os.removexattr(f, longest)
    value = os.urandom(VALUE_MAX)
    os.setxattr(f, "user.v", value)
    assert os.getxattr(f, "user.v") == value
    fails(errno.E2BIG, os.setxattr, f, "user.v", value + b"!")
    assert os.getxattr(f, "user.v") == value
    os.setxattr(f, "user.v", b"12345")
    buffer = ctypes.create_string_buffer(100)
    assert call("getxattr", path, b"user.v", None, 0) == 5
    assert call("getxattr", path, b"user.v", buffer, 5) == 5 and buffer.raw[:5] == b"12345"
    fails(errno.ERANGE, call, "getxattr", path, b"user.v", buffer, 4)
    assert call("listxattr", path, None, 0) == 7
    assert call("listxattr", path, buffer, 7) == 7 and buffer.raw[:7] == b"user.v\0"
    fails(errno.ERANGE, call, "listxattr", path, buffer, 6)
    os.setxattr(f, "user.v", b"")
    assert call("getxattr", path, b"user.v", buffer, 5) == 0 and os.getxattr(f, "user.v") == b""


@case(slow=True)
def xattrs_many(d):
    """names up to 64 KiB together, all listed; one more is ENOSPC, and the rest is as it was"""
    f = d + "/f"
    put(f, b"")
    names = ["user.%03d-%s" % (i, "n" * 246) for i in range(256)]
    for i, name in enumerate(names):
        os.setxattr(f, name, b"%d" % i)
    assert sum(len(n) + 1 for n in names) == LIST_MAX
    fails(errno.ENOSPC, os.setxattr, f, "user.more", b"")
    os.setxattr(f, names[7], b"other")  # no new name
    assert sorted(os.listxattr(f)) == names
    for i, name in enumerate(names):
        assert os.getxattr(f, name) == (b"other" if i == 7 else b"%d" % i)
        os.removexattr(f, name)
    assert os.listxattr(f) == []


@case
def xattr_kinds(d):
    """user.* of files and directories only: EPERM for symbolic links and fifos; unknown spaces EOPNOTSUPP"""
    put(d + "/f", b"")
    os.mkdir(d + "/d")
    os.symlink("f", d + "/l")
    os.mkfifo(d + "/p")
    os.setxattr(d + "/d", "user.a", b"of a directory")
    os.setxattr(d + "/l", "user.a", b"of the target")
    assert os.getxattr(d + "/f", "user.a") == b"of the target"
    fails(errno.EPERM, os.setxattr, d + "/l", "user.a", b"", follow_symlinks=False)
    fails(errno.EPERM, os.setxattr, d + "/p", "user.a", b"")
    fails(errno.ENODATA, os.getxattr, d + "/p", "user.a")
    fails(errno.EOPNOTSUPP, os.setxattr, d + "/f", "nonsense.a", b"")
    fails(errno.EOPNOTSUPP, os.setxattr, d + "/f", "nodot", b"")
    fails(errno.ENOENT, os.setxattr, d + "/nothing", "user.a", b"")
    fd = os.open(d + "/f", os.O_RDONLY)
    os.setxattr(fd, "user.b", b"by descriptor")
    os.unlink(d + "/f")
    assert os.getxattr(fd, "user.b") == b"by descriptor", "of an unlinked file"
    os.close(fd)
    assert os.listxattr(d + "/d") == ["user.a"]


@case(root=True)
def xattr_rights(d):
    """user.* as the file's rights say; trusted.* is root's and not seen by others; security.* root sets"""
    f = d + "/f"
    put(f, b"")
    os.symlink("f", d + "/l")
    os.chmod(f, 0o644)
    os.setxattr(f, "user.a", b"1")
    os.setxattr(f, "trusted.t", b"2")
    os.setxattr(f, "security.s", b"3")
    os.setxattr(d + "/l", "trusted.t", b"link", follow_symlinks=False)
    assert os.getxattr(d + "/l", "trusted.t", follow_symlinks=False) == b"link"
    assert sorted(os.listxattr(f)) == ["security.s", "trusted.t", "user.a"]
    assert as_user(os.getxattr, f, "user.a") == b"1"
    assert "trusted.t" not in as_user(os.listxattr, f)
    nobody_fails(errno.ENODATA, os.getxattr, f, "trusted.t")
    nobody_fails(errno.EPERM, os.setxattr, f, "trusted.t", b"")
    nobody_fails(errno.EACCES, os.setxattr, f, "user.a", b"")
    nobody_fails(errno.EACCES, os.removexattr, f, "user.a")
    nobody_fails(errno.EPERM, os.setxattr, f, "security.s", b"")
    os.chmod(f, 0o600)
    nobody_fails(errno.EACCES, os.getxattr, f, "user.a")
    as_user(os.mkdir, d + "/sticky")
    os.chmod(d + "/sticky", 0o1777)
    fails(errno.EPERM, as_user, os.setxattr, d + "/sticky", "user.a", b"", uid=SOMEBODY, gid=SOMEBODY)
    as_user(os.setxattr, d + "/sticky", "user.a", b"")


@case
def xattrs_change_ctime(d):
    """setting and removing an extended attribute changes ctime, not mtime; a rename and a link keep it"""
    put(d + "/f", b"")
    for change in (lambda: os.setxattr(d + "/f", "user.a", b"1"), lambda: os.removexattr(d + "/f", "user.a")):
        before = os.stat(d + "/f")
        time.sleep(0.01)
        change()
        after = os.stat(d + "/f")
        assert after.st_mtime_ns == before.st_mtime_ns and after.st_ctime_ns > before.st_ctime_ns
    os.setxattr(d + "/f", "user.a", b"kept")
    os.link(d + "/f", d + "/g")
    os.rename(d + "/f", d + "/h")
    assert os.getxattr(d + "/g", "user.a") == os.getxattr(d + "/h", "user.a") == b"kept"
