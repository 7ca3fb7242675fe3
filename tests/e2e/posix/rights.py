"""Modes, owners, groups, set-id bits and capabilities."""
import errno
import mmap
import os
import shutil
import stat
import subprocess

from helpers import (KEEP_SIZE, NOBODY, PUNCH_HOLE, SOMEBODY, ZERO_RANGE, allocate, as_user, capability, case,
                     expect, fails, get, has_xattr, in_child, mode_of, nobody_fails, put, renameat2)


def only_mode(path):
    """Asked for by itself: the kernel may know it still when it knows no times."""
    return subprocess.run(["stat", "-c", "%a", path], capture_output=True, text=True).stdout.strip()


def write_and_look(path, mode):
    fd = os.open(path, os.O_WRONLY)
    os.write(fd, b"y")
    assert stat.S_IMODE(os.fstat(fd).st_mode) == mode, oct(os.fstat(fd).st_mode)
    os.fsync(fd)
    assert stat.S_IMODE(os.fstat(fd).st_mode) == mode, oct(os.fstat(fd).st_mode)


def write_and_chmod(path, mode):
    fd = os.open(path, os.O_WRONLY)
    os.write(fd, b"y")
    os.chmod(path, mode)
    os.fsync(fd)


def write_page(path, flags):
    fd = os.open(path, os.O_RDWR | flags)
    assert os.pwrite(fd, mmap.mmap(-1, 4096), 0) == 4096


def allocate_some(path, mode):
    fd = os.open(path, os.O_RDWR)
    allocate(fd, mode, 0, 9999)
    os.close(fd)


def create_with_mode(path, mode):
    os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode))


def drop_a_group(path):
    """A process reads a file by its group, and cannot any more when it has left that."""
    os.setgroups([5000])
    os.setegid(NOBODY)
    os.seteuid(NOBODY)
    assert get(path) == b"x"
    os.seteuid(0)
    os.setgroups([])
    os.seteuid(NOBODY)
    fails(errno.EACCES, get, path)
    os.seteuid(0)


def make_everything(d):
    put(d + "/f", b"x")
    os.mkdir(d + "/sub")
    os.mkfifo(d + "/fifo")
    os.symlink("f", d + "/link")


@case(root=True)
def modes_and_owners(d):
    """chmod, chown; suid and sgid go when somebody else writes or truncates"""
    path = d + "/f"
    put(path, b"x")
    os.chmod(path, 0o4755)
    assert stat.S_IMODE(os.stat(path).st_mode) == 0o4755
    os.chown(path, NOBODY, NOBODY)
    s = os.stat(path)
    assert (s.st_uid, s.st_gid, stat.S_IMODE(s.st_mode)) == (NOBODY, NOBODY, 0o755)
    # A write by one who is not root clears suid and sgid, at once and for good.
    os.chmod(path, 0o6755)
    as_user(write_and_look, path, 0o755)
    assert stat.S_IMODE(os.stat(path).st_mode) == 0o755
    os.chmod(path, 0o6755)
    as_user(os.truncate, path, 0)
    assert stat.S_IMODE(os.stat(path).st_mode) == 0o755
    os.chmod(path, 0o6755)
    as_user(os.open, path, os.O_WRONLY | os.O_TRUNC)
    assert stat.S_IMODE(os.stat(path).st_mode) == 0o755
    os.chmod(path, 0o6755)
    put(path, b"root", os.O_WRONLY)
    assert stat.S_IMODE(os.stat(path).st_mode) == 0o6755
    # chmod after a write by another holds.
    as_user(write_and_chmod, path, 0o4711)
    assert stat.S_IMODE(os.stat(path).st_mode) == 0o4711


@case(root=True)
def permissions(d):
    """EACCES and EPERM for who has no right"""
    put(d + "/secret", b"x")
    os.chmod(d + "/secret", 0o600)
    nobody_fails(errno.EACCES, os.open, d + "/secret", os.O_RDONLY)
    nobody_fails(errno.EACCES, os.open, d + "/secret", os.O_WRONLY)
    nobody_fails(errno.EACCES, os.truncate, d + "/secret", 0)
    nobody_fails(errno.EPERM, os.chmod, d + "/secret", 0o777)
    nobody_fails(errno.EPERM, os.chown, d + "/secret", NOBODY, NOBODY)
    nobody_fails(errno.EPERM, os.utime, d + "/secret", (1, 1))
    nobody_fails(errno.EPERM, os.unlink, d + "/secret")  # sticky
    nobody_fails(errno.EPERM, os.rename, d + "/secret", d + "/secret2")
    os.mkdir(d + "/closed", 0o700)
    put(d + "/closed/f", b"")
    nobody_fails(errno.EACCES, os.listdir, d + "/closed")
    nobody_fails(errno.EACCES, os.stat, d + "/closed/f")
    nobody_fails(errno.EACCES, os.mkdir, d + "/closed/x")
    os.mkdir(d + "/look", 0o755)
    put(d + "/look/f", b"")
    nobody_fails(errno.EACCES, os.unlink, d + "/look/f")
    nobody_fails(errno.EACCES, os.open, d + "/look/g", os.O_WRONLY | os.O_CREAT)
    nobody_fails(errno.EPERM, os.mknod, d + "/null", 0o020666, os.makedev(1, 3))
    as_user(put, d + "/mine", b"mine")
    as_user(os.chmod, d + "/mine", 0)
    assert os.stat(d + "/mine").st_uid == NOBODY
    expect(d + "/mine", b"mine")


