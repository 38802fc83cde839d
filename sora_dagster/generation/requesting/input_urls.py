"""The full URLs of images and files in requests, which no record keeps.

The query, user or password of a URL may grant access to it, so records keep the URL without them. A
new attempt or a replay takes the full URL from the process that requested the clip, or from the
current row of the dataset, whose presigned URLs are also more likely to be valid still.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable

from sora_dagster.generation.requesting.payloads import redacted_image
from sora_dagster.prompts.clips import ClipSpec
from sora_dagster.prompts.dataset import PromptDataset
from sora_dagster.prompts.recipes import RemixModeError, remix_spec
from sora_dagster.runware.catalogue import Catalogue
from sora_dagster.runware.errors import UnknownModelError
from sora_dagster.runware.images import is_address, public_address
from sora_dagster.storage import ObjectMissingError

# Rows are read again for a missing URL only after this time, since a source may be slow.
_SECONDS_BETWEEN_READS = 30.0


def rows_and_remixes(prompts: PromptDataset, catalogue: Catalogue) -> list[ClipSpec]:
    """The rows of a dataset, and those remixes whose recipes have settings.

    Arguments:
        prompts: the dataset.
        catalogue: the models that may be used.
    """
    specs = list(prompts.clips)
    with_settings = {recipe.name: recipe for recipe in prompts.recipes if recipe.settings}
    for clip_id, name in prompts.remix_cells:
        if name in with_settings:
            try:
                specs.append(remix_spec(prompts.clip(clip_id), with_settings[name], catalogue))
            except (RemixModeError, UnknownModelError):
                # It cannot be requested, and so has no attempt that needs its URLs.
                continue
    return specs


class MissingUrlError(ObjectMissingError):
    """The full URL of an input of a recorded request is not known to this process."""


class InputUrls:
    """The full URLs of inputs, in memory only. Safe to share between threads.

    Arguments:
        clock: monotonic time in seconds.
    """

    def __init__(self, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._read_rows: Callable[[], Iterable[ClipSpec]] | None = None
        self._read_at = float("-inf")
        # By clip id and public address: the full URLs by their recorded form. A row may have two
        # images whose URLs differ in their queries only.
        self._known: dict[tuple[str, str], dict[str, str]] = {}

    def use_rows(self, read_rows: Callable[[], Iterable[ClipSpec]]) -> None:
        """Set how the current rows are read when a URL is missing.

        Arguments:
            read_rows: reads the rows of the dataset, and its remixes. It must not raise for a
                dataset that cannot be read.
        """
        self._read_rows = read_rows

    def remember(self, spec: ClipSpec) -> None:
        """Remember the URLs of a clip. A URL that was signed again replaces the earlier one."""
        found: dict[tuple[str, str], dict[str, str]] = {}

        def add(image: str) -> str:
            if is_address(image) and public_address(image) != image:
                urls = found.setdefault((spec.clip_id, public_address(image)), {})
                urls[redacted_image(image)] = image
            return image

        spec.with_files(add)
        with self._lock:
            self._known.update(found)

    def full_url(self, clip_id: str, recorded: str) -> str:
        """The full URL of an input.

        Arguments:
            clip_id: id of the clip's row.
            recorded: the URL as records keep it: public address, and a hash as its fragment.

        Raises:
            MissingUrlError: if neither this process nor a current row has it.
        """
        address = recorded.rpartition("#")[0]
        url = self._find(clip_id, address, recorded)
        if url is None and self._read():
            url = self._find(clip_id, address, recorded)
        if url is None:
            raise MissingUrlError(
                f"the full URL of {address}, an input of clip {clip_id!r}, is not stored, since "
                f"it may grant access; and no current row of the clip has it. Put it back into the "
                f"dataset's row, and request the clip again"
            )
        return url

    def _find(self, clip_id: str, address: str, recorded: str) -> str | None:
        with self._lock:
            urls = self._known.get((clip_id, address), {})
        if recorded in urls:
            return urls[recorded]
        return next(iter(urls.values())) if len(urls) == 1 else None

    def _read(self) -> bool:
        now = self._clock()
        if self._read_rows is None or now - self._read_at < _SECONDS_BETWEEN_READS:
            return False
        self._read_at = now
        for spec in self._read_rows():
            self.remember(spec)
        return True
