"""direct_aio.py FILE N: writes FILE directly and asynchronously, N times, beside a program that reads it through
the page cache. Once the kernel has said that a write is done, nobody may read what was there before."""

import ctypes
import mmap
import os
import struct
import subprocess
import sys

SIZE = 65536
IO_SETUP, IO_GETEVENTS, IO_SUBMIT = 206, 208, 209  # x86-64
IOCB_CMD_PWRITE = 1
READER = """
import os, sys
while True:
    fd = os.open(sys.argv[1], os.O_RDONLY)
    os.pread(fd, 65536, 0)
    os.close(fd)
"""

libc = ctypes.CDLL(None, use_errno=True)


def call(number, *args):
    result = libc.syscall(ctypes.c_long(number), *args)
    if result < 0:
        raise OSError(ctypes.get_errno(), "asynchronous I/O")
    return result


def main(path, times):
    buffer = mmap.mmap(-1, SIZE)
    address = ctypes.addressof(ctypes.c_char.from_buffer(buffer))
    context = ctypes.c_ulong(0)
    event = ctypes.create_string_buffer(32)
    call(IO_SETUP, ctypes.c_long(1), ctypes.byref(context))
    with open(path, "wb") as file:
        file.write(bytes(SIZE))
    direct = os.open(path, os.O_WRONLY | os.O_DIRECT)
    reader = subprocess.Popen([sys.executable, "-c", READER, path])
    try:
        for i in range(times):
            byte = 1 + i % 255
            buffer[:] = bytes([byte]) * SIZE
            # struct iocb: data, key, rw_flags, opcode, priority, fd, buffer, bytes, offset, reserved, flags, eventfd
            iocb = ctypes.create_string_buffer(
                struct.pack("QIIHhIQQqQII", 0, 0, 0, IOCB_CMD_PWRITE, 0, direct, address, SIZE, 0, 0, 0, 0)
            )
            iocbs = (ctypes.c_void_p * 1)(ctypes.addressof(iocb))
            call(IO_SUBMIT, context, ctypes.c_long(1), iocbs)
            call(IO_GETEVENTS, context, ctypes.c_long(1), ctypes.c_long(1), event, None)
            if struct.unpack("QQqq", event.raw)[2] != SIZE:
                sys.exit(f"write {i} came to {struct.unpack('QQqq', event.raw)[2]}")
            with open(path, "rb", buffering=0) as file:
                found = file.read(SIZE)
            if found != bytes([byte]) * SIZE:
                sys.exit(f"write {i} is done, and byte {found[0]} was read instead of {byte}")
    finally:
        reader.kill()
        reader.wait()


main(sys.argv[1], int(sys.argv[2]))
