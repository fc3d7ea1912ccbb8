"""On which kind of file system a folder lies: network file systems report no changes that other hosts make."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path, PurePath

#: Types of file systems whose files may change without a notification from this kernel. Local disks that a program of FUSE
#: serves, as `fuseblk` does for NTFS, change through this kernel only.
REMOTE = frozenset({
    "nfs", "nfs4", "cifs", "smb", "smb2", "smb3", "smbfs", "afpfs", "webdav", "ncpfs", "afs", "ceph", "lustre", "glusterfs", "gpfs",
    "9p", "virtiofs", "vboxsf", "prl_fs", "drvfs", "fakeowner", "macfuse", "osxfuse",
})  # fmt: skip


def remote_type(path: Path) -> str:
    """The type of the file system of an absolute path if it is a network file system or of FUSE, else an empty text."""
    import psutil  # not for every command

    return type_of(path, ((part.mountpoint, part.fstype) for part in psutil.disk_partitions(all=True)))


def type_of(path: PurePath, mounts: Iterable[tuple[str, str]]) -> str:
    """As `remote_type`, of given mounts: pairs of mount point and type. The last one of a mount point covers earlier ones."""
    around = {str(path), *map(str, path.parents)}
    found = ("", "")
    for mount, kind in mounts:
        if mount in around and len(mount) >= len(found[0]):
            found = (mount, kind.lower())
    kind = found[1]
    return kind if kind in REMOTE or kind == "fuse" or kind.startswith("fuse.") else ""
