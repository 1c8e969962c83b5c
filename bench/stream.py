"""A plain TCP sender and its receiver: what one stream, or several, make of a line. It runs as a program of its own.

`stream.py receive ADDRESS PORT PATH` writes what comes, syncs it, and says so to the sender; `-` writes nothing.
`stream.py send ADDRESS PORT PATH STREAMS CONGESTION` sends the file in as many parts at once.
"""

import itertools
import os
import socket
import struct
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

_HEAD = struct.Struct(">QQ")
"""Offset of the part in the file, and how many parts there are."""
_PIECE = 1 << 20


def receive(address: str, port: int, path: str) -> None:
    """Serves one copy."""
    handle = None if path == "-" else os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
    connections: list[socket.socket] = []
    threads = []
    with socket.create_server((address, port), backlog=64) as server:
        print("listening", flush=True)
        count = 1
        while len(connections) < count:
            connection, _ = server.accept()
            offset, count = _HEAD.unpack(connection.recv(_HEAD.size, socket.MSG_WAITALL))
            connections.append(connection)
            threads.append(threading.Thread(target=_store, args=(connection, handle, offset)))
            threads[-1].start()
    for thread in threads:
        thread.join()
    if handle is not None:
        os.fdatasync(handle)
    for connection in connections:
        connection.sendall(b"!")


def _store(connection: socket.socket, handle: int | None, offset: int) -> None:
    while piece := connection.recv(_PIECE):
        if handle is not None:
            os.pwrite(handle, piece, offset)
        offset += len(piece)


def send(address: str, port: int, path: str, streams: int, congestion: str) -> None:
    """Returns when the receiver has all of it; raises if one part failed."""
    size = Path(path).stat().st_size
    bounds = [size * number // streams for number in range(streams + 1)]
    with ThreadPoolExecutor(streams) as pool:
        parts = [
            pool.submit(_send_part, address, port, path, begin, end, streams, congestion)
            for begin, end in itertools.pairwise(bounds)
        ]
        for part in parts:
            part.result()


def _send_part(address: str, port: int, path: str, begin: int, end: int, streams: int, congestion: str) -> None:
    with socket.socket() as connection, Path(path).open("rb") as file:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_CONGESTION, congestion.encode())
        connection.connect((address, port))
        connection.sendall(_HEAD.pack(begin, streams))
        connection.sendfile(file, begin, end - begin)
        connection.shutdown(socket.SHUT_WR)
        if connection.recv(1) != b"!":
            raise ConnectionError("the receiver is gone")


if __name__ == "__main__":
    verb, address, port, path, *more = sys.argv[1:]
    if verb == "receive":
        receive(address, int(port), path)
    else:
        send(address, int(port), path, int(more[0]), more[1])
