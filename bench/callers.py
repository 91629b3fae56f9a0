"""The callers of bench/Bench.java: many telephones in one process, each of them caller.py's.

It takes lines on stdin, `ID` being a word that Bench chooses for each call:
    ID join ROOM NUMBER MS  a phone that rings in that room, and hears MS milliseconds at a time:
                            of 10 it notices when they come, of more it takes less of the machine
                            to listen, and of 0 nothing: that one only sends silence
    ID say HZ MS            speak a tone (a multiple of 100 Hz), after whatever is still to be said
    ID hangup               leave as a phone does
and reports as caller.py does, with "call": ID in each line; and when a call is over, of its sound:
    {"event": "sound", "ms": heard in all, "gaps": .., "clicks": .., "db": signal to noise}
What these three are, `judge` says. What a tone is, it does not check; the trials do.
"""

import argparse
import asyncio
import contextvars
import json
import os
import pathlib
import sys
from array import array

import numpy
from livekit import rtc

sys.path.append(str(pathlib.Path(__file__).parent.parent / "trials"))
import caller  # noqa: E402

RATE = 48_000  # WebRTC's own: to convert to a phone's and back costs more than all the rest
SAID_MS = 20  # spoken at a time
SAID = RATE // 1000 * SAID_MS
GAP = 2  # frames; so many quiet ones in a row nobody hears
PAUSE = 40  # frames; so many are a pause between two answers
TONE_HZ = 440  # what DemoModel speaks
CLICK = 1500  # of 32768
FIT = caller.RATE // 40  # in so many samples the tone turns 11 times

call = contextvars.ContextVar("call")  # whose task it is


def report(event, at=None, **facts):
    print(json.dumps({"call": call.get(), "event": event, "at": round(at or caller.now(), 1)}
                     | facts), flush=True)


