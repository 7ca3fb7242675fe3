"""idmap.py [CASE DIR]: the cases of tests/e2e/idmap; without arguments, their names."""
import ctypes
import errno
import os
import struct
import subprocess
import sys

LIBC = ctypes.CDLL(None, use_errno=True)
OPEN_TREE, MOVE_MOUNT, MOUNT_SETATTR = 428, 429, 442
AT_EMPTY_PATH, OPEN_TREE_CLONE, MOUNT_ATTR_IDMAP = 0x1000, 1, 0x100000
BASE = 10000  # what is 0 on the volume is this one, in the idmapped mount
CASES = []


def case(function):
    CASES.append(function.__name__)
    return function


def system_call(*args):
    result = LIBC.syscall(*args)
    if result < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return result


def user_namespace():
    """A descriptor of one in which 0..999 are BASE.. outside."""
    child = subprocess.Popen(["unshare", "--user", "cat"], stdin=subprocess.PIPE)
    own = os.readlink("/proc/self/ns/user")
    while os.readlink(f"/proc/{child.pid}/ns/user") == own:
        assert child.poll() is None
    for name in ("uid_map", "gid_map"):
        with open(f"/proc/{child.pid}/{name}", "w") as f:
            f.write(f"0 {BASE} 1000")
    fd = os.open(f"/proc/{child.pid}/ns/user", os.O_RDONLY)
    child.stdin.close()
    child.wait()
    return fd


def idmapped(d):
    """A descriptor of the directory in an idmapped mount of its own, which nothing else sees."""
    fd = system_call(OPEN_TREE, -100, d.encode(), OPEN_TREE_CLONE)
    attr = struct.pack("QQQQ", MOUNT_ATTR_IDMAP, 0, 0, user_namespace())
    system_call(MOUNT_SETATTR, fd, b"", AT_EMPTY_PATH, attr, len(attr))
    return fd


def as_user(uid, function, groups=()):
    """Runs it in a child with these ids; an assertion there fails here."""
    child = os.fork()
    if child == 0:
        os.setgroups(list(groups))
        os.setresgid(uid, uid, uid)
        os.setresuid(uid, uid, uid)
        try:
            function()
            os._exit(0)
        except BaseException as error:  # whatever it is, the parent's stack must not run twice
            print(f"as {uid}: {error!r}", flush=True)
            os._exit(1)
    assert os.waitpid(child, 0)[1] == 0, f"see above: {function.__name__} as {uid}"


def fails(code, function, *args, **words):
    try:
        function(*args, **words)
    except OSError as error:
        assert error.errno == code, f"{error}; {errno.errorcode[code]} was expected"
        return
    raise AssertionError(f"{function.__name__}{args} works; {errno.errorcode[code]} was expected")


def make(name, fd=None, mode=0o644):
    os.close(os.open(name, os.O_CREAT | os.O_EXCL | os.O_RDWR, mode, dir_fd=fd))


def owner(name, fd=None):
    info = os.stat(name, dir_fd=fd, follow_symlinks=False)
    return info.st_uid, info.st_gid


def not_mapped(d):
    fails(errno.EINVAL, idmapped, d)


@case
def owners_are_mapped(d):
    make(d + "/root")
    os.chmod(d, 0o755)
    fd = idmapped(d)
    assert owner("root", fd) == (BASE, BASE)

    def work():
        make("file", fd)
        os.mkdir("dir", dir_fd=fd)
        os.symlink("file", "link", dir_fd=fd)
        os.mkfifo("fifo", dir_fd=fd)
        make("dir/inner", fd)
        os.rename("file", "dir/file", src_dir_fd=fd, dst_dir_fd=fd)
        os.chown("dir/file", BASE + 5, BASE + 6, dir_fd=fd)

    # Who is root on the volume by the mapping is not privileged, so a chown must fail ...
    as_user(BASE, lambda: (make("mine", fd), fails(errno.EPERM, os.chown, "mine", BASE + 5, BASE, dir_fd=fd)))
    fails(errno.EOVERFLOW, make, "unmapped", fd)  # ... and root outside is nobody in it
    as_user(BASE, lambda: fails(errno.EPERM, work))
    for name in ("mine", "dir", "link", "fifo", "dir/inner", "dir/file"):
        assert owner(d + "/" + name) == (0, 0), name


