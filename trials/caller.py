"""A telephone for tests: joins a room as livekit-sip would, speaks tones, tells what it hears.

LiveTest.java starts one process per caller and drives it with lines on stdin:
    say HZ MS     speak a tone, after whatever is still to be said; 0 Hz is silence
    keys 12#d     press keys
    odd N WORDS   press, N times, a key that no phone has: these words
    type N WORDS  write these words N times
    pickup        answer, when it was called itself (--status dialing)
    unpublish     take the microphone away
    republish     take the microphone away and publish it anew
    hangup        leave as a phone does (a closed stdin does it too: no caller outlives its test)
It answers with one JSON object per line on stdout. "at" is CLOCK_MONOTONIC in milliseconds, on
Linux the clock of Java's System.nanoTime(), so the times of both sides can be compared.

It is built on LiveKit's Rust client, a witness that shares no code with the agent. What it does
not do: SIP, RTP, keys, or judging anything. It reports; the test decides.
"""

import argparse
import asyncio
import base64
import collections
import hmac
import json
import math
import os
import sys
import time
from array import array

from livekit import rtc

RATE = 8000  # what a phone hears
FRAME = RATE // 100  # 10 ms, the unit in which everything here is heard and said
VOLUME = 8000
LOUD = 300  # rms of a 16-bit frame; silence that went through Opus stays far below it
PAUSE = 5  # so many quiet frames in a row are a silence, fewer are a gap in the tone
ANSWER_S = 0.012  # from the agent's track to "active", as measured with livekit-sip


def now():
    return time.monotonic_ns() / 1e6


def report(event, at=None, **facts):
    print(json.dumps({"event": event, "at": round(at or now(), 1)} | facts), flush=True)


def strongest(samples):
    """Which of 100, 120 ... 1200 Hz: one bin of a Fourier transform for each. Takes 5 ms."""

    def strength(hz):
        turn = [2 * math.pi * hz * n / RATE for n in range(len(samples))]
        return math.hypot(sum(s * math.cos(t) for s, t in zip(samples, turn)),
                          sum(s * math.sin(t) for s, t in zip(samples, turn)))

    return max(range(100, 1201, 20), key=strength)


class Ear:
    """Judges the agent's sound frame by frame: loud, which tone, silent again."""

    def __init__(self):
        self.talking, self.start, self.last_at = False, array("h"), 0.0
        self.frames = self.first = self.last = 0  # so far, and the ends of the last loud stretch

    def hear(self, samples):
        self.frames += 1
        if self.loud(samples):
            if not self.talking:
                self.talking, self.first, self.start = True, self.frames, array("h")
                report("loud")
            self.last, self.last_at = self.frames, now()
        elif self.talking and self.frames - self.last >= PAUSE:
            self.talking = False
            # counted in frames, not by the clock: a late wake-up of this process changes nothing
            report("silent", last_loud=round(self.last_at, 1), ms=(self.last - self.first + 1) * 10)
        if self.talking:
            self.keep(samples)

    def loud(self, samples):
        return math.sqrt(sum(s * s for s in samples) / len(samples)) > LOUD

    def keep(self, samples):
        if len(self.start) < 5 * FRAME:
            self.start.extend(samples)
            if len(self.start) == 5 * FRAME:
                report("tone", hz=strongest(self.start))


