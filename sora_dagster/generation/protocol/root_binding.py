"""What a storage root is bound to: one API and account, and the assets of each dataset's name."""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Sequence

from sora_dagster.generation.protocol import layout
from sora_dagster.generation.protocol.record_store import RecordStore
from sora_dagster.generation.protocol.records import FORMAT_VERSION, DatasetRecord, RootRecord
from sora_dagster.runware.transport import is_local_api
from sora_dagster.storage import StorageError, StorageRoot


class RootMismatchError(StorageError):
    """The storage root belongs to another API or account, or is not a root of sora-dagster."""


class DatasetNameError(StorageError):
    """Two datasets of one storage root have the same name."""


def bind_root(records: RecordStore, *, api_base_url: str, account: str | None) -> RootRecord:
    """Bind a storage root to one API and account, or check that it is bound to these.

    Raises:
        RootMismatchError: if it is bound to others, or holds objects but no `root.json`.
    """
    url = records.root.url
    record = records.read(layout.ROOT_KEY, RootRecord)
    if record is not None and record.format_version < FORMAT_VERSION:
        raise RootMismatchError(
            f"{url} was written by an earlier version of sora-dagster, whose layout this version "
            f"does not read. Use a new folder or prefix, and keep this one for its videos."
        )
    if record is None:
        foreign = any_object(records.root)
        # A process that binds the root at the same moment may have written what was found.
        record = records.read(layout.ROOT_KEY, RootRecord)
        if foreign is not None and record is None:
            raise RootMismatchError(
                f"{url} holds {foreign} but no {layout.ROOT_KEY}: it is neither an empty folder "
                f"nor a storage root of sora-dagster. Choose an empty folder or prefix, or restore "
                f"its {layout.ROOT_KEY}."
            )
    if record is None:
        new = RootRecord(
            namespace=secrets.token_hex(16),
            api_base_url=api_base_url,
            account=account,
            created_at=records.clock(),
            nonce=records.new_nonce(),
        )
        _, record = records.claim(layout.ROOT_KEY, new)
    if _same_api(record.api_base_url) != _same_api(api_base_url):
        raise RootMismatchError(
            f"{url} holds clips paid for at {record.api_base_url}, and the API is now "
            f"{api_base_url}. Use another storage root for another API: tasks of one are unknown "
            f"to the other."
        )
    if record.account and account and record.account != account:
        raise RootMismatchError(
            f"{url} belongs to Runware account {record.account}, and the key is of account "
            f"{account}. Use that account's key, or another storage root."
        )
    return record


def any_object(root: StorageRoot) -> str | None:
    """Key of any object in a folder or prefix that may belong to a clip; None: there is none.

    Rows, reports and the store's clock may be written before the root is bound.
    """
    keys = (
        info.key
        for info in root.list("")
        if info.key.partition("/")[0] not in layout.FOLDERS_WITHOUT_CLIPS
    )
    return next(keys, None)


def root_identity(records: RecordStore) -> str | None:
    """A string that is the same for the same root only, and reveals nothing of it; None if unbound.

    Raises:
        StorageError: if the root cannot be read.
    """
    record = records.read(layout.ROOT_KEY, RootRecord)
    if record is None:
        return None
    return hashlib.sha256(f"identity {record.namespace}".encode()).hexdigest()[:16]


def bind_dataset(records: RecordStore, name: str, assets: Sequence[str]) -> None:
    """Record which assets a dataset's name stands for, or check that it stands for these.

    Raises:
        DatasetNameError: if the name belongs to a dataset with other assets, or one of the assets
            to a dataset with another name.
    """
    own = DatasetRecord(name=name, assets=tuple(sorted(assets)), nonce=records.new_nonce())
    recorded = records.read(layout.dataset_key(name), DatasetRecord)
    if recorded is None:
        _refuse_shared_assets(records, own)
        _, recorded = records.claim(layout.dataset_key(name), own)
    if recorded.assets != own.assets:
        raise DatasetNameError(
            f"the dataset name {name!r} is taken in {records.root.url}: there it stands for the "
            f"assets {', '.join(recorded.assets)}, here for {', '.join(own.assets)}. Give one of "
            f"the two datasets another name, or another storage root."
        )


def _refuse_shared_assets(records: RecordStore, own: DatasetRecord) -> None:
    for found in records.root.list(layout.DATASETS_FOLDER):
        other = records.read(found.key, DatasetRecord)
        shared = () if other is None else set(other.assets) & set(own.assets)
        if other is not None and shared and other.name != own.name:
            raise DatasetNameError(
                f"the assets {', '.join(sorted(shared))} belong to the dataset {other.name!r} in "
                f"{records.root.url}, so the dataset {own.name!r} cannot have them. Give one of "
                f"the two datasets another key_prefix, or another storage root."
            )


def _same_api(base_url: str) -> str:
    """An address by which an API is known: one on this machine may change its port."""
    if is_local_api(base_url):
        return "this machine"
    return base_url.rstrip("/").lower()
