"""The generator: one API client and one storage root, and the parts that work on both."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from datetime import datetime

from sora_dagster.extras import require_extras
from sora_dagster.generation.collecting.archive import ClipArchive
from sora_dagster.generation.collecting.collection import Collection
from sora_dagster.generation.collecting.context import CollectionContext
from sora_dagster.generation.collecting.settings import (
    WEBHOOK_POLLS,
    CollectionLimits,
    Deadlines,
    PollSettings,
)
from sora_dagster.generation.collecting.tracked import FinishedTask
from sora_dagster.generation.fetching.download import Downloader
from sora_dagster.generation.fetching.restore import ClipRestorer, StoredClipError
from sora_dagster.generation.protocol.budget import Budget
from sora_dagster.generation.protocol.claims import Claims, ClaimSettings
from sora_dagster.generation.protocol.clocks import StoreClock, running_seconds
from sora_dagster.generation.protocol.ledger import Ledger
from sora_dagster.generation.protocol.markers import WebhookUrl
from sora_dagster.generation.protocol.records import AttemptRecord, ClipManifest
from sora_dagster.generation.protocol.scan import in_parallel
from sora_dagster.generation.protocol.spending_limits import SpendingLimits
from sora_dagster.generation.requesting.direct_delivery import DirectDelivery
from sora_dagster.generation.requesting.estimates import Estimate, estimate
from sora_dagster.generation.requesting.options import RequestOptions, options_after
from sora_dagster.generation.requesting.payloads import request_price
from sora_dagster.generation.requesting.requester import Requester
from sora_dagster.generation.requesting.results import RequestResult, RequestState
from sora_dagster.generation.requesting.sender import Sender, SendSettings
from sora_dagster.generation.requesting.stored_index import stored_results
from sora_dagster.generation.threads import ending_after_signals
from sora_dagster.prompts.clips import ClipRequest, ClipSpec, ParentVideo
from sora_dagster.runware.client import RunwareClient
from sora_dagster.runware.delivery import DeliverySetting
from sora_dagster.runware.errors import ErrorRecord
from sora_dagster.runware.pricing import Price
from sora_dagster.runware.schema_check import SchemaCheck
from sora_dagster.storage import StorageRoot


@dataclass(frozen=True)
class GenerationSettings:
    """How clips are requested and waited for.

    Arguments:
        webhook: where Runware calls back; None if results are polled for.
        polls: when to poll; default: often, or seldom with a webhook.
        sending: how unclear answers to a submission are resolved.
        deadlines: how long things may take.
        hosted_seconds: how long Runware hosts a result; None for its default.
        max_attempts: most attempts of one take, without `retry_failed`.
        retry_wait_seconds: wait before a second attempt; it doubles with each further one.
        limits: the spending limits of a day; a run's limit comes with each request.
        delivery: whether Runware puts videos into the store (`direct`), or they are downloaded;
            `auto` for direct delivery if possible.
        result_hosts: domains that videos are downloaded from, besides runware.ai.
        result_networks: networks (CIDR) whose addresses are accepted although they are not public.
        claims: what makes a collecting process count as dead.
        schema_check: holds requests to Runware's schemas; None if only the catalogue's rules count.
    """

    webhook: WebhookUrl | None = None
    polls: PollSettings | None = None
    sending: SendSettings = field(default_factory=SendSettings)
    deadlines: Deadlines = field(default_factory=Deadlines)
    hosted_seconds: int | None = None
    max_attempts: int = 3
    retry_wait_seconds: float = 10.0
    limits: SpendingLimits = field(default_factory=SpendingLimits)
    delivery: DeliverySetting = "auto"
    result_hosts: tuple[str, ...] = ()
    result_networks: tuple[str, ...] = ()
    claims: ClaimSettings = field(default_factory=ClaimSettings)
    schema_check: SchemaCheck | None = None


class Generator:
    """Requests clips, waits for them and stores them.

    While it is open in the main thread, SIGTERM or SIGINT ends the process after 9 s at the latest,
    also if the object store does not answer.

    Arguments:
        client: the API client; closed with the generator.
        root: the storage root.
        settings: how clips are requested and waited for.
        elapsed: a clock that runs through a suspended machine, in seconds.
    """

    def __init__(
        self,
        client: RunwareClient,
        root: StorageRoot,
        settings: GenerationSettings | None = None,
        *,
        elapsed: Callable[[], float] = running_seconds,
    ) -> None:
        # Checked before anything is paid for.
        require_extras("Generating clips", "media")
        self.client = client
        self.ledger = Ledger(root)
        self._settings = settings = settings or GenerationSettings()
        self._elapsed = elapsed
        self.store_time: Callable[[], datetime] = StoreClock(root.store_time, elapsed=elapsed)
        self._downloader = Downloader(
            api_base_url=client.base_url,
            result_hosts=settings.result_hosts,
            result_networks=settings.result_networks,
        )
        self.archive = ClipArchive(
            self.ledger, self._downloader, damaged_seconds=settings.deadlines.damaged_seconds
        )
        self._restorer = ClipRestorer(client, self.ledger, self._downloader)
        self._is_bound = False
        self._stack = ExitStack()
        self._sender = Sender(client, self.ledger, settings=settings.sending)
        self._budget = Budget(self.ledger, store_time=self.store_time)
        self._requester = Requester(
            client,
            self.ledger,
            self._sender,
            budget=self._budget,
            direct=DirectDelivery(
                root,
                setting=settings.delivery,
                api_base_url=client.base_url,
                generation_seconds=settings.deadlines.generation_seconds,
            ),
            store_time=self.store_time,
            webhook=settings.webhook,
            hosted_seconds=settings.hosted_seconds,
            max_attempts=settings.max_attempts,
            limits=settings.limits,
            unsent_seconds=settings.deadlines.unsent_seconds,
            schema_check=settings.schema_check,
        )

    def __enter__(self) -> Generator:
        self._stack.enter_context(ending_after_signals())
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()
        self.close()

    def close(self) -> None:
        """Close the connections."""
        self._downloader.close()
        self.client.close()

    def bind(self) -> None:
        """Check the key, and bind the storage root to the API and account.

        With a wrong key, an unreachable API or a root that cannot be written, nothing is paid or
        written.

        Raises:
            RunwareError: if the API refuses the key or cannot be reached.
            StorageError: if the storage root is another account's or cannot be written.
        """
        if self._is_bound:
            return
        account = self.client.account().organization_uuid
        self.ledger.root.check_writable()
        self.ledger.bind(api_base_url=self.client.base_url, account=account)
        self._is_bound = True

    def request(
        self,
        requests: Sequence[ClipRequest],
        options: RequestOptions,
        *,
        on_progress: Callable[[Sequence[RequestResult]], None] = lambda _: None,
    ) -> list[RequestResult]:
        """Request clips; see `Requester.request`.

        The root is bound first; see :meth:`bind`.

        Raises:
            RunwareError: if the API refuses the key or cannot be reached.
            StorageError: if the storage root is another account's or cannot be written.
        """
        if not requests:
            return []
        self.bind()
        results = stored_results(self.ledger, requests)
        others = [index for index in range(len(requests)) if index not in results]
        requested = self._requester.request(
            [requests[index] for index in others], options, on_progress=on_progress
        )
        for index, result in zip(others, requested, strict=True):
            results[index] = self._verified(result)
        return [results[index] for index in range(len(requests))]

    def estimate(self, requests: Sequence[ClipRequest], options: RequestOptions) -> list[Estimate]:
        """What requesting clips would cost now. Generates nothing, pays nothing.

        Raises:
            InvalidRequestError: if the API would refuse a clip.
            UnknownModelError: if a model has no catalogue entry.
            StorageError: if the storage root cannot be read.
        """
        planner = self._requester.planner
        return estimate(
            self.client,
            requests,
            plan=lambda request: planner.plan(request, options, is_dry_run=True),
            build=self._requester.draft,
        )

    def new_prices(
        self, requests: Sequence[ClipRequest], options: RequestOptions
    ) -> list[tuple[ClipRequest, Price]]:
        """The clips that a request would submit now, with their prices by the catalogue.

        Stored clips cost a few listings, and no price is asked of the API, so that a large dataset
        is priced in little time.

        Arguments:
            requests: the clips.
            options: how they would be requested.

        Raises:
            StorageError: if the storage root cannot be read.
        """
        stored = {} if self.ledger.is_empty else stored_results(self.ledger, requests)
        others = [item for index, item in enumerate(requests) if index not in stored]
        planner = self._requester.planner
        plans = in_parallel(others, lambda request: planner.plan(request, options, is_dry_run=True))
        return [
            (request, request_price(request, self.client.catalogue))
            for request, plan in zip(others, plans, strict=True)
            if not isinstance(plan, RequestResult)
        ]

    def _verified(self, result: RequestResult) -> RequestResult:
        """Verify a stored clip, and fetch what is damaged again."""
        if result.state is not RequestState.STORED or result.manifest is None:
            return result
        try:
            restored = self._restorer.restore(result.manifest)
        except StoredClipError as error:
            record = ErrorRecord(kind="gone", message=str(error))
            return replace(result, state=RequestState.FAILED, error=record, detail=record.message)
        if not restored:
            return result
        return replace(
            result,
            restored_videos=len(restored),
            detail=f"{result.detail}; {len(restored)} of its videos were missing or damaged and "
            f"were fetched again",
        )

    def request_again(self, failed: FinishedTask) -> RequestResult:
        """Request the next attempt of a clip whose last one failed in a way that may pass.

        Raises:
            RunwareError: if the API refuses the key or cannot be reached.
            StorageError: if the storage root fails, or the request cannot be made again; see
                `Requester.recorded_request`.
        """
        request = self.recorded_request(failed.attempt)
        return self.request([request], options_after(self.ledger, failed.attempt))[0]

    def recorded_request(self, attempt: AttemptRecord) -> ClipRequest:
        """The request of an attempt, so that it can be sent again; see `Requester`."""
        return self._requester.recorded_request(attempt)

    def use_rows(self, read_rows: Callable[[], Iterable[ClipSpec]]) -> None:
        """Set how the current rows are read if a full URL is missing; see `InputUrls.use_rows`."""
        self._requester.input_urls.use_rows(read_rows)

    def collection(
        self,
        limits: CollectionLimits,
        *,
        holder: str,
        datasets: Sequence[str] = (),
        on_warning: Callable[[str], None] = lambda _: None,
        on_retry: Callable[[RequestResult], None] = lambda _: None,
    ) -> Collection:
        """A collection of outstanding clips; see :class:`Collection`.

        Arguments:
            limits: how long it lasts, and how it works.
            holder: human-readable name of this process, such as a run id.
            datasets: names of the datasets of which all is collected that no other process has
                claimed; empty to wait for chosen tasks only.
            on_warning: called with a sentence about each task that is slow or failing.
            on_retry: called with the result of requesting a failed clip again.
        """
        settings = self._settings
        polls = settings.polls or (PollSettings() if settings.webhook is None else WEBHOOK_POLLS)

        def new_claims(dataset: str) -> Claims:
            return Claims(
                self.ledger,
                dataset,
                holder=holder,
                store_time=self.store_time,
                settings=settings.claims,
                elapsed=self._elapsed,
            )

        context = CollectionContext(
            client=self.client,
            ledger=self.ledger,
            archive=self.archive,
            requester=self._requester,
            sender=self._sender,
            budget=self._budget,
            request_again=self.request_again,
            polls=polls,
            deadlines=settings.deadlines,
            expects_markers=settings.webhook is not None,
            max_attempts=settings.max_attempts,
            retry_wait_seconds=settings.retry_wait_seconds,
            new_claims=new_claims,
            store_time=self.store_time,
            elapsed=self._elapsed,
            holder=holder,
        )
        return Collection(
            context, limits, datasets=datasets, on_warning=on_warning, on_retry=on_retry
        )


def parent_video(manifest: ClipManifest) -> ParentVideo:
    """The video of a stored clip that its remixes are made from: the first."""
    video = manifest.videos[0]
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
