"""Lines for the person who waits: each says how long ago the command was given."""

import time

from rich.console import Console


class Speaker:
    """Prints the lines it is called with."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._started = time.monotonic()

    def __call__(self, said: str) -> None:
        """Print one line."""
        elapsed_s = time.monotonic() - self._started
        # Above a live view, where one is; as one line however narrow the terminal is.
        self._console.print(
            f"{elapsed_s:6.1f} s  {said}", highlight=False, markup=False, soft_wrap=True
        )
