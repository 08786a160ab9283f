"""Which requests came already, by id: a sender that is unsure sends again, and gets one end."""


class Recent:
    """The last `at_most` ids seen; a repeat of an older one counts as new."""

    def __init__(self, at_most: int) -> None:
        self._at_most = at_most
        self._seen: dict[str, None] = {}  # a dict keeps the order in which it was filled

    def is_new(self, request_id: str) -> bool:
        """Note an id, and return whether it had not been seen."""
        if request_id in self._seen:
            return False
        self._seen[request_id] = None
        if len(self._seen) > self._at_most:
            del self._seen[next(iter(self._seen))]
        return True
