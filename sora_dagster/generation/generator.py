"""The generator: one API client and one storage root, and the parts that work on both."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from sora_dagster.generation.archive import ClipArchive
from sora_dagster.generation.clips import ClipRequest, ParentVideo
from sora_dagster.generation.collector import WEBHOOK_POLLS, Collector, PollSettings
from sora_dagster.generation.download import Downloader
from sora_dagster.generation.ledger import Ledger
from sora_dagster.generation.markers import WebhookAddress
from sora_dagster.generation.records import ClipManifest
from sora_dagster.generation.requester import Requested, Requester
from sora_dagster.runware.client import RunwareClient
from sora_dagster.storage import StorageRoot


class Generator:
    """Requests clips, waits for them and stores them.

    Arguments:
        client: the API client; closed with the generator.
        root: the storage root.
        webhook: where Runware shall call back; None where results are polled for.
        polls: when to poll; by default often, or seldom where there is a webhook.
        hosted_seconds: how long Runware shall host a result; None for its default.
        max_attempts: most attempts of one take without the user's asking for another.
    """

    def __init__(
        self,
        client: RunwareClient,
        root: StorageRoot,
        *,
        webhook: WebhookAddress | None = None,
        polls: PollSettings | None = None,
        hosted_seconds: int | None = None,
        max_attempts: int = 3,
    ) -> None:
        self.client = client
        self.ledger = Ledger(root)
        self._is_bound = False
        self._polls = polls or (PollSettings() if webhook is None else WEBHOOK_POLLS)
        self._downloader = Downloader(api_base_url=client.base_url)
        self.archive = ClipArchive(self.ledger, self._downloader)
        self._requester = Requester(
            client,
            self.ledger,
            webhook=webhook,
            hosted_seconds=hosted_seconds,
            max_attempts=max_attempts,
        )

    def __enter__(self) -> Generator:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections."""
        self._downloader.close()
        self.client.close()

    def bind(self) -> None:
        """Try the key, and bind the storage root to the API and account.

        A wrong key, an unreachable API or a root that cannot be written costs nothing, and leaves
        nothing behind.

        Raises:
            RunwareError: where the API refuses the key or cannot be reached.
            StorageError: where the storage root is another account's or cannot be written.
        """
        if self._is_bound:
            return
        account = self.client.account().organization_uuid
        self.ledger.root.check_writable()
        self.ledger.bind(api_base_url=self.client.base_url, account=account)
        self._is_bound = True

    def request(
        self,
        asked: Sequence[ClipRequest],
        *,
        root_run: str,
        run_limit_usd: float | None,
        regenerate_stale: bool = True,
        retry_failed: bool = False,
        on_progress: Callable[[Sequence[Requested]], None] = lambda _: None,
    ) -> list[Requested]:
        """Ask for clips; see :meth:`sora_dagster.generation.requester.Requester.request`.

        The root is bound first; see :meth:`bind`.

        Raises:
            RunwareError: where the API refuses the key or cannot be reached.
            StorageError: where the storage root is another account's or cannot be written.
        """
        if not asked:
            return []
        self.bind()
        return self._requester.request(
            asked,
            root_run=root_run,
            run_limit_usd=run_limit_usd,
            regenerate_stale=regenerate_stale,
            retry_failed=retry_failed,
            on_progress=on_progress,
        )

    def collector(self) -> Collector:
        """A collector over the storage root."""
        return Collector(self.client, self.ledger, settings=self._polls)


def parent_video(manifest: ClipManifest) -> ParentVideo:
    """The video of a stored clip that its remixes are made from: the first.

    Raises:
        ValueError: where Runware gave it no video id, so that it cannot be remixed.
    """
    video = manifest.videos[0]
    if video.video_id is None:
        raise ValueError(
            f"{manifest.clip}: Runware gave no video id for its take {manifest.take} (model "
            f"{manifest.request.spec.model}), so it cannot be remixed"
        )
    return ParentVideo(
        asset=manifest.asset,
        clip=manifest.clip,
        take=manifest.take,
        content_hash=manifest.content_hash,
        video_uuid=video.video_uuid,
        video_id=video.video_id,
        size=(video.width, video.height),
        duration_seconds=video.duration_seconds,
    )
