"""Many short calls from one process: soak.py URL PREFIX COUNT AT_A_TIME

SoakTest.java runs it: a process for each call, as caller.py is, would cost more than the calls do.
Each is made with caller.py's telephone, which joins a room of its own (PREFIX-0 and so on), hears
the greeting begin, and hangs up. One line of JSON is printed for each,
    {"room": .., "greeted": true or false, "ms": joined to heard, "frames": received, of 10 ms}
and the process ends with the last. It judges nothing, and nobody speaks on these calls.
"""

import argparse
import asyncio
import json
import os
import sys

import caller

AGENT, NUMBER = "webhook-crm-agent", "+15550100"
PATIENCE_S = 20


class Short(caller.Phone):
    async def obey(self):  # nobody drives it
        begun = caller.now()
        while not self.ear.first and caller.now() - begun < PATIENCE_S * 1000:
            await asyncio.sleep(0.02)
        print(json.dumps({"room": self.args.room, "greeted": self.ear.first > 0,
                          "ms": round(caller.now() - begun), "frames": self.ear.frames}),
              flush=True)
        await self.hang_up()


async def calls(url, prefix, numbers):
    for number in numbers:  # one iterator for all: each takes the next
        phone = Short(argparse.Namespace(
            url=url, room=f"{prefix}-{number}", identity="sip_" + NUMBER, kind="sip",
            status="ringing", phone=NUMBER, agent=AGENT, metadata="",
            mute=False))
        await phone.call()
        for task in phone.tasks:
            task.cancel()


async def main(url, prefix, count, at_a_time):
    caller.report = lambda *_, **__: None  # those of a single call
    numbers = iter(range(int(count)))
    await asyncio.gather(*(calls(url, prefix, numbers) for _ in range(int(at_a_time))))
    os._exit(0)  # as in caller.py


asyncio.run(main(*sys.argv[1:]))
