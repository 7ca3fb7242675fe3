"""Fifos, sockets, devices; statvfs."""
import ctypes
import errno
import os
import socket
import stat
import struct

from helpers import AT_FDCWD, allocate, as_user, case, check, fails, get, libc, nobody_fails, put, same


@case
def statfs(d):
    """statvfs: sizes, the longest name"""
    s = os.statvfs(d)
    assert s.f_namemax == 255 and s.f_blocks > 0 and 0 < s.f_bavail <= s.f_blocks and s.f_files > 0


@case(root=True)
def special_files(d):
    """a fifo and a device made by mknod"""
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
def fifo_between_processes(d):
    """open of a fifo waits for the other side; bytes pass; the end of the writers is the end of the file"""
    os.mkfifo(d + "/p", 0o600)
    pid = os.fork()
    if pid == 0:
        fd = os.open(d + "/p", os.O_WRONLY)
        os.write(fd, b"through the fifo")
        os._exit(0)
    fd = os.open(d + "/p", os.O_RDONLY)
    got = b""
    while part := os.read(fd, 100):
        got += part
    assert got == b"through the fifo"
    assert os.waitpid(pid, 0)[1] == 0
    os.close(fd)
    fails(errno.ENXIO, os.open, d + "/p", os.O_WRONLY | os.O_NONBLOCK)
    reader = os.open(d + "/p", os.O_RDONLY | os.O_NONBLOCK)
    writer = os.open(d + "/p", os.O_WRONLY | os.O_NONBLOCK)
    os.rename(d + "/p", d + "/q")
    os.unlink(d + "/q")
    os.write(writer, b"x")
    assert os.read(reader, 10) == b"x"
    assert os.fstat(reader).st_size == 0 and stat.S_ISFIFO(os.fstat(reader).st_mode)
    os.close(reader), os.close(writer)


@case
def unix_sockets(d):
    """a Unix socket is bound, connected to, refused when its server has gone (ECONNREFUSED)"""
    os.chdir(d)
    server = socket.socket(socket.AF_UNIX)
    server.bind("s")
    fails(errno.EADDRINUSE, socket.socket(socket.AF_UNIX).bind, "s")
    server.listen()
    client = socket.socket(socket.AF_UNIX)
    client.connect("s")
    peer, _ = server.accept()
    client.sendall(b"hello")
    assert peer.recv(10) == b"hello"
    assert stat.S_ISSOCK(os.stat("s").st_mode)
    fails(errno.ENXIO, os.open, "s", os.O_RDONLY)
    os.rename("s", "t")
    again = socket.socket(socket.AF_UNIX)
    again.connect("t")
    for s in server, client, peer, again:
        s.close()
    fails(errno.ECONNREFUSED, socket.socket(socket.AF_UNIX).connect, "t")
    os.unlink("t")
    fails(errno.ENOENT, socket.socket(socket.AF_UNIX).connect, "t")


@case(root=True)
def device_nodes(d):
    """mknod: devices with their number, regular files, sockets; others may not make devices (EPERM)"""
    for kind in stat.S_IFCHR, stat.S_IFBLK:
        for device in os.makedev(1, 3), os.makedev(0, 0), os.makedev(4095, 1048575), os.makedev(259, 70000):
            path = d + "/%o-%d" % (kind, device)
            os.mknod(path, kind | 0o640, device)
            s = os.lstat(path)
            assert s.st_mode == kind | 0o640 and s.st_rdev == device and s.st_size == 0, path
            if (kind, device) != (stat.S_IFCHR, 0):  # a whiteout is for everybody
                nobody_fails(errno.EPERM, os.mknod, d + "/x", kind | 0o600, device)
    os.mknod(d + "/file", stat.S_IFREG | 0o600)
    put(d + "/file", b"regular")
    os.mknod(d + "/socket", stat.S_IFSOCK | 0o600)
    assert stat.S_ISSOCK(os.stat(d + "/socket").st_mode)
    as_user(os.mknod, d + "/theirs", stat.S_IFIFO | 0o600)
    fails(errno.EPERM, os.mknod, d + "/dir", stat.S_IFDIR | 0o700)
    fails(errno.EINVAL, os.mknod, d + "/link", stat.S_IFLNK | 0o700)
    zero = d + "/zero"
    os.mknod(zero, stat.S_IFCHR | 0o600, os.makedev(1, 5))
    fd = os.open(zero, os.O_RDONLY)
    assert os.read(fd, 5) == bytes(5)
    os.close(fd)


@case
def statvfs_counts(d):
    """statvfs: free blocks fall by what is written and stored; the same for the directory and the descriptor"""
    s = os.statvfs(d)
    assert s.f_bsize > 0 and s.f_frsize > 0 and s.f_bavail <= s.f_bfree <= s.f_blocks
    assert s.f_ffree <= s.f_files and s.f_favail <= s.f_ffree
    fd = os.open(d + "/f", os.O_RDWR | os.O_CREAT)
    assert os.fstatvfs(fd).f_blocks == s.f_blocks
    allocate(fd, 0, 0, 1 << 30)
    taken = (s.f_bfree - os.statvfs(d).f_bfree) * s.f_frsize
    assert taken > (1 << 30) - (256 << 20), taken
    os.ftruncate(fd, 0)
    os.close(fd)


def handle_of(path, flags=0):
    handle = struct.pack("Ii", 128, 0) + bytes(128)
    buffer, mount = ctypes.create_string_buffer(handle), ctypes.c_int()
    check(libc.name_to_handle_at(AT_FDCWD, os.fsencode(path), buffer, ctypes.byref(mount), flags))
    return buffer


def open_handle(handle, d, flags=os.O_RDONLY):
    mount = os.open(d, os.O_RDONLY | os.O_DIRECTORY)
    try:
        return check(libc.open_by_handle_at(mount, handle, flags))
    finally:
        os.close(mount)


@case(root=True)
def file_handles(d):
    """open_by_handle_at opens what name_to_handle_at named, after a rename too; ESTALE when it is gone"""
    put(d + "/f", b"by handle")
    os.mkdir(d + "/dir")
    handle, of_directory = handle_of(d + "/f"), handle_of(d + "/dir")
    os.rename(d + "/f", d + "/dir/g")
    fd = open_handle(handle, d, os.O_RDWR)
    assert os.pread(fd, 100, 0) == b"by handle"
    os.pwrite(fd, b"BY", 0)
    os.close(fd)
    assert get(d + "/dir/g") == b"BY handle"
    fd = open_handle(of_directory, d)
    assert os.listdir(fd) == ["g"]
    os.close(fd)
    os.unlink(d + "/dir/g"), os.rmdir(d + "/dir")
    fails(errno.ESTALE, open_handle, handle, d)
    fails(errno.ESTALE, open_handle, of_directory, d)
    put(d + "/new", b"other")  # perhaps in the same place
    fails(errno.ESTALE, open_handle, handle, d)
    nobody_fails(errno.EPERM, open_handle, handle_of(d + "/new"), d)
