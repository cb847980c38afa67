"""What people write next: one task for each token, which checks, reads the response and sleeps.

Usage: tasks.py URL TOKENS CHECKS. Prints `ready`, then `done` when each token was checked CHECKS
times. Exits when its input ends.
"""

import asyncio
import sys

import aiohttp


async def ask(session, url, token):
    async with session.get(url, params={"SessionToken": token}) as response:
        return (await response.json())["Result"]["Remaining"]


async def keep(session, url, token, checks, finished):
    for _ in range(checks):
        remaining = await ask(session, url, token)
        await asyncio.sleep(1)
    finished()
    await asyncio.sleep(remaining / 1000 * 0.67)


async def main(base, tokens, checks):
    url = base + "/QuerySessionToken"
    connector = aiohttp.TCPConnector(limit=64)
    timeout = aiohttp.ClientTimeout(total=None, sock_read=10)
    async with aiohttp.ClientSession(connector=connector, timeout=timeout) as session:
        await asyncio.gather(*(ask(session, url, "warm") for _ in range(256)))
        print("ready", flush=True)
        left, over = tokens, asyncio.Event()

        def finished():
            nonlocal left
            left -= 1
            if left == 0:
                over.set()

        name = "%08x-5ca1-4b1e-8000-000000000000"
        tasks = [
            asyncio.create_task(keep(session, url, name % n, checks, finished))
            for n in range(tokens)
        ]
        await over.wait()
        print("done", flush=True)
        await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)
        for task in tasks:
            task.cancel()


asyncio.run(main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3])))