@case
def umask_counts(d):
    """the umask is taken off the mode of files, directories and fifos"""
    os.umask(0o027)
    put(d + "/f", b"")
    os.mkdir(d + "/d", 0o777)
    os.mkfifo(d + "/p", 0o666)
    assert (mode_of(d + "/f"), mode_of(d + "/d"), mode_of(d + "/p")) == (0o640, 0o750, 0o640)


@case(root=True)
def direct_write_clears_suid(d):
    """an O_DIRECT write clears suid and sgid too"""
    f = d + "/f"
    for flags in (0, os.O_DIRECT):
        put(f, b"x" * 10000)
        os.chown(f, NOBODY, NOBODY)
        os.chmod(f, 0o6755)
        assert only_mode(f) == "6755"
        as_user(write_page, f, flags)
        assert only_mode(f) == "755", only_mode(f)


@case(root=True)
def allocating_clears_privileges(d):
    """fallocate clears suid, sgid and file capabilities; root keeps suid"""
    f = d + "/f"
    put(f, b"x" * 10000)
    for mode in 0, PUNCH_HOLE | KEEP_SIZE, ZERO_RANGE:
        for before, after in ("6666", "666"), ("6777", "777"), ("2676", "676"):
            os.chmod(f, int(before, 8))
            assert only_mode(f) == before
            as_user(allocate_some, f, mode)
            assert only_mode(f) == after, (mode, before, only_mode(f))
        os.setxattr(f, "security.capability", capability())
        as_user(allocate_some, f, mode)
        assert not has_xattr(f, "security.capability")
    os.chmod(f, 0o6777)
    allocate_some(f, 0)
    assert only_mode(f) == "6777"
    os.setxattr(f, "security.capability", capability())
    os.chmod(f, 0o755)
    nobody_fails(errno.EPERM, os.removexattr, f, "security.capability")


@case(root=True)
def capabilities_go_on_write(d):
    """file capabilities go when anybody writes, truncates or changes the owner, root as well"""
    changes = {
        "write": lambda f: put(f, b"y", os.O_WRONLY),
        "append": lambda f: put(f, b"y", os.O_WRONLY | os.O_APPEND),
        "truncate": lambda f: os.truncate(f, 5),
        "O_TRUNC": lambda f: put(f, b"", os.O_WRONLY | os.O_TRUNC),
        "chown": lambda f: os.chown(f, NOBODY, NOBODY),
    }
    for user in 0, NOBODY:
        for name, change in changes.items():
            if user != 0 and name == "chown":
                continue
            f = d + "/%s-%d" % (name, user)
            put(f, b"x" * 10000)
            os.chmod(f, 0o777)
            os.setxattr(f, "security.capability", capability())
            assert os.getxattr(f, "security.capability") == capability()
            as_user(change, f, uid=user, gid=user)
            assert not has_xattr(f, "security.capability"), (user, name)


@case(root=True)
def chown_clears_suid(d):
    """chown clears suid, and sgid where the group may execute, for root too; not of directories"""
    f = d + "/f"
    put(f, b"x")
    for before, after in (0o6755, 0o755), (0o2745, 0o2745), (0o4644, 0o644), (0o6711, 0o711):
        os.chmod(f, before)
        os.chown(f, NOBODY, NOBODY)
        assert mode_of(f) == after, (oct(before), oct(mode_of(f)))
    as_user(os.mkdir, d + "/d")
    os.chmod(d + "/d", 0o6755)
    os.chown(d + "/d", SOMEBODY, SOMEBODY)
    assert mode_of(d + "/d") == 0o6755, oct(mode_of(d + "/d"))


@case(root=True)
def sgid_of_strangers(d):
    """chmod and chown by an owner who is not in the file's group clear sgid"""
    f = d + "/f"
    put(f, b"x")
    os.chown(f, NOBODY, 5000)
    as_user(os.chmod, f, 0o2755)
    assert mode_of(f) == 0o755, oct(mode_of(f))
    as_user(os.chmod, f, 0o2755, groups=[5000])
    assert mode_of(f) == 0o2755, oct(mode_of(f))
    as_user(os.chown, f, -1, 5001, groups=[5001])
    assert mode_of(f) == 0o755 and os.stat(f).st_gid == 5001


