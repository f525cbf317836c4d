"""A server that breaks the WebSocket protocol in the way that the path asks for. Arguments: PORT_FILE."""

import asyncio
import base64
import hashlib
import os
import struct
import sys
import zlib

MAGIC = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"


def header(first, length):
    return bytes([first, 127]) + struct.pack(">Q", length)


async def endless(writer, piece):
    while True:
        writer.write(piece)
        await writer.drain()


async def serve(reader, writer):
    try:
        await behave(reader, writer)
    except (ConnectionError, asyncio.IncompleteReadError):
        pass
    finally:
        writer.close()


async def behave(reader, writer):
    request = await reader.readuntil(b"\r\n\r\n")
    lines = request.split(b"\r\n")
    path = lines[0].split()[1].decode()
    if path == "/silent":
        await asyncio.sleep(3600)
    if path == "/redirect":
        writer.write(b"HTTP/1.1 302 Found\r\nLocation: ws://198.51.100.7/other\r\nContent-Length: 0\r\n\r\n")
        await writer.drain()
        return
    if path == "/loris":
        for byte in b"HTTP/1.1 101 Switching Protocols\r\n" * 1000:
            writer.write(bytes([byte]))
            await writer.drain()
            await asyncio.sleep(0.05)
    key = next(line.split(b":")[1].strip() for line in lines if line.lower().startswith(b"sec-websocket-key"))
    accept = base64.b64encode(hashlib.sha1(key + MAGIC).digest())
    extension = b"Sec-WebSocket-Extensions: permessage-deflate\r\n" if path == "/bomb" else b""
    writer.write(
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        + extension + b"Sec-WebSocket-Accept: " + accept + b"\r\n\r\n"
    )
    if path == "/huge":
        writer.write(header(0x82, 1 << 40))
        await endless(writer, bytes(65536))
    if path == "/large":
        writer.write(header(0x82, 1 << 26))
        await endless(writer, bytes(65536))
    if path == "/fragments":
        writer.write(header(0x02, 65536) + bytes(65536))
        await endless(writer, header(0x00, 65536) + bytes(65536))
    if path == "/empty_fragments":
        writer.write(bytes([0x02, 0x00]))
        await endless(writer, bytes([0x00, 0x00]) * 32768)
    if path == "/utf8":
        writer.write(bytes([0x81, 0x04]) + b"\xf0\x28\x8c\x28")
    if path == "/bomb":
        packer = zlib.compressobj(9, zlib.DEFLATED, -15)
        bomb = b"".join(packer.compress(bytes(1 << 20)) for _ in range(100)) + packer.flush()
        writer.write(header(0xC1, len(bomb)) + bomb)
    if path == "/masked":
        writer.write(bytes([0x81, 0x82, 1, 2, 3, 4, 0, 0]))
    if path == "/messages":
        await endless(writer, bytes([0x81, 0x02]) * 1 + b"{}" + (bytes([0x81, 0x02]) + b"{}") * 16000)
    if path == "/pings":
        await endless(writer, (bytes([0x89, 0x7D]) + bytes(125)) * 500)
    if path == "/pongs":
        await endless(writer, (bytes([0x8A, 0x08]) + b"chiron 9") * 500)
    await writer.drain()
    await asyncio.sleep(3600)


async def main():
    server = await asyncio.start_server(serve, "127.0.0.1", 0, limit=1 << 16)
    port_file = sys.argv[1]
    with open(port_file + ".new", "w") as file:
        file.write(str(server.sockets[0].getsockname()[1]))
    os.rename(port_file + ".new", port_file)
    async with server:
        await server.serve_forever()


asyncio.run(main())
