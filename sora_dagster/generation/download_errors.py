"""What is raised where a video cannot be fetched."""

from __future__ import annotations


class DownloadError(Exception):
    """A video could not be fetched.

    Arguments:
        message: what happened; a URL's query is left out, since it may be a signature.
        gone: whether the host says that the file is there no more.
        retryable: whether it may succeed at another time.
    """

    def __init__(self, message: str, *, gone: bool = False, retryable: bool = False) -> None:
        super().__init__(message)
        self.gone = gone
        self.retryable = retryable


class PassingError(DownloadError):
    """A trouble that asking again soon may overcome, amid a file too.

    Arguments:
        message: what happened.
    """

    def __init__(self, message: str) -> None:
        super().__init__(message, retryable=True)


class NoProgressError(DownloadError):
    """The connection broke again and again at the same byte; better try later than at once.

    Arguments:
        message: what happened.
    """

    def __init__(self, message: str) -> None:
        super().__init__(message, retryable=True)
