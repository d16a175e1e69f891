"""What becomes of damaged audio files: whole, or refused with a reason, and nothing else.

    python benchmarks/fuzz_audio.py --files=10000

Takes small files of every container (`audio_seeds.py`), flips bits, cuts, inserts, repeats, joins
and edits headers, and decodes each in a process of its own that is ended after --timeout seconds.
Prints one table by kind of damage: how many were accepted and refused, and, none of which may be,
crashes, hangs, tracebacks, lines on the terminal, features that are not finite, and accepted files
in which another decoder finds over 0.1 s more sound. --keep=DIR keeps the files of those. The
status is 1 if there is one.

The other decoders are FFmpeg (every packet of the best audio track that can be decoded, timestamps
and lengths in headers not asked), libsndfile and miniaudio, each opening the file by its own guess.
In MP3s that were joined, they take each LAME tag's own frame, the encoder's delay and its padding
for sound; that much is not counted (`silence_of_tags`), and neither is the padding of a CAF's last
packet, which libsndfile takes for sound (`padding_of_caf`), nor what FFmpeg finds in a WAV with
fewer valid bits than its samples have room for, which it reads as if the room were less.
"""

import argparse
import collections
import io
import multiprocessing
import os
import pathlib
import random
import re
import struct
import sys
import tempfile
import zlib

import av
import miniaudio
import numpy as np
import soundfile
from audio_seeds import seeds
from rich.console import Console
from rich.table import Table
from tqdm import tqdm

from qwen_audio_jax.audio.decode import AudioError, decode
from qwen_audio_jax.audio.lengths import SAMPLE_RATE
from qwen_audio_jax.audio.log_mel import log_mel

TOLERANCE_SECONDS = 0.1
FAULTS = ("crash", "hang", "traceback", "chatter", "not finite", "shorter")
LAME = re.compile(rb"(?:Xing|Info).{116}(?:LAME|Lav[cf]).{17}(.{3})", re.DOTALL)
INTERESTING = (b"\0", b"\xff", b"\x7f", b"\x80", b"\0\0\0\0", b"\xff\xff\xff\xff", b"\0\0\1\0")


def flipped(data: bytearray, chance: random.Random, others: list[bytes]) -> bytes:
    for _ in range(chance.choice((1, 1, 2, 8, 64))):
        data[chance.randrange(len(data))] ^= 1 << chance.randrange(8)
    return bytes(data)


def header_flipped(data: bytearray, chance: random.Random, others: list[bytes]) -> bytes:
    for _ in range(chance.choice((1, 1, 2, 4))):
        data[chance.randrange(min(128, len(data)))] ^= 1 << chance.randrange(8)
    return bytes(data)


def header_edited(data: bytearray, chance: random.Random, others: list[bytes]) -> bytes:
    value, at = chance.choice(INTERESTING), chance.randrange(min(256, len(data)))
    data[at : at + len(value)] = value
    return bytes(data)


def cut_at_end(data: bytearray, chance: random.Random, others: list[bytes]) -> bytes:
    return bytes(data[: chance.randrange(len(data))])


def cut_at_start(data: bytearray, chance: random.Random, others: list[bytes]) -> bytes:
    return bytes(data[chance.randrange(len(data)) :])


def cut_out(data: bytearray, chance: random.Random, others: list[bytes]) -> bytes:
    first, last = sorted(chance.randrange(len(data)) for _ in range(2))
    return bytes(data[:first] + data[last:])


