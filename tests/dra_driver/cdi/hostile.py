"""Names that mean harm, written through the whole CDI path: `python -m tests.dra_driver.cdi.hostile COUNT SEED FOLDER`.

As a program it first turns everything but the CDI folder read-only for itself, in a mount namespace of its own (root),
so that a write that escapes is an error of the kernel and not a matter of where we look.
"""

from __future__ import annotations

import json
import random
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

from dra_driver.cdi.files import ClaimFiles
from dra_driver.cdi.model import Edits, EnvVar
from dra_driver.errors import DeviceError, PermanentError
from dra_driver.prepare.model import DeviceIntent, ShareTarget
from tests.dra_driver.cdi.cdirules import faults
from tests.dra_driver.cdi.hosts import UID, Host, gpu, record
from topology.modes import Sharing

OURS = re.compile(r"k8s\.gpu\.dovetail\.dev-claim_[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}\.json")
FRAGMENTS = (
    *(
        "..",
        "/",
        "//",
        "/..",
        "../",
        "\\",
        "\0",
        "\n",
        "\r",
        "\t",
        "\x1b[2J",
        " ",
        "=",
        ":",
        ",",
        "%2e%2e%2f",
        "~",
        "*",
        ".",
    ),
    *("LD_PRELOAD=/x", "\nenv:", '"', '"}', '","hooks":[', "$(id)", "`id`", "${HOME}", "-", "_", "-rf", "--", ";", "|"),
    *("/etc/passwd", "/proc/self/root", "/dev/sda", "nvidia0", "gpu-0", "gpu-1", UID, UID[:8], UID[8:], UID.upper()),
    *(
        "\u0430",
        "\u2024\u2024",
        "\u2215",
        "\uff0e\uff0e",
        "\u202e",
        "e\u0301",
        "\ud800",
        "\U0001f600",
        "x" * 255,
        "a" * 5000,
    ),
)


@dataclass
class Tally:
    """What came of the names."""

    tried: int = 0
    written: int = 0
    refused: int = 0
    faults: list[str] = field(default_factory=list)


def names(count: int, seed: int) -> Iterator[str]:
    """Names of fragments, of valid names with one thing changed, and valid ones in between."""
    rng = random.Random(seed)
    for _ in range(count):
        kind = rng.randrange(4)
        if kind == 0:
            yield "".join(rng.choices(FRAGMENTS, k=rng.randint(0, 4)))
        elif kind == 1:
            yield "".join(
                chr(rng.choice((rng.randrange(128), rng.randrange(0x3000)))) for _ in range(rng.randint(0, 40))
            )
        elif kind == 2:
            valid, at = rng.choice((UID, "gpu-0")), rng.randrange(5)
            yield valid[:at] + rng.choice(FRAGMENTS) + valid[at + rng.randint(0, 1) :]
        else:
            yield f"{rng.getrandbits(32):08x}{UID[8:]}"


def attack(files: ClaimFiles, folder: Path, count: int, seed: int) -> Tally:
    """Use each name as UID, device, share, request, claim, pool and GPU; what was written is checked and removed."""
    tally = Tally()
    rng = random.Random(seed + 1)
    for name in names(count, seed):
        tally.tried += 1
        uid, device = _placed(name, rng)
        entry = record([device], uid=uid, name=name)
        try:
            files.write(entry)
        except PermanentError as refused:
            tally.refused += 1
            # The text goes to events and logs.
            if len(str(refused)) > 400 or not str(refused).isprintable():
                tally.faults.append(f"{name!r}: message {str(refused)!r}")
            continue
        except (DeviceError, OSError, ValueError) as wrong:
            tally.faults.append(f"{name!r}: {wrong}")
            continue
        tally.written += 1
        tally.faults += _check(folder)
        if files.copy_of(uid) != entry:
            tally.faults.append(f"{name!r}: copy differs")
        files.remove(uid)
    return tally


def _placed(name: str, rng: random.Random) -> tuple[str, DeviceIntent]:
    device = gpu(0)
    place = rng.randrange(5)
    if place == 0:
        return name, device
    if place == 1:
        return UID, replace(device, device=name)
    if place == 2:
        return UID, replace(device, gpu_uuid=name)
    if place == 3:
        target = ShareTarget(sharing=Sharing.MPS, share_id=name, memory_bytes=1, compute_milli=1)
        return UID, replace(device, share=target)
    return UID, replace(device, request=name, pool=name)


def _check(folder: Path) -> Iterator[str]:
    (file,) = folder.iterdir()
    if not OURS.fullmatch(file.name):
        yield f"file {file.name!r}"
    yield from faults(json.loads(file.read_bytes()))


def request_limits(device: DeviceIntent) -> Edits:
    """Edits as sharing makes them."""
    return Edits(env=(EnvVar("CUDA_MPS_PIPE_DIRECTORY", "/tmp/nvidia-mps"),)) if device.share else Edits()


def _confine(folder: Path) -> None:
    """Turn everything that is mounted read-only, but for the folder, which becomes a small file system of its own."""
    subprocess.run(["mount", "--make-rprivate", "/"], check=True)
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=16m,mode=755", "tmpfs", folder], check=True)
    points = [line.split()[4] for line in Path("/proc/self/mountinfo").read_text().splitlines()]
    for point in dict.fromkeys(points):
        if point != str(folder):
            subprocess.run(["mount", "-o", "remount,bind,ro", point], check=False, stderr=subprocess.DEVNULL)


def main() -> None:
    """Run confined; exit 1 where anything was wrong."""
    count, seed, root = int(sys.argv[1]), int(sys.argv[2]), Path(sys.argv[3])
    host = Host(root)
    host.roots.cdi.mkdir()
    _confine(host.roots.cdi)
    probe = root / "probe"
    try:
        probe.touch()
    except OSError:
        tally = attack(host.files(request_limits), host.roots.cdi, count, seed)
        left = [path.name for path in host.roots.cdi.iterdir()]
        sys.stdout.write(json.dumps({**vars(tally), "left": left}) + "\n")
    else:
        sys.exit(f"{probe} could be written: not confined")


if __name__ == "__main__":
    main()
