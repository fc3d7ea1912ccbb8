"""One child of the guard that works on a batch, and what it has reported so far."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pipeline.errors import InstallationError
from pipeline.sandbox.extract import Extracted, ExtractedMember, ExtractJob, members_folder
from pipeline.sandbox.shared import SmallFiles
from pipeline.types import Loss, LossKind, Reason


@dataclass(slots=True)
class Attempt:
    """One child that works on a batch."""

    jobs: Sequence[ExtractJob]
    folder: Path  #: temporary files
    outputs: Path  #: unfinished chunk files; next to their targets, as a rename requires
    done: set[int]
    begun: bool = False  #: whether it reached its first job
    current: int | None = None  #: number of the current job
    since: float = 0.0  #: start of the current job, monotonic
    more_s: float = 0.0  #: seconds that the current job may take longer, as OCR reads pages of it
    losses: list[Loss] = field(default_factory=list)  #: of the current job
    members: list[ExtractedMember] = field(default_factory=list)  #: of the current job
    metadata: dict[str, str] = field(default_factory=dict)  #: of the current job
    child: int = 0  #: the child's process id, also the id of its process group
    cause: Reason | None = None  #: why the child was killed, or the cause of its death
    said: str = ""  #: the child's last line on stderr
    broken: InstallationError | None = None  #: why some documents could not be started
    chunks: SmallFiles | None = None  #: opened with the first one

    def forget(self) -> None:
        """Forget what was reported of the job before."""
        self.losses, self.members, self.metadata, self.more_s = [], [], {}, 0.0

    def note(self, event: dict[str, Any]) -> None:
        """Note a loss, a member or a property of the current job."""
        if "loss" in event:
            self.losses.append(Loss(LossKind(event["found"].pop("kind")), **event["found"]))
        elif "member" in event:
            reason = event["found"].pop("reason")
            self.members.append(ExtractedMember(reason=Reason(reason) if reason else None, **event["found"]))
        else:
            self.metadata[event["property"]] = event["value"]

    def taken(self, fields: dict[str, Any], number: int, job: ExtractJob) -> Extracted:
        """The result of job `number`, whose files are moved to where `job` wants them. Raises OSError, ValueError."""
        written = f"{self.outputs}/{number}"
        if "content" in fields:
            if self.chunks is None:
                self.chunks = SmallFiles(self.outputs)
            fields["content"] = self.chunks.take(fields["content"], job.small_bytes)
        else:
            os.replace(written, job.output)
        if (self.members or fields.get("records")) and os.path.isdir(members := members_folder(written)):
            os.replace(members, members_folder(job.output))
        return Extracted(**fields, losses=tuple(self.losses), metadata=self.metadata, members=tuple(self.members))

    def close(self) -> None:
        """Close what was opened."""
        if self.chunks is not None:
            self.chunks.close()
