"""Container images without a registry: OCI archives that hold one static busybox.

Source: OCI Image Format 1.1, image-layout.md. The same busybox gives the same bytes.
"""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import tarfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

APPLETS = (
    *("awk", "basename", "cat", "chmod", "cp", "cut", "date", "dd", "dirname", "echo", "env", "false", "find", "grep"),
    *("head", "hostname", "id", "ip", "kill", "ln", "ls", "mkdir", "mknod", "mount", "mv", "nc", "ps", "pwd", "rm"),
    *("sed", "seq", "sh", "sleep", "sort", "stat", "sync", "tail", "test", "touch", "tr", "true", "wc", "wget"),
)
MEDIA = "application/vnd.oci.image"
FOLDERS = {"bin": 0o755, "dev": 0o755, "etc": 0o755, "proc": 0o755, "sys": 0o755, "tmp": 0o1777}
FILES = {"etc/passwd": b"root:x:0:0:root:/:/bin/sh\n", "etc/group": b"root:x:0:\n"}


def write_archive(target: Path, shell: Path, images: Mapping[str, Sequence[str]], architecture: str) -> None:
    """Write an archive for `ctr images import`: image reference -> command, all with the same one layer."""
    layer = _layer(shell)
    packed = gzip.compress(layer, 6, mtime=0)
    blobs = {_digest(packed): packed}
    entries = []
    for reference, command in images.items():
        config = _json(
            {
                "architecture": architecture,
                "os": "linux",
                "config": {"Env": ["PATH=/bin"], "Cmd": list(command)},
                "rootfs": {"type": "layers", "diff_ids": [_digest(layer)]},
            }
        )
        manifest = _json(
            {
                "schemaVersion": 2,
                "mediaType": f"{MEDIA}.manifest.v1+json",
                "config": _descriptor(config, f"{MEDIA}.config.v1+json"),
                "layers": [_descriptor(packed, f"{MEDIA}.layer.v1.tar+gzip")],
            }
        )
        blobs |= {_digest(config): config, _digest(manifest): manifest}
        names = {"io.containerd.image.name": reference}
        entries.append({**_descriptor(manifest, f"{MEDIA}.manifest.v1+json"), "annotations": names})
    index = _json({"schemaVersion": 2, "mediaType": f"{MEDIA}.index.v1+json", "manifests": entries})
    with tarfile.open(target, "w") as archive:
        _add(archive, "oci-layout", _json({"imageLayoutVersion": "1.0.0"}))
        _add(archive, "index.json", index)
        for digest, blob in blobs.items():
            _add(archive, f"blobs/sha256/{digest.removeprefix('sha256:')}", blob)


def _layer(shell: Path) -> bytes:
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode="w", format=tarfile.PAX_FORMAT) as archive:
        for name, mode in FOLDERS.items():
            folder = tarfile.TarInfo(name)
            folder.type, folder.mode = tarfile.DIRTYPE, mode
            archive.addfile(folder)
        _add(archive, "bin/busybox", shell.read_bytes(), mode=0o755)
        for applet in APPLETS:
            link = tarfile.TarInfo(f"bin/{applet}")
            link.type, link.linkname = tarfile.SYMTYPE, "busybox"
            archive.addfile(link)
        for name, text in FILES.items():
            _add(archive, name, text)
    return content.getvalue()


def _add(archive: tarfile.TarFile, name: str, content: bytes, *, mode: int = 0o644) -> None:
    entry = tarfile.TarInfo(name)
    entry.size, entry.mode = len(content), mode
    archive.addfile(entry, io.BytesIO(content))


def _descriptor(blob: bytes, media: str) -> dict[str, Any]:
    return {"mediaType": media, "digest": _digest(blob), "size": len(blob)}


def _digest(blob: bytes) -> str:
    return f"sha256:{hashlib.sha256(blob).hexdigest()}"


def _json(value: Mapping[str, Any]) -> bytes:
    return json.dumps(value, sort_keys=True).encode()