class Phone:
    def __init__(self, args):
        self.args, self.sip = args, args.kind == "sip"
        self.room, self.ear, self.over = rtc.Room(), Ear(), asyncio.Event()
        self.source = rtc.AudioSource(RATE, 1, queue_size_ms=20)
        self.words = collections.deque()  # a (hz, first, last) for each frame still to be said
        self.said = 0
        self.tasks = set()  # asyncio itself holds tasks only weakly

    def token(self):
        """LiveKit's access token: a JWT, signed with HMAC-SHA256."""
        claims = {
            "iss": os.environ["LIVEKIT_API_KEY"], "sub": self.args.identity,
            "exp": int(time.time()) + 3600,
            # canUpdateOwnMetadata: that a phone was answered is told by an attribute of its own
            "video": {"roomJoin": True, "room": self.args.room, "canUpdateOwnMetadata": True}}
        if self.args.agent:  # as with a dispatch rule: whoever creates the room brings the agent
            claims["roomConfig"] = {"agents": [
                {"agentName": self.args.agent, "metadata": self.args.metadata}]}
        if self.sip:
            claims["kind"] = "sip"
        elif self.args.phone:
            claims["metadata"] = self.args.metadata
        if self.args.phone:  # what a real call's participant has from the first moment
            claims |= {"name": "Phone " + self.args.phone, "attributes": {
                "sip.callID": "SCL_" + self.args.room, "sip.callTag": "tag-" + self.args.room,
                "sip.callIDFull": self.args.room + "@127.0.0.1", "sip.hostname": "127.0.0.1",
                "sip.callStatus": self.args.status, "sip.phoneNumber": self.args.phone,
                "sip.trunkID": "ST_trial", "sip.trunkPhoneNumber": "+15550199",
                "sip.ruleID": "SDR_trial"}}

        def part(data):
            return base64.urlsafe_b64encode(data).rstrip(b"=").decode()

        head = {"alg": "HS256", "typ": "JWT"}
        token = ".".join(part(json.dumps(each).encode()) for each in (head, claims))
        secret = os.environ["LIVEKIT_API_SECRET"].encode()
        return token + "." + part(hmac.digest(secret, token.encode(), "sha256"))

    def spawn(self, work):
        task = asyncio.create_task(work)
        self.tasks.add(task)
        task.add_done_callback(self.tasks.discard)

    async def call(self):
        room = self.room
        # The server may keep the news of somebody who publishes nothing back until they do.
        room.on("participant_connected", lambda who: self.seen("participant", who))
        room.on("participant_disconnected", lambda who: self.seen("left", who))
        room.on("track_published", lambda _, who: self.seen("published", who))
        room.on("track_subscribed", self.subscribed)
        room.on("disconnected", self.disconnected)
        room.register_text_stream_handler(
            "lk.transcription", lambda text, who: self.spawn(self.read(text, who)))
        await room.connect(self.args.url, self.token())
        report("joined")
        self.spawn(self.talk(self.source))
        self.spawn(self.obey())
        if not self.args.mute:
            await self.publish()
        await self.over.wait()

    async def publish(self):
        self.microphone = await self.room.local_participant.publish_track(
            rtc.LocalAudioTrack.create_audio_track("phone", self.source),
            rtc.TrackPublishOptions(source=rtc.TrackSource.SOURCE_MICROPHONE))

    def seen(self, event, who):
        kind = rtc.ParticipantKind.Name(who.kind).removeprefix("PARTICIPANT_KIND_")
        report(event, identity=who.identity, kind=kind, attributes=dict(who.attributes))

    def subscribed(self, track, _, who):
        if who.kind == rtc.ParticipantKind.PARTICIPANT_KIND_AGENT:
            self.seen("subscribed", who)
            self.spawn(self.listen(track))
            if self.sip and self.args.status == "ringing":
                self.spawn(self.answer())

    async def answer(self):
        await asyncio.sleep(ANSWER_S)
        report("active")
        await self.room.local_participant.set_attributes({"sip.callStatus": "active"})

    async def listen(self, track):
        async for sound in rtc.AudioStream(track, sample_rate=RATE, frame_size_ms=10):
            self.ear.hear(sound.frame.data)

    async def read(self, stream, identity):
        words = "".join([piece async for piece in stream])
        report("caption", identity=identity, text=words, attributes=dict(stream.info.attributes))

    async def talk(self, source):
        """Never pauses: a phone sends silence too, and a gap would make what follows it late."""
        while True:
            hz, first, last = self.words.popleft() if self.words else (0, False, False)
            out = now() + source.queued_duration * 1000
            turn = 2 * math.pi * hz / RATE
            at = range(self.said * FRAME, (self.said + 1) * FRAME)
            wave = array("h", (int(VOLUME * math.sin(turn * n)) for n in at))
            await source.capture_frame(rtc.AudioFrame(wave.tobytes(), RATE, 1, FRAME))
            self.said += 1
            if first:
                report("saying", at=out, hz=hz)
            if last:
                report("said", at=out + 10, hz=hz)

    async def obey(self):
        lines, loop = asyncio.StreamReader(), asyncio.get_running_loop()
        await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(lines), sys.stdin)
        while True:
            match (await lines.readline()).decode().split():
                case ["say", hz, ms]:
                    count = int(ms) // 10
                    self.words.extend((int(hz), n == 0, n == count - 1) for n in range(count))
                case ["keys", keys]:
                    for key in keys:
                        code = "0123456789*#abcd".index(key)  # as LiveKit's SIP service names them
                        await self.room.local_participant.publish_dtmf(code=code, digit=key)
                case ["odd", count, *words]:
                    for _ in range(int(count)):
                        await self.room.local_participant.publish_dtmf(
                            code=0, digit=" ".join(words))
                case ["type", count, *words]:
                    for _ in range(int(count)):
                        await self.room.local_participant.send_text(
                            " ".join(words), topic="lk.chat")
                case ["pickup"]:
                    await self.answer()
                case ["unpublish"]:
                    await self.room.local_participant.unpublish_track(self.microphone.sid)
                    report("unpublished")
                case ["republish"]:
                    await self.room.local_participant.unpublish_track(self.microphone.sid)
                    await self.publish()
                    report("republished")
                case ["hangup"] | []:
                    return await self.hang_up()

    async def hang_up(self):
        report("hangup")
        if self.sip:
            told = self.room.local_participant.set_attributes({"sip.callStatus": "hangup"})
            # bounded: under load the SDK may miss the confirmation, and waits 5 s for it
            await asyncio.wait([asyncio.create_task(told)], timeout=0.1)
        await self.room.disconnect()
        self.disconnected(rtc.DisconnectReason.CLIENT_INITIATED)  # the SDK does not always say so

    def disconnected(self, reason):
        if not self.over.is_set():
            self.over.set()
            report("disconnected", reason=rtc.DisconnectReason.Name(reason))


async def main():
    parser = argparse.ArgumentParser(description="a telephone for tests")
    for required in "url", "room", "identity":
        parser.add_argument(required)
    parser.add_argument("--kind", choices=["sip", "standard"], default="sip")
    parser.add_argument("--status", default="ringing", help="sip.callStatus at first")
    parser.add_argument("--phone", default="", help="the caller's number, for sip.phoneNumber; "
                        "if the kind is not sip, it is somebody who poses as a phone")
    parser.add_argument("--agent", help="name of the agent that the room is created with")
    parser.add_argument("--mute", action="store_true", help="publishes no microphone")
    parser.add_argument("--metadata", default="", help="what that agent's job comes with")
    await Phone(parser.parse_args()).call()  # in here: rtc.Room takes the loop that is running
    os._exit(0)  # the SDK's own threads still deliver sound; an orderly exit they may not survive


if __name__ == "__main__":  # soak.py makes calls with the same telephone
    asyncio.run(main())
