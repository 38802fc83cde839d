"""What every source of a prompt dataset can do."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Protocol

from sora_dagster.prompts.dataset import PromptDataset
from sora_dagster.runware.catalogue import Catalogue
from sora_dagster.storage import StorageRoot


class SourceStorage(Protocol):
    """Opens the storage root of a dataset, and other folders with the same credentials."""

    def root(self) -> StorageRoot:
        """The storage root."""

    def root_at(self, url: str) -> StorageRoot:
        """The folder of a URL.

        Arguments:
            url: the URL of the folder.
        """


class PromptSource(ABC):
    """A source of rows for :class:`VideoDataset`.

    All sources have the same columns, rules and errors, and the same row has the same fingerprint
    in each, so that a dataset that moves from one to another buys nothing.
    """

    @property
    @abstractmethod
    def label(self) -> str:
        """Name of the source in messages, without secrets."""

    @property
    def identity(self) -> str:
        """A string that is the same for the same source only, as far as that can be known."""
        return self.label

    @abstractmethod
    def read(self, catalogue: Catalogue, storage: SourceStorage | None = None) -> PromptDataset:
        """Read the rows.

        Arguments:
            catalogue: the models that rows may name.
            storage: opens object stores. Default: stores are opened with the credentials of the
                environment.

        Raises:
            DatasetError: if anything is wrong; it lists all problems.
        """

    @abstractmethod
    def version(self, storage: SourceStorage | None = None) -> str | None:
        """A string that changes when the rows may have changed; cheap to get.

        Arguments:
            storage: as for :meth:`read`.

        Returns:
            None if it is not known, so that the rows must be read.
        """
