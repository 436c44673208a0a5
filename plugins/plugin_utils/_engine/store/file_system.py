# Copyright (c) 2026, the ephemeral.openai contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Which file systems cannot hold a store: those on which locks and renames do not hold across machines."""

from __future__ import annotations

import os
import re

_MOUNTS = "/proc/self/mountinfo"
#: Their locks are local, or optional, or may be lost, or their listings may be old.
_SHARED = frozenset({"9p", "afs", "cifs", "coda", "ncpfs", "nfs", "nfs4", "prl_fs", "smb2", "smb3", "smbfs", "vboxsf"})
#: File systems in user space are mostly remote ones, such as sshfs and s3fs. These keep files on a local disk.
_LOCAL_FUSE = frozenset(
    f"fuse.{name}" for name in ("bindfs", "cryfs", "encfs", "fuse-overlayfs", "gocryptfs", "mergerfs", "ntfs-3g")
)


def unfit_file_system(path: str) -> str | None:
    """Return the type of the file system that a path is on if it cannot hold a store; None if it can, or nobody knows."""
    try:
        with open(_MOUNTS, encoding="utf-8", errors="surrogateescape") as mounts:
            kind = file_system_of(os.path.realpath(path), mounts.read())
    except OSError:
        return None
    return kind if is_unfit(kind) else None


def is_unfit(kind: str) -> bool:
    """Say whether a type of file system cannot hold a store."""
    return kind in _SHARED or kind == "fuse" or (kind.startswith("fuse.") and kind not in _LOCAL_FUSE)


def file_system_of(path: str, mounts: str) -> str:
    """Return the type of the file system that an absolute path is on, from the content of a mountinfo file."""
    best, found = "", ""
    for line in mounts.splitlines():
        before, _dash, after = line.partition(" - ")
        fields = before.split(" ")
        if len(fields) < 5 or not after:
            continue
        point = re.sub(r"\\([0-7]{3})", lambda match: chr(int(match[1], 8)), fields[4])
        # Of several on one mount point the last one covers the others.
        if len(point) >= len(best) and f"{path}/".startswith(f"{point.rstrip('/')}/"):
            best, found = point, after.split(" ")[0]
    return found