def loudness(sound):
    """The RMS of each frame of 10 ms."""
    frames = sound[:len(sound) // caller.FRAME * caller.FRAME].astype(float)
    return numpy.sqrt((frames.reshape(-1, caller.FRAME) ** 2).mean(axis=1))


def judge(sound):
    """How many gaps and clicks there are in the agent's speech, and how many dB the tone is louder
    than the rest, in the median second of it. A gap is a silence in mid-answer of more than 20 ms. A click is a place inside an
    answer where the tone does not go on as a tone does, x[n] = 2 cos(w) x[n-1] - x[n-2]. The rest
    is what remains when the tone that fits best is taken away, in each 25 ms. The ends of an
    answer, where it may be cut off, are not looked at."""
    loud = numpy.flatnonzero(loudness(sound) > caller.LOUD)
    if not len(loud):
        return 0, 0, 0.0
    quiet = numpy.diff(loud) - 1
    gaps = numpy.count_nonzero((quiet > GAP) & (quiet < PAUSE))
    clicks, tone, rest = 0, array("d"), array("d")
    x = sound.astype(float)
    turn = numpy.exp(2j * numpy.pi * TONE_HZ / caller.RATE * numpy.arange(FIT))
    for answer in numpy.split(loud, numpy.flatnonzero(quiet > GAP) + 1):
        inside = x[(answer[0] + 2) * caller.FRAME:(answer[-1] - 1) * caller.FRAME]
        off = abs(inside[2:] - 2 * numpy.cos(2 * numpy.pi * TONE_HZ / caller.RATE) * inside[1:-1]
                  + inside[:-2])
        odd = numpy.flatnonzero(off > CLICK)
        clicks += numpy.count_nonzero(numpy.diff(odd, prepend=-caller.FRAME) >= caller.FRAME)
        parts = inside[:len(inside) // FIT * FIT].reshape(-1, FIT)
        tone.extend(abs(parts @ turn) ** 2 * 2 / FIT)
        rest.extend((parts ** 2).sum(axis=1) - tone[len(rest):])
    seconds = max(1, len(tone) // 40)
    db = [10 * numpy.log10(max(s.sum(), 1e-9) / max(n.sum(), 1e-9)) for s, n in zip(
        numpy.array_split(tone, seconds), numpy.array_split(rest, seconds))]
    return int(gaps), int(clicks), round(float(numpy.median(db)), 1)


class Ear(caller.Ear):
    """It keeps all that it hears, instead of looking which tone an answer begins with."""

    def __init__(self):
        super().__init__()
        self.sound = array("h")

    def hear(self, samples):
        self.sound.frombytes(samples.tobytes())
        super().hear(samples)

    def loud(self, samples):
        heard = samples.astype(float)
        return heard.dot(heard) > caller.LOUD ** 2 * len(heard)

    def keep(self, samples):
        pass


class Phone(caller.Phone):
    def __init__(self, room, number, ms):
        super().__init__(argparse.Namespace(
            url=sys.argv[1], room=room, identity="sip_" + number, kind="sip", status="ringing",
            phone=number, agent=None, metadata="", mute=False))
        self.ms = int(ms)
        self.ear = Ear()
        self.source = rtc.AudioSource(RATE, 1, queue_size_ms=20 if self.ms else 200)

    async def obey(self):
        pass  # main() hands out the commands

    async def publish(self):
        await super().publish()
        report("ready")
        self.spawn(self.heard())

    async def heard(self):
        """On a line that loses packets, our sound may come to the server seconds later."""
        await self.microphone.wait_for_subscription()
        report("heard")

    async def listen(self, track):
        if not self.ms:
            return
        async for sound in rtc.AudioStream(track, sample_rate=RATE, frame_size_ms=self.ms):
            samples = numpy.frombuffer(sound.frame.data, dtype=numpy.int16)[::RATE // caller.RATE]
            for frame in numpy.split(samples, self.ms // 10):
                self.ear.hear(frame)

    async def talk(self, source):
        if not self.ms:  # silence, in pieces as long as the source takes them
            much = rtc.AudioFrame(bytes(RATE // 5), RATE, 1, RATE // 10)
            while True:
                await source.capture_frame(much)
        frames = {}
        while True:
            hz, first, last = self.words.popleft() if self.words else (0, False, False)
            if hz not in frames:
                turn = 2 * numpy.pi * hz / RATE * numpy.arange(SAID)
                frames[hz] = rtc.AudioFrame((caller.VOLUME * numpy.sin(turn)).astype(numpy.int16)
                                            .tobytes(), RATE, 1, SAID)
            out = caller.now() + source.queued_duration * 1000
            await source.capture_frame(frames[hz])
            if first:
                report("saying", at=out)
            if last:
                report("said", at=out + SAID_MS)

    async def whole_call(self):
        try:
            await self.call()
        except rtc.ConnectError as e:
            return report("refused", why=str(e))
        for task in self.tasks:
            task.cancel()
        sound = numpy.array(self.ear.sound)
        gaps, clicks, db = judge(sound)
        report("sound", ms=len(sound) * 1000 // caller.RATE, gaps=gaps, clicks=clicks, db=db)


async def main():
    caller.report = report
    phones, tasks = {}, set()
    lines, loop = asyncio.StreamReader(), asyncio.get_running_loop()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(lines), sys.stdin)
    while line := (await lines.readline()).decode().split():
        match line:
            case [who, "join", room, number, ms]:
                call.set(who)  # a task takes a copy of that with it
                phones[who] = Phone(room, number, ms)
                work = phones[who].whole_call()
            case [who, "hangup"]:
                call.set(who)
                work = phones.pop(who).hang_up()
            case [who, "say", hz, ms]:
                count = int(ms) // SAID_MS
                phones[who].words.extend(
                    (int(hz), n == 0, n == count - 1) for n in range(count))
                continue
        task = asyncio.create_task(work)
        tasks.add(task)
        task.add_done_callback(tasks.discard)
    os._exit(0)  # Bench has gone; as in caller.py


if __name__ == "__main__":
    asyncio.run(main())
