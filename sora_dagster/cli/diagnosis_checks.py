"""The checks of `sora-dagster doctor`: whether what the settings point to works."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from typing import TYPE_CHECKING, Literal, NamedTuple
from urllib.parse import urljoin, urlsplit, urlunsplit

from sora_dagster.prompts.counts import counted

if TYPE_CHECKING:
    from sora_dagster.settings import Settings
    from sora_dagster.storage import StorageRoot

Status = Literal["ok", "warning", "failed"]

_API_SECONDS = 10.0


class Check(NamedTuple):
    """The result of one check.

    Arguments:
        name: what was checked.
        status: the result.
        sentence: what was found.
        action: what to do; empty if nothing.
    """

    name: str
    status: Status
    sentence: str
    action: str = ""


def without_user(text: str) -> str:
    """A value without the user, password and query that a URL in it may have."""
    try:
        parts = urlsplit(text)
    except ValueError:
        return text
    if not parts.netloc:
        return text
    return urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2], query="", fragment=""))


# The API and the storage root


def api_checks(
    settings: Settings, environ: Mapping[str, str], account: Future[str | None]
) -> list[Check]:
    """The checks of the API; gives the account to the check of the storage root."""
    name = None
    try:
        checks, name = _account_checks(settings, environ)
        return checks
    finally:
        account.set_result(name)


def _account_checks(
    settings: Settings, environ: Mapping[str, str]
) -> tuple[list[Check], str | None]:
    import httpx

    from sora_dagster.runware.client import RunwareClient
    from sora_dagster.runware.errors import RunwareError

    url = without_user(settings.base_url)
    try:
        # Any answer will do: it has no key, and asks for nothing.
        httpx.get(settings.base_url, timeout=_API_SECONDS)
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        unreachable = Check(
            "API",
            "failed",
            f"{url} cannot be reached: {type(error).__name__}.",
            "Check RUNWARE_BASE_URL, the network and the proxy.",
        )
        return [unreachable], None
    checks = [Check("API", "ok", f"{url} answers.")]
    key = environ.get("RUNWARE_API_KEY", "").strip()
    if not key:
        action = "Create one at https://my.runware.ai/keys and set RUNWARE_API_KEY."
        return [*checks, Check("key", "failed", "There is no API key.", action)], None
    try:
        with RunwareClient(
            key, base_url=settings.base_url, timeout_seconds=_API_SECONDS, retry_attempts=1
        ) as client:
            account = client.account()
    except (RunwareError, ValueError) as error:
        action = "Check RUNWARE_API_KEY at https://my.runware.ai/keys."
        return [*checks, Check("key", "failed", f"The key was not accepted: {error}", action)], None
    name = account.organization_uuid
    checks.append(Check("key", "ok", f"The API accepts the key, of account {name or 'unknown'}."))
    if account.balance_usd is None:
        checks.append(Check("balance", "warning", "The API does not report the balance."))
    elif account.balance_usd <= 0:
        sentence = f"The balance is {account.balance_usd:.2f} USD, so requests are refused."
        checks.append(Check("balance", "failed", sentence, "Add credit at https://my.runware.ai."))
    else:
        checks.append(Check("balance", "ok", f"The balance is {account.balance_usd:.2f} USD."))
    return checks, name


def storage_checks(settings: Settings, account: Callable[[], str | None]) -> list[Check]:
    from sora_dagster.storage import StorageError

    try:
        root = settings.storage().root()
        root.check_writable()
    except (StorageError, ValueError) as error:
        action = (
            "Check the URL, the credentials, and that they may list the bucket and get, put and "
            "delete objects."
        )
        return [Check("storage", "failed", str(error), action)]
    sentence = f"{root.url} is writable and supports create-only writes."
    return [
        Check("storage", "ok", sentence),
        _binding_check(root, settings.base_url, account()),
        _delivery_check(root, settings),
    ]


def _binding_check(root: StorageRoot, base_url: str, account: str | None) -> Check:
    from sora_dagster.generation.protocol import layout
    from sora_dagster.generation.protocol.ledger import Ledger
    from sora_dagster.generation.protocol.root_binding import any_object
    from sora_dagster.storage import StorageError

    try:
        if not root.exists(layout.ROOT_KEY):
            if (key := any_object(root)) is not None:
                return Check(
                    "account of the storage root",
                    "failed",
                    f"{root.url} holds {key} but no {layout.ROOT_KEY}: it is no storage root.",
                    "Choose an empty folder or prefix.",
                )
            sentence = "It is not bound to an account yet. The first request binds it."
            return Check("account of the storage root", "ok", sentence)
        # Writes nothing, as there is a root.json.
        bound = Ledger(root).bind(api_base_url=base_url, account=account)
    except StorageError as error:
        return Check("account of the storage root", "failed", str(error))
    if account is None or bound.account is None:
        sentence = f"It is bound to {without_user(bound.api_base_url)}; the account is unknown."
        return Check("account of the storage root", "ok", sentence)
    return Check("account of the storage root", "ok", f"It is bound to account {account}.")


def _delivery_check(root: StorageRoot, settings: Settings) -> Check:
    from sora_dagster.runware.transport import is_local_api

    obstacle = ""
    if not root.can_presign:
        obstacle = "the store or its credentials cannot sign URLs"
    elif not root.accepts_plain_put:
        obstacle = "Azure requires a header for uploads that Runware is not known to send"
    elif not (is_local_api(settings.base_url) or root.is_reachable_from_outside):
        obstacle = "Runware cannot reach the store's endpoint"
    if settings.delivery == "download":
        return Check("delivery", "ok", "Videos are downloaded, as SORA_DELIVERY says.")
    if not obstacle:
        return Check("delivery", "ok", "Runware can upload videos straight to the storage root.")
    if settings.delivery == "direct":
        sentence = f"SORA_DELIVERY is direct, but {obstacle}."
        return Check("delivery", "failed", sentence, "Set SORA_DELIVERY to auto or download.")
    return Check("delivery", "ok", f"Videos are downloaded from Runware, since {obstacle}.")


# The webhook receiver


def webhook_checks(settings: Settings, environ: Mapping[str, str]) -> list[Check]:
    import httpx

    from sora_dagster.generation.protocol.markers import (
        SIGNATURE_PARAMETER,
        WebhookUrl,
        sign_identity,
    )
    from sora_dagster.runware.transport import is_local_api

    url = settings.webhook_url
    if url is None:
        return [Check("webhook", "ok", "There is no webhook URL, so results are polled.")]
    secret = environ.get("SORA_WEBHOOK_SECRET", "").strip()
    try:
        WebhookUrl(url, secret)
    except ValueError as error:
        return [Check("webhook", "failed", str(error))]
    checks = []
    shown = without_user(url)
    if urlsplit(url).scheme != "https" and not is_local_api(url):
        sentence = f"{shown} is not https, so others can read and repeat webhook calls."
        checks.append(Check("webhook", "warning", sentence, "Serve the receiver behind https."))
    action = "Check SORA_WEBHOOK_URL, and that the receiver (`sora-dagster webhook`) is running."
    try:
        answer = httpx.get(
            urljoin(url.partition("?")[0].rstrip("/"), "identity"),
            params={SIGNATURE_PARAMETER: sign_identity(secret)},
            timeout=_API_SECONDS,
        )
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        sentence = f"The receiver at {shown} cannot be reached: {type(error).__name__}."
        return [*checks, Check("webhook receiver", "failed", sentence, action)]
    if answer.status_code == 503:
        sentence = "The receiver answers, but cannot read its storage root."
        checks.append(Check("webhook receiver", "failed", sentence, "Check its SORA_STORAGE."))
    elif answer.status_code == 403:
        sentence = f"The receiver at {shown} has a different SORA_WEBHOOK_SECRET."
        action = "Set the same SORA_WEBHOOK_SECRET here and at the receiver."
        checks.append(Check("webhook receiver", "failed", sentence, action))
    elif answer.status_code != 200:
        sentence = f"The receiver's address {shown} answers HTTP {answer.status_code}."
        checks.append(Check("webhook receiver", "warning", sentence, action))
    else:
        checks.append(_receiver_check(settings, answer.text))
    return checks


def _receiver_check(settings: Settings, body: str) -> Check:
    from sora_dagster.generation.protocol.ledger import Ledger
    from sora_dagster.generation.protocol.root_binding import root_identity
    from sora_dagster.storage import StorageError

    try:
        own = root_identity(Ledger(settings.storage().root()))
    except (StorageError, ValueError):
        # Reported by the check of the storage root.
        own = None
    theirs = _identity_in(body)
    if own is None or theirs is None:
        return Check("webhook receiver", "ok", "The receiver answers.")
    if own != theirs:
        return Check(
            "webhook receiver",
            "failed",
            "The receiver writes to a different storage root, so its webhooks are never seen.",
            "Set SORA_STORAGE of the receiver to the same storage root.",
        )
    return Check("webhook receiver", "ok", "The receiver answers, and has the same storage root.")


def _identity_in(body: str) -> str | None:
    try:
        answer = json.loads(body)
    except ValueError:
        return None
    identity = answer.get("storage_root") if isinstance(answer, dict) else None
    return identity if isinstance(identity, str) else None


# Models, extras and the dataset


def models_checks(settings: Settings) -> list[Check]:
    from sora_dagster.prompts.retired_models import default_model_warning

    try:
        catalogue = settings.catalogue()
    except ValueError as error:
        return [Check("models", "failed", str(error), "Correct SORA_MODELS or SORA_MODEL.")]
    sentence = (
        f"{counted(len(catalogue.entries), 'model', 'models')}; the default is "
        f"{catalogue.default.name}."
    )
    if warning := default_model_warning(catalogue):
        action = "Set SORA_MODEL, or name a model in each row."
        return [Check("models", "ok", sentence), Check("default model", "warning", warning, action)]
    return [Check("models", "ok", sentence)]


def extras_checks(settings: Settings) -> list[Check]:
    from sora_dagster.extras import EXTRAS, MissingExtraError, require_extras

    missing = []
    for extra in EXTRAS:
        try:
            require_extras("It", extra)
        except MissingExtraError:
            missing.append(extra)
    needed = {"media"}
    if settings.schema_check != "off":
        needed.add("schema")
    if (settings.dataset_path() or "").endswith(".parquet"):
        needed.add("parquet")
    if lacking := sorted(needed.intersection(missing)):
        return [
            Check(
                "extras",
                "failed",
                f"Required extras are not installed: {', '.join(lacking)}.",
                f'Install with: pip install "sora-dagster[{",".join(lacking)}]"',
            )
        ]
    others = f" Not installed: {', '.join(missing)}." if missing else ""
    return [Check("extras", "ok", f"What these settings need is installed.{others}")]


def dataset_checks(settings: Settings) -> list[Check]:
    from sora_dagster.prompts.dataset import DatasetError

    if settings.dataset_path() is None:
        action = "Set SORA_PROMPTS, or name the dataset in your own definitions."
        return [Check("dataset", "warning", "SORA_PROMPTS is not set.", action)]
    try:
        prompts = settings.dataset().load_prompts(settings.storage())
    except DatasetError as error:
        return [Check("dataset", "failed", str(error), "Correct the dataset.")]
    except ValueError:
        sentence = "The dataset was not read, since the models cannot be used."
        return [Check("dataset", "warning", sentence, "Correct the models first.")]
    clips, remixes = len(prompts.clip_ids), len(prompts.remix_cells)
    path = settings.dataset_path()
    return [Check("dataset", "ok", f"{path} has {clips} clips and {remixes} remixes.")]
