"""An exchange's feed, by the package `websockets`; what goes wrong is said in the file MODE, which is read all the time.

Arguments: MODE PORT_FILE LOG_FILE [CERTIFICATE KEY]. Keys of MODE: data, delay (s before a pong), refuse (credentials),
reject (status of the upgrade), drop (whenever it changes, every connection is closed), login (expected token, if any).
"""

import asyncio
import json
import os
import ssl
import sys
import time

from websockets.asyncio.server import serve

mode_file, port_file, log_file = sys.argv[1:4]


def mode():
    while True:
        try:
            with open(mode_file) as file:
                return json.load(file)
        except ValueError:
            time.sleep(0.001)


def note(what):
    with open(log_file, "a") as file:
        file.write(json.dumps({"at": time.monotonic(), "what": what}) + "\n")


def upgrade(connection, request):
    status = mode().get("reject")
    note("rejected" if status else "accepted")
    if status:
        return connection.respond(status, "no room")


async def answer(socket):
    async for text in socket:
        message = json.loads(text)
        if message.get("op") == "ping":
            await asyncio.sleep(mode().get("delay", 0))
            await socket.send('{"op":"pong"}')


async def feed(socket):
    begun = mode()
    if begun.get("login"):
        message = json.loads(await socket.recv())
        welcome = message.get("token") == begun["login"] and not begun.get("refuse")
        note("welcome" if welcome else "refused")
        told = {"op": "login", "success": welcome, "message": "token " + str(message.get("token"))}
        await socket.send(json.dumps(told))
        if not welcome:
            await socket.wait_closed()
            return
    subscription = json.loads(await socket.recv())
    note(subscription.get("op"))
    await socket.send('{"op":"subscribe","success":true}')
    answering = asyncio.create_task(answer(socket))
    try:
        while True:
            now = mode()
            if now.get("drop") != begun.get("drop"):
                await socket.close(1012, "service restart")
                return
            await socket.send('{"channel":"heartbeat"}')
            if now.get("data", True):
                await socket.send(json.dumps({"channel": "trades", "price": time.time()}))
            await asyncio.sleep(0.05)
    finally:
        answering.cancel()


async def main():
    context = None
    if len(sys.argv) > 4:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(sys.argv[4], sys.argv[5])
    async with serve(feed, "127.0.0.1", 0, process_request=upgrade, ssl=context) as server:
        port = server.sockets[0].getsockname()[1]
        with open(port_file + ".new", "w") as file:
            file.write(str(port))
        os.rename(port_file + ".new", port_file)
        await server.serve_forever()


asyncio.run(main())