@case(root=True)
def supplementary_groups(d):
    """the groups of a process count: to read, to write, and for chgrp; at once when they change"""
    f = d + "/f"
    put(f, b"x")
    os.chown(f, 0, 5000)
    os.chmod(f, 0o640)
    nobody_fails(errno.EACCES, get, f)
    assert as_user(get, f, groups=[4000, 5000]) == b"x"
    assert as_user(get, f, groups=list(range(4001, 4031)) + [5000]) == b"x"
    put(d + "/mine", b"x")
    os.chown(d + "/mine", NOBODY, NOBODY)
    nobody_fails(errno.EPERM, os.chown, d + "/mine", -1, 5000)
    as_user(os.chown, d + "/mine", -1, 5000, groups=[5000])
    assert os.stat(d + "/mine").st_gid == 5000
    in_child(drop_a_group, f)


@case
def sgid_directory(d):
    """below a sgid directory all is of its group, and directories inherit the bit"""
    group = 5000 if os.getuid() == 0 else os.getgid()
    os.mkdir(d + "/d")
    os.chown(d + "/d", -1, group)
    os.chmod(d + "/d", 0o2777)
    make_everything(d + "/d")
    for name in "f", "sub", "fifo", "link":
        assert os.lstat(d + "/d/" + name).st_gid == group, name
    assert os.stat(d + "/d/sub").st_mode & stat.S_ISGID
    assert not os.stat(d + "/d/f").st_mode & stat.S_ISGID
    if os.getuid() == 0:
        as_user(os.mkdir, d + "/d/by-nobody")
        assert os.stat(d + "/d/by-nobody").st_gid == group
        assert os.stat(d + "/d/by-nobody").st_mode & stat.S_ISGID
        as_user(create_with_mode, d + "/d/sgid-file", 0o2755)
        assert mode_of(d + "/d/sgid-file") == 0o755, "who is not in the group makes no sgid file"


@case(root=True)
def sticky_directory(d):
    """in a sticky directory only the owner of the file or of the directory removes or renames"""
    s = d + "/s"
    os.mkdir(s)
    os.chown(s, SOMEBODY, SOMEBODY)
    os.chmod(s, 0o1777)
    for name in "a", "b", "c":
        as_user(put, s + "/" + name, b"x")
    os.mkdir(s + "/dir")
    other = {"uid": 4321, "gid": 4321}
    fails(errno.EPERM, as_user, os.unlink, s + "/a", **other)
    fails(errno.EPERM, as_user, os.rmdir, s + "/dir", **other)
    fails(errno.EPERM, as_user, os.rename, s + "/a", s + "/z", **other)
    as_user(put, s + "/mine", b"x", **other)
    fails(errno.EPERM, as_user, os.rename, s + "/mine", s + "/a", **other)
    fails(errno.EPERM, as_user, renameat2, s + "/mine", s + "/a", 2, **other)
    as_user(os.unlink, s + "/a")
    as_user(os.unlink, s + "/b", uid=SOMEBODY, gid=SOMEBODY)  # the directory's owner
    as_user(os.rename, s + "/c", s + "/d")
    as_user(os.rename, s + "/mine", s + "/mine2", **other)
    os.unlink(s + "/mine2")


@case(root=True)
def along_a_path(d):
    """every directory of a path needs the right to search; reading one needs r, changing one w and x"""
    os.makedirs(d + "/a/b/c")
    put(d + "/a/b/c/f", b"x")
    assert as_user(get, d + "/a/b/c/f") == b"x"
    for closed in "/a", "/a/b", "/a/b/c":
        os.chmod(d + closed, 0o766)
        nobody_fails(errno.EACCES, os.stat, d + "/a/b/c/f")
        nobody_fails(errno.EACCES, get, d + "/a/b/c/f")
        nobody_fails(errno.EACCES, os.link, d + "/a/b/c/f", d + "/l")
        nobody_fails(errno.EACCES, os.rename, d + "/a/b/c/f", d + "/g")
        os.chmod(d + closed, 0o755)
    os.chmod(d + "/a/b", 0o711)
    nobody_fails(errno.EACCES, os.listdir, d + "/a/b")
    assert as_user(get, d + "/a/b/c/f") == b"x"
    os.symlink("a/b/c/f", d + "/link")
    os.chmod(d + "/a", 0o700)
    nobody_fails(errno.EACCES, get, d + "/link")
    os.chmod(d + "/a", 0o755)
    os.chmod(d + "/a/b/c", 0o766)  # w without x
    nobody_fails(errno.EACCES, put, d + "/a/b/c/new", b"")


@case(root=True)
def root_executes(d):
    """root may do all, except to execute what nobody may"""
    shutil.copy("/bin/true", d + "/program")
    os.chmod(d + "/program", 0)
    assert len(get(d + "/program")) > 0
    fails(errno.EACCES, subprocess.run, [d + "/program"])
    assert os.access(d + "/program", os.R_OK | os.W_OK) and not os.access(d + "/program", os.X_OK)


@case
def created_and_closed(d):
    """the mode of a new file is for later opens: the descriptor that made it may write"""
    fd = os.open(d + "/f", os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o000)
    assert os.write(fd, b"abc") == 3 and os.pread(fd, 3, 0) == b"abc"
    os.fchmod(fd, 0o400)
    assert os.write(fd, b"d") == 1
    os.fsync(fd)
    os.close(fd)
    assert get(d + "/f") == b"abcd"