@case
def strangers_are_refused(d):
    os.chmod(d, 0o755)
    fd = idmapped(d)
    os.mkdir(d + "/five", 0o700)
    os.chown(d + "/five", 5, 5)
    as_user(BASE + 5, lambda: make("five/file", fd))
    assert owner(d + "/five/file") == (5, 5)
    as_user(BASE + 6, lambda: fails(errno.EACCES, make, "five/other", fd))
    as_user(BASE + 6, lambda: fails(errno.EACCES, os.stat, "five/file", dir_fd=fd))
    as_user(5, lambda: fails(errno.EACCES, os.stat, "five/file", dir_fd=fd))


@case
def groups_count_as_mapped(d):
    fd = idmapped(d)
    os.mkdir(d + "/group")
    os.chown(d + "/group", 0, 7)
    os.chmod(d + "/group", 0o770)
    as_user(BASE + 5, lambda: make("group/file", fd), groups=[BASE + 7])
    assert owner(d + "/group/file") == (5, 5)
    as_user(BASE + 5, lambda: fails(errno.EACCES, make, "group/other", fd), groups=[7])


@case
def permissions_of_others(d):
    """Beside any mapping: the same mount as it is."""
    os.mkdir(d + "/private", 0o700)
    make(d + "/private/file")
    make(d + "/root", mode=0o600)
    as_user(5, lambda: fails(errno.EACCES, os.listdir, d + "/private"))
    as_user(5, lambda: fails(errno.EACCES, os.open, d + "/root", os.O_RDONLY))
    as_user(5, lambda: fails(errno.EACCES, os.unlink, d + "/private/file"))
    as_user(5, lambda: fails(errno.EPERM, os.unlink, d + "/root"))  # sticky
    as_user(5, lambda: fails(errno.EPERM, os.chmod, d + "/root", 0o666))
    as_user(5, lambda: fails(errno.EPERM, os.chown, d + "/root", 5, 5))
    as_user(5, lambda: make(d + "/mine"))
    assert owner(d + "/mine") == (5, 5)
    as_user(5, lambda: os.unlink(d + "/mine"))


@case
def privileges_end(d):
    """suid ends with an allocation by others than root, sgid with an ACL of who is not in the group."""
    make(d + "/file")
    os.chown(d + "/file", 5, 7)
    os.chmod(d + "/file", 0o6777)
    as_user(5, lambda: os.posix_fallocate(os.open(d + "/file", os.O_RDWR), 0, 100))
    assert os.stat(d + "/file").st_mode & 0o6000 == 0
    os.chmod(d + "/file", 0o6777)
    acl = struct.pack("<I", 2) + b"".join(struct.pack("<HHI", tag, 7, 0xFFFFFFFF) for tag in (1, 4, 32))
    os.setxattr(d + "/file", "system.posix_acl_access", acl)
    assert os.stat(d + "/file").st_mode & 0o2000
    as_user(5, lambda: os.setxattr(d + "/file", "system.posix_acl_access", acl), groups=[7])
    assert os.stat(d + "/file").st_mode & 0o2000
    as_user(5, lambda: os.setxattr(d + "/file", "system.posix_acl_access", acl))
    assert os.stat(d + "/file").st_mode & 0o2000 == 0


@case
def names_of_trusted_attributes(d):
    make(d + "/file")
    os.setxattr(d + "/file", "trusted.secret", b"x")
    os.setxattr(d + "/file", "user.open", b"y")
    assert sorted(os.listxattr(d + "/file")) == ["trusted.secret", "user.open"]
    as_user(5, lambda: fails(errno.EPERM, shut_down, d))
    found = []
    as_user(5, lambda: found.extend(os.listxattr(d + "/file")) or only(found, ["user.open"]))


def only(found, expected):
    assert found == expected, found


def shut_down(d):
    import fcntl

    fcntl.ioctl(os.open(d, os.O_RDONLY), 2 << 30 | 4 << 16 | ord("X") << 8 | 125, struct.pack("I", 2))


def main():
    if len(sys.argv) == 1:
        print(" ".join(CASES))
    else:
        globals()[sys.argv[1]](sys.argv[2])


main()
