"""POSIX ACLs (acl(5))."""
import errno
import os
import stat
import struct

from helpers import NOBODY, SOMEBODY, as_user, case, fails, get, mode_of, nobody_fails, put


USER_OBJ, USER, GROUP_OBJ, GROUP, MASK, OTHER = 1, 2, 4, 8, 16, 32
ACCESS, DEFAULT = "system.posix_acl_access", "system.posix_acl_default"


def acl(*entries):
    return struct.pack("<I", 2) + b"".join(struct.pack("<HHI", *e) for e in entries)


def entries_of(value):
    return [struct.unpack_from("<HHI", value, at) for at in range(4, len(value), 8)]


NAMED = acl((USER_OBJ, 6, 2**32 - 1), (USER, 6, NOBODY), (GROUP_OBJ, 4, 2**32 - 1), (MASK, 7, 2**32 - 1),
            (OTHER, 0, 2**32 - 1))


@case
def acl_and_mode(d):
    """the mode and the ACL are kept in step"""
    f = d + "/f"
    put(f, b"x")
    fails(errno.ENODATA, os.getxattr, f, ACCESS)
    os.setxattr(f, ACCESS, NAMED)
    assert mode_of(f) == 0o670, oct(mode_of(f))
    os.chmod(f, 0o640)
    assert (MASK, 4, 2**32 - 1) in entries_of(os.getxattr(f, ACCESS)), entries_of(os.getxattr(f, ACCESS))
    os.setxattr(f, ACCESS, acl((USER_OBJ, 6, 2**32 - 1), (GROUP_OBJ, 4, 2**32 - 1), (OTHER, 4, 2**32 - 1)))
    assert mode_of(f) == 0o644
    fails(errno.ENODATA, os.getxattr, f, ACCESS)
    os.setxattr(f, ACCESS, NAMED)
    os.removexattr(f, ACCESS)
    fails(errno.ENODATA, os.getxattr, f, ACCESS)
    assert os.listxattr(f) == []


@case
def acl_inherited(d):
    """a default ACL is inherited, and the umask does not count then"""
    os.umask(0o077)
    os.mkdir(d + "/d", 0o755)
    os.mkdir(d + "/plain", 0o777)
    assert mode_of(d + "/plain") == 0o700
    os.setxattr(d + "/d", DEFAULT, NAMED)
    put(d + "/d/f", b"x")  # with mode 0644: the umask does not count here
    assert mode_of(d + "/d/f") == 0o640, oct(mode_of(d + "/d/f"))
    assert (USER, 6, NOBODY) in entries_of(os.getxattr(d + "/d/f", ACCESS))
    os.mkdir(d + "/d/e", 0o777)
    assert os.getxattr(d + "/d/e", DEFAULT) == NAMED
    assert mode_of(d + "/d/e") == 0o670, oct(mode_of(d + "/d/e"))
    os.removexattr(d + "/d", DEFAULT)
    put(d + "/d/g", b"x")
    assert mode_of(d + "/d/g") == 0o600


@case(root=True)
def acl_enforced(d):
    """the ACL decides who may"""
    put(d + "/f", b"secret")
    os.chmod(d + "/f", 0o600)
    nobody_fails(errno.EACCES, get, d + "/f")
    os.setxattr(d + "/f", ACCESS, NAMED)
    assert as_user(get, d + "/f") == b"secret"
    as_user(put, d + "/f", b"!", os.O_WRONLY | os.O_APPEND)
    os.chmod(d + "/f", 0o640)  # the mask forbids writing now
    nobody_fails(errno.EACCES, put, d + "/f", b"!", os.O_WRONLY | os.O_APPEND)
    nobody_fails(errno.EPERM, os.setxattr, d + "/f", ACCESS, NAMED)
    os.mkdir(d + "/d", 0o700)
    put(d + "/d/g", b"below")
    os.chmod(d + "/d/g", 0o644)
    nobody_fails(errno.EACCES, get, d + "/d/g")
    os.setxattr(d + "/d", ACCESS, acl((USER_OBJ, 7, 2**32 - 1), (USER, 7, NOBODY), (GROUP_OBJ, 0, 2**32 - 1),
                                      (MASK, 7, 2**32 - 1), (OTHER, 0, 2**32 - 1)))
    assert as_user(get, d + "/d/g") == b"below"
    as_user(os.rename, d + "/d/g", d + "/d/g2")
    as_user(os.unlink, d + "/d/g2")


@case
def acl_umask(d):
    """with a default ACL the mode asked for is masked by it, for files, directories, fifos and O_TMPFILE"""
    os.umask(0o077)
    os.mkdir(d + "/d")
    os.setxattr(d + "/d", DEFAULT, acl((USER_OBJ, 7, 2**32 - 1), (GROUP_OBJ, 5, 2**32 - 1), (OTHER, 1, 2**32 - 1)))
    os.close(os.open(d + "/d/f", os.O_CREAT | os.O_WRONLY, 0o666))
    os.mkdir(d + "/d/e", 0o777)
    os.mkfifo(d + "/d/p", 0o666)
    assert (mode_of(d + "/d/f"), mode_of(d + "/d/e"), mode_of(d + "/d/p")) == (0o640, 0o751, 0o640), \
        [oct(mode_of(d + "/d/" + n)) for n in "fep"]
    fd = os.open(d + "/d", os.O_TMPFILE | os.O_RDWR, 0o666)
    assert stat.S_IMODE(os.fstat(fd).st_mode) == 0o640, oct(os.fstat(fd).st_mode)
    os.close(fd)


@case
def acl_malformed(d):
    """a malformed ACL is EINVAL, a default ACL of a file EACCES, of a symbolic link EOPNOTSUPP"""
    put(d + "/f", b"")
    os.symlink("f", d + "/l")
    fails(errno.EOPNOTSUPP, os.setxattr, d + "/f", ACCESS, b"nonsense")  # its version
    fails(errno.EINVAL, os.setxattr, d + "/f", ACCESS, NAMED[:-1])
    fails(errno.EINVAL, os.setxattr, d + "/f", ACCESS, acl((USER_OBJ, 6, 0), (USER, 6, 1), (OTHER, 4, 0)))
    fails(errno.EACCES, os.setxattr, d + "/f", DEFAULT, NAMED)
    fails(errno.EOPNOTSUPP, os.setxattr, d + "/l", ACCESS, NAMED, follow_symlinks=False)
    assert os.listxattr(d + "/f") == []


@case(root=True)
def acl_order(d):
    """the first entry that matches decides: owner, named user, groups together, others"""
    f = d + "/f"
    put(f, b"x")
    os.chown(f, SOMEBODY, 5000)
    os.setxattr(f, ACCESS, acl((USER_OBJ, 0, 2**32 - 1), (USER, 0, NOBODY), (GROUP_OBJ, 0, 2**32 - 1),
                               (GROUP, 4, 6000), (MASK, 7, 2**32 - 1), (OTHER, 4, 2**32 - 1)))
    fails(errno.EACCES, as_user, get, f, uid=SOMEBODY, gid=6000)
    fails(errno.EACCES, as_user, get, f, uid=NOBODY, gid=6000)
    assert as_user(get, f, uid=777, gid=777) == b"x"  # other
    fails(errno.EACCES, as_user, get, f, uid=777, gid=5000)
    assert as_user(get, f, uid=777, gid=5000, groups=[6000]) == b"x"
    fails(errno.EACCES, as_user, put, f, b"y", uid=777, gid=6000)