def inserted(data: bytearray, chance: random.Random, others: list[bytes]) -> bytes:
    at, size = chance.choice((0, chance.randrange(len(data)), len(data))), chance.randrange(3000)
    filling = chance.choice((bytes(size), chance.randbytes(size), b"\xff\xfb" * (size // 2)))
    return bytes(data[:at] + filling + data[at:])


def repeated(data: bytearray, chance: random.Random, others: list[bytes]) -> bytes:
    first, last = sorted(chance.randrange(len(data)) for _ in range(2))
    return bytes(data[:last] + data[first:])


def joined(data: bytearray, chance: random.Random, others: list[bytes]) -> bytes:
    other = chance.choice((bytes(data), chance.choice(others)))
    return bytes(data) + other


def tagged(data: bytearray, chance: random.Random, others: list[bytes]) -> bytes:
    """An ID3 tag of a true or a wrong size in front, other tags behind."""
    size = chance.randrange(2000)
    told = chance.choice((size, size, chance.randrange(1 << 14)))
    tag = b"ID3\3\0\0" + bytes((0, told >> 14, told >> 7 & 127, told & 127)) + bytes(size)
    return tag + bytes(data) + chance.choice((b"", b"TAG" + bytes(125)))


def resealed(data: bytearray, chance: random.Random, others: list[bytes]) -> bytes:
    """Edits an Ogg page's head and makes its checksum right; anything else is only flipped."""
    places = [at for at in range(len(data) - 27) if data[at : at + 4] == b"OggS"]
    if not places:
        return header_flipped(data, chance, others)
    at = chance.choice(places)
    data[at + chance.randrange(5, 22)] ^= 1 << chance.randrange(8)
    end = at + 27 + data[at + 26] + sum(data[at + 27 : at + 27 + data[at + 26]])
    data[at + 22 : at + 26] = bytes(4)
    data[at + 22 : at + 26] = struct.pack("<I", ogg_checksum(bytes(data[at:end])))
    return bytes(data)


def ogg_checksum(page: bytes) -> int:
    mirrored = bytes(int(f"{byte:08b}"[::-1], 2) for byte in page)
    return int(f"{zlib.crc32(mirrored, 0xFFFFFFFF) ^ 0xFFFFFFFF:032b}"[::-1], 2)


DAMAGES = (
    flipped,
    header_flipped,
    header_edited,
    cut_at_end,
    cut_at_start,
    cut_out,
    inserted,
    repeated,
    joined,
    tagged,
    resealed,
)


def damaged_files(number: int, seed: int):
    """(name, damage, bytes) of each file, the same for the same seed."""
    made = seeds()
    names = list(made)
    for index in range(number):
        chance = random.Random(f"{seed} {index}")
        name = names[index % len(names)]
        damage = chance.choice(DAMAGES)
        data = damage(bytearray(made[name]), chance, [made[other] for other in names])
        yield f"{index:05d}-{name}-{damage.__name__}", damage.__name__, data


def by_ffmpeg(data: bytes) -> float:
    """Seconds of sound in all packets of the best audio track that FFmpeg can decode."""
    found = 0.0
    if has_unused_bits(data):
        return found
    with av.open(io.BytesIO(data), options={"protocol_whitelist": "none"}) as container:
        track = container.streams.best("audio")
        packets = container.demux(track)
        while packet := next(packets, None):
            try:
                frames = packet.decode()
            except av.FFmpegError:
                continue
            found += sum(frame.samples / frame.sample_rate for frame in frames)
    return found - silence_of_tags(data)


def has_unused_bits(data: bytes) -> bool:
    """Whether a WAV's extensible fmt chunk tells of fewer valid bits than a sample has."""
    form = data[data.find(b"fmt ") + 8 :][:20]
    if data[:4] != b"RIFF" or len(form) < 20 or form[:2] != b"\xfe\xff":
        return False
    bits, _, valid = struct.unpack_from("<HHH", form, 14)
    return valid < bits


def by_libsndfile(data: bytes) -> float:
    with soundfile.SoundFile(io.BytesIO(data)) as file:
        samples = len(file.read(dtype="float32"))
        return (samples - padding_of_caf(data, samples)) / file.samplerate


def by_miniaudio(data: bytes) -> float:
    decoded = miniaudio.decode(data, output_format=miniaudio.SampleFormat.FLOAT32)
    seconds = len(decoded.samples) / decoded.nchannels / decoded.sample_rate
    return seconds - silence_of_tags(data)


def silence_of_tags(data: bytes) -> float:
    """Seconds of frames that LAME tags lie in, and of delays and paddings that they tell.

    None where the only tag lies in the frame that begins the file: FFmpeg and miniaudio heed that.
    """
    tags = list(LAME.finditer(data))
    if len(tags) < 2 and not (tags and tags[0].start() not in (13, 21, 36)):
        return 0.0
    seconds = 0.0
    for tag in tags:
        # Behind a frame's head of 4 bytes lies its side information, by version and channels.
        heads = (data[tag.start() - 4 - side :][:4] for side in (9, 17, 32))
        head = next((h for h in heads if h[0] == 0xFF and h[1] & 0xE6 == 0xE2), None)
        if head:
            version = head[1] >> 3 & 3
            rate = (44100, 48000, 32000, 1)[head[2] >> 2 & 3] >> {3: 0, 2: 1, 0: 2, 1: 0}[version]
            number = int.from_bytes(tag[1], "big")
            samples = (1152 if version == 3 else 576) + (number >> 12) + (number & 0xFFF)
            seconds += samples / rate
    return seconds


def padding_of_caf(data: bytes, samples: int) -> int:
    """Samples that a CAF's packet table calls padding, where `samples` are those of all packets."""
    at = data.find(b"pakt") + 12
    if data[:4] != b"caff" or at < 12:
        return 0
    packets, _, _, padding = struct.unpack_from(">QQII", data, at)
    per_packet = int.from_bytes(data[40:44], "big")
    return padding if samples == packets * per_packet else 0


def work(connection) -> None:
    """Decodes what comes and answers: the outcome first, then what other decoders find."""
    noise, name = tempfile.mkstemp()
    os.unlink(name)
    for stream in (1, 2):
        os.dup2(noise, stream)
    while data := connection.recv_bytes():
        outcome = tried(data)
        connection.send({**outcome, "chatter": os.fstat(noise).st_size > 0})
        found = {}
        if "seconds" in outcome:
            for other in (by_ffmpeg, by_libsndfile, by_miniaudio):
                try:
                    found[other.__name__] = other(data)
                except Exception as error:  # whatever it says, it finds nothing
                    found[other.__name__] = 0.0 * len(str(error))
        connection.send(found)
        os.ftruncate(noise, 0)
        os.lseek(noise, 0, os.SEEK_SET)


def tried(data: bytes) -> dict:
    try:
        wave = decode(data)
    except AudioError as error:
        return {"refused": str(error)}
    except BaseException as error:
        return {"traceback": repr(error)}
    with np.errstate(all="ignore"):
        finite = all(
            np.isfinite(log_mel(wave[at : at + 480_000], bins)).all()
            for at in range(0, min(len(wave), 960_000), 480_000)
            for bins in (80, 128)
        )
    return {"seconds": len(wave) / SAMPLE_RATE, "not finite": not finite}


class Worker:
    """A process that decodes; ended and started anew where it does not answer."""

    def __init__(self, timeout: float):
        self.timeout = timeout
        self.start()

    def start(self) -> None:
        context = multiprocessing.get_context("spawn")
        self.connection, other = context.Pipe()
        self.process = context.Process(target=work, args=(other,), daemon=True)
        self.process.start()
        other.close()

    def answer(self) -> dict | str:
        try:
            if self.connection.poll(self.timeout):
                return self.connection.recv()
            outcome = "hang"
        except EOFError:
            outcome = "crash"
        self.process.kill()
        self.process.join()
        self.start()
        return outcome

    def outcome(self, data: bytes) -> dict:
        """What `tried` tells, what came on the terminal, what other decoders find."""
        self.connection.send_bytes(data)
        first = self.answer()
        if isinstance(first, str):
            return {first: True}
        second = self.answer()
        return {**first, "found": {} if isinstance(second, str) else second}


def judge(outcome: dict) -> list[str]:
    """What of `FAULTS` became of a file."""
    bad = [fault for fault in FAULTS if outcome.get(fault)]
    if "seconds" in outcome:
        longest = max(outcome["found"].values(), default=0.0)
        if longest > outcome["seconds"] + TOLERANCE_SECONDS:
            bad.append("shorter")
    return bad


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--files", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--timeout", type=float, default=30.0, help="seconds a file")
    parser.add_argument("--keep", type=pathlib.Path, help="folder for files with a fault")
    options = parser.parse_args()

    worker = Worker(options.timeout)
    counts = collections.defaultdict(collections.Counter)
    files = damaged_files(options.files, options.seed)
    for name, damage, data in tqdm(files, "files", total=options.files, disable=None):
        outcome = worker.outcome(data) if data else {"refused": "empty"}
        faults = judge(outcome)
        kinds = ["accepted"] if "seconds" in outcome else ["refused"] * ("refused" in outcome)
        counts[damage].update(["files", *kinds, *faults])
        if faults:
            print(f"{name}: {', '.join(faults)}: {outcome}", file=sys.stderr)
        if faults and options.keep:
            options.keep.mkdir(parents=True, exist_ok=True)
            (options.keep / name).write_bytes(data)
    worker.process.kill()

    columns = ("files", "accepted", "refused", *FAULTS)
    table = Table("damage", *columns)
    for damage in DAMAGES:
        table.add_row(damage.__name__, *(str(counts[damage.__name__][c]) for c in columns))
    total = sum(counts.values(), collections.Counter())
    table.add_row("all", *(str(total[column]) for column in columns), style="bold")
    Console(width=120).print(table)
    return int(any(total[fault] for fault in FAULTS))


if __name__ == "__main__":
    sys.exit(main())
