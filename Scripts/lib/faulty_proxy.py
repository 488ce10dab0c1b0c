"""Passes TCP connections on with delays, stalls and breaks: `faulty_proxy.py SEED LISTEN TARGET [LISTEN TARGET …]`, with
addresses as HOST:PORT. What a network that delays and loses does to a connection, where the kernel has no netem."""

import asyncio
import random
import sys

DELAY = 0.003
STALL, STALLS_PER_PIECE = 0.2, 0.01
BREAKS_PER_PIECE = 0.0005
PIECE = 1 << 16


async def carry(reader, writer, chance):
    """Bytes of one direction, in their order."""
    while data := await reader.read(PIECE):
        await asyncio.sleep(chance.uniform(0, DELAY) + (STALL if chance.random() < STALLS_PER_PIECE else 0))
        if chance.random() < BREAKS_PER_PIECE:
            return
        writer.write(data)
        await writer.drain()


async def serve(listen, target, chance):
    async def connected(reader, writer):
        writers = [writer]
        try:
            other_reader, other_writer = await asyncio.open_connection(*target)
            writers.append(other_writer)
            directions = [
                asyncio.ensure_future(carry(reader, other_writer, chance)),
                asyncio.ensure_future(carry(other_reader, writer, chance)),
            ]
            # A connection that is broken in one direction is broken.
            _, left = await asyncio.wait(directions, return_when=asyncio.FIRST_COMPLETED)
            for direction in left:
                direction.cancel()
            await asyncio.gather(*directions, return_exceptions=True)
        except OSError:
            pass
        finally:
            for each in writers:
                each.transport.abort()

    server = await asyncio.start_server(connected, *listen)
    async with server:
        await server.serve_forever()


def address(text):
    host, port = text.rsplit(":", 1)
    return host, int(port)


async def main():
    chance = random.Random(int(sys.argv[1]))
    ends = [address(text) for text in sys.argv[2:]]
    await asyncio.gather(*(serve(listen, target, chance) for listen, target in zip(ends[::2], ends[1::2])))


asyncio.run(main())
